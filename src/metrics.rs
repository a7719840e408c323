//! Every metric's name, labels and buckets. Nothing else names one.
//!
//! No label takes its values from traffic: proxies, rules, partitions and kinds are defined by
//! users, and series of what was deleted are retired by [`Metrics::retain`].

mod exemplars;
mod openmetrics;

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::proto::LabelPair;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::evidence::{Class, Ledger};
use crate::operation::Direction;

use exemplars::{Exemplar, Exemplars, Lasts};

/// Where the time from a request's first byte to its answer falls, in seconds.
const UPSTREAM_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The families whose samples have exemplars.
const INJECTED: &str = "firedrill_faults_injected_total";
const OPERATIONS: &str = "firedrill_operations_total";
const UPSTREAM_SECONDS: &str = "firedrill_upstream_seconds";

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    exemplars: Exemplars,
    injected: IntCounterVec,
    selected: IntCounterVec,
    cuts: IntCounterVec,
    operations: IntCounterVec,
    duplicates: IntCounterVec,
    retries: IntCounterVec,
    connections: IntCounterVec,
    open: IntGaugeVec,
    bytes: IntCounterVec,
    upstream_seconds: HistogramVec,
    rule_enabled: IntGaugeVec,
    partition_active: IntGaugeVec,
    evidence_dropped: IntCounter,
    spans: IntCounterVec,
}

