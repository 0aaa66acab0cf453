//! What pingora asks a stream about itself.

use super::Guarded;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::sync::Arc;

impl<G> UniqueID for Guarded<G> {
    fn id(&self) -> UniqueIDType {
        self.inner.stream.id()
    }
}

impl<G> Ssl for Guarded<G> {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.stream.selected_alpn_proto()
    }
}

impl<G> GetTimingDigest for Guarded<G> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<G> GetProxyDigest for Guarded<G> {
    /// pingora hands this to every request on the connection: the one way to reach [`Connection`] from there.
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl<G> GetSocketDigest for Guarded<G> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.stream.get_socket_digest()
    }
}
