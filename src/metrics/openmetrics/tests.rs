//! What is encoded parses back, by a reader that takes nothing but what the specification has.

use std::collections::BTreeMap;

use prometheus::{CounterVec, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry};
use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;

type Labels = Vec<(String, String)>;

#[derive(Debug, Default, PartialEq)]
struct Family {
    kind: String,
    help: String,
    samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
    /// With its value and its time.
    exemplar: Option<(Labels, f64, f64)>,
}

/// Reads a whole exposition.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let text = text.strip_suffix("# EOF\n").expect("it ends with that");
    let mut families = BTreeMap::<String, Family>::new();
    let mut name = String::new();
    for line in text.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = rest.split_once(' ').unwrap();
            name = family.to_owned();
            let new = Family {
                kind: kind.to_owned(),
                ..Family::default()
            };
            assert_eq!(families.insert(name.clone(), new), None, "{name} twice");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let help = rest.strip_prefix(&format!("{name} ")).unwrap();
            let (help, rest) = unescape(help);
            assert_eq!(rest, "");
            families.get_mut(&name).unwrap().help = help;
        } else {
            let sample = sample(line);
            assert!(sample.name.starts_with(&name), "{line}");
            families.get_mut(&name).unwrap().samples.push(sample);
        }
    }
    families
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, rest) = line.split_at(end);
    assert!(
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
    );
    let (labels, rest) = labels(rest);
    let rest = rest.strip_prefix(' ').unwrap();
    let (value, exemplar) = match rest.split_once(" # ") {
        Some((value, exemplar)) => (value, Some(exemplar)),
        None => (rest, None),
    };
    let exemplar = exemplar.map(|text| {
        let (labels, rest) = self::labels(text);
        let (value, at) = rest.strip_prefix(' ').unwrap().split_once(' ').unwrap();
        (labels, number(value), number(at))
    });
    Sample {
        name: name.to_owned(),
        labels,
        value: number(value),
        exemplar,
    }
}

/// The labels in front of a text, and what stands behind them.
fn labels(text: &str) -> (Labels, &str) {
    let Some(mut rest) = text.strip_prefix('{') else {
        return (Vec::new(), text);
    };
    let mut all = Vec::new();
    loop {
        let (name, value) = rest.split_once("=\"").unwrap();
        let (value, behind) = unescape(value);
        all.push((name.to_owned(), value));
        rest = behind.strip_prefix('"').expect("the quote that closes");
        match rest.split_at(1) {
            (",", more) => rest = more,
            ("}", behind) => return (all, behind),
            other => panic!("{other:?}"),
        }
    }
}

/// Up to the first quote that is not escaped.
fn unescape(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &text[at..]),
            '\\' => out.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                other => panic!("{other:?} is escaped"),
            }),
            c => out.push(c),
        }
    }
    (out, "")
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap(),
    }
}

fn hostile() -> impl Strategy<Value = String> {
    let c = prop_oneof![
        Just('"'),
        Just('\\'),
        Just('\n'),
        Just('#'),
        Just('}'),
        Just(','),
        any::<char>()
    ];
    prop::collection::vec(c, 0..12).prop_map(|chars| chars.into_iter().collect())
}

fn exemplars() -> impl Strategy<Value = Option<Exemplar>> {
    let trace = prop::option::of(any::<[u8; 16]>().prop_map(TraceId));
    let id = any::<(u32, u64)>().prop_map(|(run, n)| RecordId { run, n });
    let parts = (id, trace, 0.0..100.0, 0..4_000_000_000_000_000_u64);
    prop::option::of(parts.prop_map(|(record, trace, value, at)| Exemplar {
        record,
        trace,
        value,
        at: Timestamp(at),
    }))
}

