//! Talking to the running server of this configuration: through its own socket, which only its owner opens.

use crate::exit::Failure;
use crate::http::{Answer, Call, over_socket};
use crate::out;
use crate::place;
use oktsec_contract::config::Config;
use oktsec_contract::paths::StatePaths;
use oktsec_contract::snapshot::Snapshot;
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a request to the control plane. `Ok(None)` when none is running.
pub(crate) fn call(paths: &StatePaths, call: Call<'_>) -> Result<Option<Answer>, Failure> {
    let socket = oktsec_controlplane::local_socket(paths);
    if std::os::unix::net::UnixStream::connect(&socket).is_err() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(over_socket(&socket, call, PATIENCE))
        .map(Some)
        .map_err(Failure::new)
}

/// Whether a control plane has this state and does not answer yet: compiling rules takes seconds when they are new. Its
/// lock is not tried, for that would keep it from taking it.
pub(crate) fn is_starting(paths: &StatePaths) -> bool {
    let pid = std::fs::read_to_string(&paths.controlplane_pid).unwrap_or_default();
    let Ok(pid) = pid.trim().parse::<u32>() else {
        return false;
    };
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0)
        .any(|word| word == b"controlplane")
}

/// What the control plane published last: a dead one does not say where data planes listen, but this does.
pub(crate) fn last_published(paths: &StatePaths) -> Option<Config> {
    Some(Snapshot::load(&paths.snapshot).ok()?.config)
}

/// Whether somebody listens where data planes of this configuration do.
pub(crate) fn listens(config: &Config) -> bool {
    let host = place::reachable_host(&config.server.bind);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    std::net::TcpStream::connect((host, config.server.port)).is_ok()
}

/// What the running server made of a change on disk.
pub(crate) enum InForce {
    /// Nothing runs; it counts from the next start.
    NotRunning,
    /// A server is starting: it looks again before it is ready.
    Starting,
    /// It counts now, but for what is left.
    Now { revision: u64, left: Vec<String> },
    /// The server has it, but no data plane that decides by it said so yet.
    Published { revision: u64, left: Vec<String> },
    /// The server cannot use what stands on disk.
    Stale { problems: Vec<String> },
    /// It did not answer as it should.
    Unknown { why: String },
}

/// Asks the running server to look at the files now. It would within a second anyway.
pub(crate) fn put_in_force(paths: &StatePaths) -> InForce {
    let answer = match call(paths, Call::post("/v1/reload", None)) {
        Ok(None) if is_starting(paths) => return InForce::Starting,
        Ok(None) => return InForce::NotRunning,
        Ok(Some(answer)) => answer,
        Err(_) => {
            return InForce::Unknown {
                why: String::from("the server did not answer"),
            };
        }
    };
    let Ok(body) = answer.json() else {
        return InForce::Unknown {
            why: answer.error(),
        };
    };
    let revision = body["revision"].as_u64().unwrap_or(0);
    let problems = body["problems"].as_array().into_iter().flatten();
    let problems = problems.filter_map(Value::as_str).map(str::to_owned);
    let left: Vec<String> = problems.collect();
    match body["outcome"].as_str() {
        Some("stale") => InForce::Stale { problems: left },
        Some(_) if body["applied"] == Value::Bool(true) => InForce::Now { revision, left },
        Some(_) => InForce::Published { revision, left },
        None => InForce::Unknown {
            why: answer.error(),
        },
    }
}

impl InForce {
    /// One word and the revision, for programs.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::NotRunning => serde_json::json!({ "server": "not_running" }),
            Self::Starting => serde_json::json!({ "server": "starting" }),
            Self::Now { revision, left } => with_problems("in_force", *revision, left),
            Self::Published { revision, left } => with_problems("published", *revision, left),
            Self::Stale { problems } => {
                serde_json::json!({ "server": "stale", "problems": problems })
            }
            Self::Unknown { why } => serde_json::json!({ "server": "unknown", "why": why }),
        }
    }

    /// A remark for people.
    pub(crate) fn tell(&self) {
        match self {
            Self::NotRunning => out::note("No server is running; it counts from the next start."),
            Self::Starting => out::note("The server is starting; it counts when that is done."),
            Self::Now { revision, left } => {
                out::note(format_args!("In force now (revision {revision})."));
                tell_left(left);
            }
            Self::Published { revision, left } => {
                out::note(format_args!(
                    "Published (revision {revision}); no data plane has confirmed it yet."
                ));
                tell_left(left);
            }
            Self::Stale { problems } => {
                out::note(
                    "The running server cannot use the configuration and goes on with the one before:",
                );
                for problem in problems {
                    out::note(format_args!("  {problem}"));
                }
            }
            Self::Unknown { why } => {
                out::note(format_args!(
                    "Whether the running server has it is unknown: {why}."
                ));
            }
        }
    }
}

/// Problems are named only if there are any.
fn with_problems(server: &str, revision: u64, left: &[String]) -> Value {
    let mut said = serde_json::json!({ "server": server, "revision": revision });
    if !left.is_empty() {
        said["problems"] = Value::from(left);
    }
    said
}

/// What of the files on disk is not in force.
fn tell_left(left: &[String]) {
    if !left.is_empty() {
        out::note("A part of what stands on disk cannot be used and stays as it was:");
    }
    for problem in left {
        out::note(format_args!("  {problem}"));
    }
}
