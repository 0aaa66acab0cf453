//! `oktsec run`, and `oktsec` alone: serve, and write a first configuration if there is none.
//!
//! Nothing that exists is overwritten: keys, `.env` and configuration are made with "create new" or kept.

use super::{Global, serve};
use crate::exit::{Failure, Outcome};
use crate::out;
use crate::place::{self, Place};
use oktsec_contract::config;
use oktsec_contract::files;
use oktsec_contract::keys::KeyPair;
use oktsec_contract::verdict::Mode;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// The demo pair: names of the README of the Go version.
const AGENTS: [&str; 2] = ["research-agent", "analysis-agent"];

/// What wins over the configuration, and what a first one says.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) serve: serve::Args,
    /// Write a first configuration that acts on its verdicts (the default); an existing one says so itself
    #[arg(long, conflicts_with = "observe")]
    enforce: bool,
    /// Write a first configuration that only records what it would have done
    #[arg(long)]
    observe: bool,
    /// Accepted for scripts of the Go version; clients are not changed
    #[arg(long, hide = true)]
    skip_wrap: bool,
}

impl Args {
    /// Whether anything was given.
    pub(crate) fn is_given(&self) -> bool {
        self.serve.port.is_some() || self.serve.bind.is_some() || self.enforce || self.observe
    }

    /// These, and where they say nothing, the others (`oktsec --port 9 run`).
    pub(crate) fn over(mut self, other: Self) -> Self {
        self.serve.port = self.serve.port.or(other.serve.port);
        self.serve.bind = self.serve.bind.or(other.serve.bind);
        self.enforce |= other.enforce;
        self.observe |= other.observe;
        self
    }

    const fn mode(&self) -> Mode {
        if self.observe {
            Mode::Observe
        } else {
            Mode::Enforce
        }
    }
}

/// Serves; writes a configuration first if there is none.
pub(crate) fn execute(global: &Global, args: Args) -> Outcome {
    let config_path = config::resolve_path(global.config.as_deref());
    let is_new = config_path.symlink_metadata().is_err();
    if is_new {
        let setup = set_up(&config_path, args.mode())?;
        setup.tell(global.json);
    }
    let place = Place::find(Some(&config_path))?;
    place.warn();
    if !is_new && (args.enforce || args.observe) && place.config.mode != args.mode() {
        out::note(format_args!(
            "oktsec: warning: {} exists and says `mode: {}`; change it there, --{} only shapes a first one",
            config_path.display(),
            place.config.mode.as_str(),
            args.mode().as_str(),
        ));
    }
    serve::serve(global, place, args.serve)
}

/// What was written, for the operator.
struct Setup {
    done: Vec<String>,
    mode: Mode,
    config_path: PathBuf,
    keys_dir: PathBuf,
}

fn set_up(config_path: &Path, mode: Mode) -> Result<Setup, Failure> {
    let config_path = std::path::absolute(config_path)?;
    let folder = config_path
        .parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let at = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(format_args!("{}: {error}", path.display()))
    };
    files::create_folder(&folder).map_err(|error| at(&folder, &error))?;
    let mut done = Vec::new();

    let keys_dir = folder.join("keys");
    for agent in AGENTS {
        let public = keys_dir.join(format!("{agent}.pub"));
        if keys_dir.join(format!("{agent}.key")).exists() || public.exists() {
            done.push(format!("kept    {}", public.display()));
            continue;
        }
        KeyPair::generate(agent)
            .save(&keys_dir)
            .map_err(Failure::new)?;
        done.push(format!("written {} and its private .key", public.display()));
    }

    let env = folder.join(".env");
    match files::create_new(
        &env,
        format!("OKTSEC_API_KEY={}\n", random_hex()?).as_bytes(),
        0o600,
    ) {
        Ok(()) => done.push(format!("written {} (the API key)", env.display())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            done.push(format!("kept    {}", env.display()));
        }
        Err(error) => return Err(at(&env, &error)),
    }

    let text = first_config(&folder, &keys_dir, mode);
    files::create_new(&config_path, text.as_bytes(), 0o600)
        .map_err(|error| at(&config_path, &error))?;
    done.push(format!("written {}", config_path.display()));
    Ok(Setup {
        done,
        mode,
        config_path,
        keys_dir,
    })
}

fn random_hex() -> Result<String, Failure> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(format_args!("no random numbers: {error}")))?;
    Ok(hex::encode(bytes))
}