/// What exists now, for [`Metrics::retain`]: names, and whether they are on.
#[derive(Debug, Clone, Default)]
pub struct Defined {
    /// Proxies.
    pub proxies: Vec<String>,
    /// Rules: name, kind, enabled.
    pub rules: Vec<(String, &'static str, bool)>,
    /// Partitions: name, enabled.
    pub partitions: Vec<(String, bool)>,
    /// Records lost so far.
    pub evidence_dropped: u64,
}

fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Only if two metrics had one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let fault = ["proxy", "rule", "fault"];
        let injected = counter(
            r,
            INJECTED,
            "Operations in which a rule changed what a side saw.",
            &fault,
        )?;
        let selected = counter(
            r,
            "firedrill_faults_selected_total",
            "Operations that a rule chose.",
            &fault,
        )?;
        let cuts = counter(
            r,
            "firedrill_partition_cuts_total",
            "Operations that a partition cut.",
            &["proxy", "partition"],
        )?;
        let operations = counter(
            r,
            OPERATIONS,
            "Finished operations by the class of their evidence.",
            &["proxy", "class"],
        )?;
        let duplicates = counter(
            r,
            "firedrill_duplicate_deliveries_total",
            "Deliveries of an operation to its upstream beyond the first.",
            &["proxy"],
        )?;
        let retries = counter(
            r,
            "firedrill_retries_total",
            "Finished operations that were not the first attempt.",
            &["proxy"],
        )?;
        let connections = counter(
            r,
            "firedrill_connections_total",
            "Client connections accepted.",
            &["proxy"],
        )?;
        let open = gauge(
            r,
            "firedrill_connections_open",
            "Client connections open now.",
            &["proxy"],
        )?;
        let bytes = counter(
            r,
            "firedrill_bytes_total",
            "Bytes read, by where they were going.",
            &["proxy", "direction"],
        )?;
        let rule_enabled = gauge(
            r,
            "firedrill_rule_enabled",
            "Whether a rule is enabled.",
            &["rule", "fault"],
        )?;
        let partition_active = gauge(
            r,
            "firedrill_partition_active",
            "Whether a partition is in force.",
            &["partition"],
        )?;
        let upstream_seconds = HistogramVec::new(
            HistogramOpts::new(
                UPSTREAM_SECONDS,
                "From an operation's first byte to the upstream until its answer began.",
            )
            .buckets(UPSTREAM_BUCKETS.to_vec()),
            &["proxy"],
        )?;
        registry.register(Box::new(upstream_seconds.clone()))?;
        let evidence_dropped = IntCounter::new(
            "firedrill_evidence_dropped_total",
            "Records that left the bounded memory or that a follower lost.",
        )?;
        registry.register(Box::new(evidence_dropped.clone()))?;
        let spans = counter(
            r,
            "firedrill_spans_total",
            "Operations to be sent as traces, by what became of them: sent or dropped.",
            &["outcome"],
        )?;
        let build = IntGauge::with_opts(
            Opts::new("firedrill_build_info", "The version that runs; always 1.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        Ok(Self {
            registry,
            exemplars: Exemplars::default(),
            injected,
            selected,
            cuts,
            operations,
            duplicates,
            retries,
            connections,
            open,
            bytes,
            upstream_seconds,
            rule_enabled,
            partition_active,
            evidence_dropped,
            spans,
        })
    }

    /// The handles of what sends traces. Without one there are no such series.
    #[must_use]
    pub fn spans(&self) -> SpanMeters {
        SpanMeters {
            sent: self.spans.with_label_values(&["sent"]),
            dropped: self.spans.with_label_values(&["dropped"]),
        }
    }

    /// The handles of one proxy, resolved once.
    #[must_use]
    pub fn proxy(&self, name: &str) -> ProxyMeters {
        let bytes = |d: Direction| self.bytes.with_label_values(&[name, d.as_str()]);
        ProxyMeters {
            connections: self.connections.with_label_values(&[name]),
            open: self.open.with_label_values(&[name]),
            bytes: [bytes(Direction::Upstream), bytes(Direction::Downstream)],
            duplicates: self.duplicates.with_label_values(&[name]),
            retries: self.retries.with_label_values(&[name]),
            upstream_seconds: self.upstream_seconds.with_label_values(&[name]),
            operations: Class::ALL.map(|c| self.operations.with_label_values(&[name, c.as_str()])),
            lasts: self.exemplars.proxy(name),
        }
    }

    /// A rule chose an operation.
    pub fn selected(&self, proxy: &str, rule: &str, fault: &str) {
        self.selected.with_label_values(&[proxy, rule, fault]).inc();
        // Both series exist from the first selection on, so that "selected but never injected" can
        // be asked for.
        self.injected.with_label_values(&[proxy, rule, fault]);
    }

    /// A rule changed what a side saw of the operation that has the record of this number.
    pub fn injected(&self, proxy: &str, rule: &str, fault: &str, record: u64) {
        self.injected.with_label_values(&[proxy, rule, fault]).inc();
        self.exemplars.injected(proxy, rule, fault, record);
    }

    /// A partition cut an operation.
    pub fn cut(&self, proxy: &str, partition: &str) {
        self.cuts.with_label_values(&[proxy, partition]).inc();
    }

    /// Brings the gauges up to date, and retires the series of what no longer exists.
    pub fn retain(&self, defined: &Defined) {
        let lost = defined
            .evidence_dropped
            .saturating_sub(self.evidence_dropped.get());
        self.evidence_dropped.inc_by(lost);
        for (rule, kind, on) in &defined.rules {
            self.rule_enabled
                .with_label_values(&[rule, *kind])
                .set(i64::from(*on));
        }
        for (partition, on) in &defined.partitions {
            self.partition_active
                .with_label_values(&[partition])
                .set(i64::from(*on));
        }
        let rule = |l: &Labels<'_>| {
            let mut rules = defined.rules.iter();
            rules.any(|(name, kind, _)| l["rule"] == name && l["fault"] == *kind)
        };
        let partition = |l: &Labels<'_>| {
            let mut partitions = defined.partitions.iter();
            partitions.any(|(name, _)| l["partition"] == name)
        };
        let proxy = |l: &Labels<'_>| defined.proxies.iter().any(|name| l["proxy"] == name);
        for vec in [&self.selected, &self.injected] {
            retire(vec, |l| proxy(l) && rule(l));
        }
        retire(&self.cuts, |l| proxy(l) && partition(l));
        retire(&self.rule_enabled, rule);
        retire(&self.partition_active, partition);
        for vec in [
            &self.operations,
            &self.duplicates,
            &self.retries,
            &self.connections,
            &self.bytes,
        ] {
            retire(vec, proxy);
        }
        retire(&self.open, proxy);
        retire(&self.upstream_seconds, proxy);
        self.exemplars.retain(
            |proxy| defined.proxies.iter().any(|name| name == proxy),
            |proxy, rule, fault| {
                let mut rules = defined.rules.iter();
                let kept = rules.any(|(name, kind, _)| name == rule && *kind == fault);
                kept && defined.proxies.iter().any(|name| name == proxy)
            },
        );
    }

    /// The text that Prometheus has always scraped, and its content type.
    ///
    /// # Errors
    /// Never in practice: the encoder writes to memory.
    pub fn encode(&self) -> prometheus::Result<(Vec<u8>, String)> {
        let encoder = TextEncoder::new();
        let mut out = Vec::new();
        encoder.encode(&self.registry.gather(), &mut out)?;
        Ok((out, encoder.format_type().to_owned()))
    }

    /// The same as OpenMetrics, with an operation of late for an exemplar where there is one in the
    /// ledger; and its content type.
    #[must_use]
    pub fn open_metrics(&self, ledger: &Ledger) -> (String, &'static str) {
        let exemplar = |family: &str, labels: &[LabelPair], nth: usize| {
            let label = |name: &str| {
                labels
                    .iter()
                    .find(|l| l.name() == name)
                    .map(LabelPair::value)
            };
            let proxy = label("proxy");
            match family {
                INJECTED => {
                    let series = (proxy?, label("rule")?, label("fault")?);
                    self.exemplars.of_fault(ledger, series)
                }
                OPERATIONS => {
                    let class = Class::find(label("class")?)?;
                    self.exemplars.of_class(ledger, proxy?, class)
                }
                UPSTREAM_SECONDS => self.exemplars.of_bucket(ledger, proxy?, nth),
                _ => None,
            }
        };
        let text = openmetrics::encode(&self.registry.gather(), exemplar);
        (text, openmetrics::MEDIA_TYPE)
    }
}

