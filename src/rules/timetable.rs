//! When an enabled rule or partition acts: windows of time, and how they begin and end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{Instant, Timestamp};
use crate::units::format_duration;

/// When the first window opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// This long after it was enabled.
    After(Duration),
    /// At this moment of the wall clock. One that has passed counts: the windows are where they
    /// would be had it been enabled then.
    At(Timestamp),
}

/// Within an enabled definition's life, the windows in which it acts, as defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// When the first window opens.
    pub at: Start,
    /// How long a window is open; `None`: it never closes.
    pub lasts: Option<Duration>,
    /// From one window's opening to the next; `None`: there is one. At least `lasts`.
    pub every: Option<Duration>,
    /// Over this time from a window's opening the chance rises from 0 to the rule's probability.
    pub ramp_up: Duration,
    /// Over this time before a window's end it falls back to 0.
    pub ramp_down: Duration,
}

/// A timetable from the moment when its definition was enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    first: Instant,
    lasts: Option<Duration>,
    every: Option<Duration>,
    ramps: [Duration; 2],
}

/// One window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    opens: Instant,
    closes: Option<Instant>,
    ramps: [Duration; 2],
}

impl Timetable {
    /// As in the file; what is at its default is left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let time = |time: Duration| json!(format_duration(time));
        let some = |d: Duration| (!d.is_zero()).then(|| time(d));
        let at = match self.at {
            Start::After(d) => some(d),
            Start::At(moment) => Some(json!(moment)),
        };
        let keys = [
            ("at", at),
            ("for", self.lasts.map(time)),
            ("every", self.every.map(time)),
            ("ramp_up", some(self.ramp_up)),
            ("ramp_down", some(self.ramp_down)),
        ];
        let keys = keys.into_iter();
        keys.filter_map(|(key, said)| Some((key, said?))).collect()
    }

    /// Its windows, where it was enabled at `moment`, when the wall clock said `wall`.
    #[must_use]
    pub fn from(&self, moment: Instant, wall: Timestamp) -> Windows {
        let first = match self.at {
            Start::After(time) => moment.checked_add(time).unwrap_or(moment),
            Start::At(at) if at >= wall => moment.checked_add(at.since(wall)).unwrap_or(moment),
            Start::At(at) => {
                let ago = wall.since(at);
                // What lies whole periods back tells nothing more.
                let ago = match self.every {
                    Some(every) => remainder(ago, every),
                    None => ago,
                };
                moment.checked_sub(ago).unwrap_or(moment)
            }
        };
        Windows {
            first,
            lasts: self.lasts,
            every: self.every,
            ramps: [self.ramp_up, self.ramp_down],
        }
    }
}

