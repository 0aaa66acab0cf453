//! The authority in force: read when a configuration asks for one, and again whenever its files are others. As long as it
//! cannot be used nothing is signed, and tunnels to the hosts it is for are refused with what is wrong.

use super::super::stamp::Stamp;
use super::mint::Minter;
use arc_swap::ArcSwap;
use oktsec_contract::config::{ForwardProxy, Interception};
use oktsec_contract::paths::StatePaths;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// Looks between two attempts to read files that cannot be used and stay as they are: what was wrong may be us.
const LOOKS_BEFORE_RETRY: u32 = 10;

/// Shared by all cores. They only load what is in force; whoever publishes snapshots and whoever watches files change it.
#[derive(Debug)]
pub(crate) struct AuthorityInForce {
    standing: ArcSwap<Standing>,
    reading: Mutex<Reading>,
}

/// What a core finds.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// No configuration asks for one.
    Off,
    /// It signs.
    Ready(Arc<Minter>),
    /// It cannot be used: why.
    Unusable(Arc<str>),
}

/// What is read, and what was there when it was.
#[derive(Debug)]
struct Reading {
    /// Certificate and key where no folder is configured.
    usual: [PathBuf; 2],
    wanted: Option<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    files: [PathBuf; 2],
    certificates_max: usize,
    /// The files when they were read last.
    read: Stamps,
    /// The files at the last look: they are read when two looks see the same, so not half way through a change.
    seen: Stamps,
    looks: u32,
}

/// Tells a file from another one in its place. `None` if there is none.
type Stamps = [Option<Stamp>; 2];

impl AuthorityInForce {
    /// None is asked for yet.
    pub(crate) fn new(paths: &StatePaths) -> Self {
        Self {
            standing: ArcSwap::from_pointee(Standing::Off),
            reading: Mutex::new(Reading {
                usual: [paths.ca_cert.clone(), paths.ca_key.clone()],
                wanted: None,
            }),
        }
    }

    /// What is in force.
    pub(crate) fn standing(&self) -> Arc<Standing> {
        self.standing.load_full()
    }

    /// Whether it can be used; `None` if none is asked for.
    pub(crate) fn is_usable(&self) -> Option<bool> {
        match &**self.standing.load() {
            Standing::Off => None,
            Standing::Ready(_) => Some(true),
            Standing::Unusable(_) => Some(false),
        }
    }

    /// A configuration is about to take effect: reads the authority it asks for, unless that is the one in force.
    pub(crate) fn follow(&self, proxy: &ForwardProxy) {
        let config = &proxy.interception;
        let mut reading = self.reading.lock();
        if !(proxy.enabled && config.enabled) {
            reading.wanted = None;
            self.standing.store(Arc::new(Standing::Off));
            return;
        }
        let files = reading.files(config);
        if let Some(wanted) = &mut reading.wanted
            && wanted.files == files
        {
            wanted.certificates_max = config.certificates_max;
            if let Standing::Ready(minter) = &**self.standing.load() {
                minter.keep_at_most(config.certificates_max);
            }
            return;
        }
        let stamps = stamps(&files);
        let wanted = reading.wanted.insert(Wanted {
            files,
            certificates_max: config.certificates_max,
            read: stamps,
            seen: stamps,
            looks: 0,
        });
        self.read(wanted);
    }

    /// Looks whether the files are others, and reads them then.
    pub(crate) fn look(&self) {
        let mut reading = self.reading.lock();
        let Some(wanted) = &mut reading.wanted else {
            return;
        };
        wanted.looks = wanted.looks.wrapping_add(1);
        let now = stamps(&wanted.files);
        let has_settled = std::mem::replace(&mut wanted.seen, now) == now;
        let is_due = self.is_usable() == Some(false) && wanted.looks >= LOOKS_BEFORE_RETRY;
        if has_settled && (now != wanted.read || is_due) {
            wanted.read = now;
            self.read(wanted);
        }
    }

    fn read(&self, wanted: &mut Wanted) {
        wanted.looks = 0;
        let [certificate, key] = &wanted.files;
        let standing = match Minter::load(certificate, key, wanted.certificates_max) {
            Ok(minter) => {
                tracing::info!(certificate = %certificate.display(), "TLS is looked into with this authority");
                Standing::Ready(Arc::new(minter))
            }
            Err(error) => {
                let cause = error.to_string();
                let is_news = match &**self.standing.load() {
                    Standing::Unusable(before) => **before != *cause,
                    Standing::Off | Standing::Ready(_) => true,
                };
                if is_news {
                    tracing::error!(
                        cause,
                        "the authority of forward_proxy.interception cannot be used; tunnels to the hosts it is for are refused"
                    );
                }
                Standing::Unusable(cause.into())
            }
        };
        self.standing.store(Arc::new(standing));
    }
}

impl Reading {
    fn files(&self, config: &Interception) -> [PathBuf; 2] {
        match &config.ca_dir {
            None => self.usual.clone(),
            Some(folder) => self
                .usual
                .each_ref()
                .map(|usual| folder.join(usual.file_name().unwrap_or_default())),
        }
    }
}

fn stamps(files: &[PathBuf; 2]) -> Stamps {
    // A link is refused when it is read.
    files.each_ref().map(|file| Stamp::of_name(file))
}
