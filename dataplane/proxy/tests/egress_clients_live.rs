//! Clients of WebSockets, unmodified, through a gateway that looks into their TLS. nginx has the TLS, a host behind it
//! answers. What is not installed is skipped, with a word why.

#![allow(clippy::print_stdout, reason = "a test that is skipped says why")]

use crate::common::egress::{Host, records};
use crate::common::{find, websocket};
use crate::egress_clients::{Stand, program};

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
