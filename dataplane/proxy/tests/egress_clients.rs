//! Programs that agents use, unmodified, through a gateway that looks into their TLS, to a real nginx with TLS and
//! HTTP/2. What is not installed is skipped, with a word why.

#![allow(clippy::print_stdout, reason = "a test that is skipped says why")]

use crate::common::egress::{proxy_of, records, yaml};
use crate::common::{Site, Wish, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// Where a program is, if it is anywhere.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: {name} is not installed");
    }
    found
}

/// A port that the system gives to nobody who asks for any: nginx takes none that it chose itself.
fn port_of_its_own() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 2_000).unwrap();
    loop {
        let at = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], 29_000 + (first + at) % 2_000));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// An authority, and what it has signed.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// nginx with files, and a data plane that looks into connections to it.
pub(crate) struct Stand {
    pub(crate) site: Site,
    nginx: Child,
    files: tempfile::TempDir,
    port: u16,
}

impl Stand {
    fn new() -> Option<Self> {
        Self::with("")
    }

    /// nginx has more places than files, in its own words.
    pub(crate) fn with(places: &str) -> Option<Self> {
        let nginx = program("nginx")?;
        let files = tempfile::tempdir().unwrap();
        // Workers of nginx become somebody else when root starts it.
        std::fs::set_permissions(files.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let write = |name: &str, text: &str, mode| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let (ours, theirs) = (authority(), authority());
        write("ca.crt", &ours.pem(), 0o644);
        write("ca.key", &ours.key().serialize_pem(), 0o600);
        write("hosts.pem", &theirs.pem(), 0o644);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &theirs).unwrap();
        write("cert.pem", &certificate.pem(), 0o644);
        write("key.pem", &key.serialize_pem(), 0o600);
        std::fs::create_dir(files.path().join("www")).unwrap();
        let address = port_of_its_own();
        let dir = files.path().display();
        let conf = format!(
            "daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log {dir}/error.log;\nevents {{}}\n\
             http {{\naccess_log off;\ndefault_type text/plain;\ntypes {{ text/html html; application/json json; }}\n\
             client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
             uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
             server {{\nlisten {address} ssl http2;\nssl_certificate {dir}/cert.pem;\nssl_certificate_key {dir}/key.pem;\n\
             root {dir}/www;\nautoindex on;\nlocation = /protocol {{ return 200 \"$server_protocol\"; }}\n{places}}}\n}}\n"
        );
        write("nginx.conf", &conf, 0o644);
        let child = Command::new(nginx)
            .arg("-c")
            .arg(files.path().join("nginx.conf"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let interception = format!(
            "  interception: {{enabled: true, ca_dir: {dir}, extra_roots: [{dir}/hosts.pem]}}\n"
        );
        let port = address.port();
        let yaml = yaml(&interception).replace("ports: [1]", &format!("ports: [{port}]"));
        let site = Site::new(Wish {
            yaml: &yaml,
            tune: Box::new(|options| {
                options.egress.as_mut().unwrap().listeners[0].1 = 0;
            }),
            ..Wish::default()
        });
        let stand = Self {
            site,
            nginx: child,
            files,
            port,
        };
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Some(stand)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// A file that nginx serves.
    fn serve(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path("www").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// A program with what `oktsec env` gives it, in a home of its own.
    pub(crate) fn run(&self, program: &Path, args: &[&str]) -> Output {
        let home = self.path("home");
        std::fs::create_dir_all(&home).unwrap();
        let proxy = format!("http://{}", proxy_of(&self.site));
        let bundle = self.path("ca.crt");
        let mut command = Command::new(program);
        command.args(args).current_dir(&home).env_clear();
        for name in [
            "PATH",
            "LD_LIBRARY_PATH",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "PYENV_ROOT",
        ] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env(name, &proxy);
        }
        for name in [
            "CURL_CA_BUNDLE",
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "PIP_CERT",
            "GIT_SSL_CAINFO",
            "CARGO_HTTP_CAINFO",
            "NODE_EXTRA_CA_CERTS",
            "npm_config_cafile",
        ] {
            command.env(name, &bundle);
        }
        command
            .stdin(Stdio::null())
            .env("HOME", &home)
            .env("CARGO_HOME", home.join("cargo"))
            // Nobody asks for news of himself.
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("npm_config_update_notifier", "false")
            .output()
            .unwrap()
    }

    /// The same; it must succeed. Gives what it printed.
    pub(crate) fn prints(&self, program: &Path, args: &[&str]) -> String {
        let output = self.run(program, args);
        assert!(output.status.success(), "{program:?} {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// That everything asked of nginx so far went through us, was looked into, and was let go. Programs ask others,
    /// too, and are refused: pip runs `rustc` to say which it is, and where that is `rustup` it may look for news.
    pub(crate) fn was_looked_into(&self) {
        eventually("the requests are recorded", || {
            records(&self.site)
                .iter()
                .any(|record| record["reason"] == "egress_forwarded")
        });
        let refused: Vec<_> = records(&self.site)
            .into_iter()
            .filter(|record| record["status"] == "blocked")
            .filter(|record| record["egress"]["host"] == "localhost")
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
        self.saw_every_byte();
    }

    /// That nothing passed unseen.
    pub(crate) fn saw_every_byte(&self) {
        for reason in ["tunnel", "observed"] {
            let line = format!("oktsec_bytes_unscanned_total{{reason=\"{reason}\"}}");
            assert_eq!(self.site.metric(&line), 0.0, "{reason}");
        }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn curl_speaks_what_it_wants_and_gets_what_it_asked_for() {
    let (Some(stand), Some(curl)) = (Stand::new(), program("curl")) else {
        return;
    };
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(|at| at.to_le_bytes()).collect();
    stand.serve("big", &big);
    for (option, protocol) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2.0")] {
        let url = stand.url("/protocol");
        let text = stand.prints(&curl, &["-sS", "-m", "20", option, &url]);
        assert_eq!(text, protocol, "the host is offered what the client offers");
        let got = stand.path("home").join("big");
        stand.prints(
            &curl,
            &[
                "-sS",
                "-m",
                "60",
                option,
                "-o",
                got.to_str().unwrap(),
                &stand.url("/big"),
            ],
        );
        assert!(std::fs::read(got).unwrap() == big, "{option}");
    }
    stand.was_looked_into();
    let post = stand.run(
        &curl,
        &[
            "-sS",
            "-m",
            "20",
            "-d",
            "a forbidden-word",
            &stand.url("/protocol"),
        ],
    );
    let text = String::from_utf8_lossy(&post.stdout).into_owned();
    assert!(text.contains("egress_request_content"), "{text}");
}

#[test]
fn git_clones_over_https() {
    let (Some(stand), Some(git)) = (Stand::new(), program("git")) else {
        return;
    };
    let work = stand.path("work");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("README"), "hello\n".repeat(10_000)).unwrap();
    let at = work.to_str().unwrap();
    stand.prints(&git, &["init", "-q", at]);
    stand.prints(&git, &["-C", at, "add", "."]);
    let name = ["-c", "user.name=a", "-c", "user.email=a@b.example"];
    let commit = [&["-C", at], &name[..], &["commit", "-q", "-m", "first"]].concat();
    stand.prints(&git, &commit);
    let bare = stand.path("www").join("project.git");
    let bare = bare.to_str().unwrap();
    stand.prints(&git, &["clone", "-q", "--bare", at, bare]);
    stand.prints(&git, &["-C", bare, "repack", "-a", "-d", "-q"]);
    stand.prints(&git, &["-C", bare, "update-server-info"]);
    stand.prints(&git, &["clone", "-q", &stand.url("/project.git"), "clone"]);
    let cloned = std::fs::read(stand.path("home").join("clone/README")).unwrap();
    assert_eq!(cloned.len(), 60_000);
    stand.was_looked_into();
}

#[test]
fn python_asks_with_requests_and_httpx() {
    let (Some(stand), Some(python)) = (Stand::new(), program("python3")) else {
        return;
    };
    for (module, call) in [
        ("requests", "requests.get(url, timeout=20)"),
        ("httpx", "httpx.get(url, timeout=20)"),
    ] {
        let installed = stand.run(&python, &["-c", &format!("import {module}")]);
        if !installed.status.success() {
            println!("skipped: {module} is not installed");
            continue;
        }
        let url = stand.url("/protocol");
        let script =
            format!("import {module}\nurl = '{url}'\nr = {call}\nprint(r.status_code, r.text)");
        assert_eq!(
            stand.prints(&python, &["-c", &script]),
            "200 HTTP/1.1\n",
            "{module}"
        );
        stand.was_looked_into();
    }
}

#[test]
fn node_fetches_with_the_agent_that_reads_the_environment() {
    let (Some(stand), Some(node)) = (Stand::new(), program("node")) else {
        return;
    };
    let script = format!(
        "const {{ fetch, setGlobalDispatcher, EnvHttpProxyAgent }} = require('undici');\n\
         setGlobalDispatcher(new EnvHttpProxyAgent());\n\
         fetch('{}').then(async r => console.log(r.status, await r.text()));",
        stand.url("/protocol")
    );
    let modules = std::env::var("OKTSEC_TEST_NODE_MODULES").unwrap_or_default();
    let script = format!("module.paths.push('{modules}');\n{script}");
    let file = stand.path("ask.js");
    std::fs::write(&file, script).unwrap();
    let output = stand.run(&node, &[file.to_str().unwrap()]);
    if String::from_utf8_lossy(&output.stderr).contains("Cannot find module 'undici'") {
        println!("skipped: undici is not installed (OKTSEC_TEST_NODE_MODULES names its folder)");
        return;
    }
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "200 HTTP/1.1\n",
        "{output:?}"
    );
    stand.was_looked_into();
}

#[test]
fn npm_installs_a_package() {
    let (Some(stand), Some(npm)) = (Stand::new(), program("npm")) else {
        return;
    };
    let package = stand.path("package");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(
        package.join("package.json"),
        r#"{"name": "little", "version": "1.0.0"}"#,
    )
    .unwrap();
    std::fs::write(package.join("index.js"), "module.exports = 7;\n").unwrap();
    let packed = stand.prints(&npm, &["pack", "--silent", package.to_str().unwrap()]);
    let tarball = std::fs::read(stand.path("home").join(packed.trim())).unwrap();
    stand.serve("little-1.0.0.tgz", tarball);
    let index = format!(
        r#"{{"name": "little", "dist-tags": {{"latest": "1.0.0"}}, "versions": {{"1.0.0": {{"name": "little", "version": "1.0.0", "dist": {{"tarball": "{}"}}}}}}}}"#,
        stand.url("/little-1.0.0.tgz")
    );
    stand.serve("little", index);
    let registry = format!("--registry={}", stand.url("/"));
    stand.prints(
        &npm,
        &["install", "--no-audit", "--no-fund", &registry, "little"],
    );
    let installed = stand.path("home").join("node_modules/little/index.js");
    assert!(installed.exists());
    stand.was_looked_into();
}

#[test]
fn pip_downloads_a_package() {
    let (Some(stand), Some(python)) = (Stand::new(), program("python3")) else {
        return;
    };
    if !stand
        .run(&python, &["-m", "pip", "--version"])
        .status
        .success()
    {
        println!("skipped: pip is not installed");
        return;
    }
    // A wheel is a ZIP with these three files.
    let script = "import zipfile\nz = zipfile.ZipFile('little-1.0-py3-none-any.whl', 'w')\n\
                  z.writestr('little.py', 'x = 7\\n')\n\
                  z.writestr('little-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: little\\nVersion: 1.0\\n')\n\
                  z.writestr('little-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
                  z.writestr('little-1.0.dist-info/RECORD', '')\nz.close()";
    stand.prints(&python, &["-c", script]);
    let name = "little-1.0-py3-none-any.whl";
    stand.serve(
        &format!("files/{name}"),
        std::fs::read(stand.path("home").join(name)).unwrap(),
    );
    let page = format!(
        "<a href=\"{}\">{name}</a>",
        stand.url(&format!("/files/{name}"))
    );
    stand.serve("simple/little/index.html", page);
    let index = stand.url("/simple");
    stand.prints(
        &python,
        &[
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-i",
            &index,
            "-d",
            "got",
            "little",
        ],
    );
    assert!(stand.path("home").join("got").join(name).exists());
    stand.was_looked_into();
}

#[test]
fn cargo_fetches_a_crate_from_a_sparse_index() {
    let (Some(stand), Some(cargo)) = (Stand::new(), program("cargo")) else {
        return;
    };
    let (krate, user) = (stand.path("little"), stand.path("user"));
    for (folder, more) in [
        (&krate, ""),
        (
            &user,
            "[dependencies]\nlittle = { version = \"1\", registry = \"here\" }\n",
        ),
    ] {
        let name = folder.file_name().unwrap().to_str().unwrap();
        std::fs::create_dir_all(folder.join("src")).unwrap();
        std::fs::write(folder.join("src/lib.rs"), "").unwrap();
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\ndescription = \"x\"\nlicense = \"MIT\"\n{more}"
        );
        std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    }
    let manifest = krate.join("Cargo.toml");
    stand.prints(
        &cargo,
        &[
            "package",
            "-q",
            "--no-verify",
            "--allow-dirty",
            "--manifest-path",
            manifest.to_str().unwrap(),
        ],
    );
    let packed = std::fs::read(krate.join("target/package/little-1.0.0.crate")).unwrap();
    let sum = hex(&Sha256::digest(&packed));
    stand.serve("crates/little/1.0.0/download", packed);
    let config = format!(r#"{{"dl": "{}"}}"#, stand.url("/crates"));
    stand.serve("index/config.json", config);
    let line = format!(
        r#"{{"name":"little","vers":"1.0.0","deps":[],"cksum":"{sum}","features":{{}},"yanked":false}}"#
    );
    stand.serve("index/li/tt/little", line + "\n");
    let registry = format!(
        "[registries.here]\nindex = \"sparse+{}\"\n",
        stand.url("/index/")
    );
    let manifest = user.join("Cargo.toml");
    let home = stand.path("home");
    std::fs::create_dir_all(home.join(".cargo")).unwrap();
    // Its configuration is looked for where it runs.
    std::fs::write(home.join(".cargo/config.toml"), registry).unwrap();
    stand.prints(
        &cargo,
        &["fetch", "-q", "--manifest-path", manifest.to_str().unwrap()],
    );
    stand.was_looked_into();
}
