//! Real handshakes, with clients that trust the authority and clients that do not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::{ForwardProxy, Interception};
use oktsec_contract::host::Host;
use oktsec_contract::paths::StatePaths;
use oktsec_pipeline::egress::Target;
use pingora::protocols::{ALPN, Ssl as _};
use rcgen::{
    BasicConstraints, CertificateParams, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::mint::MintError;
use super::*;

/// An authority in its folder, and what a client that trusts it needs.
struct Site {
    folder: tempfile::TempDir,
    paths: StatePaths,
    roots: Arc<RootCertStore>,
}

impl Site {
    /// An authority held to these domains; to none if there are none.
    fn new(domains: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = StatePaths::beside(&folder.path().join("oktsec.db"), folder.path());
        std::fs::create_dir_all(&paths.tls).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        if !domains.is_empty() {
            let subtree = |domain: &&str| GeneralSubtree::DnsName((*domain).to_owned());
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: domains.iter().map(subtree).collect(),
                excluded_subtrees: Vec::new(),
            });
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        write(&paths.ca_cert, &certificate.pem(), 0o644);
        write(&paths.ca_key, &key.serialize_pem(), 0o600);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.into()).unwrap();
        Self {
            folder,
            paths,
            roots: Arc::new(roots),
        }
    }

    fn minter(&self, certificates_max: usize) -> Minter {
        Minter::load(&self.paths.ca_cert, &self.paths.ca_key, certificates_max).unwrap()
    }

    fn client(&self, protocols: &[&str]) -> TlsConnector {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsConnector::from(Arc::new(config))
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

fn now() -> Timestamp {
    Timestamp::now()
}

/// What both sides of a handshake came to: the protocols they agreed on, after a word each way.
async fn shake(
    site: &Site,
    minter: &Minter,
    tunnelled_to: &str,
    asked_for: &str,
    protocols: &[&str],
) -> Result<(Option<Vec<u8>>, Intercepted), Broken> {
    let (client_end, our_end) = tokio::io::duplex(64 << 10);
    let target = Target::new(host(tunnelled_to), 443);
    let name = ServerName::try_from(asked_for.to_owned()).unwrap();
    let connector = site.client(protocols);
    let client = async {
        let mut stream = connector.connect(name, client_end).await?;
        stream.write_all(b"from the client").await?;
        let mut word = [0; 8];
        stream.read_exact(&mut word).await?;
        Ok::<_, std::io::Error>(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    let ours = async {
        let mut accepted = minter
            .accept(Box::new(our_end), Vec::new(), &target, now())
            .await?;
        let stream = &mut accepted.stream;
        let mut word = [0; 15];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"from the client");
        stream.write_all(b"from us!").await.unwrap();
        stream.flush().await.unwrap();
        Ok(accepted)
    };
    let (agreed, stream) = tokio::join!(client, ours);
    let stream: Result<Intercepted, Broken> = stream;
    stream.map(|stream| (agreed.unwrap(), stream))
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_gets_what_it_offers() {
    let site = Site::new(&[]);
    let minter = site.minter(10);
    for (protocols, agreed, selected, upstream) in [
        (
            &["h2", "http/1.1"][..],
            Some("h2"),
            Some(ALPN::H2),
            ALPN::H2H1,
        ),
        (&["http/1.1"], Some("http/1.1"), Some(ALPN::H1), ALPN::H1),
        (&["h2"], Some("h2"), Some(ALPN::H2), ALPN::H2),
        (&[], None, None, ALPN::H1),
    ] {
        let (seen, stream) = shake(
            &site,
            &minter,
            "api.example.com",
            "api.example.com",
            protocols,
        )
        .await
        .unwrap();
        assert_eq!(seen.as_deref(), agreed.map(str::as_bytes), "{protocols:?}");
        assert_eq!(
            stream.stream.selected_alpn_proto(),
            selected,
            "{protocols:?}"
        );
        assert_eq!(stream.offered, upstream, "{protocols:?}");
    }
}

#[tokio::test]
async fn hosts_that_are_addresses_are_answered_too() {
    let site = Site::new(&[]);
    let minter = site.minter(10);
    for address in ["192.0.2.7", "2001:db8::1"] {
        shake(&site, &minter, address, address, &["h2"])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_handshake_for_another_host_ends() {
    let site = Site::new(&[]);
    let minter = site.minter(10);
    let result = shake(&site, &minter, "api.example.com", "evil.example.net", &[]).await;
    assert_eq!(result.err(), Some(Broken::NameMismatch));
    let result = shake(&site, &minter, "api.example.com", "192.0.2.7", &[]).await;
    assert_eq!(result.err(), Some(Broken::NameMismatch));
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_authority_ends_the_handshake() {
    let (site, other) = (Site::new(&[]), Site::new(&[]));
    let result = shake(
        &other,
        &site.minter(10),
        "api.example.com",
        "api.example.com",
        &[],
    )
    .await;
    assert_eq!(result.err(), Some(Broken::Refused));
}

#[tokio::test]
async fn protocols_nobody_of_us_speaks_end_the_handshake() {
    let site = Site::new(&[]);
    let result = shake(&site, &site.minter(10), "a.example", "a.example", &["smtp"]).await;
    assert_eq!(result.err(), Some(Broken::Refused));
}

#[tokio::test]
async fn what_is_no_tls_is_told_apart() {
    let site = Site::new(&[]);
    let minter = site.minter(10);
    let target = Target::new(host("a.example"), 443);
    let (mut client, ours) = tokio::io::duplex(1 << 10);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let result = minter
        .accept(Box::new(ours), Vec::new(), &target, now())
        .await;
    assert_eq!(result.err(), Some(Broken::NotTls));
}

#[tokio::test]
async fn a_greeting_that_came_early_counts() {
    let site = Site::new(&[]);
    let minter = site.minter(10);
    let target = Target::new(host("a.example"), 443);
    let (client_end, mut ours) = tokio::io::duplex(64 << 10);
    let connector = site.client(&["h2"]);
    let client = connector.connect(ServerName::try_from("a.example").unwrap(), client_end);
    let server = async {
        let mut early = vec![0; 100];
        ours.read_exact(&mut early).await.unwrap();
        minter.accept(Box::new(ours), early, &target, now()).await
    };
    let (client, server) = tokio::join!(client, server);
    assert!(client.is_ok() && server.is_ok());
}

#[test]
fn an_authority_held_to_names_signs_for_no_others() {
    let site = Site::new(&["example.com"]);
    let minter = site.minter(10);
    assert!(minter.certificate(&host("api.example.com"), now()).is_ok());
    assert!(minter.certificate(&host("example.com"), now()).is_ok());
    for other in ["example.net", "badexample.com"] {
        let refused = minter.certificate(&host(other), now()).err();
        assert_eq!(refused, Some(MintError::NotPermitted), "{other}");
    }
}

#[test]
fn certificates_are_kept_renewed_and_dropped_one_by_one() {
    let site = Site::new(&[]);
    let minter = site.minter(3);
    let first = minter.certificate(&host("a.example"), now()).unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &minter.certificate(&host("a.example"), now()).unwrap()
    ));
    let later = now().plus_secs(21 * 86_400);
    let renewed = minter.certificate(&host("a.example"), later).unwrap();
    assert!(!Arc::ptr_eq(&first, &renewed));
    for name in ["b.example", "c.example", "d.example"] {
        // The one asked for in between stays.
        minter.certificate(&host(name), later).unwrap();
        assert!(Arc::ptr_eq(
            &renewed,
            &minter.certificate(&host("a.example"), later).unwrap()
        ));
    }
    assert_eq!(minter.kept(), 3);
    minter.keep_at_most(1);
    assert_eq!(minter.kept(), 1);
}

#[test]
fn an_authority_that_has_expired_signs_nothing_and_says_so() {
    let site = Site::new(&[]);
    let minter = site.minter(10);
    // The end of what rcgen makes.
    let later = Timestamp::from_secs(70_000_000_000);
    let refused = minter.certificate(&host("a.example"), later).err();
    assert_eq!(refused, Some(MintError::Expired));
}

#[test]
fn an_authority_that_cannot_be_used_is_named() {
    let site = Site::new(&[]);
    let load = || {
        Minter::load(&site.paths.ca_cert, &site.paths.ca_key, 10)
            .err()
            .unwrap()
            .to_string()
    };

    write(
        &site.paths.ca_key,
        &std::fs::read_to_string(&site.paths.ca_key).unwrap(),
        0o640,
    );
    assert!(load().contains("can be read by others"), "{}", load());

    write(
        &site.paths.ca_key,
        &KeyPair::generate().unwrap().serialize_pem(),
        0o600,
    );
    assert!(
        load().contains("is not the key of the certificate"),
        "{}",
        load()
    );

    write(&site.paths.ca_key, "no key", 0o600);
    assert!(load().contains("no private key"), "{}", load());

    std::fs::remove_file(&site.paths.ca_cert).unwrap();
    assert!(load().contains("oktsec tls init"), "{}", load());
}

/// What asks for an authority, in this folder if there is one.
fn wish(ca_dir: Option<&Path>) -> ForwardProxy {
    ForwardProxy {
        enabled: true,
        interception: Interception {
            enabled: true,
            ca_dir: ca_dir.map(Path::to_owned),
            ..Interception::default()
        },
        ..ForwardProxy::default()
    }
}

fn unusable(in_force: &AuthorityInForce) -> Option<String> {
    match &*in_force.standing() {
        Standing::Unusable(cause) => Some(cause.to_string()),
        Standing::Off | Standing::Ready(_) => None,
    }
}

#[test]
fn an_authority_is_read_where_and_while_a_configuration_asks_for_it() {
    let site = Site::new(&[]);
    let in_force = AuthorityInForce::new(&site.paths);
    assert_eq!(in_force.is_usable(), None);
    in_force.follow(&ForwardProxy::default());
    assert_eq!(in_force.is_usable(), None);
    in_force.follow(&wish(None));
    assert_eq!(in_force.is_usable(), Some(true));

    let folder = site.folder.path().join("elsewhere");
    in_force.follow(&wish(Some(&folder)));
    let cause = unusable(&in_force).unwrap();
    assert!(cause.contains("elsewhere"), "{cause}");
    std::fs::rename(&site.paths.tls, &folder).unwrap();
    // Nothing it asks for is another, so only a look finds it.
    in_force.follow(&wish(Some(&folder)));
    assert_eq!(in_force.is_usable(), Some(false));
    in_force.look();
    in_force.look();
    assert_eq!(in_force.is_usable(), Some(true));

    let off = ForwardProxy {
        enabled: true,
        ..ForwardProxy::default()
    };
    in_force.follow(&off);
    assert_eq!(in_force.is_usable(), None);
    in_force.look();
    assert_eq!(in_force.is_usable(), None);
}

#[test]
fn certificates_stay_while_the_authority_does() {
    let site = Site::new(&[]);
    let in_force = AuthorityInForce::new(&site.paths);
    let certificate = || match &*in_force.standing() {
        Standing::Ready(minter) => minter.certificate(&host("a.example"), now()).unwrap(),
        other @ (Standing::Off | Standing::Unusable(_)) => panic!("{other:?}"),
    };
    in_force.follow(&wish(None));
    let first = certificate();
    in_force.follow(&wish(None));
    in_force.look();
    assert!(Arc::ptr_eq(&first, &certificate()));

    let other = Site::new(&[]);
    std::fs::rename(&other.paths.ca_key, &site.paths.ca_key).unwrap();
    in_force.look();
    // Half way: the key is another one, and nobody knows yet whether that stays so.
    assert!(Arc::ptr_eq(&first, &certificate()));
    std::fs::rename(&other.paths.ca_cert, &site.paths.ca_cert).unwrap();
    in_force.look();
    assert!(Arc::ptr_eq(&first, &certificate()));
    in_force.look();
    assert!(!Arc::ptr_eq(&first, &certificate()));
}

#[test]
fn files_that_go_or_change_their_mode_end_what_was_signed_with_them() {
    let site = Site::new(&[]);
    let in_force = AuthorityInForce::new(&site.paths);
    let look = || {
        in_force.look();
        in_force.look();
        unusable(&in_force)
    };
    in_force.follow(&wish(None));
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&site.paths.ca_key, mode(0o644)).unwrap();
    let cause = look().unwrap();
    assert!(cause.contains("can be read by others"), "{cause}");
    std::fs::set_permissions(&site.paths.ca_key, mode(0o600)).unwrap();
    assert_eq!(look(), None);
    std::fs::remove_file(&site.paths.ca_cert).unwrap();
    let cause = look().unwrap();
    assert!(cause.contains("oktsec tls init"), "{cause}");
}
