//! The authorities that may vouch for hosts: the system's and those of the operator, in one file.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oktsec_contract::files;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const LINE_BYTES: usize = 64;

/// Writes them to `path`. A certificate of the system that cannot be used is left out, as others do; one that the
/// operator named is an error.
pub(crate) fn write_roots(path: &Path, extra: &[PathBuf]) -> io::Result<usize> {
    let named = |path: &Path, cause: &dyn std::fmt::Display| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {cause}", path.display()),
        )
    };
    let mut roots = RootCertStore::empty();
    let mut text = String::new();
    let mut count = 0;
    for certificate in rustls_native_certs::load_native_certs()? {
        if roots.add(certificate.clone()).is_ok() {
            encode(&certificate, &mut text);
            count += 1;
        }
    }
    for file in extra {
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| named(file, &error))?;
        if certificates.is_empty() {
            return Err(named(file, &"no certificate in it"));
        }
        for certificate in certificates {
            roots
                .add(certificate.clone())
                .map_err(|error| named(file, &error))?;
            encode(&certificate, &mut text);
            count += 1;
        }
    }
    if let Some(folder) = path.parent() {
        // Nobody has made it when this is the first start.
        files::create_folder(folder)?;
    }
    files::replace(path, text.as_bytes(), 0o644)?;
    Ok(count)
}

fn encode(certificate: &CertificateDer<'_>, out: &mut String) {
    let body = STANDARD.encode(certificate);
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(LINE_BYTES) {
        let line = std::str::from_utf8(line).expect("base64 is ASCII");
        writeln!(out, "{line}").expect("writing to a string");
    }
    out.push_str("-----END CERTIFICATE-----\n");
}
