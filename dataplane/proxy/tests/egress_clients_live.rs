//! Programs that talk with their host, unmodified, through a gateway that looks into their TLS: git over its own protocol
//! and clients of WebSockets. nginx has the TLS, hosts behind it answer. What is not installed is skipped, with a word why.

#![allow(clippy::print_stdout, reason = "a test that is skipped says why")]

use crate::common::egress::{Host, length_of, records};
use crate::common::{find, websocket};
use crate::egress_clients::{Stand, program};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A host that lets git itself answer: every request is one run of `git http-backend` (CGI, RFC 3875).
fn git_host(git: PathBuf, projects: PathBuf) -> Host {
    Host::serve(move |mut visitor| {
        while let Some(head) = visitor.head() {
            let body = visitor.body(length_of(&head));
            if !visitor.send(&git_answers(&git, &projects, &head, &body)) {
                return;
            }
        }
    })
}

fn git_answers(git: &Path, projects: &Path, head: &str, body: &[u8]) -> Vec<u8> {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut command = Command::new(git);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", projects)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "alice")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path.strip_prefix("/git").unwrap())
        .env("QUERY_STRING", query)
        .env("CONTENT_LENGTH", body.len().to_string());
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "content-type" => command.env("CONTENT_TYPE", value),
            "content-encoding" => command.env("HTTP_CONTENT_ENCODING", value),
            "git-protocol" => command.env("GIT_PROTOCOL", value),
            _ => &mut command,
        };
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    // It may answer before it has read everything.
    let writing = std::thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output().unwrap().stdout;
    let _ = writing.join().unwrap();
    let end = find(&output, b"\r\n\r\n").unwrap();
    let (fields, body) = (&output[..end + 2], &output[end + 4..]);
    let fields = String::from_utf8_lossy(fields);
    let status = fields
        .lines()
        .find_map(|line| line.strip_prefix("Status: "));
    let status = status.unwrap_or("200 OK");
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn git_pushes_and_fetches_over_https_in_its_own_protocol() {
    let Some(git) = program("git") else { return };
    let projects = tempfile::tempdir().unwrap();
    let host = git_host(git.clone(), projects.path().to_owned());
    let at = host.address;
    let place = format!(
        "location /git/ {{ client_max_body_size 0; proxy_http_version 1.1; proxy_pass http://{at}; }}\n"
    );
    let Some(stand) = Stand::with(&place) else {
        return;
    };
    let bare = projects.path().join("project.git");
    let bare = bare.to_str().unwrap();
    stand.prints(&git, &["init", "-q", "--bare", "-b", "main", bare]);
    stand.prints(&git, &["-C", bare, "config", "http.receivepack", "true"]);
    let work = stand.path("work");
    let work_at = work.to_str().unwrap();
    stand.prints(&git, &["init", "-q", "-b", "main", work_at]);
    let commit = |name: &str, bytes: &[u8]| {
        std::fs::write(work.join(name), bytes).unwrap();
        stand.prints(&git, &["-C", work_at, "add", "."]);
        let who = ["-c", "user.name=a", "-c", "user.email=a@b.example"];
        let commit = [&["-C", work_at], &who[..], &["commit", "-q", "-m", name]].concat();
        stand.prints(&git, &commit);
    };
    // More than git sends at once: it asks with an empty request first, and then sends chunks.
    let noise: Vec<u8> = (0..1_000_000_u32)
        .flat_map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    commit("noise", &noise);
    let url = stand.url("/git/project.git");
    for (round, version) in ["HTTP/2", "HTTP/1.1"].into_iter().enumerate() {
        commit(&format!("round {round}"), b"one more\n");
        let version = format!("http.version={version}");
        let push = ["-C", work_at, "-c", &version, "push", "-q", &url, "main"];
        stand.prints(&git, &push);
        let clone = format!("clone {round}");
        stand.prints(&git, &["-c", &version, "clone", "-q", &url, &clone]);
        let cloned = stand.path("home").join(clone);
        assert!(std::fs::read(cloned.join("noise")).unwrap() == noise);
        assert!(cloned.join(format!("round {round}")).exists());
    }
    stand.was_looked_into();
}

/// nginx in front of a host that sends back whatever is said to it.
fn echo_stand() -> Option<(Stand, Host)> {
    let host = websocket::echo();
    let place = format!(
        "location /chat {{ proxy_pass http://{}; proxy_http_version 1.1; \
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}\n",
        host.address
    );
    Some((Stand::with(&place)?, host))
}

/// That the script said what it wanted, and was cut off at the word it must not say.
fn was_cut_off(stand: &Stand, host: &Host, printed: &str) {
    assert_eq!(printed, "echoed\nclosed\n");
    assert!(find(&host.reached.bytes(), b"forbidden").is_none());
    let cut = records(&stand.site);
    let cut = cut
        .iter()
        .find(|record| record["reason"] == "egress_request_content");
    assert_eq!(cut.expect("a record")["egress"]["path"], "/chat");
    stand.saw_every_byte();
}