proptest! {
    #[test]
    fn what_is_encoded_parses_back(
        help in hostile(),
        proxies in prop::collection::btree_map(hostile(), (0.0..1e12, -1e12..1e12), 1..5),
        observed in prop::collection::vec(0.0..2.0, 0..20),
        like in exemplars(),
    ) {
        let registry = Registry::new();
        let opts = |name: &str| Opts::new(name, if help.is_empty() { "-" } else { &help });
        let counters = CounterVec::new(opts("some_total"), &["proxy", "class"]).unwrap();
        let gauges = GaugeVec::new(opts("now"), &["proxy"]).unwrap();
        let buckets = HistogramOpts::from(opts("took_seconds")).buckets(vec![0.005, 0.5, 1.0]);
        let histograms = HistogramVec::new(buckets, &["proxy"]).unwrap();
        registry.register(Box::new(counters.clone())).unwrap();
        registry.register(Box::new(gauges.clone())).unwrap();
        registry.register(Box::new(histograms.clone())).unwrap();
        for (proxy, (count, now)) in &proxies {
            counters.with_label_values(&[proxy.as_str(), "unseen"]).inc_by(*count);
            gauges.with_label_values(&[proxy]).set(*now);
            let histogram = histograms.with_label_values(&[proxy]);
            observed.iter().for_each(|seconds| histogram.observe(*seconds));
        }
        let text = encode(&registry.gather(), |family, _, nth| {
            like.filter(|_| family == "some_total" || family == "took_seconds" && nth == 3)
        });
        let families = parse(&text);

        let expected = like.map(|like| {
            let mut labels = vec![("record_id".to_owned(), like.record.to_string())];
            labels.extend(like.trace.map(|trace| ("trace_id".to_owned(), trace.to_string())));
            (labels, like.value, like.at.0 as f64 / 1e6)
        });
        prop_assert_eq!(families.keys().collect::<Vec<_>>(), ["now", "some", "took_seconds"]);
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (counted, now) = (&families["some"], &families["now"]);
        prop_assert_eq!((counted.kind.as_str(), now.kind.as_str()), ("counter", "gauge"));
        prop_assert_eq!(counted.help.as_str(), if help.is_empty() { "-" } else { &help });
        let took = &families["took_seconds"];
        prop_assert_eq!(took.samples.len(), 6 * proxies.len());
        for (proxy, (count, value)) in &proxies {
            let labels = vec![label("class", "unseen"), label("proxy", proxy)];
            let sample = counted.samples.iter().find(|s| s.labels == labels).unwrap();
            prop_assert_eq!((sample.name.as_str(), sample.value), ("some_total", *count));
            prop_assert_eq!(&sample.exemplar, &expected);
            let labels = vec![label("proxy", proxy)];
            let sample = now.samples.iter().find(|s| s.labels == labels).unwrap();
            prop_assert_eq!((sample.name.as_str(), sample.value), ("now", *value));
            prop_assert_eq!(&sample.exemplar, &None);
            let of_it = took.samples.iter().filter(|s| s.labels[0] == labels[0]);
            let mut rows = of_it.map(|s| {
                let le = s.labels.get(1).map(|(name, le)| (name.as_str(), le.as_str()));
                (s.name.as_str(), le, s.value, s.exemplar.is_some())
            });
            for bound in ["0.005", "0.5", "1.0", "+Inf"] {
                let within = observed.iter().filter(|s| **s <= number(bound)).count();
                let has_one = bound == "+Inf" && like.is_some();
                let row = ("took_seconds_bucket", Some(("le", bound)), within as f64, has_one);
                prop_assert_eq!(rows.next(), Some(row));
            }
            let (_, _, sum, _) = rows.next().unwrap();
            prop_assert!((sum - observed.iter().sum::<f64>()).abs() < 1e-6);
            let row = ("took_seconds_count", None, observed.len() as f64, false);
            prop_assert_eq!(rows.next(), Some(row));
        }
    }
}

#[test]
fn an_exemplars_labels_are_never_longer_than_they_may_be() {
    let longest = exemplar_labels(
        RecordId {
            run: u32::MAX,
            n: u64::MAX,
        },
        Some(TraceId([0xff; 16])),
    );
    let characters = longest.iter().map(|(name, value)| name.len() + value.len());
    assert!(characters.sum::<usize>() <= 128, "{longest:?}");
}
