//! Callers with habits that only they know, by backon, as those in
//! tests/python/retries.py.
//!
//! `retries ADDRESS HABIT SEED`

use std::collections::hash_map::{DefaultHasher, HashMap, RandomState};
use std::hash::{BuildHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, BlockingRetryable, ConstantBuilder, ExponentialBuilder};
use reqwest::blocking::Client;

/// SplitMix64, begun with a hash of the words.
struct Drawn(u64);

impl Drawn {
    fn of(words: &[String]) -> Self {
        let mut hasher = DefaultHasher::new();
        words.hash(&mut hasher);
        Self(hasher.finish())
    }

    fn from_to(&mut self, from: f64, to: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        from + ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 * (to - from)
    }

    fn pace(&mut self) -> f64 {
        self.from_to(120.0, 180.0)
    }

    fn count(&mut self, from: u32, to: u32) -> usize {
        self.from_to(f64::from(from), f64::from(to) + 1.0) as usize
    }
}

fn unique() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// What was really done, by the caller's own clock, in milliseconds.
#[derive(Default)]
struct Diary {
    /// Of each thing, how often it has failed, and when last.
    failed: HashMap<String, (usize, Instant)>,
    /// Before each retry, by its ordinal.
    waits: Vec<Vec<f64>>,
    /// How long it stayed with what it left.
    stayed: Vec<f64>,
    /// When it was told of refusals, since the attempt.
    heard: Vec<f64>,
}

impl Diary {
    fn begins(&mut self, thing: &str, at: Instant) {
        if let Some((retries, since)) = self.failed.get(thing) {
            self.waits
                .resize_with(self.waits.len().max(*retries), Vec::new);
            self.waits[retries - 1].push(ms(*since, at));
        }
    }

    fn fails(&mut self, thing: &str, begun: Instant, is_timeout: bool) {
        let ended = Instant::now();
        let failed = self.failed.entry(thing.to_owned()).or_insert((0, ended));
        *failed = (failed.0 + 1, ended);
        let took = if is_timeout {
            &mut self.stayed
        } else {
            &mut self.heard
        };
        took.push(ms(begun, ended));
    }

    fn longest(&self) -> f64 {
        self.waits.iter().flatten().copied().fold(0.0, f64::max)
    }
}

fn ms(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64() * 1000.0
}

struct Caller {
    url: String,
    http: Client,
    diary: Mutex<Diary>,
    /// Between one thing and the next, in milliseconds: not all callers shall begin theirs together.
    pace: f64,
}

impl Caller {
    fn new(address: &str, timeout: Option<f64>, pace: f64) -> Self {
        let timeout = timeout.map(|ms| Duration::from_secs_f64(ms / 1000.0));
        Self {
            url: format!("http://{address}"),
            http: Client::builder()
                .timeout(timeout)
                .no_proxy()
                .build()
                .unwrap(),
            diary: Mutex::default(),
            pace,
        }
    }

    /// One attempt at a thing.
    fn post(&self, path: &str, thing: &str) -> Result<(), reqwest::Error> {
        let begun = Instant::now();
        self.diary.lock().unwrap().begins(thing, begun);
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header("idempotency-key", format!("key of {thing}"));
        let sent = request.body(format!("thing {thing}")).send();
        sent.and_then(|answer| answer.error_for_status())
            .map(drop)
            .inspect_err(|error| {
                let mut diary = self.diary.lock().unwrap();
                diary.fails(thing, begun, error.is_timeout());
            })
    }

    /// Does so many things, begun one after the other, each until it is done or given up.
    fn all_together(&self, things: &[(&str, usize)], policy: impl BackoffBuilder + Copy + Sync) {
        thread::scope(|scope| {
            for (path, count) in things {
                for _ in 0..*count {
                    thread::sleep(wait(self.pace));
                    scope.spawn(move || {
                        let thing = unique();
                        let _ = (|| self.post(path, &thing)).retry(policy).call();
                    });
                }
            }
        });
    }

    /// For longer than another retry would be waited for by who knows how the waits grow.
    fn outlive(&self, growth: f64) {
        let longest = self.diary.lock().unwrap().longest();
        self.live_on(2.2 * growth * longest + 1000.0);
    }

    /// Its habits, with what it really did.
    fn tell(&self, habits: &str) -> String {
        let diary = self.diary.lock().unwrap();
        let (waits, stayed, heard) = (&diary.waits, &diary.stayed, &diary.heard);
        format!(r#"{{{habits},"waits":{waits:?},"stayed":{stayed:?},"heard":{heard:?}}}"#)
    }

    /// Goes on with what succeeds.
    fn live_on(&self, ms: f64) {
        let end = Instant::now() + Duration::from_secs_f64(ms / 1000.0);
        while Instant::now() < end {
            let _ = self.post("/good", &unique());
            thread::sleep(Duration::from_millis(400));
        }
    }
}

fn wait(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

fn growing(base: f64, factor: f64, retries: usize) -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(wait(base))
        .with_factor(factor as f32)
        .with_max_times(retries)
}

fn exponential(address: &str, mut drawn: Drawn) -> String {
    let (retries, timeout) = (3, drawn.from_to(600.0, 1000.0));
    let (base, factor) = (drawn.from_to(400.0, 600.0), drawn.from_to(1.7, 2.2));
    let caller = Caller::new(address, Some(timeout), drawn.pace());
    caller.all_together(
        &[("/down", 16), ("/lost", 5)],
        growing(base, factor, retries),
    );
    caller.outlive(factor * 1.1);
    caller.tell(&format!(
        r#""timeout":{timeout},"attempts":{},"spacing":"exponential","base":{base},"factor":{factor},"jitter":false,"unsafe":"no""#,
        retries + 1
    ))
}

/// Up to as much again is added to each wait.
fn exponential_with_jitter(address: &str, mut drawn: Drawn) -> String {
    let (retries, base) = (drawn.count(3, 4), drawn.from_to(200.0, 300.0));
    let caller = Caller::new(address, None, drawn.pace());
    caller.all_together(&[("/down", 24)], growing(base, 2.0, retries).with_jitter());
    caller.outlive(3.0);
    let attempts = retries + 1;
    caller.tell(&format!(
        r#""attempts":{attempts},"spacing":"exponential","jitter":true"#
    ))
}

fn constant(address: &str, mut drawn: Drawn) -> String {
    let (retries, base) = (drawn.count(2, 4), drawn.from_to(450.0, 750.0));
    let caller = Caller::new(address, None, drawn.pace());
    let policy = ConstantBuilder::default()
        .with_delay(wait(base))
        .with_max_times(retries);
    caller.all_together(&[("/throttled", 20)], policy);
    // The server has asked for a second.
    caller.outlive(1.2);
    caller.live_on(1500.0);
    caller.tell(&format!(
        r#""attempts":{},"spacing":"fixed","base":{base},"jitter":false,"obeys":false"#,
        retries + 1
    ))
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (address, habit) = (words[0].as_str(), words[1].as_str());
    println!("ready");
    io::stdout().flush().unwrap();
    io::stdin().read_line(&mut String::new()).unwrap();
    Caller::new(address, None, 0.0).live_on(1000.0);
    let drawn = Drawn::of(&words[1..]);
    let said = match habit {
        "exponential" => exponential(address, drawn),
        "exponential_with_jitter" => exponential_with_jitter(address, drawn),
        "constant" => constant(address, drawn),
        other => panic!("there is no habit `{other}`"),
    };
    println!("{said}");
    io::stdout().flush().unwrap();
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
