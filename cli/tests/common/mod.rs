//! A place of its own for each test: a folder, a free port, a configuration, and the real binary.

#![allow(dead_code, reason = "each test binary uses its part")]

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long anything may take: compiling the patterns for the first time on a busy machine is the longest.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with a configuration in it.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// Fails the test unless the exit code is the expected one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

impl Place {
    /// A folder without a configuration.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Bound and let go of: nobody else gets this port for a while.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Self { dir, port }
    }

    /// Two agents with keys that may message each other, and one that may message nobody.
    pub(crate) fn with_agents() -> Self {
        let place = Self::empty();
        place.write_config(&place.config("agents:\n  research-agent:\n    can_message: [analysis-agent]\n  analysis-agent:\n    can_message: [research-agent]\n  hermit:\n    can_message: []\n"));
        place
            .run(&["keygen", "--agent", "research-agent,analysis-agent,hermit"])
            .expect(0);
        place
    }

    /// The head of a configuration and `rest`.
    pub(crate) fn config(&self, rest: &str) -> String {
        format!(
            "# kept comment\nversion: \"1\"\nserver:\n  port: {}\n  bind: 127.0.0.1\nidentity:\n  keys_dir: {}\n  require_signature: true\ndefault_policy: deny\nrate_limit:\n  per_agent: 0\ndb_path: {}\n{rest}",
            self.port,
            self.path("keys").display(),
            self.path("oktsec.db").display(),
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.path("oktsec.yaml")
    }

    pub(crate) fn write_config(&self, text: &str) {
        std::fs::write(self.config_path(), text).unwrap();
    }

    pub(crate) fn read_config(&self) -> String {
        std::fs::read_to_string(self.config_path()).unwrap()
    }

    /// The command with this place's configuration and none of the developer's own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oktsec"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env_remove("OKTSEC_CONFIG")
            .env_remove("OKTSEC_API_KEY")
            .env_remove("OKTSEC_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().unwrap())
    }

    /// Runs a command with `--json` and reads what it says.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str], code: i32) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        self.run(&all).expect(code).json()
    }

    /// Sends a message; what the server decided.
    pub(crate) fn send(&self, from: &str, to: &str, content: &str) -> (i32, Value) {
        let said = self.run(&[
            "send",
            "--json",
            "--from",
            from,
            "--to",
            to,
            "--content",
            content,
        ]);
        let value = serde_json::from_str(&said.stdout).unwrap_or(Value::Null);
        (said.code, value)
    }

    /// `oktsec status`, while a server may be starting or dying.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["status", "--json"]).stdout).unwrap_or(Value::Null)
    }

    pub(crate) fn serve(&self) -> Server {
        self.seed_rules(&self.path("oktsec.db.d"));
        Server::start(self.command(&["serve", "--json"]))
    }

    /// Starts a data plane by itself, and waits until it decides.
    pub(crate) fn data_plane(&self) -> DataPlane {
        let mut command = self.command(&["dataplane"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let plane = DataPlane(command.spawn().unwrap());
        until("the data plane", PATIENCE, || {
            (http(self.port, "GET", "/readyz", &[], "").0 == 200).then_some(())
        });
        plane
    }

    /// Puts the compiled built-in rules into a state folder: compiling them takes longer than all tests.
    pub(crate) fn seed_rules(&self, state: &Path) {
        use std::os::unix::fs::DirBuilderExt as _;
        static COMPILED: OnceLock<PathBuf> = OnceLock::new();
        let private_folder = |folder: &Path| {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .unwrap();
        };
        let compiled = COMPILED.get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-rules");
            private_folder(&folder);
            let rules = oktsec_rules::RuleSet::builtin();
            oktsec_scanner::Database::load_or_compile(&rules, &folder).unwrap();
            folder
        });
        let folder = state.join("rules");
        private_folder(&folder);
        for entry in compiled.read_dir().unwrap().flatten() {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
}

/// A running `oktsec serve`; it is stopped when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) ready: Value,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Server {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready = serde_json::from_str(&line);
        let mut server = Self {
            child,
            ready: Value::Null,
            stderr: Some(stderr),
        };
        match ready {
            Ok(ready) => server.ready = ready,
            Err(_) => {
                let (code, stderr) = server.stop();
                panic!("not ready, exit code {code:?}: {stderr}");
            }
        }
        server
    }

    /// The same, with nobody reading its log from then on.
    pub(crate) fn start_unread(mut command: Command) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(writer)
            .spawn()
            .unwrap();
        drop(command);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        drop(reader);
        Self {
            child,
            ready: serde_json::from_str(&line).unwrap(),
            stderr: Some(std::thread::spawn(String::new)),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits: exit code and everything it logged.
    pub(crate) fn stop(&mut self) -> (Option<i32>, String) {
        signal(self.child.id(), "TERM");
        let code = self.child.wait().unwrap().code();
        let stderr = self
            .stderr
            .take()
            .map(|thread| thread.join().unwrap())
            .unwrap_or_default();
        (code, stderr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.stderr.is_some() {
            let (_, stderr) = self.stop();
            if std::thread::panicking() {
                eprintln!("--- log of the server ---\n{stderr}");
            }
        }
    }
}

/// A data plane without a supervisor: killed when dropped.
pub(crate) struct DataPlane(Child);

impl Drop for DataPlane {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

pub(crate) fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Looks until `look` finds something, and fails the test when that takes longer than `patience`.
#[track_caller]
pub(crate) fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One raw HTTP request over TCP; status and body.
pub(crate) fn http(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return (0, String::new());
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if stream
        .write_all(format!("{head}\r\n{body}").as_bytes())
        .is_err()
    {
        return (0, String::new());
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    (status, body)
}

/// The JSON in a body, chunked or not.
pub(crate) fn json_in(body: &str) -> Value {
    let start = body.find(['{', '[']).unwrap_or(0);
    let mut documents = serde_json::Deserializer::from_str(&body[start..]).into_iter::<Value>();
    documents.next().and_then(Result::ok).unwrap_or(Value::Null)
}

/// Whether a path is a file only its owner can read.
pub(crate) fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().unwrap().permissions().mode() & 0o077 == 0
}
