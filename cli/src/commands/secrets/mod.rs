//! `oktsec secrets add|bind|plant|list|remove|check`: values that must not leave, known by keyed hashes only.
//!
//! A value is read from a file, a variable, a command or standard input, never from the command line, where the
//! history of a shell would keep it. What is written and shown is its name.

mod source;

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::local;
use crate::out;
use crate::place::Place;
use crate::table::Table;
use oktsec_contract::files;
use oktsec_contract::host::HostPattern;
use oktsec_contract::keys;
use oktsec_contract::paths::StatePaths;
use oktsec_scanner::secrets::{Added, SecretFinder, SecretKey, SecretKind, SecretStore};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use source::Source;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a text to be checked.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// What to do with known secrets.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Watch for a value, or for each line of a source
    Add(Add),
    /// Say which hosts the values of a name belong to
    Bind(Bind),
    /// Make a canary token for an agent, watch for it, and show it once
    Plant(Plant),
    /// List the names of what is watched for, never the values
    List,
    /// Forget every value of a name
    Remove(Remove),
    /// Say which known secrets a text holds: exit code 1 if there are any
    Check(Check),
}

/// Under which name, from where.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// What findings and records call it
    name: String,
    #[command(flatten)]
    source: Source,
    /// Forget what the name stood for before
    #[arg(long)]
    replace: bool,
    /// A host that the value belongs to, or `*.example.com`; may be repeated. It may go there and nowhere else, not even in
    /// a header for credentials
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
}

/// Whose values, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Bind {
    /// The name, as `oktsec secrets list` shows it
    name: String,
    /// A host that its values belong to, or `*.example.com`; may be repeated. With none they belong to nobody
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
}

/// Whose.
#[derive(Debug, clap::Args)]
pub(crate) struct Plant {
    /// The agent that is given the token; where it turns up, this agent leaked
    agent: String,
}

/// Which.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// The name, as `oktsec secrets list` shows it
    name: String,
    /// The canary tokens of an agent of this name
    #[arg(long)]
    canary: bool,
}

/// Which text.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The text; `-` or nothing reads standard input
    file: Option<std::path::PathBuf>,
}

/// Adds, plants, lists, removes or checks.
pub(crate) fn execute(global: &Global, command: Command) -> Outcome {
    let place = Place::find(global.config.as_deref())?;
    match command {
        Command::Add(args) => add(global, &place, &args),
        Command::Bind(args) => bind(global, &place, &args),
        Command::Plant(args) => plant(global, &place, &args),
        Command::List => list(global, &place),
        Command::Remove(args) => remove(global, &place, &args),
        Command::Check(args) => check(global, &place, &args),
    }
}

fn add(global: &Global, place: &Place, args: &Add) -> Outcome {
    let hosts = spelt(&args.hosts)?;
    let values = args.source.read()?;
    let mut store = Locked::open(&place.paths)?;
    let mut forgotten = 0;
    if args.replace {
        forgotten = store.inner.remove(&args.name, SecretKind::Value);
    }
    let (mut new, mut known, mut refused) = (0_usize, 0_usize, Vec::new());
    for (at, value) in values.iter().enumerate() {
        match store.inner.add(&args.name, SecretKind::Value, value) {
            Ok(Added::New) => new += 1,
            Ok(Added::Known) => known += 1,
            // Says the length of a value and nothing else of it.
            Err(error) => refused.push(format!("value {}: {error}", at + 1)),
        }
    }
    if new == 0 && known == 0 {
        return Err(Failure::all(&refused).context("nothing was added:"));
    }
    if !hosts.is_empty() && !store.inner.bind(&args.name, hosts).map_err(Failure::new)? {
        return Err(Failure::new(
            "every value is known under another name; `oktsec secrets bind` says where that one may go",
        ));
    }
    let done = json!({
        "name": args.name,
        "new": new,
        "known": known,
        "refused": refused,
        "forgotten": forgotten,
    });
    keep(global, place, store, done, || {
        out::line(format_args!(
            "{}: {new} new, {known} known already, {} refused",
            out::printable(&args.name),
            refused.len()
        ))?;
        for why in refused.iter().take(REFUSALS_SHOWN_MAX) {
            out::note(why);
        }
        if refused.len() > REFUSALS_SHOWN_MAX {
            let more = refused.len() - REFUSALS_SHOWN_MAX;
            out::note(format_args!("and {more} more"));
        }
        Ok(())
    })?;
    Ok(match refused.is_empty() {
        true => Exit::Done,
        false => Exit::Findings,
    })
}

