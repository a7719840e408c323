//! Software that people run, through a TCP proxy while faults come and go: its own counts and
//! checks say whether a byte was lost, and its own errors what a fault is to it.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firedrill::evidence::{Cause, Class, Outcome, Record};
use serde_json::{Value, json};

use support::process::{Ended, Firedrill, Process, eventually, output, program};
use support::programs::*;
use support::until;

/// How long a fault is left on, so that it is felt.
const FELT: Duration = Duration::from_millis(50);

/// Starts a program whose output is kept.
fn begin(command: &mut Command) -> Process {
    Process::spawn(command.stdout(Stdio::piped()))
}

/// Defines rules that are off, each with its kind's name.
async fn define(firedrill: &Firedrill, faults: Value) -> Vec<String> {
    let faults = faults.as_object().unwrap();
    for (kind, params) in faults {
        let rule = json!({"name": kind, "enabled": false, "fault": { kind: params }});
        firedrill.api.create_rule(&rule).await.unwrap();
    }
    faults.keys().cloned().collect()
}

async fn switch(firedrill: &Firedrill, rule: &str, on: bool) {
    let keys = json!({ "enabled": on });
    firedrill.api.patch_rule(rule, &keys).await.unwrap();
}

async fn passed(firedrill: &Firedrill) -> u64 {
    firedrill.metric("firedrill_bytes_total", &[]).await
}

/// Switches these faults on and off in turn for as long as a program runs. All that is recorded of
/// them is counted.
async fn toggled(firedrill: &Firedrill, faults: Value, mut program: Process) -> Ended {
    let rules = define(firedrill, faults).await;
    let limit = Instant::now() + Duration::from_secs(60);
    let mut toggles = 0;
    while program.ended().is_none() {
        let rule = &rules[toggles % rules.len()];
        switch(firedrill, rule, true).await;
        tokio::time::sleep(FELT).await;
        switch(firedrill, rule, false).await;
        toggles += 1;
        let before = passed(firedrill).await;
        while program.ended().is_none() && passed(firedrill).await == before {}
        assert!(
            Instant::now() < limit,
            "it does not end: {}",
            program.said()
        );
    }
    let ended = program.finish().await;
    firedrill.quiet().await;
    account(firedrill, &rules).await;
    for rule in &rules {
        assert!(firedrill.rule(rule).await.standing.injected > 0, "{rule}");
    }
    println!("{toggles} times a fault was switched on and off; {ended:?}");
    assert!(toggles >= 3 * rules.len(), "{toggles} of {rules:?}");
    ended
}

/// Each fault that was injected has one record and one count.
async fn account(firedrill: &Firedrill, rules: &[String]) {
    let records = firedrill.records().await;
    for rule in rules {
        let faults = records.iter().flat_map(|r| &r.faults);
        let faults = faults.filter(|f| *f.rule == **rule && f.injected).count() as u64;
        assert_eq!(
            firedrill.rule(rule).await.standing.injected,
            faults,
            "{rule}"
        );
        let labels = [&*format!("rule=\"{rule}\"")];
        let counted = firedrill.metric("firedrill_faults_injected_total", &labels);
        assert_eq!(counted.await, faults, "{rule}");
    }
}

/// The number that stands right behind some words.
fn number(text: &str, words: &str) -> u64 {
    let at = text
        .rfind(words)
        .unwrap_or_else(|| panic!("no `{words}` in {text}"))
        + words.len();
    let digits = text[at..].trim_start();
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().unwrap()
}

/// Connections of redis-benchmark.
const CLIENTS: u64 = 20;

fn redis_benchmark(addr: SocketAddr, requests: u64) -> Command {
    let mut command = program("redis-benchmark", "redis-tools");
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    command.args(["-h", &host, "-p", &port, "-c", &CLIENTS.to_string()]);
    command.args(["--csv", "-n", &requests.to_string(), "INCR", "counter"]);
    command
}

