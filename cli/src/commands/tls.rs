//! `oktsec tls init|show-ca|bundle`: the authority that signs for hosts whose connections are intercepted.
//!
//! It is made here, on the operator's machine, and nowhere else; agents trust it by choice, and it is held to the hosts
//! that it is for ([`held`]).

mod held;

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use crate::place::Place;
use crate::trust;
use held::Held;
use oktsec_contract::files;
use oktsec_contract::paths::StatePaths;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
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
    /// Let it sign for this domain and what is below it only (may be repeated) [default: the hosts of `forward_proxy.interception.hosts`]
    #[arg(long, value_delimiter = ',', value_name = "DOMAIN")]
    domain: Vec<String>,
    /// Let it sign for any host, whatever the configuration lists
    #[arg(long, conflicts_with = "domain")]
    any_host: bool,
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
        Command::Init(args) => init(global, &place, &args),
        Command::ShowCa(args) => show(global, &place.paths, &args),
        Command::Bundle(args) => bundle(global, &place.paths, args.out),
    }
}

fn init(global: &Global, place: &Place, args: &Init) -> Outcome {
    let paths = &place.paths;
    let listed = &place.config.forward_proxy.interception.hosts;
    let held = match (args.any_host, args.domain.is_empty()) {
        (true, _) => Held::default(),
        (false, true) => Held::to_hosts(listed),
        (false, false) => Held::to_domains(&args.domain)?,
    };
    // Looked at before anything is made: half an authority would be none.
    for path in [&paths.ca_key, &paths.ca_cert] {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::new(format_args!(
                "{} is there already; move it away to make a new authority",
                path.display()
            )));
        }
    }
    let (cert, key) = make(args, &held)?;
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
            "hosts": held.words(),
        }))?;
        return Ok(Exit::Done);
    }
    out::line(format_args!("Certificate: {}", paths.ca_cert.display()))?;
    out::line(format_args!("Private key: {}", paths.ca_key.display()))?;
    out::line(format_args!("SHA-256:     {fingerprint}"))?;
    let words = held.words();
    if words.is_empty() {
        out::note(
            "It may sign for any host: whoever has its key can read what clients that trust it send. `interception.hosts` or --domain hold it to some.",
        );
    } else {
        out::line(format_args!("Signs for:   {}", words.join(", ")))?;
    }
    out::note(
        "Clients trust it through `oktsec env` or `oktsec exec`; a running data plane uses it within a second.",
    );
    Ok(Exit::Done)
}

/// A new authority: certificate and key, PEM.
fn make(args: &Init, held: &Held) -> Result<(String, String), Failure> {
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
    params.name_constraints = held.constraints();
    let certificate = params.self_signed(&key).map_err(refused)?;
    Ok((certificate.pem(), key.serialize_pem()))
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
