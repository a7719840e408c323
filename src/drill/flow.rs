//! Load on connections whose messages are not known: bytes, by slices of time.
//!
//! A client of a database keeps its connections, and what it asks on them is no operation of its own.
//! What the proxies count of bytes is looked at again and again; each slice of time is then as an
//! operation that came out well if about as much came back in it as before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::load::Zero;
use super::sample::{Micros, Op, Window};
use super::targets::Targets;
use crate::client::Client;
use crate::clock;
use crate::rules::Protocol;

/// How long a slice is.
pub const SLICE: Duration = Duration::from_millis(250);
/// Of what came back before, so much must come back in a slice.
const ENOUGH: f64 = 0.5;

/// Bytes that came back at one edge in one slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    /// Which edge.
    pub edge: usize,
    /// When it began.
    pub from: Micros,
    /// When it ended.
    pub to: Micros,
    /// From clients.
    pub asked: u64,
    /// From the service.
    pub answered: u64,
}

/// All slices so far.
#[derive(Debug, Default)]
pub(super) struct Flows(Mutex<Vec<Slice>>);

impl Flows {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Slice>> {
        // Each change is one push.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to look, where there is anything of the sort. Ends when what is answered is dropped.
pub(super) fn watch(targets: &Targets, flows: &Arc<Flows>, zero: Zero) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for target in &targets.list {
        let own = targets.edges.iter().enumerate().filter(|(_, edge)| {
            let here = target.status.proxies.iter().any(|p| p.name == edge.proxy);
            edge.protocol != Protocol::Http && here
        });
        let own: Vec<_> = own.map(|(n, edge)| (n, edge.proxy.clone())).collect();
        if !own.is_empty() {
            tasks.spawn(look(target.client.clone(), own, Arc::clone(flows), zero));
        }
    }
    tasks
}

async fn look(client: Client, edges: Vec<(usize, String)>, flows: Arc<Flows>, zero: Zero) {
    let mut before: Option<(Micros, Vec<(u64, u64)>)> = None;
    loop {
        clock::sleep(SLICE).await;
        let Ok(text) = client.metrics().await else {
            before = None;
            continue;
        };
        let now = zero.now();
        let counts: Vec<_> = edges
            .iter()
            .map(|(_, proxy)| {
                let bytes = |direction| counted(&text, proxy, direction);
                (bytes("upstream"), bytes("downstream"))
            })
            .collect();
        if let Some((from, old)) = &before {
            let mut flows = flows.lock();
            for ((edge, _), (new, old)) in edges.iter().zip(counts.iter().zip(old)) {
                flows.push(Slice {
                    edge: *edge,
                    from: *from,
                    to: now,
                    asked: new.0.saturating_sub(old.0),
                    answered: new.1.saturating_sub(old.1),
                });
            }
        }
        before = Some((now, counts));
    }
}

/// The bytes of one proxy and direction, as the text that Prometheus scrapes has them.
fn counted(text: &str, proxy: &str, direction: &str) -> u64 {
    let series = format!("firedrill_bytes_total{{direction=\"{direction}\",proxy=\"{proxy}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value
        .and_then(|value| value.parse::<f64>().ok())
        .unwrap_or_default() as u64
}

/// The slices of one edge, each as an operation. None where hardly anything flowed before.
#[must_use]
pub fn ops(slices: &[Slice], edge: usize, before: Window) -> Vec<Op> {
    let own = || slices.iter().filter(|slice| slice.edge == edge);
    let rate = |slice: &Slice| {
        let seconds = (slice.to - slice.from).max(1) as f64 / 1e6;
        slice.answered as f64 / seconds
    };
    let usual: Vec<f64> = own().filter(|s| before.has(s.from)).map(rate).collect();
    let mean = usual.iter().sum::<f64>() / usual.len().max(1) as f64;
    if mean < 1.0 {
        return Vec::new();
    }
    own()
        .map(|slice| Op {
            at: slice.from,
            ended: Some(slice.to),
            good: Some(rate(slice) >= mean * ENOUGH),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_well_in_which_enough_comes_back() {
        let slice = |n: i64, answered| Slice {
            edge: 0,
            from: n * 250_000,
            to: (n + 1) * 250_000,
            asked: 10,
            answered,
        };
        let flows = [1000, 1200, 800, 0, 100, 900].into_iter().zip(0..);
        let flows: Vec<_> = flows.map(|(bytes, n)| slice(n, bytes)).collect();
        let before = Window {
            from: 0,
            to: 750_000,
        };
        let good: Vec<_> = ops(&flows, 0, before).iter().map(|op| op.good).collect();
        assert_eq!(good, [true, true, true, false, false, true].map(Some));
        assert!(ops(&flows, 1, before).is_empty());
    }

    #[test]
    fn bytes_are_read_from_the_metrics() {
        let text = "firedrill_bytes_total{direction=\"upstream\",proxy=\"db\"} 1234\n";
        assert_eq!(counted(text, "db", "upstream"), 1234);
        assert_eq!(counted(text, "db", "downstream"), 0);
    }
}
