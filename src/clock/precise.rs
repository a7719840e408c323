//! The last stretch of a wait: one heap of deadlines per runtime, on a timerfd.
//!
//! tokio's timer counts whole milliseconds. A timerfd among the runtime's own sockets fires within
//! tens of microseconds where the machine is busy, and wakes the waiting task on the thread that sees
//! it. A processor that has fallen asleep takes a hundred more to wake: so it is woken that much
//! before, and the rest of the time goes to whatever else the runtime has to do.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

use super::{Instant, now};

/// How long before a deadline a thread is woken that may have fallen asleep.
const AHEAD: Duration = Duration::from_micros(200);

/// For how long a thread has nothing due that may fall asleep: so that a quarter of its time at most is
/// spent awake for nothing, and that only while something is delayed.
const ASLEEP: Duration = Duration::from_micros(800);

/// A task that waits, ordered by its deadline.
struct Waiting {
    deadline: Instant,
    waker: Waker,
    /// Moments count.
    exact: bool,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.deadline == other.deadline
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.deadline.cmp(&other.deadline)
    }
}

/// The deadlines of one runtime.
struct Driver {
    timer: AsyncFd<OwnedFd>,
    waiting: Mutex<Deadlines>,
}

#[derive(Default)]
struct Deadlines {
    heap: BinaryHeap<Reverse<Waiting>>,
    /// The timer was set to fire ahead of the first of them.
    ahead: bool,
}

/// Who is due, and what to do for those who are not.
struct Due {
    wakers: Vec<Waker>,
    /// The next is due within moments: to be asked again instead of waited for.
    soon: bool,
}

/// The drivers of all runtimes that live.
static DRIVERS: LazyLock<Mutex<HashMap<Id, Weak<Driver>>>> = LazyLock::new(Mutex::default);

thread_local! {
    /// The driver of the runtime that this thread last worked for.
    static LAST: RefCell<Option<(Id, Weak<Driver>)>> = const { RefCell::new(None) };
}

/// Wakes the task at `deadline`, not before, and soon after; `exact`: as soon as can be. Answers `false`
/// where the system has no such timer; the caller then has to wait by other means.
pub(super) fn wake_at(deadline: Instant, waker: &Waker, exact: bool) -> bool {
    let waiting = Waiting {
        deadline,
        waker: waker.clone(),
        exact,
    };
    driver().is_some_and(|driver| driver.add(waiting).is_ok())
}

/// Makes the timer of this runtime, if it has none.
pub(super) fn warm_up() {
    drop(driver());
}

fn driver() -> Option<Arc<Driver>> {
    let runtime = Handle::try_current().ok()?;
    let known = LAST.with_borrow(|last| match last {
        Some((id, driver)) if *id == runtime.id() => driver.upgrade(),
        _ => None,
    });
    known.or_else(|| {
        let driver = Driver::of(&runtime)?;
        LAST.set(Some((runtime.id(), Arc::downgrade(&driver))));
        Some(driver)
    })
}

impl Driver {
    fn of(runtime: &Handle) -> Option<Arc<Self>> {
        let mut drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = drivers.get(&runtime.id()).and_then(Weak::upgrade) {
            return Some(driver);
        }
        drivers.retain(|_, driver| driver.strong_count() > 0);
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        let driver = Arc::new(Self {
            timer: register(timer).ok()?,
            waiting: Mutex::default(),
        });
        drivers.insert(runtime.id(), Arc::downgrade(&driver));
        runtime.spawn(Arc::clone(&driver).run());
        Some(driver)
    }

    fn waiting(&self) -> MutexGuard<'_, Deadlines> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, new: Waiting) -> io::Result<()> {
        let mut waiting = self.waiting();
        let next = waiting.heap.peek();
        let first = next.is_none_or(|Reverse(next)| new < *next);
        waiting.heap.push(Reverse(new));
        if first {
            self.arm(&mut waiting)
        } else {
            Ok(())
        }
    }

    /// Sets the timer for the first of them.
    fn arm(&self, waiting: &mut Deadlines) -> io::Result<()> {
        let Some(Reverse(first)) = waiting.heap.peek() else {
            return Ok(());
        };
        let mut left = first.deadline.saturating_duration_since(now());
        waiting.ahead = first.exact && left >= ASLEEP;
        if waiting.ahead {
            left -= AHEAD;
        }
        // A time of zero would disarm it.
        let left = left.max(Duration::from_nanos(1));
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let time = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            },
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &time)?;
        Ok(())
    }

    /// Wakes who is due, as long as the runtime lives.
    async fn run(self: Arc<Self>) {
        loop {
            let Ok(mut fired) = self.timer.readable().await else {
                return;
            };
            let mut count = [0; 8];
            let _ = fired.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut count)?));
            loop {
                let due = self.due();
                due.wakers.into_iter().for_each(Waker::wake);
                if !due.soon {
                    break;
                }
                // Everyone else has a turn, sockets too.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes out who is due, and arms for who is next.
    fn due(&self) -> Due {
        let mut due = Due {
            wakers: Vec::new(),
            soon: false,
        };
        let waiting = &mut *self.waiting();
        while let Some(Reverse(next)) = waiting.heap.peek() {
            let now = now();
            if next.deadline <= now {
                waiting.ahead = false;
                let first = waiting.heap.pop();
                due.wakers.extend(first.map(|Reverse(first)| first.waker));
                continue;
            }
            due.soon = waiting.ahead && next.deadline <= now + AHEAD;
            if !due.soon {
                // Refused only for a broken timer; the callers' other timer serves then.
                let _ = self.arm(waiting);
            }
            break;
        }
        due
    }
}

/// Puts a timer among the runtime's sockets.
#[allow(unsafe_code)]
fn register(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the `AsyncFd`, which never gives it up: it is closed only
    // after it was taken off the runtime's poll.
    let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
    timer.map_err(io::Error::from)
}
