//! Now, and waiting. Nothing else in the crate reads a clock or sleeps.
//!
//! Waiting is built on tokio's timer, whose virtual clock (`tokio::time::pause`) serves the tests;
//! the last stretch of an [`Alarm`] on a timerfd, which has no virtual clock. A wait is never early.

#[cfg(target_os = "linux")]
mod precise;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on the monotonic clock.
pub type Instant = tokio::time::Instant;

/// The monotonic clock's now.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// How long before `moment` the process first asked: one scale for all who compare moments without
/// having a clock themselves.
#[must_use]
pub fn since_start(moment: Instant) -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    moment.saturating_duration_since(*START.get_or_init(|| moment))
}

/// A moment of the wall clock in microseconds since 1970, printed as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The wall clock's now.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.map_or(0, |d| d.as_micros() as u64))
    }

    /// This moment moved by `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_micros() as u64))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0 as i64) {
            Ok(t) => write!(f, "{t:.6}"),
            Err(_) => write!(f, "{}µs", self.0),
        }
    }
}

/// RFC 3339, in any time zone.
impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed: jiff::Timestamp = text.parse()?;
        Ok(Self(parsed.as_microsecond().max(0) as u64))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Makes the runtime's precise timer now, so that the first wait does not have to, and the process
/// has all its descriptors from the start.
pub fn warm_up() {
    #[cfg(target_os = "linux")]
    precise::warm_up();
}

/// Waits until `deadline`. Cancel-safe.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline).await;
}

/// Waits for `duration`. Cancel-safe.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Gives `future` at most `limit`; `None` when it took longer (it is dropped then).
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

/// How long before a deadline tokio's timer hands over to the precise one.
const LAST_STRETCH: Duration = Duration::from_millis(2);

/// One alarm of a hand-polled state machine: costs nothing until it is first set.
#[derive(Debug, Default)]
pub struct Alarm(Option<Box<Armed>>);

#[derive(Debug)]
struct Armed {
    /// For the long stretch, and for all of it where there is no precise timer.
    coarse: Pin<Box<tokio::time::Sleep>>,
    /// For what the long stretch wakes the task, if it does.
    far: Option<Instant>,
    /// The deadline for which the precise timer was asked.
    asked: Option<Instant>,
}

impl Alarm {
    /// Arranges for the polling task, always the same, to be woken at `deadline`, or says that it has
    /// passed. The last deadline that was polled holds; earlier ones may still wake the task, for nothing.
    /// `exact`: moments count, and a thread may be kept awake for them.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant, exact: bool) -> Poll<()> {
        let is_far = |armed: &Armed| armed.is_far_from(deadline);
        if self.0.as_deref().is_some_and(is_far) {
            return Poll::Pending;
        }
        let now = now();
        if deadline <= now {
            return Poll::Ready(());
        }
        let long = deadline.checked_sub(LAST_STRETCH).filter(|end| *end > now);
        let until = long.unwrap_or(deadline);
        let armed = self.0.get_or_insert_with(|| {
            Box::new(Armed {
                coarse: Box::pin(tokio::time::sleep_until(until)),
                far: None,
                asked: None,
            })
        });
        armed.far = None;
        if long.is_none() && armed.ask_precise(cx, deadline, exact) {
            return Poll::Pending;
        }
        if armed.coarse.deadline() != until {
            armed.coarse.as_mut().reset(until);
        }
        // A task that has had its turn is told to wait, and then no timer will wake it.
        let has_a_turn = tokio::task::coop::has_budget_remaining();
        if armed.coarse.as_mut().poll(cx).is_pending() {
            armed.far = has_a_turn.then_some(deadline);
            return Poll::Pending;
        }
        // The long stretch may have ended just now.
        if until < deadline {
            return self.poll(cx, deadline, exact);
        }
        Poll::Ready(())
    }
}

impl Armed {
    /// Whether it is set for this deadline, and still on the long stretch: without a look at the clock.
    fn is_far_from(&self, deadline: Instant) -> bool {
        self.far == Some(deadline) && !self.coarse.is_elapsed()
    }

    /// Whether the precise timer will wake the task at `deadline`.
    #[cfg(target_os = "linux")]
    fn ask_precise(&mut self, cx: &mut Context<'_>, deadline: Instant, exact: bool) -> bool {
        if self.asked != Some(deadline) && precise::wake_at(deadline, cx.waker(), exact) {
            self.asked = Some(deadline);
        }
        self.asked == Some(deadline)
    }

    #[cfg(not(target_os = "linux"))]
    fn ask_precise(&mut self, _: &mut Context<'_>, _: Instant, _: bool) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc3339_with_microseconds() {
        let t = Timestamp(1_700_000_000_000_042);
        assert_eq!(t.to_string(), "2023-11-14T22:13:20.000042Z");
        let json = serde_json::to_string(&t).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), t);
    }

    #[tokio::test]
    async fn an_alarm_can_be_moved_and_is_never_early() {
        let start = now();
        let mut alarm = Alarm::default();
        let far = start + Duration::from_secs(60);
        let near = start + Duration::from_millis(5);
        std::future::poll_fn(|cx| {
            assert!(alarm.poll(cx, far, false).is_pending());
            alarm.poll(cx, near, true)
        })
        .await;
        assert!(now() >= near && now() < far);
    }

    #[tokio::test]
    async fn a_task_that_has_had_its_turn_is_woken_all_the_same() {
        let deadline = now() + Duration::from_millis(20);
        let mut alarm = Alarm::default();
        let mut turn = 0;
        let waiting = std::future::poll_fn(|cx| {
            turn += 1;
            while turn == 1 && tokio::task::coop::has_budget_remaining() {
                let _ = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx);
            }
            alarm.poll(cx, deadline, false)
        });
        within(Duration::from_secs(10), waiting).await.unwrap();
        assert!(now() >= deadline);
    }
}
