//! `load_shedding`: the service turns requests away at once when it has too many, and serves the rest.

use serde_json::{Value, json};

use super::attempt::told;
use super::figures::{Samples, detail, ms, rounded};
use super::{About, Case, Finder, Judged, Verdict};
use crate::clock::Timestamp;
use crate::evidence::{Record, RecordId};

pub static FINDER: Finder = Finder {
    name: "load_shedding",
    summary: "when it has too much to do, the service refuses some of it at once and serves the rest",
    definition: "\
Judged from what was delivered to the service. A request is in flight there from its first byte to the head \
of its answer, or until its caller left, whichever proxy it came through. Shed is what the service itself \
answered with 429 or 503, and served what it answered below 500 otherwise; what a rule answered is neither. \
How much else was in flight when a request came is counted without what was shed.

`yes`, by the time from the first that was shed to the last: 10 or more were shed, and as many served, a \
tenth of both or more; what was shed took at most half as long (in the middle); and more was in flight when \
it came: in seven of ten pairs of one that was shed and one that was served, ties counting half, and by 3.5 \
standard deviations (Mann and Whitney). `no`: of 50 or more, fewer than one in a hundred were shed; the \
tenth that came with the most in flight came with 10 or more and three times as many as the quarter with the \
fewest, and took twice as long or more (in the middle). `not_enough`: neither, as where there was never too \
much to do.

`detail`: `shed` and `served`, how many in that time (where none was shed, in all); `shed_ms`, `served_ms`, \
how long they took; `in_flight_shed`, `in_flight_served`, what else was in flight when they came; `limit`, \
what was in flight when all but a tenth of those came that were shed; `peak`, the most that was in flight; \
`low_ms`, `high_ms`, how long it took with the fewest and with the most in flight.",
    about: About::Called,
    judge,
};

/// Shed and served from which on it sheds.
const SHED: usize = 10;
const SERVED: usize = 10;
/// In how many pairs of one shed and one served more is in flight for the first; and by how many
/// standard deviations that is more than half of them.
const SHARE: f64 = 0.7;
const DEVIATIONS: f64 = 3.5;
/// Deliveries from which on it does not.
const LEAST: usize = 50;
/// In flight from which on a service may have too much to do, and against the least.
const MUCH: f64 = 10.0;
const TIMES: f64 = 3.0;
/// How many times longer it then takes.
const LONGER: f64 = 2.0;

/// What was delivered to the service.
#[derive(Clone, Copy)]
struct Delivered {
    id: RecordId,
    /// Whether it came along the edge that is judged.
    here: bool,
    sent: Timestamp,
    ended: Timestamp,
    status: Option<u16>,
    /// What else was in flight when it came.
    beside: f64,
}

impl Delivered {
    fn took(&self) -> f64 {
        ms(self.sent, self.ended)
    }

    fn is_shed(&self) -> bool {
        matches!(self.status, Some(429 | 503))
    }

    fn is_served(&self) -> bool {
        self.status.is_some_and(|status| status < 500) && !self.is_shed()
    }
}

/// Some of what was delivered, and what is in the middle of it.
struct Group<'d> {
    of: Vec<&'d Delivered>,
    took: f64,
    beside: f64,
}

impl<'d> FromIterator<&'d Delivered> for Group<'d> {
    fn from_iter<I: IntoIterator<Item = &'d Delivered>>(of: I) -> Self {
        let of: Vec<_> = of.into_iter().collect();
        let took: Samples = of.iter().map(|d| d.took()).collect();
        Self {
            took: took.median(),
            beside: beside(&of).median(),
            of,
        }
    }
}

impl Group<'_> {
    fn ids(&self) -> Vec<RecordId> {
        self.of.iter().map(|d| d.id).collect()
    }

    /// A figure of it, if there is any.
    fn figure(&self, value: f64) -> Option<Value> {
        (!self.of.is_empty()).then(|| rounded(value))
    }
}

fn beside(of: &[&Delivered]) -> Samples {
    of.iter().map(|d| d.beside).collect()
}

