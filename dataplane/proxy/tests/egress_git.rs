//! git, unmodified, over its own protocol through a gateway that looks into its TLS: what is pushed is read inside of its
//! pack. nginx has the TLS, a host behind it lets git itself answer. What is not installed is skipped, with a word why.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use crate::common::egress::{Host, client, length_of, records, site, yaml};
use crate::common::{Response, eventually, find};
use crate::egress_clients::{Stand, program};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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

/// A project on a host, and a copy of it to work in.
struct Project {
    stand: Stand,
    host: Host,
    git: PathBuf,
    projects: tempfile::TempDir,
    url: String,
}

impl Project {
    fn new(format: &str) -> Option<Self> {
        let git = program("git")?;
        let projects = tempfile::tempdir().unwrap();
        let host = git_host(git.clone(), projects.path().to_owned());
        let at = host.address;
        let place = format!(
            "location /git/ {{ client_max_body_size 0; proxy_http_version 1.1; proxy_pass http://{at}; }}\n"
        );
        let stand = Stand::with(&place)?;
        let url = stand.url("/git/project.git");
        let project = Self {
            stand,
            host,
            git,
            projects,
            url,
        };
        let format = format!("--object-format={format}");
        let (bare, work) = (project.bare(), project.work());
        let (bare, work) = (bare.to_str().unwrap(), work.to_str().unwrap());
        project.run(&["init", "-q", "--bare", "-b", "main", &format, bare]);
        project.run(&["-C", bare, "config", "http.receivepack", "true"]);
        project.run(&["init", "-q", "-b", "main", &format, work]);
        Some(project)
    }

    fn bare(&self) -> PathBuf {
        self.projects.path().join("project.git")
    }

    fn work(&self) -> PathBuf {
        self.stand.path("work")
    }

    /// git with these words; it must succeed.
    fn run(&self, words: &[&str]) -> String {
        self.stand.prints(&self.git, words)
    }

    /// The same where the work is done.
    fn there(&self, words: &[&str]) -> String {
        let who = ["-c", "user.name=a", "-c", "user.email=a@b.example"];
        let work = self.work();
        self.run(&[&["-C", work.to_str().unwrap()], &who[..], words].concat())
    }

    /// Pushes a text long enough that git sends what changes in it as a delta.
    fn with_text(&self) -> String {
        let text: String = (0..4_000)
            .map(|at| format!("line {at} of many\n"))
            .collect();
        self.commit("text", &text, "text");
        self.passes("HTTP/2");
        text
    }

    fn commit(&self, name: &str, bytes: impl AsRef<[u8]>, message: &str) {
        std::fs::write(self.work().join(name), bytes).unwrap();
        self.there(&["add", "."]);
        self.there(&["commit", "-q", "-m", message]);
    }

    fn push(&self, version: &str) -> Output {
        let work = self.work();
        let version = format!("http.version={version}");
        let work = work.to_str().unwrap();
        let words = ["-C", work, "-c", &version, "push", &self.url, "main"];
        self.stand.run(&self.git, &words)
    }

    /// Which commit the host has.
    fn head(&self) -> String {
        let bare = self.bare();
        self.run(&["-C", bare.to_str().unwrap(), "rev-parse", "main"])
    }

    /// Pushes what must not leave: nothing moves, and git says why. Afterwards the last commit is gone.
    fn is_refused(&self, version: &str, what: &str) {
        let before = self.head();
        let output = self.push(version);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{what}, {version}: {said}");
        for words in [
            "remote: oktsec refused this push: it holds what must not leave (Forbidden word).",
            "[remote rejected] main -> main (refused by oktsec: it holds what must not leave (Forbidden word))",
            "remote: More: oktsec explain ",
        ] {
            assert!(said.contains(words), "{what}, {version}: {said}");
        }
        let id = said.split("oktsec explain ").nth(1).unwrap();
        let id = id.split_whitespace().next().unwrap();
        eventually("the refusal is recorded", || {
            records(&self.stand.site).iter().any(|record| {
                record["id"] == id
                    && record["status"] == "blocked"
                    && record["reason"] == "egress_request_content"
                    && record["egress"]["path"] == "/git/project.git/git-receive-pack"
            })
        });
        assert_eq!(self.head(), before, "{what}, {version}");
        self.there(&["reset", "-q", "--hard", "HEAD~1"]);
    }

    fn passes(&self, version: &str) {
        let output = self.push(version);
        assert!(output.status.success(), "{version}: {output:?}");
        assert_eq!(self.head(), self.there(&["rev-parse", "main"]), "{version}");
    }
}

const VERSIONS: [&str; 2] = ["HTTP/2", "HTTP/1.1"];

fn noise(words: u32) -> Vec<u8> {
    (0..words)
        .flat_map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect()
}