fn bind(global: &Global, place: &Place, args: &Bind) -> Outcome {
    let hosts = spelt(&args.hosts)?;
    let mut store = Locked::open(&place.paths)?;
    if !store
        .inner
        .bind(&args.name, hosts.clone())
        .map_err(Failure::new)?
    {
        return Err(Failure::new(format_args!(
            "no value is called {:?}; `oktsec secrets list` shows them",
            args.name
        )));
    }
    let done = json!({ "name": args.name, "hosts": hosts });
    keep(global, place, store, done, || {
        let name = out::printable(&args.name);
        match hosts.is_empty() {
            true => out::line(format_args!("{name}: belongs to no host")),
            false => out::line(format_args!("{name}: belongs to {}", hosts.join(", "))),
        }
    })?;
    Ok(Exit::Done)
}

/// Writes the store, puts it in force and says what was done: as `done`, or in words.
fn keep(
    global: &Global,
    place: &Place,
    store: Locked<'_>,
    mut done: Value,
    say: impl FnOnce() -> io::Result<()>,
) -> Result<(), Failure> {
    store.write()?;
    let in_force = local::put_in_force(&place.paths);
    if global.json {
        done["in_force"] = in_force.to_json();
        out::json(&done)?;
    } else {
        say()?;
        in_force.tell();
    }
    Ok(())
}

/// Hosts in the one spelling that traffic is compared in.
fn spelt(hosts: &[String]) -> Result<Vec<String>, Failure> {
    let spelt = hosts.iter().map(|text| match HostPattern::parse(text) {
        Ok(pattern @ (HostPattern::Exact(_) | HostPattern::Below(_))) => Ok(pattern.to_string()),
        Ok(_) => Err(format!(
            "--host {text:?}: a host or *.example.com is needed"
        )),
        Err(error) => Err(format!("--host {text:?}: {error}")),
    });
    let (good, bad): (Vec<_>, Vec<_>) = spelt.partition(Result::is_ok);
    match bad.is_empty() {
        true => Ok(good.into_iter().flatten().collect()),
        false => Err(Failure::all(bad.into_iter().filter_map(Result::err))),
    }
}

/// Refused values that are reported one by one.
const REFUSALS_SHOWN_MAX: usize = 10;

