//! The line to the control plane: snapshots come down it, and small requests; answers go up. A thread of its own,
//! away from traffic: compiling a snapshot takes as long as it takes.

use crate::bootstrap::note;
use crate::plane::{Live, Plane};
use crate::tidy;
use oktsec_audit::{Review, ReviewError};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::link::{
    FrameReader, LinkRequest, LinkResponse, Resolution, ResolvedItem, ToControl, ToDataplane,
};
use oktsec_contract::paths::StatePaths;
use oktsec_contract::reason::Reason;
use oktsec_contract::snapshot::Snapshot;
use oktsec_contract::verdict::Status;
use oktsec_pipeline::Policy;
use oktsec_scanner::secrets::{SecretIndex, SecretKey};
use oktsec_scanner::{CacheOutcome, Database};
use parking_lot::{Condvar, Mutex};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// The thread that keeps the line.
#[derive(Debug)]
pub(crate) struct Link {
    ending: Arc<Ending>,
    thread: JoinHandle<()>,
}

/// How the thread is told to end, wherever it waits.
#[derive(Debug, Default)]
struct Ending {
    state: Mutex<Line>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    over: bool,
    open: Option<UnixStream>,
}

impl Link {
    pub(crate) fn start(plane: Arc<Plane>, paths: &StatePaths) -> io::Result<Self> {
        let ending: Arc<Ending> = Arc::default();
        let keeper = Keeper {
            plane,
            paths: paths.clone(),
            ending: Arc::clone(&ending),
        };
        let thread = std::thread::Builder::new()
            .name(String::from("link"))
            .spawn(move || keeper.run())?;
        Ok(Self { ending, thread })
    }

    pub(crate) fn stop(self) {
        {
            let mut line = self.ending.state.lock();
            line.over = true;
            if let Some(stream) = line.open.take() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.ending.changed.notify_all();
        if self.thread.join().is_err() {
            tracing::error!("the link to the control plane panicked");
        }
    }
}

struct Keeper {
    plane: Arc<Plane>,
    paths: StatePaths,
    ending: Arc<Ending>,
}

impl Keeper {
    fn run(self) {
        let mut wait = RETRY_FIRST;
        loop {
            if let Ok(stream) = UnixStream::connect(&self.paths.link_socket) {
                let begun = Instant::now();
                self.plane.link_connected.store(true, Ordering::Relaxed);
                let ended = self.keep(stream);
                self.plane.link_connected.store(false, Ordering::Relaxed);
                if let Err(error) = ended {
                    tracing::warn!(%error, "the line to the control plane broke");
                }
                // One that lasted is tried again at once; one that broke off at once is not.
                if begun.elapsed() > RETRY_LONGEST {
                    wait = RETRY_FIRST;
                }
            }
            let mut line = self.ending.state.lock();
            line.open = None;
            if !line.over {
                self.ending.changed.wait_for(&mut line, wait);
            }
            if line.over {
                return;
            }
            wait = (wait * 2).min(RETRY_LONGEST);
        }
    }

    /// Serves one connection to its end.
    fn keep(&self, mut stream: UnixStream) -> io::Result<()> {
        {
            let mut line = self.ending.state.lock();
            if line.over {
                return Ok(());
            }
            line.open = Some(stream.try_clone()?);
        }
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        send(
            &mut stream,
            &ToControl::Hello {
                node: self.plane.node.clone(),
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                revision: self.plane.revision(),
            },
        )?;
        let mut reader = FrameReader::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            reader.push(&buffer[..n]);
            while let Some(frame) = reader.next().map_err(io::Error::other)? {
                let message = ToDataplane::decode(frame).map_err(io::Error::other)?;
                self.handle(&mut stream, message)?;
            }
        }
    }

    fn handle(&self, stream: &mut UnixStream, message: ToDataplane) -> io::Result<()> {
        match message {
            ToDataplane::Snapshot(bytes) => send(stream, &tidy::aside(|| self.take(&bytes))),
            ToDataplane::Request { id, body } => {
                let body = match body {
                    LinkRequest::Resolve {
                        message,
                        action,
                        reviewer,
                    } => self.resolve(message, action, &reviewer),
                    LinkRequest::Status => LinkResponse::Status(self.plane.status()),
                };
                send(stream, &ToControl::Response { id, body })
            }
        }
    }

    /// Puts a snapshot in force, or keeps the old one and says why.
    fn take(&self, bytes: &[u8]) -> ToControl {
        let (revision, taken) = match Snapshot::decode(bytes) {
            Ok(snapshot) => {
                let revision = snapshot.revision;
                (
                    revision,
                    apply(&self.plane, &self.paths, snapshot, Origin::Link(bytes)),
                )
            }
            Err(error) => (0, Err(error.to_string())),
        };
        match taken {
            Ok(()) => ToControl::Applied { revision },
            Err(reason) => {
                self.plane.snapshots_refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    revision,
                    reason,
                    "a snapshot was refused; the one before stays"
                );
                ToControl::Refused { revision, reason }
            }
        }
    }

    fn resolve(
        &self,
        message: oktsec_contract::id::MessageId,
        action: Resolution,
        reviewer: &str,
    ) -> LinkResponse {
        let now = Timestamp::now();
        let review = match action {
            Resolution::Release => Review::Release,
            Resolution::Discard => Review::Discard,
        };
        let resolved = self
            .plane
            .log
            .resolve(message, review, reviewer, now)
            .map_err(ReviewError::from)
            .and_then(oktsec_audit::ReviewTicket::wait);
        match resolved {
            Ok(resolved) => {
                let mut findings = Vec::new();
                let record = resolved
                    .item
                    .record
                    .as_ref()
                    .and_then(|r| r.record(&mut findings).ok());
                LinkResponse::Resolved(ResolvedItem {
                    message,
                    action,
                    reviewer: reviewer.to_owned(),
                    resolved_at: now.to_rfc3339(),
                    from: record.as_ref().map_or("", |r| r.from).to_owned(),
                    to: record.as_ref().map_or("", |r| r.to).to_owned(),
                    status: match action {
                        Resolution::Release => Status::Delivered,
                        Resolution::Discard => Status::Rejected,
                    },
                })
            }
            Err(ReviewError::NotFound) => LinkResponse::NotFound,
            Err(ReviewError::NotPending { status }) => LinkResponse::NotPending {
                status: status.as_str().to_owned(),
            },
            Err(error @ (ReviewError::Damaged(_) | ReviewError::Append(_))) => {
                LinkResponse::Failed {
                    reason: error.to_string(),
                }
            }
        }
    }
}

