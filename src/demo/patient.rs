//! What keeps a caller from making a bad moment of another service last: a pause before each retry
//! that grows and is not others', and a breaker.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::seed::Draw;

/// The longest first pause; it doubles with each.
const BASE: Duration = Duration::from_millis(100);
/// So many failures in a row open the breaker.
const FAILURES: u32 = 5;
/// For so long it stays open; then one call may look.
const OPEN: Duration = Duration::from_secs(1);

/// How long to wait before the `nth` retry of an order: anything up to the longest.
pub(super) fn pause(order: u64, nth: usize) -> Duration {
    let longest = BASE * 2u32.saturating_pow(nth.saturating_sub(1) as u32);
    let share = Draw::new(0, "demo/pause", order, nth as u64).unit();
    longest.mul_f64(share)
}

/// Whether a service is to be asked at all.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    /// Until then nobody asks.
    open_until: Option<Instant>,
    /// Somebody looks whether it is back.
    looking: bool,
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is a few assignments that do not depend on each other.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permission to ask once; `None`: not now. A call of which nothing is said has failed.
    pub(super) fn ask(&self) -> Option<Call<'_>> {
        let mut state = self.lock();
        match state.open_until {
            Some(until) if clock::now() < until || state.looking => return None,
            Some(_) => state.looking = true,
            None => {}
        }
        Some(Call {
            breaker: self,
            well: false,
        })
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Call<'b> {
    breaker: &'b Breaker,
    well: bool,
}

impl Call<'_> {
    pub(super) fn went_well(mut self) {
        self.well = true;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut state = self.breaker.lock();
        if self.well {
            *state = State::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.looking || state.failures >= FAILURES {
            state.looking = false;
            state.open_until = Some(clock::now() + OPEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_breaker_opens_lets_one_look_and_closes() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            drop(breaker.ask().unwrap());
        }
        assert!(breaker.ask().is_none());
        clock::sleep(OPEN).await;
        let look = breaker.ask().unwrap();
        assert!(breaker.ask().is_none(), "one looks");
        drop(look);
        assert!(breaker.ask().is_none(), "it found nothing");
        clock::sleep(OPEN).await;
        breaker.ask().unwrap().went_well();
        breaker.ask().unwrap().went_well();
        assert!(breaker.ask().is_some());
    }

    #[test]
    fn pauses_grow_and_differ() {
        let of = |order| (1..4).map(move |nth| pause(order, nth));
        assert!(
            of(1)
                .zip([1, 2, 4])
                .all(|(pause, most)| pause <= BASE * most)
        );
        assert_ne!(of(1).collect::<Vec<_>>(), of(2).collect::<Vec<_>>());
    }
}
