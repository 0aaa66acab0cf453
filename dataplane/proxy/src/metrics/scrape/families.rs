//! Families of metrics, as the Prometheus library wants them and as it writes them.

use super::super::Histogram;
use prometheus::proto::{
    Bucket, Counter as CounterValue, Gauge, Histogram as HistogramValue, LabelPair, Metric,
    MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

/// Names and values of one metric's labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// What a metric holds.
pub(super) enum Value {
    Counter(f64),
    Gauge(f64),
    Histogram(HistogramValue),
}

/// All families of an answer, in order. One without a metric is left out.
pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(40))
    }

    /// In the Prometheus text format.
    pub(super) fn into_text(self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new()
            .encode(&self.0, &mut text)
            .expect("every family has a name and a metric, and a Vec takes all bytes");
        text
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [(vec![], value)]);
    }

    #[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        self.push(
            name,
            help,
            all.into_iter().map(|(l, v)| (l, Value::Counter(v as f64))),
        );
    }

    #[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.gauges(name, help, [(vec![], value as f64)]);
    }

    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        self.push(
            name,
            help,
            all.into_iter().map(|(l, v)| (l, Value::Gauge(v))),
        );
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, value: HistogramValue) {
        self.histograms(name, help, [(vec![], value)]);
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Labels, HistogramValue)>,
    ) {
        self.push(
            name,
            help,
            all.into_iter().map(|(l, v)| (l, Value::Histogram(v))),
        );
    }

    pub(super) fn push(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Labels, Value)>,
    ) {
        let mut kind = MetricType::GAUGE;
        let metrics: Vec<Metric> = all
            .into_iter()
            .map(|(labels, value)| {
                let mut metric = Metric::default();
                metric.set_label(labels.into_iter().map(pair).collect());
                match value {
                    Value::Counter(value) => {
                        kind = MetricType::COUNTER;
                        let mut counter = CounterValue::default();
                        counter.set_value(value);
                        metric.set_counter(counter);
                    }
                    Value::Gauge(value) => {
                        let mut gauge = Gauge::default();
                        gauge.set_value(value);
                        metric.set_gauge(gauge);
                    }
                    Value::Histogram(value) => {
                        kind = MetricType::HISTOGRAM;
                        metric.set_histogram(value);
                    }
                }
                metric
            })
            .collect();
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}

/// One histogram of those of all cores; bounds and sums are divided by `unit`.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
pub(super) fn merge<'a, const N: usize>(
    cores: impl Iterator<Item = &'a Histogram<N>> + Clone,
    bounds: &[u64; N],
    unit: f64,
) -> HistogramValue {
    let mut merged = HistogramValue::default();
    let mut cumulative = 0;
    let buckets = bounds.iter().enumerate().map(|(at, &bound)| {
        cumulative += cores
            .clone()
            .map(|core| core.buckets[at].get())
            .sum::<u64>();
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound as f64 / unit);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    merged.set_bucket(buckets.collect());
    // A bucket may be read before and the total after an observation; never the other way round.
    merged.set_sample_count(cores.clone().map(|core| core.count.get()).sum::<u64>());
    merged.set_sample_sum(cores.map(|core| core.sum.get()).sum::<u64>() as f64 / unit);
    merged
}

fn pair((name, value): (&'static str, String)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}
