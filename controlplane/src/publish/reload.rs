//! One task that publishes: it alone decides what is in force, so two changes at once cannot cross.

use super::revision::Revisions;
use super::watch::{Followed, Watch, look};
use super::{Compiler, ConfigState, Published, Read, Source};
use crate::link::Hub;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config;
use oktsec_contract::link::ToDataplane;
use oktsec_contract::paths::StatePaths;
use oktsec_contract::snapshot::Snapshot;
use oktsec_scanner::Database;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

/// Editors write a file in several steps: we wait until it is quiet for so long …
const QUIET_MS: u64 = 25;
/// … but never longer than so long.
const QUIET_MS_MAX: u64 = 250;
/// How often we look at the files ourselves.
const LOOK_MS: u64 = 1_000;

/// A wish to publish anew.
pub(crate) struct Trigger {
    /// Who wishes it, for the log.
    pub(crate) cause: &'static str,
    /// Gets what came of it.
    pub(crate) reply: Option<oneshot::Sender<Outcome>>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A new snapshot is in force.
    Published { revision: u64 },
    /// What stands on disk is what is in force.
    Unchanged { revision: u64 },
    /// What stands on disk cannot be used.
    Stale { problems: Vec<String> },
}

/// Reads, compares, compiles, publishes.
pub(crate) struct Reloader {
    source: Source,
    paths: StatePaths,
    current: Read,
    revisions: Revisions,
    published: watch::Sender<Arc<Published>>,
    state: Arc<RwLock<ConfigState>>,
    hub: Arc<Hub>,
    compiler: Compiler,
    rules: NewRules,
}

/// New rules, while they are compiled. That takes seconds, and a suspension or a revocation must not wait for
/// it: everything else is published at once with the rules in force, and the new ones when they are ready.
enum NewRules {
    /// There are none.
    None,
    /// Being compiled.
    Compiling {
        hash: [u8; 32],
        done: oneshot::Receiver<Result<(), String>>,
    },
    /// Compiled: data planes will only map them.
    Ready { hash: [u8; 32] },
    /// They cannot be compiled, and why.
    Failed { hash: [u8; 32], why: String },
}

/// Handles to what a [`Reloader`] publishes.
pub(crate) struct Outlets {
    pub(crate) published: watch::Receiver<Arc<Published>>,
    pub(crate) state: Arc<RwLock<ConfigState>>,
}

impl Reloader {
    /// Publishes what was read as the first snapshot. Blocks while patterns are compiled, unless data planes have a
    /// snapshot from before: then its rules stay until the new ones are ready, so that an upgrade neither keeps the API
    /// nor a suspension waiting.
    ///
    /// # Errors
    /// When the patterns cannot be compiled or the revision cannot be written.
    pub(crate) fn start(
        source: Source,
        paths: StatePaths,
        compiler: Compiler,
        mut first: Read,
        hub: Arc<Hub>,
        state: ConfigState,
    ) -> Result<(Self, Outlets), Vec<String>> {
        let mut revisions = Revisions::open(paths.root.join("revision"));
        if Database::load(&first.rules, &compiler.cache).is_none() {
            match Snapshot::load(&paths.snapshot) {
                Ok(before) => {
                    tracing::info!(
                        rules = before.rules.rules.len(),
                        "the rules in force stay until those of this version are compiled"
                    );
                    first.rules = before.rules;
                }
                // There is none, or one that nobody decides by.
                Err(_) => compiler
                    .compile(&first.rules)
                    .map_err(|error| vec![error])?,
            }
        }
        let published = make(&first, &mut revisions, 0)?;
        tracing::info!(
            revision = published.snapshot.revision,
            agents = first.config.agents.len(),
            keys = first.keys.len(),
            rules = first.rules.rules.len(),
            "snapshot published"
        );
        for warning in &first.warnings {
            tracing::warn!("{warning}");
        }
        let (sender, receiver) = watch::channel(Arc::new(published));
        let state = Arc::new(RwLock::new(state));
        let outlets = Outlets {
            published: receiver,
            state: Arc::clone(&state),
        };
        let current = first;
        Ok((
            Self {
                source,
                paths,
                current,
                revisions,
                published: sender,
                state,
                hub,
                compiler,
                rules: NewRules::None,
            },
            outlets,
        ))
    }