async fn counter(redis: &Program) -> u64 {
    let got = output(redis_cli(redis.addr, &["GET", "counter"])).await;
    text(&got).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_benchmark_keeps_its_counts() {
    const REQUESTS: u64 = 30_000;
    let redis = Program::redis().await;
    let (firedrill, addr) = proxy(redis.addr, "tcp", "").await;
    let faults = json!({
        "delay": {"latency": "10ms", "jitter": "5ms"},
        "slice": {"size": "7B", "variation": "5B", "gap": "1ms"},
    });
    let ended = toggled(
        &firedrill,
        faults,
        begin(&mut redis_benchmark(addr, REQUESTS)),
    )
    .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(counter(&redis).await, REQUESTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_benchmark_is_told_of_a_reset() {
    let redis = Program::redis().await;
    let (firedrill, addr) = proxy(redis.addr, "tcp", "").await;
    let mut benchmark = begin(&mut redis_benchmark(addr, 10_000_000));
    eventually("it is at work", async || {
        (passed(&firedrill).await > 100_000).then_some(())
    })
    .await;
    // All shall wait for an answer: whom it meets while it writes, it leaves out in silence.
    let hold = ["inject", "p", "delay", "latency=1h", "--name", "hold"];
    let hold = [&hold[..], &["--direction", "downstream"]].concat();
    firedrill.stdout(&hold).await;
    eventually("all wait", async || {
        (firedrill.rule("hold").await.standing.injected == CLIENTS).then_some(())
    })
    .await;
    let done = counter(&redis).await;
    assert_eq!(benchmark.ended(), None);
    let cut = ["inject", "p", "reset", "--name", "cut"];
    firedrill.stdout(&cut).await;
    let ended = benchmark.finish().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.log.contains("Connection reset by peer"), "{ended:?}");
    firedrill.quiet().await;
    account(&firedrill, &["hold".to_owned(), "cut".to_owned()]).await;
    // Each had one counted of which it was not told.
    assert_eq!(counter(&redis).await, done);
    let records = firedrill.records().await;
    let unseen = records.iter().filter(|r| r.class == Class::Unseen);
    assert_eq!(unseen.count() as u64, CLIENTS);
}

fn pgbench(addr: SocketAddr, args: &[&str]) -> Command {
    let mut command = postgres_client("pgbench", addr);
    command.args(args).arg("postgres");
    command
}

async fn query(postgres: &Program, query: &str) -> String {
    let asked = output(psql(postgres.addr, &["-c", query])).await;
    assert!(asked.status.success(), "{asked:?}");
    text(&asked)
}

/// How many transactions of pgbench the database has.
async fn committed(postgres: &Program) -> u64 {
    let count = query(postgres, "SELECT count(*) FROM pgbench_history").await;
    count.parse().unwrap()
}

async fn pgbench_database() -> Program {
    let postgres = Program::postgres().await;
    let made = output(pgbench(postgres.addr, &["-i", "-q", "-s", "8"])).await;
    assert!(made.status.success(), "{made:?}");
    postgres
}

const TRANSACTIONS: &str = "number of transactions actually processed:";

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_and_the_database_agree() {
    let postgres = pgbench_database().await;
    let (firedrill, addr) = proxy(postgres.addr, "tcp", "").await;
    let faults = json!({
        "delay": {"latency": "5ms", "jitter": "3ms"},
        "bandwidth": {"rate": "20KB/s"},
        "slice": {"size": "20B", "variation": "19B", "gap": "1ms"},
    });
    let bench = begin(&mut pgbench(addr, &["-n", "-c", "8", "-j", "2", "-T", "4"]));
    let ended = toggled(&firedrill, faults, bench).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told = number(&ended.said, TRANSACTIONS);
    assert!(told > 0);
    assert_eq!(number(&ended.said, "number of failed transactions:"), 0);
    assert_eq!(committed(&postgres).await, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_is_told_of_resets_and_of_no_more_than_was_committed() {
    const CUT: u64 = 3;
    let postgres = pgbench_database().await;
    let (firedrill, addr) = proxy(postgres.addr, "tcp", "").await;
    let bench = begin(&mut pgbench(addr, &["-n", "-c", "8", "-j", "2", "-T", "3"]));
    eventually("it is at work", async || {
        (committed(&postgres).await > 100).then_some(())
    })
    .await;
    firedrill
        .stdout(&[
            "inject",
            "p",
            "reset",
            "--limit",
            &CUT.to_string(),
            "--name",
            "cut",
        ])
        .await;
    let ended = bench.finish().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(
        ended.log.matches(" aborted in command ").count() as u64,
        CUT,
        "{ended:?}"
    );
    assert!(ended.log.contains("Run was aborted"), "{ended:?}");
    firedrill.quiet().await;
    account(&firedrill, &["cut".to_owned()]).await;
    // Those who were cut off may have committed one of which they were not told, and the records
    // know who they are.
    let told = number(&ended.said, TRANSACTIONS);
    let done = committed(&postgres).await;
    let records = firedrill.records().await;
    let cut = records.iter().filter(|r| !r.faults.is_empty());
    assert_eq!(cut.clone().count() as u64, CUT);
    let in_doubt = |r: &&Record| matches!(r.class, Class::Unknown | Class::Unseen);
    let doubts = cut.filter(in_doubt).count() as u64;
    println!("{told} were told, {done} are done, {doubts} of {CUT} in doubt");
    assert!((told..=told + doubts).contains(&done));
}

/// `psql` with a transaction that it has done all for but to commit it.
async fn ready(addr: SocketAddr) -> Process {
    let mut psql = psql(addr, &["-v", "ON_ERROR_STOP=1"]);
    psql.stdin(Stdio::piped());
    let mut psql = begin(&mut psql);
    psql.tell("BEGIN; INSERT INTO t VALUES (1); SELECT 'ready';");
    until("it is ready", || {
        psql.said().contains("ready").then_some(())
    })
    .await;
    psql
}

/// What the table has, asked behind the proxy's back, once it has anything.
async fn row(postgres: &Program) -> String {
    eventually("it is committed", async || {
        let rows = query(postgres, "SELECT n FROM t").await;
        (!rows.is_empty()).then_some(rows)
    })
    .await
}

/// The end of a `psql` that has lost its connection, and the record of that.
async fn lost(firedrill: &Firedrill, psql: Process, says: &str) -> Record {
    let ended = psql.finish().await;
    // Its own code for it.
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.log.contains(says), "{ended:?}");
    assert!(!ended.said.contains("done"), "{ended:?}");
    firedrill.quiet().await;
    firedrill.closed(1).await.remove(0)
}

/// The point of it all: it was done, the caller was told that it failed, and the record knows.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_and_not_told() {
    let postgres = Program::postgres().await;
    // A commit takes the time that is said in the table.
    for made in [
        "CREATE TABLE t (n int)",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_sleep((SELECT seconds FROM takes)); RETURN NULL; END'",
        "CREATE TABLE takes AS SELECT 0 AS seconds",
        "CREATE CONSTRAINT TRIGGER r AFTER INSERT ON t INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION f()",
    ] {
        query(&postgres, made).await;
    }
    let proxied = async || proxy(postgres.addr, "tcp", "").await;
    let inject = async |firedrill: &Firedrill, fault: &[&str]| {
        firedrill.stdout(&[&["inject", "p"], fault].concat()).await;
    };
    let forget = async || drop(query(&postgres, "TRUNCATE t").await);

    // The answer is given, and told.
    let (firedrill, addr) = proxied().await;
    let mut psql = ready(addr).await;
    psql.tell("COMMIT; SELECT 'done'; \\q");
    let ended = psql.finish().await;
    assert_eq!((ended.code, &*ended.said), (Some(0), "ready\ndone\n"));
    let record = firedrill.closed(1).await.remove(0);
    assert_eq!(record.class, Class::Acknowledged);
    assert_eq!(row(&postgres).await, "1");
    forget().await;

    // The answer is lost.
    let (firedrill, addr) = proxied().await;
    let mut psql = ready(addr).await;
    inject(&firedrill, &["response_loss", "--name", "lost"]).await;
    psql.tell("COMMIT; SELECT 'done';");
    assert_eq!(row(&postgres).await, "1");
    firedrill.stdout(&["heal"]).await;
    let says = "server closed the connection unexpectedly";
    let record = lost(&firedrill, psql, says).await;
    assert_eq!(
        (record.class, record.cause, record.client.outcome),
        (Class::Unseen, Cause::Rule("lost".into()), Outcome::Partial)
    );
    forget().await;

    // The answer is there, and a reset comes first.
    let (firedrill, addr) = proxied().await;
    let mut psql = ready(addr).await;
    let hold = ["delay", "latency=1h", "--direction", "downstream"];
    inject(&firedrill, &[&hold[..], &["--name", "hold"]].concat()).await;
    psql.tell("COMMIT; SELECT 'done';");
    assert_eq!(row(&postgres).await, "1");
    inject(&firedrill, &["reset", "--name", "cut"]).await;
    let record = lost(&firedrill, psql, "server closed the connection").await;
    assert_eq!(record.class, Class::Unseen, "{record:?}");
    assert_eq!(record.client.outcome, Outcome::Partial);
    forget().await;

    // A reset comes while it is being done: no answer was seen, and it will be done.
    let (firedrill, addr) = proxied().await;
    let mut psql = ready(addr).await;
    query(&postgres, "UPDATE takes SET seconds = 1").await;
    psql.tell("COMMIT; SELECT 'done';");
    eventually("it is being done", async || {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        (query(&postgres, busy).await == "1").then_some(())
    })
    .await;
    inject(&firedrill, &["reset", "--name", "cut"]).await;
    let record = lost(&firedrill, psql, "server closed the connection").await;
    assert_eq!(row(&postgres).await, "1");
    assert_eq!(
        (record.class, record.cause, record.client.outcome),
        (Class::Unknown, Cause::Rule("cut".into()), Outcome::Partial)
    );
}

/// MB/s of each of iperf3's intervals so far, all streams together.
fn intervals(said: &str, streams: usize) -> Vec<f64> {
    let which = if streams > 1 { "[SUM]" } else { "[" };
    let is_total = |line: &str| line.ends_with("sender") || line.ends_with("receiver");
    let reports = said
        .lines()
        .filter(|l| l.starts_with(which) && !is_total(l));
    let rates = reports.filter_map(|line| {
        let (before, _) = line.split_once(" MBytes/sec")?;
        before.rsplit(' ').next()?.parse().ok()
    });
    rates.collect()
}

/// Bulk at full speed, then at the speed of a fault, then at full speed again.
async fn iperf3_feels_a_bandwidth(way: &[&str], streams: usize) {
    /// MB/s of each stream, and intervals in a second.
    const RATE: usize = 4;
    const SECOND: usize = 4;
    let server = Program::iperf3().await;
    let (firedrill, addr) = proxy(server.addr, "tcp", "").await;
    let mut iperf3 = program("iperf3", "iperf3");
    let port = addr.port().to_string();
    iperf3.args(["-c", "127.0.0.1", "-p", &port, "-f", "M", "--forceflush"]);
    iperf3.args(["-t", "6", "-i", "0.25"]);
    let iperf3 = begin(iperf3.args(way));
    // The first second of its reports, from one of them on, that is so; they come in lumps.
    let second = async |from: usize, what: &str, holds: &dyn Fn(f64) -> bool| {
        until(what, || {
            let rates = intervals(&iperf3.said(), streams);
            let mut seconds = rates.get(from..)?.windows(SECOND);
            let found = seconds.position(|of| holds(of.iter().sum::<f64>() / SECOND as f64))?;
            Some(from + found + SECOND)
        })
        .await
    };
    let limit = (RATE * streams) as f64;
    let at = second(0, "it is fast", &|rate| rate > 5.0 * limit).await;
    let faults = json!({ "bandwidth": { "rate": format!("{RATE}MB/s") } });
    let rules = define(&firedrill, faults).await;
    switch(&firedrill, &rules[0], true).await;
    // What stands in the sockets' buffers still counts as sent.
    let at = second(at, "it is slow", &|rate| rate < 2.0 * limit).await;
    switch(&firedrill, &rules[0], false).await;
    second(at, "it is fast again", &|rate| rate > 5.0 * limit).await;
    let ended = iperf3.finish().await;
    println!("{way:?} {:?} MB/s", intervals(&ended.said, streams));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.said.contains("iperf Done."), "{ended:?}");
    firedrill.quiet().await;
    account(&firedrill, &rules).await;
    // One more, over which it talks about the test.
    assert_eq!(firedrill.closed(streams + 1).await.len(), streams + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn iperf3_feels_a_bandwidth_and_ends_cleanly() {
    tokio::join!(
        iperf3_feels_a_bandwidth(&[], 1),
        iperf3_feels_a_bandwidth(&["-R"], 1),
        iperf3_feels_a_bandwidth(&["-P", "4"], 4),
    );
}

/// A tree of files small and large, some sixty megabytes in all.
fn plant(root: &Path) {
    let noise = noise(8 << 20);
    for n in 0..200 {
        let dir = root.join(format!("small/{}", n % 7));
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            dir.join(format!("{n}.bin")),
            &noise[n * 1000..n * 1000 + n * n],
        )
        .unwrap();
    }
    for n in 0..8 {
        let large = root.join(format!("large-{n}.bin"));
        fs::write(&large, &noise[n * 1000..]).unwrap();
        fs::set_permissions(&large, Permissions::from_mode(0o600 + n as u32)).unwrap();
    }
    fs::create_dir(root.join("empty")).unwrap();
    symlink("../large-0.bin", root.join("small/link")).unwrap();
}

/// All that is in a tree: modes, and what is in files and links.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
            let content = match fs::read_link(&path) {
                Ok(target) => target.into_os_string().into_encoded_bytes(),
                Err(_) if path.is_dir() => {
                    dirs.push(path.clone());
                    Vec::new()
                }
                Err(_) => fs::read(&path).unwrap(),
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            all.insert(name, (mode, content));
        }
    }
    all
}