fn judge(case: &Case<'_>) -> Judged {
    let (all, peak) = delivered(case);
    let shed: Group<'_> = all.iter().filter(|d| d.is_shed()).collect();
    let ends = shed.of.first().zip(shed.of.last());
    let within = |d: &&Delivered| {
        ends.is_none_or(|(first, last)| (first.sent..=last.sent).contains(&d.sent))
    };
    let served: Group<'_> = all
        .iter()
        .filter(|d| d.is_served())
        .filter(within)
        .collect();
    let (few, many) = (shed.of.len(), served.of.len());
    let sheds = few >= SHED
        && many >= SERVED
        && many * 9 >= few
        && shed.took * 2.0 <= served.took
        && has_more_beside(&shed.of, &served.of);

    let (low, high) = ends_of(&all);
    let overloaded =
        high.beside >= MUCH && high.beside >= TIMES * low.beside && high.took >= LONGER * low.took;
    let (verdict, records) = match () {
        () if sheds => (Verdict::Yes, shed.ids()),
        () if all.len() >= LEAST && few * 100 < all.len() && overloaded => {
            (Verdict::No, high.ids())
        }
        () => (Verdict::NotEnough, Vec::new()),
    };
    let figures = json!({
        "shed": few,
        "served": many,
        "shed_ms": shed.figure(shed.took),
        "served_ms": served.figure(served.took),
        "in_flight_shed": shed.figure(shed.beside),
        "in_flight_served": served.figure(served.beside),
        "limit": shed.figure(beside(&shed.of).quantile(0.1).floor()),
        "peak": peak,
        "low_ms": low.figure(low.took),
        "high_ms": high.figure(high.took),
    });
    Judged {
        verdict,
        detail: detail(figures),
        records,
    }
}

/// What was delivered along the edge, in that order, and the most that was ever in flight.
fn delivered(case: &Case<'_>) -> (Vec<Delivered>, usize) {
    let to_it = case
        .all
        .iter()
        .filter(|r| *r.to == *case.to && r.request.method.is_some());
    let mut all: Vec<Delivered> = to_it.flat_map(|r| deliveries(r, case)).collect();
    all.sort_by_key(|d| (d.sent, d.id));
    // What is shed is no work.
    let work = all.iter().filter(|d| !d.is_shed());
    let mut ends: Vec<Timestamp> = work.map(|d| d.ended).collect();
    ends.sort_unstable();
    let (mut begun, mut over, mut peak) = (0_usize, 0, 0);
    for one in &mut all {
        over += ends[over..].partition_point(|end| *end <= one.sent);
        // Where nothing took any time, more may be over than has begun.
        let beside = begun.saturating_sub(over);
        one.beside = beside as f64;
        peak = peak.max(beside + 1);
        begun += usize::from(!one.is_shed());
    }
    all.retain(|d| d.here);
    (all, peak)
}

fn deliveries<'r>(
    record: &'r Record,
    case: &Case<'_>,
) -> impl Iterator<Item = Delivered> + use<'r> {
    let left = told(record).unwrap_or(case.now);
    let here = *record.from == *case.from;
    record.upstream.iter().filter_map(move |delivery| {
        let sent = delivery.sent_at?;
        Some(Delivered {
            id: record.id,
            here,
            sent,
            ended: delivery.answered_at.unwrap_or(left).max(sent),
            status: delivery.status,
            beside: 0.0,
        })
    })
}

/// The quarter that came with the fewest in flight, and the tenth with the most.
fn ends_of(all: &[Delivered]) -> (Group<'_>, Group<'_>) {
    let levels: Samples = all.iter().map(|d| d.beside).collect();
    let (low, high) = (levels.quantile(0.25), levels.quantile(0.9));
    (
        all.iter().filter(|d| d.beside <= low).collect(),
        all.iter().filter(|d| d.beside >= high).collect(),
    )
}

/// Whether more was in flight when those came that were shed, and not by chance: the share of pairs of
/// one shed and one served in which that is so (Mann and Whitney).
fn has_more_beside(shed: &[&Delivered], served: &[&Delivered]) -> bool {
    let mut levels: Vec<f64> = served.iter().map(|d| d.beside).collect();
    levels.sort_by(f64::total_cmp);
    let below = |level: f64| levels.partition_point(|l| *l < level);
    let up_to = |level: f64| levels.partition_point(|l| *l <= level);
    // Ties count half.
    let wins = |d: &&Delivered| (below(d.beside) + up_to(d.beside)) as f64 / 2.0;
    let (n, m) = (shed.len() as f64, served.len() as f64);
    let share = shed.iter().map(wins).sum::<f64>() / (n * m);
    let deviation = ((n + m + 1.0) / (12.0 * n * m)).sqrt();
    share >= SHARE && share >= 0.5 + DEVIATIONS * deviation
}

#[cfg(test)]
mod tests;