    /// Runs until every sender of `triggers` is gone.
    pub(crate) async fn run(mut self, mut triggers: mpsc::Receiver<Trigger>) {
        let (changed, mut changes) = mpsc::channel(1);
        let mut watch = Watch::new(changed);
        watch.follow(self.source.watched(Some(&self.current.config)));
        let mut seen = look_off_thread(watch.paths()).await;
        let mut looks = tokio::time::interval(Duration::from_millis(LOOK_MS));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whatever changed while we started is found by the first of these.
        let mut pending = Some("start");
        loop {
            let mut replies = Vec::new();
            let cause = match pending.take() {
                Some(cause) => cause,
                None => tokio::select! {
                    trigger = triggers.recv() => {
                        let Some(trigger) = trigger else { return };
                        replies.extend(trigger.reply);
                        trigger.cause
                    }
                    Some(()) = changes.recv() => {
                        wait_for_quiet(&mut changes).await;
                        "file change"
                    }
                    _ = looks.tick() => {
                        let now = look_off_thread(watch.paths()).await;
                        if now == seen {
                            continue;
                        }
                        "file change"
                    }
                    floor = self.hub.wants_revision_above(self.published.borrow().snapshot.revision) => {
                        self.republish_above(floor).await;
                        continue;
                    }
                    () = self.rules.compiled() => "new rules",
                },
            };
            // Looked at before reading: what changes in between is seen again by the next look.
            seen = look_off_thread(watch.paths()).await;
            while let Ok(trigger) = triggers.try_recv() {
                replies.extend(trigger.reply);
            }
            let outcome = self.reload(cause).await;
            if matches!(outcome, Outcome::Published { .. }) {
                let followed = watch.follow(self.source.watched(Some(&self.current.config)));
                if followed == Followed::More {
                    seen = look_off_thread(watch.paths()).await;
                    // What is watched only from now on may have changed before.
                    if self.differs_from_disk().await {
                        pending = Some("file change");
                    }
                }
            }
            for reply in replies {
                // Whoever asked may have gone.
                let _ = reply.send(outcome.clone());
            }
        }
    }

    fn revision(&self) -> u64 {
        self.published.borrow().snapshot.revision
    }

    async fn differs_from_disk(&self) -> bool {
        // Rules may differ for as long as they are compiled; that has its own end.
        let Ok(mut read) = self.read().await else {
            return false;
        };
        read.rules.clone_from(&self.current.rules);
        !read.means_the_same(&self.current)
    }

    /// Everything as it stands on disk.
    async fn read(&self) -> Result<Read, Vec<String>> {
        let source = self.source.clone();
        tokio::task::spawn_blocking(move || source.read())
            .await
            .unwrap_or_else(|error| Err(vec![format!("reading the configuration failed: {error}")]))
    }

    async fn reload(&mut self, cause: &'static str) -> Outcome {
        let read = self.read().await;
        let read = read.and_then(|read| self.with_compiled_rules(read));
        match read {
            Err(problems) => self.stale(cause, problems),
            Ok(read) if read.means_the_same(&self.current) => {
                self.current_again(cause);
                Outcome::Unchanged {
                    revision: self.revision(),
                }
            }
            Ok(read) => self.publish(cause, read, 0).await,
        }
    }