fn plant(global: &Global, place: &Place, args: &Plant) -> Outcome {
    keys::check_agent_name(&args.agent)
        .map_err(|problem| Failure::new(format_args!("{:?}: {problem}", args.agent)))?;
    let mut chance = [0; 32];
    getrandom::fill(&mut chance)
        .map_err(|error| Failure::new(format_args!("no random numbers: {error}")))?;
    let mut store = Locked::open(&place.paths)?;
    let token = store
        .inner
        .plant(&args.agent, &chance)
        .map_err(Failure::new)?;
    let done = json!({ "agent": args.agent, "token": token });
    keep(global, place, store, done, || {
        out::line(&token)?;
        out::note(format_args!(
            "Canary token of {}. It is shown this once; put it where only {} reads it.",
            args.agent, args.agent
        ));
        if !place.config.agents.contains_key(&args.agent) {
            out::note(format_args!("No agent is called {:?}.", args.agent));
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

fn list(global: &Global, place: &Place) -> Outcome {
    let names = open(&place.paths)?.map_or_else(Vec::new, |store| store.list());
    if global.json {
        let names: Vec<_> = names
            .iter()
            .map(|name| {
                json!({
                    "name": name.name,
                    "kind": name.kind.as_str(),
                    "values": name.values,
                    "hosts": name.hosts,
                })
            })
            .collect();
        out::json(&names.into())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["NAME", "KIND", "VALUES", "HOSTS"]);
    for name in &names {
        table.row([
            &out::printable(&name.name),
            name.kind.as_str(),
            &name.values.to_string(),
            &name.hosts.join(", "),
        ]);
    }
    table.print()?;
    Ok(Exit::Done)
}

fn remove(global: &Global, place: &Place, args: &Remove) -> Outcome {
    let kind = match args.canary {
        true => SecretKind::Canary,
        false => SecretKind::Value,
    };
    let mut store = Locked::open(&place.paths)?;
    let values = store.inner.remove(&args.name, kind);
    if values == 0 {
        return Err(Failure::new(format_args!(
            "no {} is called {:?}; `oktsec secrets list` shows them",
            kind.as_str(),
            args.name
        )));
    }
    let done = json!({ "name": args.name, "kind": kind.as_str(), "values": values });
    keep(global, place, store, done, || {
        out::line(format_args!(
            "{}: {values} forgotten",
            out::printable(&args.name)
        ))
    })?;
    Ok(Exit::Done)
}

fn check(global: &Global, place: &Place, args: &Check) -> Outcome {
    let file = args.file.as_ref().filter(|path| path.as_os_str() != "-");
    let text = match file {
        Some(path) => files::read(path, TEXT_BYTES_MAX)
            .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?,
        None => source::standard_input()?,
    };
    let Some(store) = open(&place.paths)? else {
        return Err(Failure::new(
            "there is no store of known secrets yet; `oktsec secrets add` makes it",
        ));
    };
    let index = Arc::new(store.index());
    let mut finder = SecretFinder::new(Arc::clone(&index));
    let found = finder.find(&text);
    let rows = found.findings.iter().map(|finding| {
        let (secret, span) = (finding.secret, &finding.span);
        (index.name(secret), index.kind(secret), finding.form, span)
    });
    if global.json {
        let rows: Vec<_> = rows
            .map(|(name, kind, form, span)| {
                json!({"name": name, "kind": kind.as_str(), "form": form.as_str(), "start": span.start, "end": span.end})
            })
            .collect();
        out::json(&json!({"findings": rows, "more": found.more}))?;
    } else {
        let mut table = Table::new(&["NAME", "KIND", "FORM", "BYTES"]);
        for (name, kind, form, span) in rows {
            table.row([
                &out::printable(name),
                kind.as_str(),
                form.as_str(),
                &format!("{}..{}", span.start, span.end),
            ]);
        }
        table.print()?;
    }
    Ok(match found.findings.is_empty() {
        true => Exit::Done,
        false => Exit::Findings,
    })
}

/// How many values the store of this configuration knows, `None` if there is no store.
///
/// # Errors
/// A store that a server would refuse.
pub(super) fn count(place: &Place) -> Result<Option<usize>, Failure> {
    let store = open(&place.paths)?;
    if store.is_none() && place.config.secrets.store.is_some() {
        let path = place.paths.secrets_store.display();
        return Err(Failure::new(format_args!(
            "secrets.store: {path} is not there; `oktsec secrets add` makes it"
        )));
    }
    Ok(store.map(|store| store.len()))
}

/// The store, if there is one.
fn open(paths: &StatePaths) -> Result<Option<SecretStore>, Failure> {
    let path = &paths.secrets_store;
    if !path.exists() {
        return Ok(None);
    }
    let key =
        SecretKey::load(&paths.secrets_key).map_err(|error| about(&paths.secrets_key, &error))?;
    SecretStore::read(path, key).map_err(|error| about(path, &error))
}

/// A store that only we change until this is dropped.
struct Locked<'p> {
    inner: SecretStore,
    paths: &'p StatePaths,
    _folder: Option<File>,
}

impl<'p> Locked<'p> {
    /// Locks and reads the store; makes an empty one, and its key, if there is none.
    fn open(paths: &'p StatePaths) -> Result<Self, Failure> {
        for path in [&paths.secrets_store, &paths.secrets_key] {
            if let Some(folder) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                files::create_folder(folder).map_err(|error| about(folder, &error))?;
            }
        }
        let folder = lock(&paths.secrets_store);
        let inner = match open(paths)? {
            Some(store) => store,
            None => {
                let mut fresh = [0; 32];
                getrandom::fill(&mut fresh)
                    .map_err(|error| Failure::new(format_args!("no random numbers: {error}")))?;
                let key = SecretKey::load_or_create(&paths.secrets_key, fresh)
                    .map_err(|error| about(&paths.secrets_key, &error))?;
                SecretStore::new(key)
            }
        };
        Ok(Self {
            inner,
            paths,
            _folder: folder,
        })
    }

    fn write(&self) -> Result<(), Failure> {
        let path = &self.paths.secrets_store;
        self.inner.write(path).map_err(|error| about(path, &error))
    }
}

/// A file system that knows no locks (some network ones) is no reason to refuse the change.
fn lock(store: &Path) -> Option<File> {
    let folder = File::open(store.parent()?).ok()?;
    flock(&folder, FlockOperation::LockExclusive).ok()?;
    Some(folder)
}

fn about(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format_args!("{}: {error}", path.display()))
}
