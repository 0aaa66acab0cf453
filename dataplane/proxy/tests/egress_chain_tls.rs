//! Behind a proxy that is spoken to over TLS (`upstream_proxy.url: https://…`).

use crate::common::egress::{Host, ask, client, get, records, site, tunnel, yaml};
use crate::common::{Site, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// A proxy over TLS for `localhost`: opens tunnels, and answers requests with what they asked for.
struct TlsProxy {
    port: u16,
    /// Heads that reached it.
    heads: Arc<Mutex<Vec<String>>>,
    roots: PathBuf,
    _files: tempfile::TempDir,
}

impl TlsProxy {
    fn start() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = tempfile::tempdir().unwrap();
        let roots = files.path().join("roots.pem");
        std::fs::write(&roots, authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&heads);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(listener, TlsAcceptor::from(Arc::new(config)), noted));
        });
        Self {
            port,
            heads,
            roots,
            _files: files,
        }
    }

    /// A gateway that goes through it, trusting `roots`.
    fn site(&self, roots: &str) -> Site {
        site(&yaml(&format!(
            "  upstream_proxy: {{url: \"https://localhost:{}\"}}\n  interception: {{extra_roots: [{roots}]}}\n",
            self.port
        )))
    }

    fn trusted(&self) -> Site {
        self.site(&self.roots.display().to_string())
    }
}

async fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    noted: Arc<Mutex<Vec<String>>>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                // Whoever goes away ends it.
                let _ = converse(stream, &noted).await;
            }
        });
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    noted: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        noted.lock().unwrap().push(head.clone());
        let target = head.split(' ').nth(1).unwrap_or_default();
        if head.starts_with("CONNECT ") {
            let mut host = TcpStream::connect(target).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            return copy_bidirectional(&mut stream, &mut host).await.map(drop);
        }
        stream
            .write_all(crate::common::egress::answer(target).as_bytes())
            .await?;
        stream.flush().await?;
    }
}

#[test]
fn tunnels_go_through_it_to_the_addresses_we_vetted() {
    let (proxy, echo) = (TlsProxy::start(), Host::echo());
    let site = proxy.trusted();
    let authority = echo.address.to_string();
    let (mut client, response) = tunnel(&site, &authority, "");
    assert_eq!(response.status, 200);
    client.send(b"over TLS and back");
    assert_eq!(client.bytes(17), b"over TLS and back");
    let heads = proxy.heads.lock().unwrap().clone();
    assert!(
        heads[0].starts_with(&format!("CONNECT {authority} ")),
        "{heads:?}"
    );
}

#[test]
fn requests_go_through_it_in_absolute_form() {
    let (proxy, host) = (TlsProxy::start(), Host::echo());
    let site = proxy.trusted();
    let mut client = client(&site);
    for path in ["/first", "/second"] {
        let url = host.url(path);
        client.send(&ask("GET", &url, &[], b""));
        let answer = client.receive().unwrap();
        assert_eq!((answer.status, answer.text()), (200, url));
    }
    assert_eq!(host.reached.connections(), 0, "nobody goes around it");
    assert_eq!(proxy.heads.lock().unwrap().len(), 2);
}

#[test]
fn one_that_nobody_vouches_for_gets_nothing() {
    let (proxy, another) = (TlsProxy::start(), TlsProxy::start());
    let site = proxy.site(&another.roots.display().to_string());
    let host = Host::echo();
    let response = get(&site, &host.url("/"));
    assert_eq!(response.status, 502);
    let record = &records(&site)[0];
    assert_eq!(record["status"], "error", "{record}");
    assert!(proxy.heads.lock().unwrap().is_empty());
    assert_eq!(host.reached.connections(), 0);
}

#[test]
fn one_that_is_vouched_for_later_needs_no_restart() {
    let (proxy, another) = (TlsProxy::start(), TlsProxy::start());
    // As files are mounted: the name stays, and leads to another file.
    let folder = tempfile::tempdir().unwrap();
    let (name, next) = (folder.path().join("roots.pem"), folder.path().join("next"));
    std::os::unix::fs::symlink(&another.roots, &name).unwrap();
    let site = proxy.site(&name.display().to_string());
    let host = Host::echo();
    let url = host.url("/");
    assert_eq!(get(&site, &url).status, 502);
    std::os::unix::fs::symlink(&proxy.roots, &next).unwrap();
    std::fs::rename(&next, &name).unwrap();
    eventually("it is trusted", || get(&site, &url).status == 200);
    std::fs::remove_file(&name).unwrap();
    eventually("nobody is", || get(&site, &url).status == 502);
    assert_eq!(
        records(&site).last().unwrap()["reason"],
        "egress_upstream_tls"
    );
}
