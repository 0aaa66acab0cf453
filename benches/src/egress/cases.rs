//! What the gateway has to reach beside proxies that decide nothing.

use super::contestant::{Contestant, Stand};
use super::requests::{self, How, Load};
use super::{Outcome, events, origin, tls, tunnels};
use std::fmt::Write as _;
use std::time::Duration;

/// One thing that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What is claimed.
    pub says: &'static str,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Answers of so many bytes; the least ratio to the bare proxy. Every text is another one, or the same each time.
    Requests(usize, f64, Texts),
    Bulk,
    Inside,
    Anew,
    Events,
    Idle,
    Transfer,
}

/// What is sent both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    New,
    Same,
}

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "json_1k",
        says: "1 KiB JSON both ways: at least 0.6 of bare pingora, 2 times squid",
        what: What::Requests(1 << 10, 0.6, Texts::New),
    },
    Case {
        name: "json_1k_same",
        says: "the same when every request and answer is the one before",
        what: What::Requests(1 << 10, 0.6, Texts::Same),
    },
    Case {
        name: "json_16k",
        says: "16 KiB answers: at least 0.5 of bare pingora",
        what: What::Requests(16 << 10, 0.5, Texts::New),
    },
    Case {
        name: "json_16k_same",
        says: "the same when every request and answer is the one before",
        what: What::Requests(16 << 10, 0.5, Texts::Same),
    },
    Case {
        name: "bulk",
        says: "a full tunnel: at least 0.95 of copy_bidirectional",
        what: What::Bulk,
    },
    Case {
        name: "inside",
        says: "1 KiB inside of TLS: at least 0.5 of the same in the clear",
        what: What::Inside,
    },
    Case {
        name: "anew",
        says: "new connections we look into: at least 0.7 of what both handshakes alone allow",
        what: What::Anew,
    },
    Case {
        name: "events",
        says: "1,000 streams of events: less than 100 us added at p99",
        what: What::Events,
    },
    Case {
        name: "idle",
        says: "idle tunnels: 10,000 in 150 MB",
        what: What::Idle,
    },
    Case {
        name: "transfer",
        says: "one scanned response of 2 GiB in constant memory",
        what: What::Transfer,
    },
];

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// What one run of one proxy takes.
    pub for_: Duration,
    /// Runs of each proxy, in turns.
    pub rounds: usize,
    /// Connections of agents.
    pub connections: usize,
}