/// A configuration a person can read and change. Paths are absolute: it works from every folder.
fn first_config(folder: &Path, keys_dir: &Path, mode: Mode) -> String {
    // A JSON string is a YAML string, whatever the path holds.
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    let [first, second] = AGENTS;
    let mut text = String::new();
    let _ = write!(
        text,
        "# Written by `oktsec run`. Changes take effect within a second; `oktsec verify` checks them.\n\
         version: \"1\"\n\
         \n\
         # enforce: refuse what the rules below and the detection rules forbid.\n\
         # observe: refuse nothing, record what would have been refused.\n\
         mode: {mode}\n\
         \n\
         server:\n\
         \x20 bind: 127.0.0.1\n\
         \x20 port: 8080\n\
         \x20 # The API key of /v1/* is in .env beside this file.\n\
         \n\
         identity:\n\
         \x20 keys_dir: {keys}\n\
         \x20 require_signature: true\n\
         \n\
         # Senders that are not listed below may not send.\n\
         default_policy: deny\n\
         \n\
         # Records and state are kept beside this path.\n\
         db_path: {db}\n\
         \n\
         agents:\n\
         \x20 {first}:\n\
         \x20   description: Demo agent written by oktsec run\n\
         \x20   can_message: [{second}]\n\
         \x20 {second}:\n\
         \x20   description: Demo agent written by oktsec run\n\
         \x20   can_message: [{first}]\n",
        mode = mode.as_str(),
        keys = quoted(keys_dir),
        db = quoted(&folder.join("oktsec.db")),
    );
    text
}

impl Setup {
    /// Goes to stderr: stdout belongs to the banner, which may be JSON.
    fn tell(&self, json: bool) {
        if json {
            return;
        }
        out::note("No configuration yet, so this one was made; nothing was overwritten.\n");
        for line in &self.done {
            out::note(format_args!("  {line}"));
        }
        let [from, to] = AGENTS;
        let mut command = String::from("oktsec send");
        if Some(self.config_path.as_path())
            != place::home().map(|h| h.join("config.yaml")).as_deref()
        {
            let _ = write!(command, " --config {}", self.config_path.display());
        }
        let mode = match self.mode {
            Mode::Enforce => {
                "enforce: messages that break a rule are refused (--observe for a first look)"
            }
            Mode::Observe => "observe: nothing is refused, everything is recorded",
        };
        out::note(format_args!("\nMode is {mode}."));
        out::note(format_args!(
            "Try in another terminal:\n\n  {command} --from {from} --to {to} --content 'Summarize the quarterly report'\n"
        ));
        tracing::debug!(keys = %self.keys_dir.display(), "first configuration written");
    }
}

#[cfg(test)]
mod tests {
    use super::{first_config, set_up};
    use oktsec_contract::config;
    use oktsec_contract::verdict::Mode;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    #[test]
    fn the_first_configuration_loads_without_a_warning_even_from_an_odd_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("it's \"odd\": #1 \\ ünï");
        let path = folder.join("config.yaml");
        let setup = set_up(&path, Mode::Observe).unwrap();
        assert_eq!(setup.done.len(), 4);
        let loaded = config::load(&path).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert_eq!(loaded.config.mode, Mode::Observe);
        assert_eq!(loaded.config.agents.len(), 2);
        assert_eq!(loaded.config.server.api_key.expose().len(), 64);
        assert_eq!(
            loaded.config.identity.keys_dir.unwrap(),
            folder.join("keys")
        );
        for file in ["config.yaml", ".env", "keys/research-agent.key"] {
            let mode = folder.join(file).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn nothing_that_exists_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        for (file, text) in [
            (".env", "OKTSEC_API_KEY=mine\n"),
            ("keys/analysis-agent.pub", "mine"),
        ] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let path = dir.path().join("oktsec.yaml");
        set_up(&path, Mode::Enforce).unwrap();
        let read = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(read(".env"), "OKTSEC_API_KEY=mine\n");
        assert_eq!(read("keys/analysis-agent.pub"), "mine");
        assert!(
            set_up(&path, Mode::Enforce).is_err(),
            "the configuration itself is new or nothing"
        );
    }

    #[test]
    fn the_mode_is_in_the_text() {
        let text = first_config(Path::new("/a"), Path::new("/a/keys"), Mode::Enforce);
        assert!(text.contains("\nmode: enforce\n"));
    }
}