    /// Rules that are not compiled yet are left out for now; the rest need not wait for them. Rules that cannot
    /// be compiled make what stands on disk unusable.
    fn with_compiled_rules(&mut self, mut read: Read) -> Result<Read, Vec<String>> {
        if read.rules == self.current.rules {
            self.rules = NewRules::None;
            return Ok(read);
        }
        let wanted = read.rules.hash();
        match &self.rules {
            NewRules::Ready { hash } if *hash == wanted => return Ok(read),
            NewRules::Failed { hash, why } if *hash == wanted => return Err(vec![why.clone()]),
            NewRules::Compiling { hash, .. } if *hash == wanted => {}
            NewRules::None
            | NewRules::Ready { .. }
            | NewRules::Failed { .. }
            | NewRules::Compiling { .. } => {
                tracing::info!(
                    rules = read.rules.rules.len(),
                    "compiling new rules; those in force stay until then"
                );
                let (sender, done) = oneshot::channel();
                let (rules, compiler) = (read.rules.clone(), self.compiler.clone());
                tokio::task::spawn_blocking(move || {
                    // Whoever wanted them may want others by now.
                    let _ = sender.send(compiler.compile(&rules));
                });
                self.rules = NewRules::Compiling { hash: wanted, done };
            }
        }
        read.rules = self.current.rules.clone();
        Ok(read)
    }

    /// A data plane knows a higher revision than we ever gave out: our file was lost. Everything we publish
    /// must lie above it, or it would be taken for old.
    async fn republish_above(&mut self, floor: u64) {
        tracing::warn!(
            floor,
            revision = self.revision(),
            "a data plane has a newer revision; numbering on from there"
        );
        let read = self.current.clone();
        self.publish("revision", read, floor).await;
    }

    async fn publish(&mut self, cause: &'static str, read: Read, floor: u64) -> Outcome {
        // The revisions move into the blocking thread and back: the file is written there.
        let mut revisions = std::mem::replace(&mut self.revisions, Revisions::open(PathBuf::new()));
        let made = tokio::task::spawn_blocking(move || {
            let made = make(&read, &mut revisions, floor);
            (made, revisions, read)
        })
        .await;
        let (made, revisions, read) = match made {
            Ok(made) => made,
            Err(error) => {
                self.revisions = Revisions::open(self.paths.root.join("revision"));
                return self.stale(cause, vec![format!("publishing failed: {error}")]);
            }
        };
        self.revisions = revisions;
        let published = match made {
            Ok(published) => published,
            Err(problems) => return self.stale(cause, problems),
        };
        let revision = published.snapshot.revision;
        // First what counts, then the word that it does: telling what changed among ten thousand agents takes a while.
        self.published.send_replace(Arc::new(published));
        log_changes(cause, revision, &self.current, &read);
        self.current = read;
        self.current_again(cause);
        Outcome::Published { revision }
    }

    fn stale(&self, cause: &'static str, problems: Vec<String>) -> Outcome {
        let mut state = self.state.write();
        let said = matches!(&*state, ConfigState::Stale { problems: old, .. } if *old == problems);
        if !said {
            for problem in &problems {
                tracing::error!("{problem}");
            }
            tracing::error!(
                cause,
                revision = self.published.borrow().snapshot.revision,
                "the configuration cannot be used; what was in force stays in force"
            );
            *state = ConfigState::Stale {
                problems: problems.clone(),
                since: Timestamp::now(),
            };
        }
        Outcome::Stale { problems }
    }

    fn current_again(&self, cause: &'static str) {
        let mut state = self.state.write();
        if *state != ConfigState::Current {
            tracing::info!(cause, "the configuration can be used again");
            *state = ConfigState::Current;
        }
    }
}

impl NewRules {
    /// Resolves when rules that were being compiled are ready or have failed. Safe to drop and call again.
    async fn compiled(&mut self) {
        let Self::Compiling { hash, done } = self else {
            return std::future::pending().await;
        };
        let hash = *hash;
        *self = match done.await {
            Ok(Ok(())) => Self::Ready { hash },
            Ok(Err(why)) => Self::Failed { hash, why },
            Err(_) => Self::Failed {
                hash,
                why: String::from("compiling the rules panicked"),
            },
        };
    }
}