/// A server, a proxy before it, and a tree on this side.
struct Remote {
    sshd: Program,
    firedrill: Firedrill,
    port: u16,
}

impl Remote {
    async fn start() -> Self {
        let sshd = Program::sshd().await;
        let (firedrill, addr) = proxy(sshd.addr, "tcp", "").await;
        fs::create_dir(sshd.dir.path().join("here")).unwrap();
        plant(&sshd.dir.path().join("here"));
        let port = addr.port();
        Self {
            sshd,
            firedrill,
            port,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sshd.dir.path().join(name)
    }

    /// How to call `ssh` to get there, without what users have set.
    fn ssh(&self) -> Vec<String> {
        let ssh = program("ssh", "openssh-client");
        let key = self.path("key");
        let mut words = vec![ssh.get_program().to_str().unwrap().to_owned()];
        words.extend(["-F", "none", "-i", key.to_str().unwrap()].map(str::to_owned));
        words.extend(["-p", &self.port.to_string()].map(str::to_owned));
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=INFO",
        ] {
            words.extend(["-o", option].map(str::to_owned));
        }
        words
    }

    /// Brings the tree `here` to the directory `there` on the server.
    fn rsync(&self) -> Command {
        let mut rsync = program("rsync", "rsync");
        rsync.args(["-a", "-e", &self.ssh().join(" ")]);
        let there = format!("127.0.0.1:{}/", self.path("there").display());
        rsync
            .arg(format!("{}/", self.path("here").display()))
            .arg(there);
        rsync
    }