#[test]
fn git_pushes_and_fetches_over_https_in_its_own_protocol() {
    let Some(project) = Project::new("sha1") else {
        return;
    };
    // More than git sends at once: it asks with an empty request first, and then sends chunks.
    let noise = noise(1_000_000);
    project.commit("noise", &noise, "noise");
    for (round, version) in VERSIONS.into_iter().enumerate() {
        project.commit(&format!("round {round}"), b"one more\n", "one more");
        project.passes(version);
        let clone = format!("clone {round}");
        let version = format!("http.version={version}");
        project.run(&["-c", &version, "clone", "-q", &project.url, &clone]);
        let cloned = project.stand.path("home").join(clone);
        assert!(std::fs::read(cloned.join("noise")).unwrap() == noise);
        assert!(cloned.join(format!("round {round}")).exists());
    }
    project.stand.was_looked_into();
}

#[test]
fn a_push_that_holds_a_secret_is_refused_in_words_that_git_shows() {
    let Some(project) = Project::new("sha1") else {
        return;
    };
    let text = project.with_text();
    for version in VERSIONS {
        project.commit("settings", "key: forbidden-word\n", "settings");
        project.is_refused(version, "a file");
        project.commit("settings", "key: none\n", "about the forbidden-word");
        project.is_refused(version, "a message");
        project.commit("a forbidden-word", "nothing\n", "a name");
        project.is_refused(version, "the name of a file");
        let (before, behind) = text.split_at(text.len() / 2);
        project.commit(
            "text",
            format!("{before}a forbidden-word\n{behind}"),
            "insert",
        );
        project.is_refused(version, "what a delta inserts");
        // More than git sends at once.
        std::fs::write(project.work().join("noise"), noise(1_000_000)).unwrap();
        project.commit("settings", "key: forbidden-word\n", "settings");
        project.is_refused(version, "a pack that is sent in chunks");
    }
    assert!(
        find(&project.host.reached.bytes(), b"PACK").is_some(),
        "the first push"
    );
    // What is clean goes on, over the same connections and after all of this.
    for version in VERSIONS {
        project.commit("clean", version, "clean");
        project.passes(version);
    }
    project.stand.saw_every_byte();
}

#[test]
fn repositories_with_longer_names_of_objects_are_read_as_well() {
    let Some(project) = Project::new("sha256") else {
        return;
    };
    let text = project.with_text();
    project.commit("text", format!("{text}and one more\n"), "a delta");
    project.passes("HTTP/2");
    project.commit("text", format!("{text}and a forbidden-word\n"), "insert");
    project.is_refused("HTTP/2", "what a delta inserts");
    project.stand.saw_every_byte();
}

/// A body that pushes everything a work tree has.
fn push_of(git: &Path, file: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        let output = Command::new(git)
            .current_dir(folder.path())
            .args(["-c", "user.name=a", "-c", "user.email=a@b.example"])
            .args(words)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        output.stdout
    };
    run(&["init", "-q"]);
    std::fs::write(folder.path().join("file"), file).unwrap();
    run(&["add", "."]);
    run(&["commit", "-q", "-m", "one"]);
    let pack = run(&["pack-objects", "--all", "--stdout", "-q"]);
    let id = "1".repeat(40);
    let command = format!("{} {id} refs/heads/main\0report-status", "0".repeat(40));
    let line = format!("{:04x}{command}0000", command.len() + 4);
    [line.as_bytes(), &pack].concat()
}

fn post(site: &crate::common::Site, host: &Host, coding: &str, body: &[u8]) -> Response {
    let mut client = client(site);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-git-receive-pack-request\r\n\
         Content-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
        host.url("/project.git/git-receive-pack"),
        host.address,
        body.len()
    );
    client.send(head.as_bytes());
    client.send(body);
    client.receive().unwrap()
}

#[test]
fn a_push_is_read_behind_a_content_coding_and_refused_where_it_cannot_be() {
    let Some(git) = program("git") else { return };
    let zip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    let site = site(&yaml(""));
    let host = Host::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let (clean, bad) = (
        push_of(&git, "harmless\n"),
        push_of(&git, "a forbidden-word\n"),
    );
    let zipped = zip(&clean);
    assert_eq!(post(&site, &host, "gzip", &zipped).body, b"ok");
    assert!(find(&host.reached.bytes(), &zipped).is_some(), "as it came");
    for (coding, body) in [("gzip", zip(&bad)), ("identity", bad)] {
        let response = post(&site, &host, coding, &body);
        assert_eq!(response.status, 200);
        assert_eq!(
            response.header("content-type"),
            Some("application/x-git-receive-pack-result")
        );
        assert_eq!(
            response.header("x-oktsec-reason"),
            Some("egress_request_content")
        );
        assert!(
            response
                .text()
                .starts_with("001dunpack refused by oktsec\n")
        );
        assert!(
            response
                .text()
                .contains("ng refs/heads/main refused by oktsec")
        );
    }
    // A byte in the middle of the pack is another one.
    let mut broken = clean;
    let middle = broken.len() - 60;
    broken[middle] ^= 0xFF;
    for body in [&broken[..], b"no push at all"] {
        let response = post(&site, &host, "identity", body);
        assert_eq!(
            response.header("x-oktsec-reason"),
            Some("egress_undecodable")
        );
    }
    assert_eq!(
        host.reached.connections(),
        1,
        "nothing that was refused began"
    );
}