fn send(stream: &mut UnixStream, message: &ToControl) -> io::Result<()> {
    stream.write_all(&message.encode().map_err(io::Error::other)?)
}

/// Where a snapshot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin<'b> {
    /// Our own copy of the last good one.
    Disk,
    /// The control plane: these bytes are kept for the next start.
    Link(&'b [u8]),
}

/// Compiles a snapshot and puts it in force. On failure nothing has changed.
pub(crate) fn apply(
    plane: &Plane,
    paths: &StatePaths,
    snapshot: Snapshot,
    origin: Origin<'_>,
) -> Result<(), String> {
    let begun = Instant::now();
    let before = plane.live();
    let database = match &before {
        Some(live) if live.policy.database().hash() == snapshot.rules.hash() => {
            Arc::clone(live.policy.database())
        }
        _ => {
            let (database, outcome) =
                Database::load_or_compile(&snapshot.rules, &paths.rules_cache)
                    .map_err(|error| error.to_string())?;
            if let CacheOutcome::NotWritten(cause) = outcome {
                tracing::warn!(
                    cause,
                    "the compiled rules were not cached; starts take longer"
                );
            }
            Arc::new(database)
        }
    };
    let secrets = known_secrets(before.as_deref(), &snapshot)?;
    let policy = Policy::build(snapshot, database)
        .map_err(|error| error.to_string())?
        .with_secrets(secrets);
    let snapshot = policy.snapshot();
    if let Some(live) = &before
        && live.policy.revision() > snapshot.revision
    {
        tracing::warn!(
            before = live.policy.revision(),
            now = snapshot.revision,
            "a snapshot with a smaller revision takes effect"
        );
    }
    for warning in policy.warnings() {
        tracing::warn!(revision = snapshot.revision, "{warning}");
    }
    warn_about_restart(
        before.as_deref().map(|live| live.policy.snapshot()),
        snapshot,
    );
    let detail = format!(
        "revision {}: {} agents, {} keys, {} revoked, {} rules",
        snapshot.revision,
        snapshot.config.agents.len(),
        snapshot.keys.len(),
        snapshot.revoked.len(),
        policy.database().rules().len(),
    );
    let revision = snapshot.revision;
    plane.publish(Arc::new(policy));
    note(&plane.log, Reason::SnapshotApplied, revision, &detail);
    if let Origin::Link(bytes) = origin
        && let Err(error) = Snapshot::save_encoded(bytes, &paths.snapshot)
    {
        tracing::error!(%error, "the snapshot could not be kept; a restart would use an older one");
    }
    tidy::later();
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(millis, detail, "snapshot in force");
    Ok(())
}

/// What the store of known secrets holds, read again only if its seal is another. A store that cannot be read refuses
/// the snapshot.
fn known_secrets(
    before: Option<&Live>,
    snapshot: &Snapshot,
) -> Result<Option<Arc<SecretIndex>>, String> {
    if snapshot.secrets.is_none() {
        return Ok(None);
    }
    if let Some(live) = before
        && live.policy.snapshot().secrets == snapshot.secrets
    {
        return Ok(live.policy.secrets().cloned());
    }
    let paths = StatePaths::for_config(&snapshot.config);
    let unusable = |why: &dyn std::fmt::Display| {
        let store = paths.secrets_store.display();
        format!("the store of known secrets {store} cannot be used: {why}")
    };
    let key = SecretKey::load(&paths.secrets_key).map_err(|error| unusable(&error))?;
    match SecretIndex::load(&paths.secrets_store, key) {
        Ok(Some(index)) => {
            tracing::info!(
                values = index.len(),
                bytes = index.memory_bytes(),
                "known secrets read"
            );
            Ok(Some(Arc::new(index)))
        }
        Ok(None) => Err(unusable(&"there is no such file")),
        Err(error) => Err(unusable(&error)),
    }
}

/// Some settings are read once; a snapshot that changes them should not change nothing silently.
fn warn_about_restart(before: Option<&Snapshot>, now: &Snapshot) {
    let Some(before) = before else { return };
    let (old, new) = (&before.config, &now.config);
    for (key, changed) in [
        ("server.bind", old.server.bind != new.server.bind),
        ("server.port", old.server.port != new.server.port),
        ("server.tls", old.server.tls != new.server.tls),
        ("server.workers", old.server.workers != new.server.workers),
        (
            "server.log_level",
            old.server.log_level != new.server.log_level,
        ),
        ("audit", old.audit != new.audit),
        ("node", old.node != new.node),
        (
            "identity.replay_signatures_max",
            old.identity.replay_signatures_max != new.identity.replay_signatures_max,
        ),
    ] {
        if changed {
            tracing::warn!(key, "takes effect when the data plane starts again");
        }
    }
}