    fn is_there(&self) -> bool {
        let [here, there] = ["here", "there"].map(|name| tree(&self.path(name)));
        assert!(here.len() > 200);
        here == there
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_over_ssh_brings_the_same_tree() {
    let remote = Remote::start().await;
    let faults = json!({
        "delay": {"latency": "20ms", "jitter": "20ms"},
        "bandwidth": {"rate": "5MB/s"},
        "slice": {"size": "1000B", "variation": "1000B"},
    });
    let rsync = begin(&mut remote.rsync());
    let ended = toggled(&remote.firedrill, faults, rsync).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(remote.is_there());
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_is_told_of_a_reset_and_a_second_run_completes() {
    let remote = Remote::start().await;
    let firedrill = &remote.firedrill;
    firedrill
        .stdout(&["inject", "p", "bandwidth", "rate=10MB/s", "--name", "slow"])
        .await;
    let rsync = begin(&mut remote.rsync());
    eventually("a part of it is there", async || {
        (passed(firedrill).await > 5_000_000).then_some(())
    })
    .await;
    firedrill
        .stdout(&["inject", "p", "reset", "--name", "cut"])
        .await;
    let ended = rsync.finish().await;
    // Its codes for a broken socket and a broken stream, or ssh's own.
    assert!([10, 12, 255].contains(&ended.code.unwrap()), "{ended:?}");
    assert!(ended.log.contains("rsync error"), "{ended:?}");
    println!("{ended:?}");
    firedrill.quiet().await;
    account(firedrill, &["slow".to_owned(), "cut".to_owned()]).await;
    assert!(!remote.is_there());
    firedrill.stdout(&["heal"]).await;
    let again = begin(&mut remote.rsync()).finish().await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(remote.is_there());
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_notices_a_byte_that_was_changed() {
    let remote = Remote::start().await;
    let firedrill = &remote.firedrill;
    firedrill
        .stdout(&["inject", "p", "bandwidth", "rate=10MB/s", "--name", "slow"])
        .await;
    let words = remote.ssh();
    let mut ssh = Command::new(&words[0]);
    ssh.args(&words[1..]).arg("127.0.0.1").stdin(Stdio::null());
    ssh.arg(format!(
        "base64 {}",
        remote.path("here/large-0.bin").display()
    ));
    let ssh = begin(&mut ssh);
    eventually("a part of it is here", async || {
        (passed(firedrill).await > 1_000_000).then_some(())
    })
    .await;
    firedrill
        .stdout(&[
            "inject",
            "p",
            "corrupt",
            "--direction",
            "downstream",
            "--name",
            "changed",
        ])
        .await;
    let ended = ssh.finish().await;
    println!("{}", ended.log);
    assert_eq!(ended.code, Some(255), "{} {}", ended.said.len(), ended.log);
    let noticed = [
        "message authentication code incorrect",
        "Corrupted MAC",
        "Bad packet length",
    ];
    assert!(
        noticed.iter().any(|words| ended.log.contains(words)),
        "{}",
        ended.log
    );
    firedrill.quiet().await;
    account(firedrill, &["changed".to_owned()]).await;
}