#[test]
fn python_talks_over_a_web_socket() {
    let (Some(python), Some((stand, host))) = (program("python3"), echo_stand()) else {
        return;
    };
    let script = "import sys\n\
        try:\n\
        \x20   import websockets\n\
        \x20   from websockets.sync.client import connect\n\
        \x20   assert int(websockets.__version__.split('.')[0]) >= 15\n\
        except Exception:\n\
        \x20   sys.exit(77)\n\
        with connect(sys.argv[1], max_size=None) as ws:\n\
        \x20   for text in ['hello', 'x' * 200000, 'gr\u{fc}\u{df}e ' * 3000]:\n\
        \x20       ws.send(text)\n\
        \x20       assert ws.recv() == text\n\
        \x20   ws.send(iter(['frag', 'ment']))\n\
        \x20   assert ws.recv() == 'fragment'\n\
        \x20   assert ws.ping().wait(20)\n\
        \x20   print('echoed')\n\
        \x20   try:\n\
        \x20       ws.send(iter(['a forbid', 'den-word']))\n\
        \x20       print('passed', ws.recv())\n\
        \x20   except websockets.ConnectionClosed:\n\
        \x20       print('closed')\n";
    let url = stand.url("/chat").replace("https", "wss");
    let output = stand.run(&python, &["-c", script, &url]);
    if output.status.code() == Some(77) {
        println!("skipped: websockets 15 or later is not installed");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    was_cut_off(&stand, &host, &String::from_utf8_lossy(&output.stdout));
}

/// Runs a script of Node that says what it needs: `ws` and `undici` are looked for where `OKTSEC_TEST_NODE_MODULES` says.
fn node(module: &str, script: &str) {
    let (Some(node), Some((stand, host))) = (program("node"), echo_stand()) else {
        return;
    };
    let modules = std::env::var("OKTSEC_TEST_NODE_MODULES").unwrap_or_default();
    let url = stand.url("/chat").replace("https", "wss");
    let whole = format!(
        "module.paths.push('{modules}');\nconst url = '{url}';\n{script}\n\
         const texts = ['hello', 'x'.repeat(200000), '\u{fc}\u{4e2d}'.repeat(3000)];\n\
         let at = 0;\n\
         function opened(send) {{ send(texts[0]); }}\n\
         function came(text, send) {{\n\
         \x20 if (text !== texts[at]) {{ console.log('another text'); process.exit(1); }}\n\
         \x20 at += 1;\n\
         \x20 if (at < texts.length) return send(texts[at]);\n\
         \x20 console.log('echoed'); send('a forbidden-word');\n\
         }}\n\
         function closed() {{ console.log('closed'); process.exit(0); }}\n"
    );
    let file = stand.path("talk.js");
    std::fs::write(&file, whole).unwrap();
    let output = stand.run(&node, &[file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Cannot find module") {
        println!("skipped: {module} is not installed (OKTSEC_TEST_NODE_MODULES names its folder)");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    was_cut_off(&stand, &host, &String::from_utf8_lossy(&output.stdout));
}

#[test]
fn node_talks_over_a_web_socket_of_ws() {
    node(
        "ws",
        "const WebSocket = require('ws'), http = require('http'), tls = require('tls');\n\
         const proxy = new URL(process.env.HTTPS_PROXY), host = new URL(url).host;\n\
         const ask = http.request({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: host, headers: { host } });\n\
         ask.on('connect', (_, socket) => {\n\
         \x20 const createConnection = () => tls.connect({ socket, servername: 'localhost' });\n\
         \x20 const ws = new WebSocket(url, { perMessageDeflate: { threshold: 0 }, createConnection });\n\
         \x20 const send = text => ws.send(text);\n\
         \x20 ws.on('open', () => opened(send));\n\
         \x20 ws.on('message', data => came(data.toString(), send));\n\
         \x20 ws.on('error', () => {});\n\
         \x20 ws.on('close', closed);\n\
         });\n\
         ask.end();",
    );
}

#[test]
fn node_talks_over_a_web_socket_of_undici() {
    node(
        "undici",
        "const { WebSocket, setGlobalDispatcher, EnvHttpProxyAgent } = require('undici');\n\
         setGlobalDispatcher(new EnvHttpProxyAgent());\n\
         const ws = new WebSocket(url);\n\
         const send = text => ws.send(text);\n\
         ws.onopen = () => opened(send);\n\
         ws.onmessage = event => came(event.data, send);\n\
         ws.onerror = () => {};\n\
         ws.onclose = closed;",
    );
}