/// Takes the next revision and encodes.
fn make(read: &Read, revisions: &mut Revisions, floor: u64) -> Result<Published, Vec<String>> {
    let revision = revisions
        .next(floor)
        .map_err(|error| vec![format!("{}: {error}", revisions.path().display())])?;
    let at = Timestamp::now();
    let snapshot = Snapshot {
        revision,
        created_at: at,
        config: read.config.clone(),
        keys: read.keys.clone(),
        revoked: read.revoked.clone(),
        rules: read.rules.clone(),
        secrets: read.secrets.clone(),
    };
    let deciding = Snapshot {
        rules: snapshot.rules.for_deciding(),
        ..snapshot.clone()
    };
    let bytes = deciding.encode().map_err(|error| vec![error.to_string()])?;
    let bytes = ToDataplane::Snapshot(bytes)
        .encode()
        .map_err(|error| vec![error.to_string()])?;
    Ok(Published {
        snapshot: Arc::new(snapshot),
        frame: bytes.into(),
        at,
        warnings: read.warnings.clone(),
    })
}

/// Says what changed, and loudly what weakens protection. Never a secret.
fn log_changes(cause: &'static str, revision: u64, old: &Read, new: &Read) {
    let changes = config::diff(&old.config, &new.config);
    tracing::info!(
        cause,
        revision,
        changes = changes.len(),
        "snapshot published"
    );
    for change in &changes {
        if change.weakens {
            tracing::warn!(
                revision,
                "PROTECTION WEAKENED: {}: {}",
                change.key,
                change.what
            );
        } else {
            tracing::info!(revision, "{}: {}", change.key, change.what);
        }
    }
    for key in only_in(&new.keys, &old.keys) {
        tracing::info!(revision, agent = %key.agent, fingerprint = %key.fingerprint, "key is accepted");
    }
    for key in only_in(&old.keys, &new.keys) {
        tracing::info!(revision, agent = %key.agent, fingerprint = %key.fingerprint, "key is no longer accepted");
    }
    for key in only_in(&new.revoked, &old.revoked) {
        tracing::info!(revision, agent = %key.agent_name, fingerprint = %key.fingerprint, "key is revoked");
    }
    for key in only_in(&old.revoked, &new.revoked) {
        tracing::warn!(
            revision,
            agent = %key.agent_name,
            fingerprint = %key.fingerprint,
            "PROTECTION WEAKENED: a revocation is gone"
        );
    }
    let ids = |read: &Read| -> Vec<String> {
        let rules = read.rules.rules.iter();
        rules.map(|rule| rule.id.clone()).collect()
    };
    let (before, after) = (ids(old), ids(new));
    for id in only_in(&after, &before) {
        tracing::info!(revision, rule = %id, "rule added");
    }
    for id in only_in(&before, &after) {
        tracing::warn!(revision, rule = %id, "PROTECTION WEAKENED: a rule is gone");
    }
    match (&old.secrets, &new.secrets) {
        (None, Some(_)) => tracing::info!(revision, "known secrets are looked for"),
        (Some(before), Some(now)) if before != now => {
            tracing::info!(revision, "the store of known secrets has changed");
        }
        (Some(_), None) => {
            tracing::warn!(
                revision,
                "PROTECTION WEAKENED: the store of known secrets is gone"
            );
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
    for warning in only_in(&new.warnings, &old.warnings) {
        tracing::warn!("{warning}");
    }
}

/// What `these` have and `those` have not, in order.
fn only_in<'t, T: Eq + Hash>(these: &'t [T], those: &[T]) -> impl Iterator<Item = &'t T> {
    let those: HashSet<&T> = those.iter().collect();
    let new: Vec<&T> = these.iter().filter(|one| !those.contains(one)).collect();
    new.into_iter()
}

async fn wait_for_quiet(changes: &mut mpsc::Receiver<()>) {
    let quiet = async {
        while let Ok(Some(())) =
            tokio::time::timeout(Duration::from_millis(QUIET_MS), changes.recv()).await
        {}
    };
    let _ = tokio::time::timeout(Duration::from_millis(QUIET_MS_MAX), quiet).await;
}

async fn look_off_thread(paths: Vec<PathBuf>) -> u64 {
    tokio::task::spawn_blocking(move || look(&paths))
        .await
        .unwrap_or(0)
}