/// Measures one case, and says what was seen.
///
/// # Errors
/// What the system says, and every wrong answer.
pub async fn measure(stand: &Stand, case: &Case, seen: Seen) -> Outcome<String> {
    let ports = stand.ports;
    let ours = stand.ours()?;
    let load = |proxy: &Contestant, origin, how| Load {
        proxy: proxy.address,
        pid: proxy.pid(),
        origin,
        up: 1 << 10,
        connections: seen.connections,
        for_: seen.for_,
        how,
        changes: true,
    };
    let mut said = String::new();
    match case.what {
        What::Requests(bytes, least, texts) => {
            let changes = texts == Texts::New;
            let port = match (bytes > 1 << 10, changes) {
                (false, true) => ports.short,
                (true, true) => ports.long,
                (false, false) => ports.short_same,
                (true, false) => ports.long_same,
            };
            let load = |proxy| Load {
                changes,
                ..load(proxy, port, How::Plain)
            };
            origin::answers(port, bytes, changes, None).await?;
            let bare = stand.bare("bare")?;
            let squid = stand.squid()?;
            for _ in 0..seen.rounds {
                let us = requests::run(load(&ours)).await?;
                let them = requests::run(load(&bare)).await?;
                writeln!(
                    said,
                    "  ours {}, bare {}: {}",
                    rate(us),
                    rate(them),
                    of(us.1, them.1, least)
                )?;
                if let Some(squid) = &squid {
                    let them = requests::run(load(squid)).await?;
                    writeln!(said, "  squid {}: {}", rate(them), of(us.1, them.1, 2.0))?;
                }
            }
        }
        What::Bulk => {
            origin::zeros(ports.zeros)?;
            let relay = stand.bare("relay")?;
            let bytes = 2 << 30;
            for _ in 0..seen.rounds {
                let us = tunnels::bulk(ours.address, ours.pid(), ports.zeros, bytes).await?;
                let them = tunnels::bulk(relay.address, relay.pid(), ports.zeros, bytes).await?;
                writeln!(
                    said,
                    "  ours {:.1} GB/s, {} ms/GiB, relay {:.1} GB/s, {} ms/GiB: {}",
                    us.0 / 1e9,
                    us.1.as_millis(),
                    them.0 / 1e9,
                    them.1.as_millis(),
                    of(us.1, them.1, 0.95)
                )?;
            }
        }
        What::Inside => {
            origin::answers(ports.plain, 1 << 10, true, None).await?;
            let acceptor = tls::acceptor(stand.dir())?;
            origin::answers(ports.tls, 1 << 10, true, Some(acceptor)).await?;
            let connector = tls::connector(stand.dir(), false)?;
            for _ in 0..seen.rounds {
                let inside = How::Inside(connector.clone());
                let inside = requests::run(load(&ours, ports.tls, inside)).await?;
                let plain = requests::run(load(&ours, ports.plain, How::Plain)).await?;
                writeln!(
                    said,
                    "  inside {}, plain {}: {}",
                    rate(inside),
                    rate(plain),
                    of(inside.1, plain.1, 0.5)
                )?;
            }
        }
        What::Anew => {
            let acceptor = tls::acceptor(stand.dir())?;
            origin::answers(ports.anew, 1 << 10, true, Some(acceptor)).await?;
            let connector = tls::connector(stand.dir(), false)?;
            let bare = stand.bare("handshakes")?;
            for _ in 0..seen.rounds {
                let anew = || How::Anew(connector.clone());
                let us = requests::run(load(&ours, ports.anew, anew())).await?;
                let them = requests::run(load(&bare, ports.anew, anew())).await?;
                writeln!(
                    said,
                    "  ours {}, handshakes alone {}: {}",
                    rate(us),
                    rate(them),
                    of(us.1, them.1, 0.7)
                )?;
            }
        }
        What::Events => {
            let streams = 1_000;
            events::host(ports.events, streams).await?;
            let (unscanned, bare) = (stand.unscanned()?, stand.bare("bare")?);
            let by = |proxy: &Contestant| Some((proxy.address, proxy.pid()));
            let turns = [
                ("ours", by(&ours)),
                ("without scanning", by(&unscanned)),
                ("bare", by(&bare)),
            ];
            for _ in 0..seen.rounds {
                let direct = events::listen(None, ports.events, streams, seen.for_).await?;
                let (median, p99) = (direct.median.as_micros(), direct.p99.as_micros());
                writeln!(said, "  direct: median {median} us, p99 {p99} us")?;
                for (name, proxy) in turns {
                    let seen = events::listen(proxy, ports.events, streams, seen.for_).await?;
                    writeln!(
                        said,
                        "  {name}: median {} us, p99 {} us, {} us CPU an event; {} us added at p99 (less than 100)",
                        seen.median.as_micros(),
                        seen.p99.as_micros(),
                        seen.cpu.as_micros(),
                        seen.p99.saturating_sub(direct.p99).as_micros()
                    )?;
                }
            }
        }
        What::Idle => {
            let tunnels = tunnels::possible();
            let each = tunnels::idle(ours.address, ours.pid(), ports.spare, tunnels).await?;
            writeln!(
                said,
                "  {tunnels} tunnels: {:.1} KiB each, 10,000 would take {:.0} MB (150)",
                each / 1_024.0,
                each * 10_000.0 / 1e6
            )?;
        }
        What::Transfer => {
            let (cpu, grown) =
                tunnels::transfer(ours.address, ours.pid(), ports.spare, 2 << 30).await?;
            writeln!(said, "  {} ms/GiB, grew by {} KiB", cpu.as_millis(), grown)?;
        }
    }
    Ok(said)
}

/// Requests a second and CPU time of one.
fn rate((per_second, cpu): (f64, Duration)) -> String {
    format!("{per_second:.0}/s {:.1} us", cpu.as_secs_f64() * 1e6)
}

/// How the cost of others compares with ours, and what it should.
fn of(ours: Duration, theirs: Duration, least: f64) -> String {
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    let met = if ratio >= least { "met" } else { "missed" };
    format!("{ratio:.2} ({least}: {met})")
}