type Labels<'a> = HashMap<&'a str, &'a str>;

/// Removes the series whose labels are not to be kept.
fn retire<T: MetricVecBuilder>(vec: &MetricVec<T>, keep: impl Fn(&Labels<'_>) -> bool) {
    for family in vec.collect() {
        for metric in family.get_metric() {
            let pairs = metric.get_label().iter();
            let labels: Labels<'_> = pairs.map(|l| (l.name(), l.value())).collect();
            if !keep(&labels) {
                // An error means that it has just gone, which is what is wanted.
                let _ = vec.remove(&labels);
            }
        }
    }
}

/// The handles of what sends traces.
#[derive(Debug, Clone)]
pub struct SpanMeters {
    /// Spans that the collector has taken.
    pub sent: IntCounter,
    /// Spans that it never will.
    pub dropped: IntCounter,
}

/// The handles of one proxy.
#[derive(Debug, Clone)]
pub struct ProxyMeters {
    /// Client connections accepted.
    pub connections: IntCounter,
    /// Client connections open now.
    pub open: IntGauge,
    /// Deliveries beyond the first.
    pub duplicates: IntCounter,
    /// Operations that were not the first attempt.
    pub retries: IntCounter,
    upstream_seconds: Histogram,
    bytes: [IntCounter; 2],
    operations: [IntCounter; Class::ALL.len()],
    lasts: Arc<Lasts>,
}

impl ProxyMeters {
    /// Counts bytes as they are read.
    pub fn bytes(&self, direction: Direction, n: usize) {
        self.bytes[direction as usize].inc_by(n as u64);
    }

    /// Finished operations so far, by class.
    pub fn operations(&self) -> impl Iterator<Item = (Class, u64)> {
        Class::ALL
            .into_iter()
            .zip(&self.operations)
            .map(|(class, counter)| (class, counter.get()))
    }

    /// Counts a finished operation, and keeps the number of its record.
    pub fn finished(&self, class: Class, record: u64) {
        self.operations[class as usize].inc();
        self.lasts.finished(class, record);
    }

    /// Counts how long it took from an operation's first byte to the upstream until its answer began.
    pub fn answered(&self, seconds: f64, record: u64) {
        self.upstream_seconds.observe(seconds);
        self.lasts.answered(seconds, record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.encode().unwrap().0).unwrap()
    }

    #[test]
    fn series_of_deleted_rules_are_retired() {
        let metrics = Metrics::new().unwrap();
        metrics.proxy("payment").finished(Class::Unseen, 1);
        metrics.selected("payment", "gone", "drop");
        metrics.injected("payment", "gone", "drop", 1);
        let mut defined = Defined {
            proxies: vec!["payment".to_owned()],
            rules: vec![("gone".to_owned(), "drop", true)],
            partitions: vec![("split".to_owned(), false)],
            evidence_dropped: 7,
        };
        metrics.cut("payment", "split");
        metrics.retain(&defined);
        let before = text(&metrics);
        for line in [
            r#"firedrill_faults_injected_total{fault="drop",proxy="payment",rule="gone"} 1"#,
            r#"firedrill_rule_enabled{fault="drop",rule="gone"} 1"#,
            r#"firedrill_partition_active{partition="split"} 0"#,
            r#"firedrill_partition_cuts_total{partition="split",proxy="payment"} 1"#,
            r#"firedrill_operations_total{class="unseen",proxy="payment"} 1"#,
            "firedrill_evidence_dropped_total 7",
        ] {
            assert!(before.contains(line), "{line}\n{before}");
        }
        defined.rules.clear();
        defined.partitions.clear();
        metrics.retain(&defined);
        let after = text(&metrics);
        assert!(
            !after.contains("gone") && !after.contains("split"),
            "{after}"
        );
        assert!(after.contains("payment"));
    }
}
