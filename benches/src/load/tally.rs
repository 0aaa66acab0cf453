//! What one thread saw.

use super::answers::Answer;
use super::pool::Expected;
use hdrhistogram::Histogram;
use memchr::memmem;
use std::collections::BTreeMap;
use std::time::Duration;

/// Answers shown to a person when they are wrong; the others are counted.
const SAMPLES_MAX: usize = 3;
/// Bytes of such an answer.
const SAMPLE_BYTES_MAX: usize = 300;
/// The longest latency told apart.
const LATENCY_NANOS_MAX: u64 = 120_000_000_000;

/// Counts and latencies.
#[derive(Debug)]
pub(super) struct Tally {
    /// Of answers inside the measured window.
    pub(super) latency: Histogram<u64>,
    /// All answers, also of the warm-up.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Answers that are not what they have to be.
    pub(super) wrong: u64,
    /// Connections that broke, with the first causes in `samples`.
    pub(super) broken: u64,
    pub(super) samples: Vec<String>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3)
                .expect("three digits between a nanosecond and minutes fit a histogram"),
            statuses: BTreeMap::new(),
            wrong: 0,
            broken: 0,
            samples: Vec::new(),
        }
    }
}

impl Tally {
    /// Compares an answer with what it has to be.
    pub(super) fn check(&mut self, answer: Answer<'_>, expected: Expected) {
        *self.statuses.entry(answer.status).or_default() += 1;
        let says = |text: &str| memmem::find(answer.body, text.as_bytes()).is_some();
        let right = match expected {
            Expected::Delivered { verified } => {
                answer.status == 200
                    && says("\"status\":\"delivered\"")
                    && (!verified || says("\"verified_sender\":true"))
            }
            Expected::Stopped => {
                (answer.status == 403 && says("\"status\":\"blocked\""))
                    || (answer.status == 202 && says("\"status\":\"quarantined\""))
            }
        };
        if !right {
            self.wrong += 1;
            let body = &answer.body[..answer.body.len().min(SAMPLE_BYTES_MAX)];
            let body = String::from_utf8_lossy(body);
            self.sample(format!(
                "expected {expected:?}, got {}: {}",
                answer.status,
                body.trim_end()
            ));
        }
    }

    /// Counts an answer of the measured window.
    pub(super) fn measure(&mut self, latency: Duration) {
        self.latency
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    /// A connection ended before its work was done.
    pub(super) fn broke(&mut self, cause: String) {
        self.broken += 1;
        self.sample(cause);
    }

    /// Adds what another thread saw.
    pub(super) fn add(&mut self, other: Self) {
        self.latency
            .add(&other.latency)
            .expect("both histograms have the same bounds");
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.wrong += other.wrong;
        self.broken += other.broken;
        other
            .samples
            .into_iter()
            .for_each(|sample| self.sample(sample));
    }

    fn sample(&mut self, text: String) {
        if self.samples.len() < SAMPLES_MAX && !self.samples.contains(&text) {
            self.samples.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Expected, Tally};

    #[test]
    fn an_answer_must_say_what_it_has_to() {
        let delivered = Expected::Delivered { verified: true };
        let cases: [(u16, &str, Expected, u64); 7] = [
            (
                200,
                "{\"status\":\"delivered\",\"verified_sender\":true}",
                delivered,
                0,
            ),
            (
                200,
                "{\"status\":\"delivered\",\"verified_sender\":false}",
                delivered,
                1,
            ),
            (
                200,
                "{\"status\":\"delivered\"}",
                Expected::Delivered { verified: false },
                0,
            ),
            (202, "{\"status\":\"quarantined\"}", delivered, 1),
            (202, "{\"status\":\"quarantined\"}", Expected::Stopped, 0),
            (403, "{\"status\":\"blocked\"}", Expected::Stopped, 0),
            (403, "{\"status\":\"rejected\"}", Expected::Stopped, 1),
        ];
        for (status, body, expected, wrong) in cases {
            let mut tally = Tally::default();
            tally.check(
                Answer {
                    status,
                    body: body.as_bytes(),
                },
                expected,
            );
            assert_eq!(tally.wrong, wrong, "{status} {body}");
        }
    }
}
