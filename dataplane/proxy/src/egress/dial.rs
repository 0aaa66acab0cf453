//! Connects to the first of some addresses that takes a connection (RFC 8305): each gets a head start before the
//! next is tried beside it. Only addresses that were vetted come here.

use oktsec_contract::reason::Reason;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout};

/// RFC 8305 §5.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects; `patience` bounds all attempts together.
pub(crate) async fn dial(
    addresses: &[SocketAddr],
    patience: Duration,
) -> Result<(TcpStream, SocketAddr), Reason> {
    let attempt = async {
        match addresses {
            [] => Err(io::ErrorKind::AddrNotAvailable.into()),
            // The usual case needs no race.
            [only] => TcpStream::connect(only).await.map(|stream| (stream, *only)),
            several => Race::run(several).await,
        }
    };
    match timeout(patience, attempt).await {
        Err(_) => Err(Reason::EgressUpstreamTimeout),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
            Err(Reason::EgressUpstreamTimeout)
        }
        Ok(Err(_)) => Err(Reason::EgressUpstreamUnreachable),
        Ok(Ok((stream, address))) => {
            // Small pieces should not wait for larger ones; if it cannot be set they do.
            let _ = stream.set_nodelay(true);
            Ok((stream, address))
        }
    }
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Attempts side by side.
struct Race<'a> {
    waiting: std::slice::Iter<'a, SocketAddr>,
    running: Vec<(SocketAddr, Attempt)>,
    head_start: Pin<Box<Sleep>>,
    last: io::Error,
}

impl<'a> Race<'a> {
    fn run(
        addresses: &'a [SocketAddr],
    ) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + 'a {
        let mut race = Self {
            waiting: addresses.iter(),
            running: Vec::with_capacity(addresses.len()),
            head_start: Box::pin(tokio::time::sleep(Duration::ZERO)),
            last: io::ErrorKind::AddrNotAvailable.into(),
        };
        race.start_next();
        poll_fn(move |cx| race.poll(cx))
    }

    /// `false` if there is no further address.
    fn start_next(&mut self) -> bool {
        let Some(&address) = self.waiting.next() else {
            return false;
        };
        self.running
            .push((address, Box::pin(TcpStream::connect(address))));
        self.head_start.as_mut().reset(Instant::now() + HEAD_START);
        true
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            let mut at = 0;
            while let Some((address, attempt)) = self.running.get_mut(at) {
                let address = *address;
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok((stream, address))),
                    Poll::Ready(Err(error)) => {
                        self.last = error;
                        drop(self.running.swap_remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            if self.running.is_empty() {
                if self.start_next() {
                    continue;
                }
                let last = std::mem::replace(&mut self.last, io::ErrorKind::Other.into());
                return Poll::Ready(Err(last));
            }
            if self.waiting.len() == 0 || self.head_start.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.start_next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::dial;
    use oktsec_contract::reason::Reason;
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};
    use tokio::net::TcpListener;

    const LONG: Duration = Duration::from_secs(10);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// A port on which nobody listens.
    async fn nobody() -> SocketAddr {
        listener().await.1
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_cost_a_head_start() {
        let (_listener, open) = listener().await;
        let begun = Instant::now();
        let addresses = [nobody().await, nobody().await, open];
        let (_stream, address) = dial(&addresses, LONG).await.unwrap();
        assert_eq!(address, open);
        assert!(begun.elapsed() < Duration::from_millis(200));
    }

    #[tokio::test]
    async fn an_address_that_keeps_silent_is_overtaken() {
        let (_listener, open) = listener().await;
        // A full queue: the system drops what knocks.
        let silent =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent
            .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
            .unwrap();
        silent.listen(0).unwrap();
        let full = silent.local_addr().unwrap().as_socket().unwrap();
        let mut knocked = Vec::new();
        for _ in 0..4 {
            let knock = tokio::net::TcpStream::connect(full);
            knocked.push(tokio::time::timeout(Duration::from_millis(50), knock).await);
        }
        let (_stream, address) = dial(&[full, open], LONG).await.unwrap();
        assert_eq!(address, open);
        assert_eq!(
            dial(&[full], Duration::from_millis(100)).await.unwrap_err(),
            Reason::EgressUpstreamTimeout
        );
    }

    #[tokio::test]
    async fn nobody_anywhere_is_a_failure_at_once() {
        let addresses = [nobody().await, nobody().await];
        assert_eq!(
            dial(&addresses, LONG).await.unwrap_err(),
            Reason::EgressUpstreamUnreachable
        );
        assert_eq!(
            dial(&[], LONG).await.unwrap_err(),
            Reason::EgressUpstreamUnreachable
        );
    }
}
