//! `GET`, `PUT` and `DELETE /v1/egress/kill-switch`: ends all outbound traffic, or lets it begin again (ours). The switch
//! is the file `forward_proxy.kill_switch`, so that it holds without us, and over restarts; the data plane looks for
//! it every few milliseconds.

use super::answer::{Answered, ApiError, ok};
use crate::app::App;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the switch stands.
#[derive(Serialize)]
pub(super) struct Switch {
    /// Nothing goes out.
    thrown: bool,
}

/// Says how it stands.
pub(super) async fn show(State(app): State<Arc<App>>) -> Answered<Switch> {
    turn(&app, |file| file.try_exists()).await
}

/// Nothing goes out from now on, and open tunnels end.
pub(super) async fn throw(State(app): State<Arc<App>>) -> Answered<Switch> {
    let switch = turn(&app, |file| create(file).map(|_| true)).await?;
    tracing::warn!("all outbound traffic was stopped through the API");
    Ok(switch)
}

/// What the policy allows goes out again.
pub(super) async fn lift(State(app): State<Arc<App>>) -> Answered<Switch> {
    let switch = turn(&app, |file| remove(file).map(|()| false)).await?;
    tracing::warn!("outbound traffic was let go again through the API");
    Ok(switch)
}

/// Does something with the file, off the threads that serve requests; it says whether the switch is thrown then.
async fn turn(
    app: &App,
    work: impl FnOnce(&Path) -> io::Result<bool> + Send + 'static,
) -> Answered<Switch> {
    let file = app.snapshot().config.forward_proxy.kill_switch.clone();
    let file: PathBuf = file.ok_or_else(|| {
        let detail = "forward_proxy.kill_switch names no file";
        ApiError::new(StatusCode::CONFLICT, detail)
    })?;
    let turned = tokio::task::spawn_blocking(move || work(&file)).await;
    let turned = turned.map_err(ApiError::internal)?;
    let thrown = turned.map_err(ApiError::internal)?;
    Ok(ok(Switch { thrown }))
}

/// There is no difference between a file that is made and one that is there.
fn create(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(file)
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::{create, remove};

    #[test]
    fn a_switch_that_stands_so_already_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stop");
        for _ in 0..2 {
            create(&file).unwrap();
            assert!(file.exists());
        }
        for _ in 0..2 {
            remove(&file).unwrap();
            assert!(!file.exists());
        }
        assert!(create(&dir.path().join("nowhere/stop")).is_err());
    }
}
