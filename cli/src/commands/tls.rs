//! `oktsec tls init|show-ca|bundle`: the authority that signs for hosts whose connections are intercepted.
//!
//! It is made here, on the operator's machine, and nowhere else; agents trust it by choice, and with `--domain`
//! it can be held to the names it is for.

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use crate::place::Place;
use crate::trust;
use oktsec_contract::files;
use oktsec_contract::paths::StatePaths;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use time::{Duration, OffsetDateTime};

/// How long an authority lasts unless said otherwise.
const DAYS: u32 = 3_650;
/// Clocks of clients may be behind ours.
const BACKDATED_HOURS: i64 = 24;

/// What to do with the authority.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make an authority of your own; nothing that exists is overwritten
    Init(Init),
    /// Print its certificate and fingerprint
    ShowCa(Out),
    /// Write the authorities of this machine and ours into one file for clients
    Bundle(Out),
}

/// What it may sign.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Let it sign for this domain and what is below it only (may be repeated) [default: any name]
    #[arg(long, value_delimiter = ',', value_name = "DOMAIN")]
    domain: Vec<String>,
    /// Days it is valid
    #[arg(long, default_value_t = DAYS, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=7_300))]
    days: u32,
    /// Its name, as clients show it
    #[arg(long, default_value = "oktsec egress authority", value_name = "TEXT")]
    name: String,
}

/// Where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Out {
    /// Write it to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Makes or shows it.
pub(crate) fn execute(global: &Global, command: Command) -> Outcome {
    let place = Place::find(global.config.as_deref())?;
    match command {
        Command::Init(args) => init(global, &place.paths, &args),
        Command::ShowCa(args) => show(global, &place.paths, &args),
        Command::Bundle(args) => bundle(global, &place.paths, args.out),
    }
}

fn init(global: &Global, paths: &StatePaths, args: &Init) -> Outcome {
    // Looked at before anything is made: half an authority would be none.
    for path in [&paths.ca_key, &paths.ca_cert] {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::new(format_args!(
                "{} is there already; move it away to make a new authority",
                path.display()
            )));
        }
    }
    let (cert, key) = make(args)?;
    files::create_folder(&paths.tls)
        .map_err(|error| Failure::new(format_args!("{}: {error}", paths.tls.display())))?;
    // The key first: a certificate without its key would look as if there were an authority.
    for (path, text, mode) in [(&paths.ca_key, &key, 0o600), (&paths.ca_cert, &cert, 0o644)] {
        files::create_new(path, text.as_bytes(), mode)
            .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?;
    }
    let fingerprint = fingerprint(&cert)?;
    if global.json {
        out::json(&json!({
            "certificate": paths.ca_cert,
            "key": paths.ca_key,
            "sha256": fingerprint,
            "domains": args.domain,
        }))?;
        return Ok(Exit::Done);
    }
    out::line(format_args!("Certificate: {}", paths.ca_cert.display()))?;
    out::line(format_args!("Private key: {}", paths.ca_key.display()))?;
    out::line(format_args!("SHA-256:     {fingerprint}"))?;
    if args.domain.is_empty() {
        out::note(
            "It may sign for any name: whoever has its key can read what clients that trust it send. --domain holds it to some.",
        );
    }
    out::note(
        "Clients trust it through `oktsec env` or `oktsec exec`; restart the data plane to use it.",
    );
    Ok(Exit::Done)
}

/// A new authority: certificate and key, PEM.
fn make(args: &Init) -> Result<(String, String), Failure> {
    let refused = |error: rcgen::Error| Failure::new(format_args!("no certificate: {error}"));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(refused)?;
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(BACKDATED_HOURS);
    params.not_after = now + Duration::days(i64::from(args.days));
    params
        .distinguished_name
        .push(DnType::CommonName, args.name.as_str());
    // It signs leaves and no other authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if !args.domain.is_empty() {
        params.name_constraints = Some(constraints(&args.domain)?);
    }
    let certificate = params.self_signed(&key).map_err(refused)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Names below these domains and, since nothing but names was asked for, no address at all.
fn constraints(domains: &[String]) -> Result<NameConstraints, Failure> {
    let mut permitted_subtrees = Vec::new();
    for domain in domains {
        // `*.example.com`, `.example.com` and `example.com` mean the same subtree (RFC 5280 §4.2.1.10).
        let name = domain.trim_start_matches("*.").trim_start_matches('.');
        let is_name = !name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            });
        if !is_name || name.parse::<std::net::IpAddr>().is_ok() {
            return Err(Failure::new(format_args!(
                "--domain {domain:?}: write a domain such as example.com"
            )));
        }
        permitted_subtrees.push(GeneralSubtree::DnsName(name.to_ascii_lowercase()));
    }
    let everywhere = [
        CidrSubnet::V4([0; 4], [0; 4]),
        CidrSubnet::V6([0; 16], [0; 16]),
    ];
    Ok(NameConstraints {
        permitted_subtrees,
        excluded_subtrees: everywhere.map(GeneralSubtree::IpAddress).into(),
    })
}

fn show(global: &Global, paths: &StatePaths, args: &Out) -> Outcome {
    let cert = existing(paths)?;
    let fingerprint = fingerprint(&cert)?;
    if let Some(path) = &args.out {
        files::replace(path, cert.as_bytes(), 0o644)
            .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?;
    }
    if global.json {
        out::json(&json!({ "certificate": paths.ca_cert, "sha256": fingerprint, "pem": cert }))?;
        return Ok(Exit::Done);
    }
    if args.out.is_none() {
        out::line(cert.trim_end())?;
    }
    out::note(format_args!("SHA-256: {fingerprint}"));
    Ok(Exit::Done)
}

fn bundle(global: &Global, paths: &StatePaths, out: Option<PathBuf>) -> Outcome {
    let cert = existing(paths)?;
    let path = match out {
        Some(path) => {
            let text = trust::merged(&trust::system(paths)?, &cert);
            files::replace(&path, text.as_bytes(), 0o644)
                .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?;
            path
        }
        None => match trust::write(paths)? {
            Some(bundle) => bundle.pem,
            None => return Err(none_yet()),
        },
    };
    if global.json {
        out::json(&json!({ "bundle": path }))?;
    } else {
        out::line(path.display())?;
    }
    Ok(Exit::Done)
}

fn existing(paths: &StatePaths) -> Result<String, Failure> {
    trust::own(paths)?.ok_or_else(none_yet)
}

fn none_yet() -> Failure {
    Failure::new("there is no authority yet; `oktsec tls init` makes one")
}

/// As browsers show it.
fn fingerprint(pem: &str) -> Result<String, Failure> {
    let all = trust::certificates(pem)?;
    let der = all
        .first()
        .ok_or_else(|| Failure::new("the certificate file holds no certificate"))?;
    let bytes = Sha256::digest(der);
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(pairs.join(":"))
}
