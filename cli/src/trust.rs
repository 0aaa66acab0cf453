//! Whom a client behind the egress proxy must trust: the authorities of this machine and, where connections are
//! intercepted, ours. Written once as PEM, which nearly everything reads, and once as a key store for Java.

use crate::exit::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oktsec_contract::files;
use oktsec_contract::paths::StatePaths;
use sha1::{Digest as _, Sha1};
use std::path::{Path, PathBuf};

/// Where systems keep their authorities in one PEM file: Debian, Fedora, SUSE, Alpine and macOS.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Bytes of such a file; they hold a few hundred kilobytes.
const BUNDLE_BYTES_MAX: u64 = 16 << 20;
/// What Java asks for although the store holds no secret.
pub(crate) const JAVA_PASSWORD: &str = "changeit";

/// The files a client is pointed at.
pub(crate) struct Bundle {
    /// The authorities of this machine and ours, PEM.
    pub(crate) pem: PathBuf,
    /// The same as a Java key store.
    pub(crate) java: PathBuf,
}

/// Our authority's certificate; `None` while there is none.
pub(crate) fn own(paths: &StatePaths) -> Result<Option<String>, Failure> {
    match files::read_text(&paths.ca_cert, BUNDLE_BYTES_MAX) {
        Ok(text) => Ok(Some(text)),
        Err(files::FileError::Missing) => Ok(None),
        Err(error) => Err(Failure::new(format_args!(
            "{}: {error}",
            paths.ca_cert.display()
        ))),
    }
}

/// The authorities of this machine, as one PEM text. `SSL_CERT_FILE` wins, as it does for OpenSSL, unless it is
/// a bundle of ours: then it would grow each time one `oktsec exec` runs inside another.
pub(crate) fn system(paths: &StatePaths) -> Result<String, Failure> {
    let named = std::env::var_os("SSL_CERT_FILE")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .filter(|path| !path.starts_with(&paths.tls));
    let known = SYSTEM_BUNDLES.iter().map(PathBuf::from);
    for path in named.into_iter().chain(known) {
        match std::fs::read_to_string(&path) {
            Ok(text) if text.contains(BEGIN) => return Ok(text),
            Ok(_) | Err(_) => {}
        }
    }
    Err(Failure::new(format_args!(
        "no authorities of this machine were found in {}; install ca-certificates, or name a PEM file in SSL_CERT_FILE",
        SYSTEM_BUNDLES.join(", ")
    )))
}

/// The merged text; ours stands last.
pub(crate) fn merged(system: &str, own: &str) -> String {
    let mut text = String::with_capacity(system.len() + own.len() + 64);
    text.push_str(system.trim_end());
    text.push_str("\n\n# oktsec, for connections it intercepts\n");
    text.push_str(own.trim());
    text.push('\n');
    text
}

/// Writes both forms beside our authority, if what stands there is not that already; `None` while there is no
/// authority of ours.
pub(crate) fn write(paths: &StatePaths) -> Result<Option<Bundle>, Failure> {
    let Some(own) = own(paths)? else {
        return Ok(None);
    };
    let text = merged(&system(paths)?, &own);
    let bundle = Bundle {
        pem: paths.tls.join("bundle.pem"),
        java: paths.tls.join("bundle.jks"),
    };
    keep(&bundle.pem, text.as_bytes())?;
    keep(&bundle.java, &java_store(&certificates(&text)?))?;
    Ok(Some(bundle))
}

/// Replaces a file whose content differs; others may be reading it.
fn keep(path: &Path, content: &[u8]) -> Result<(), Failure> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    files::replace(path, content, 0o644)
        .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Every certificate of a PEM text, DER.
pub(crate) fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = Vec::new();
    for part in pem.split(BEGIN).skip(1) {
        let body = part.split(END).next().unwrap_or_default();
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD
            .decode(body)
            .map_err(|_| Failure::new("a certificate in a PEM file is no base64"))?;
        found.push(der);
    }
    Ok(found)
}

/// A store in the JKS format, which every Java reads: magic, version, entries, and a keyed digest of them.
fn java_store(certificates: &[Vec<u8>]) -> Vec<u8> {
    const MAGIC: u32 = 0xFEED_FEED;
    const VERSION: u32 = 2;
    const TRUSTED: u32 = 2;
    /// What Sun mixed into every digest.
    const SALT: &[u8] = b"Mighty Aphrodite";
    let mut store = Vec::new();
    let word = |store: &mut Vec<u8>, number: usize| {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        store.extend_from_slice(&number.to_be_bytes());
    };
    let text = |store: &mut Vec<u8>, text: &str| {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        store.extend_from_slice(&length.to_be_bytes());
        store.extend_from_slice(text.as_bytes());
    };
    store.extend_from_slice(&MAGIC.to_be_bytes());
    store.extend_from_slice(&VERSION.to_be_bytes());
    word(&mut store, certificates.len());
    for (at, der) in certificates.iter().enumerate() {
        store.extend_from_slice(&TRUSTED.to_be_bytes());
        text(&mut store, &format!("oktsec-{at}"));
        // When it was added: nobody asks, and the same certificates make the same file.
        store.extend_from_slice(&0u64.to_be_bytes());
        text(&mut store, "X.509");
        word(&mut store, der.len());
        store.extend_from_slice(der);
    }
    let mut digest = Sha1::new();
    for unit in JAVA_PASSWORD.encode_utf16() {
        digest.update(unit.to_be_bytes());
    }
    digest.update(SALT);
    digest.update(&store);
    store.extend_from_slice(&digest.finalize());
    store
}

#[cfg(test)]
mod tests {
    use super::{certificates, java_store, merged};

    const PEM: &str =
        "# Root\n-----BEGIN CERTIFICATE-----\nAQID\nBAU=\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_are_found_between_comments_and_both_texts_are_kept() {
        let own = "-----BEGIN CERTIFICATE-----\nBgcI\n-----END CERTIFICATE-----";
        let all = merged(PEM, own);
        assert_eq!(
            certificates(&all).unwrap(),
            [vec![1, 2, 3, 4, 5], vec![6, 7, 8]]
        );
        assert!(all.starts_with(PEM.trim_end()) && all.ends_with("-----\n"));
        assert!(certificates("-----BEGIN CERTIFICATE-----\n*\n").is_err());
        assert!(certificates("nothing").unwrap().is_empty());
    }

    #[test]
    fn a_java_store_has_its_header_entries_and_digest() {
        let empty = java_store(&[]);
        assert_eq!(empty.len(), 12 + 20);
        assert_eq!(empty[..8], [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]);
        let one = java_store(&[vec![9; 300]]);
        assert_eq!(one[8..12], [0, 0, 0, 1]);
        assert_eq!(one.len(), 12 + 4 + (2 + 8) + 8 + (2 + 5) + 4 + 300 + 20);
        assert_ne!(one[one.len() - 20..], empty[12..]);
    }
}