fn remainder(time: Duration, every: Duration) -> Duration {
    let rest = time.as_nanos().checked_rem(every.as_nanos());
    Duration::from_nanos(rest.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}

impl Windows {
    /// The window that is open at `now`, and when that will next change.
    #[must_use]
    pub fn at(&self, now: Instant) -> (Option<Window>, Option<Instant>) {
        if now < self.first {
            return (None, Some(self.first));
        }
        let into = match self.every {
            Some(every) => remainder(now - self.first, every),
            None => now - self.first,
        };
        let opens = now.checked_sub(into).unwrap_or(self.first);
        let closes = self.lasts.and_then(|lasts| opens.checked_add(lasts));
        if closes.is_none_or(|closes| now < closes) {
            let window = Window {
                opens,
                closes,
                ramps: self.ramps,
            };
            return (Some(window), closes);
        }
        (None, self.every.and_then(|every| opens.checked_add(every)))
    }
}

impl Window {
    /// What the probability is multiplied with at `now`: 1 but within its ramps.
    #[must_use]
    pub fn share(&self, now: Instant) -> f64 {
        let [up, down] = self.ramps;
        let share = |passed: Duration, whole: Duration| {
            if whole.is_zero() {
                return 1.0;
            }
            (passed.as_secs_f64() / whole.as_secs_f64()).min(1.0)
        };
        let risen = share(now.saturating_duration_since(self.opens), up);
        let left = self.closes.map(|at| at.saturating_duration_since(now));
        risen.min(left.map_or(1.0, |left| share(left, down)))
    }

    /// Whether the chance is the same throughout.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        self.ramps == [Duration::ZERO; 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timetable(at: Start, lasts: u32, every: u32) -> Timetable {
        let time = |n: u32| (n > 0).then_some(SECOND * n);
        Timetable {
            at,
            lasts: time(lasts),
            every: time(every),
            ramp_up: Duration::ZERO,
            ramp_down: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn windows_open_and_close_again_and_again() {
        let (t0, wall) = (clock::now(), Timestamp(1_000_000_000));
        let windows = timetable(Start::After(SECOND * 10), 20, 60).from(t0, wall);
        for (second, open, next) in [
            (0, false, Some(10)),
            (10, true, Some(30)),
            (29, true, Some(30)),
            (30, false, Some(70)),
            (70, true, Some(90)),
            (6010, true, Some(6030)),
        ] {
            let (window, change) = windows.at(t0 + SECOND * second);
            assert_eq!(window.is_some(), open, "{second}");
            assert_eq!(change, next.map(|n| t0 + SECOND * n), "{second}");
        }
    }

    #[tokio::test]
    async fn once_and_for_ever() {
        let (t0, wall) = (clock::now(), Timestamp(1_000_000_000));
        let once = timetable(Start::After(SECOND), 1, 0).from(t0, wall);
        assert_eq!(once.at(t0 + SECOND * 2), (None, None));
        let open_end = timetable(Start::After(SECOND), 0, 0).from(t0, wall);
        let (window, next) = open_end.at(t0 + SECOND * 1_000_000);
        assert!(window.is_some() && next.is_none());
    }

    #[tokio::test]
    async fn a_moment_of_the_wall_clock_may_be_past() {
        let (t0, wall) = (clock::now(), Timestamp(1_000_000_000));
        let at =
            |seconds: i64| Start::At(Timestamp(wall.0.saturating_add_signed(seconds * 1_000_000)));
        let soon = timetable(at(5), 1, 0).from(t0, wall);
        assert_eq!(soon.at(t0).1, Some(t0 + SECOND * 5));
        // Opened 130 s ago, every 60: 10 s into the third.
        let past = timetable(at(-130), 20, 60).from(t0, wall);
        let (window, next) = past.at(t0);
        assert!(window.is_some());
        assert_eq!(next, Some(t0 + SECOND * 10));
    }

    #[tokio::test]
    async fn ramps_rise_and_fall() {
        let t0 = clock::now();
        let mut table = timetable(Start::After(Duration::ZERO), 100, 0);
        (table.ramp_up, table.ramp_down) = (SECOND * 10, SECOND * 20);
        let window = table.from(t0, Timestamp(0)).at(t0).0.unwrap();
        for (second, share) in [
            (0, 0.0),
            (5, 0.5),
            (10, 1.0),
            (80, 1.0),
            (90, 0.5),
            (100, 0.0),
        ] {
            assert_eq!(window.share(t0 + SECOND * second), share, "{second}");
        }
    }

    proptest! {
        /// Whatever the numbers: no panic, a change is never in the past, and a window that is open
        /// holds the moment.
        #[test]
        fn the_next_change_is_ahead(
            at in 0u64..u64::MAX, lasts in 1u64..u64::MAX, more in 0u64..u64::MAX,
            again: bool, now in 0u64..1 << 50,
        ) {
            let t0 = clock::now();
            let lasts = Duration::from_nanos(lasts);
            let every = again.then(|| lasts.saturating_add(Duration::from_nanos(more)));
            let table = Timetable {
                at: Start::After(Duration::from_nanos(at)),
                lasts: Some(lasts), every,
                ramp_up: lasts / 2, ramp_down: lasts / 3,
            };
            let now = t0 + Duration::from_nanos(now);
            let (window, next) = table.from(t0, Timestamp(0)).at(now);
            prop_assert!(next.is_none_or(|next| next > now));
            if let Some(window) = window {
                prop_assert!((0.0..=1.0).contains(&window.share(now)));
                prop_assert!(window.opens <= now && window.closes.is_none_or(|end| now < end));
            }
        }
    }
}
