//! Reviews of held messages wait for the audit writer on a thread of their own: while the disk stalls, snapshots and
//! questions must not wait with them.

use super::{Up, send};
use crate::ending::{Report, report_this_thread};
use oktsec_audit::{Log, Review, ReviewError, ReviewTicket};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::id::MessageId;
use oktsec_contract::link::{LinkResponse, Resolution, ResolvedItem, ToControl};
use oktsec_contract::verdict::Status;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Reviews that may wait; more are refused at once.
const REVIEWS_MAX: usize = 64;

/// A review that the control plane asks for.
pub(super) struct Asked {
    /// Number of the question.
    pub(super) id: u64,
    pub(super) message: MessageId,
    pub(super) action: Resolution,
    pub(super) reviewer: String,
}

/// The thread that waits. It ends by itself when nobody can ask any more and the writer has answered.
pub(super) struct Reviews {
    waiting: SyncSender<(Asked, Up)>,
}

impl Reviews {
    /// Reviews in this log.
    pub(super) fn of(log: Log, report: Report) -> io::Result<Self> {
        Self::by(report, move |asked| resolve(&log, asked))
    }

    /// Reviews as `review` answers them.
    pub(super) fn by(
        report: Report,
        review: impl Fn(&Asked) -> LinkResponse + Send + 'static,
    ) -> io::Result<Self> {
        let (waiting, next) = sync_channel(REVIEWS_MAX);
        std::thread::Builder::new()
            .name(String::from("reviews"))
            .spawn(move || {
                report_this_thread(report);
                run(&next, review);
            })?;
        Ok(Self { waiting })
    }

    /// Answers the question on its line when the writer has; or says at once why not.
    pub(super) fn ask(&self, asked: Asked, up: Up) -> Result<(), LinkResponse> {
        self.waiting
            .try_send((asked, up))
            .map_err(|_| LinkResponse::Failed {
                reason: String::from("too many reviews wait for the audit log"),
            })
    }
}

fn run(next: &Receiver<(Asked, Up)>, review: impl Fn(&Asked) -> LinkResponse) {
    while let Ok((asked, up)) = next.recv() {
        let body = review(&asked);
        let id = asked.id;
        if let Err(error) = send(&up, &ToControl::Response { id, body }) {
            // The review is done and recorded all the same; whoever asked is gone.
            tracing::debug!(%error, "a review was not answered");
        }
    }
}

fn resolve(log: &Log, asked: &Asked) -> LinkResponse {
    let now = Timestamp::now();
    let review = match asked.action {
        Resolution::Release => Review::Release,
        Resolution::Discard => Review::Discard,
    };
    let resolved = log
        .resolve(asked.message, review, &asked.reviewer, now)
        .map_err(ReviewError::from)
        .and_then(ReviewTicket::wait);
    match resolved {
        Ok(resolved) => {
            let mut findings = Vec::new();
            let record = resolved
                .item
                .record
                .as_ref()
                .and_then(|r| r.record(&mut findings).ok());
            LinkResponse::Resolved(ResolvedItem {
                message: asked.message,
                action: asked.action,
                reviewer: asked.reviewer.clone(),
                resolved_at: now.to_rfc3339(),
                from: record.as_ref().map_or("", |r| r.from).to_owned(),
                to: record.as_ref().map_or("", |r| r.to).to_owned(),
                status: match asked.action {
                    Resolution::Release => Status::Delivered,
                    Resolution::Discard => Status::Rejected,
                },
            })
        }
        Err(ReviewError::NotFound) => LinkResponse::NotFound,
        Err(ReviewError::NotPending { status }) => LinkResponse::NotPending {
            status: status.as_str().to_owned(),
        },
        Err(error @ (ReviewError::Damaged(_) | ReviewError::Append(_))) => LinkResponse::Failed {
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, REVIEWS_MAX, Reviews};
    use crate::ending::Reports;
    use oktsec_contract::id::MessageId;
    use oktsec_contract::link::{FrameReader, LinkResponse, Resolution, ToControl};
    use parking_lot::Mutex;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, mpsc};

    fn asked(id: u64) -> Asked {
        Asked {
            id,
            message: MessageId::from_random([1; 16]),
            action: Resolution::Release,
            reviewer: String::from("ops"),
        }
    }

    #[test]
    fn reviews_wait_aside_in_bounded_number_and_are_all_answered() {
        let (go_on, stalled) = mpsc::channel::<()>();
        let reviews = Reviews::by(Reports::new().0.of("reviews"), move |_| {
            let _ = stalled.recv();
            LinkResponse::NotFound
        })
        .unwrap();
        let (up, mut control) = UnixStream::pair().unwrap();
        let up = Arc::new(Mutex::new(up));
        let mut taken = 0;
        while reviews.ask(asked(taken), Arc::clone(&up)).is_ok() {
            taken += 1;
        }
        let bound = REVIEWS_MAX as u64;
        assert!((bound..=bound + 1).contains(&taken), "{taken}");
        drop(go_on);
        let mut reader = FrameReader::new();
        let mut answered = Vec::new();
        let mut piece = [0; 4096];
        while (answered.len() as u64) < taken {
            let n = control.read(&mut piece).unwrap();
            reader.push(&piece[..n]);
            while let Some(frame) = reader.next().unwrap() {
                let ToControl::Response { id, .. } = ToControl::decode(&frame).unwrap() else {
                    panic!("no answer")
                };
                answered.push(id);
            }
        }
        assert!(answered.into_iter().eq(0..taken));
    }
}
