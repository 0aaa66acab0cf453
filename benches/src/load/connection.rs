//! One connection: writes requests, reads answers, compares.

use super::answers::Answers;
use super::control::Control;
use super::pacer::Pacer;
use super::pool::{Share, Wave};
use super::tally::Tally;
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::TcpStream;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

/// Bytes read at once: dozens of answers.
const READ_BYTES: usize = 16 << 10;

/// What the connections of one thread share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) control: Arc<Control>,
    pub(super) share: RefCell<Share>,
    pub(super) tally: RefCell<Tally>,
    /// Of an open loop.
    pub(super) pacer: Option<Pacer>,
    /// Requests written at once, in a closed loop.
    pub(super) depth: usize,
}

/// Works until the run is over.
pub(super) async fn work(core: &Core, stream: TcpStream) {
    let mut line = Line {
        stream,
        answers: Answers::default(),
        buffer: Vec::with_capacity(READ_BYTES),
    };
    let result = match &core.pacer {
        Some(pacer) => open_loop(core, pacer, &mut line).await,
        None => closed_loop(core, &mut line).await,
    };
    if let Err(cause) = result {
        core.tally.borrow_mut().broke(cause);
        // With a connection less, the rest would measure something else.
        core.control.stop();
    }
}

/// Sends as soon as everything sent before is answered.
async fn closed_loop(core: &Core, line: &mut Line) -> Result<(), String> {
    while Instant::now() < core.control.until && !core.control.is_stopped() {
        let Some(wave) = core.share.borrow_mut().take(core.depth) else {
            core.control.stop();
            break;
        };
        let sent = Instant::now();
        line.exchange(core, wave, |tally| {
            let now = Instant::now();
            if core.control.measures(now) {
                tally.measure(now - sent);
            }
        })
        .await?;
    }
    Ok(())
}

/// Sends when it is time; the clock of a message runs from when it should have been sent.
async fn open_loop(core: &Core, pacer: &Pacer, line: &mut Line) -> Result<(), String> {
    while let Some(intended) = pacer.due(&core.control).await {
        let Some(wave) = core.share.borrow_mut().take(1) else {
            core.control.stop();
            break;
        };
        let measured = core.control.from <= intended;
        line.exchange(core, wave, |tally| {
            if measured {
                tally.measure(intended.elapsed());
            }
        })
        .await?;
    }
    Ok(())
}

/// A connection and what came over it.
struct Line {
    stream: TcpStream,
    answers: Answers,
    buffer: Vec<u8>,
}

impl Line {
    async fn exchange(
        &mut self,
        core: &Core,
        wave: Wave,
        mut measure: impl FnMut(&mut Tally),
    ) -> Result<(), String> {
        let (written, _) = self.stream.write_all(wave.bytes.clone()).await;
        written.map_err(|error| format!("a connection broke while writing: {error}"))?;
        let count = core.share.borrow().expected(&wave).len();
        for at in 0..count {
            loop {
                if let Some(answer) = self
                    .answers
                    .take()
                    .map_err(|malformed| malformed.0.to_owned())?
                {
                    let mut tally = core.tally.borrow_mut();
                    measure(&mut tally);
                    tally.check(answer, core.share.borrow().expected(&wave)[at]);
                    break;
                }
                self.read().await?;
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), String> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let (read, buffer) = self.stream.read(buffer).await;
        let end = match read {
            Ok(0) => Err(String::from(
                "the server closed a connection that waited for an answer",
            )),
            Ok(count) => {
                self.answers.push(&buffer[..count]);
                Ok(())
            }
            Err(error) => Err(format!("a connection broke while reading: {error}")),
        };
        self.buffer = buffer;
        end
    }
}
