//! The real binary as a process: its API, its command line, its log, its descriptors, its end.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use firedrill::client::{Client, Roots, Trust};
use firedrill::evidence::{Class, Record};
use firedrill::wire::RuleItem;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

use super::{soon, until};

/// A child process that does not outlive the test.
pub struct Process {
    child: Child,
    log: Kept,
    said: Kept,
}

impl Process {
    /// Starts a command; what it says on stderr is kept, and on stdout where that is piped.
    pub fn spawn(command: &mut Command) -> Self {
        let program = command.get_program().to_owned();
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {}: {error}", program.display()));
        Self {
            log: Kept::from(child.stderr.take()),
            said: Kept::from(child.stdout.take()),
            child,
        }
    }

    /// Says a line to it, where its stdin is piped.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on stderr so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// What it has said on stdout so far.
    pub fn said(&self) -> String {
        self.said.text()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its end, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        let what = format!("process {} ends", self.child.id());
        until(&what, || self.ended()).await
    }

    /// Waits for its end, a minute at the most, and for all that it said.
    pub async fn finish(self) -> Ended {
        self.finish_within(60).await
    }

    /// The same, for so many seconds at the most.
    pub async fn finish_within(mut self, seconds: u64) -> Ended {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let is_whole = |kept: &Kept| kept.reading.is_finished();
        loop {
            let ended = self.ended();
            if let Some(status) = ended.filter(|_| is_whole(&self.log) && is_whole(&self.said)) {
                return Ended {
                    code: status.code(),
                    said: self.said(),
                    log: self.log(),
                };
            }
            assert!(Instant::now() < deadline, "{ended:?}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// How a [`Process`] ended, and all that it said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub said: String,
    pub log: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that have come from a pipe.
struct Kept {
    text: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl Kept {
    fn from(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::<Mutex<String>>::default();
        let kept = Arc::clone(&text);
        let reading = thread::spawn(move || {
            let lines = pipe
                .into_iter()
                .flat_map(|pipe| BufReader::new(pipe).lines());
            for line in lines.map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self { text, reading }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

/// The command `firedrill` without what the environment might add.
pub fn firedrill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firedrill"));
    for (name, _) in std::env::vars_os() {
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("FIREDRILL_"));
        if ours || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A program that must be there: one that is not is a failure, not a reason to skip.
pub fn program(name: &str, package: &str) -> Command {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&dirs).collect();
    // Servers often live where only root looks, or where nobody does.
    dirs.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    dirs.extend(versions.map(|entry| entry.unwrap().path().join("bin")));
    let mut found = dirs.into_iter().map(|dir| dir.join(name));
    let path = found.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("this test needs `{name}`: install it (apt-get install {package}), or use tests/run")
    });
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

/// Has a command's clients connect directly, whatever the environment says.
pub fn without_proxies(command: &mut Command) {
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
        command.env_remove(name.to_uppercase());
    }
}

/// Runs a command to its end without keeping this runtime from its work.
pub async fn output(mut command: Command) -> Output {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    soon("a command ends", running).await.unwrap()
}

/// `firedrill serve` with a file, in a directory of its own.
pub struct Firedrill {
    pub process: Process,
    pub url: String,
    pub api: Client,
    /// Open descriptors before anyone had connected.
    pub idle_descriptors: usize,
    dir: TempDir,
}

impl Firedrill {
    /// Starts it on a file; the control port is any free one.
    pub async fn start(yaml: &str) -> Self {
        Self::start_with("", yaml).await
    }

    /// Starts it on a file, and one as Toxiproxy's `-config` has it.
    pub async fn with_toxiproxy(json: &str, yaml: &str) -> Self {
        let dir = Self::dir("", yaml);
        fs::write(dir.path().join("toxiproxy.json"), json).unwrap();
        Self::start_in(dir).await
    }

    /// The same as [`Firedrill::start`], with more settings under `control`.
    pub async fn start_with(control: &str, yaml: &str) -> Self {
        Self::start_in(Self::dir(control, yaml)).await
    }

    fn dir(control: &str, yaml: &str) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("control: {{ listen: 127.0.0.1:0, {control} }}\n{yaml}");
        fs::write(dir.path().join("firedrill.yaml"), text).unwrap();
        dir
    }

    /// Kills it at once, and leaves what it has written.
    pub async fn kill(self) -> TempDir {
        let Self {
            mut process, dir, ..
        } = self;
        process.signal(Signal::KILL);
        process.end().await;
        dir
    }

    /// What it has written, when it has ended.
    pub fn into_dir(self) -> TempDir {
        self.dir
    }

    /// Starts it on `firedrill.yaml` in a directory, and on `toxiproxy.json` if that is there.
    pub async fn start_in(dir: TempDir) -> Self {
        let file = dir.path().join("firedrill.yaml");
        let mut command = firedrill();
        command
            .arg("serve")
            .arg("-c")
            .arg(&file)
            .current_dir(dir.path());
        if dir.path().join("toxiproxy.json").exists() {
            command.args(["--toxiproxy", "toxiproxy.json"]);
        }
        Self::start_by(&mut command, dir).await
    }

    /// Starts it by a command of one's own.
    pub async fn start_by(command: &mut Command, dir: TempDir) -> Self {
        let mut process = Process::spawn(command);
        let url = until("the control API is up", || {
            let log = process.log();
            assert_eq!(process.ended(), None, "{log}");
            let at = log.find("control API on ")? + "control API on ".len();
            let url = log[at..].split(',').next()?.to_owned();
            assert_eq!(process.ended(), None, "{log}");
            Some(url)
        })
        .await;
        let idle_descriptors = descriptors(process.pid());
        let anyone = Trust {
            roots: Roots::Anyone,
            own: None,
        };
        Self {
            process,
            api: Client::trusting(&url, None, anyone).unwrap(),
            url,
            idle_descriptors,
            dir,
        }
    }

    /// From now on it can open no more than so many descriptors.
    pub fn limit_descriptors(&self, free: usize) {
        let pid = self.process.pid();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let open = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse());
        let open: HashSet<u64> = open.map(Result::unwrap).collect();
        // The limit is on their numbers, and those that it was started with may have any.
        let limit = (0..).filter(|n| !open.contains(n)).nth(free);
        let (current, maximum) = (limit, limit);
        let pid = Pid::from_child(&self.process.child);
        prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }

    /// A file in its working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The address that a proxy is really bound to.
    pub async fn proxy(&self, name: &str) -> SocketAddr {
        self.api.proxy(name).await.unwrap().listen.parse().unwrap()
    }

    /// Runs `firedrill` against it, to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        let mut command = firedrill();
        command.args(args).env("FIREDRILL_URL", &self.url);
        output(command).await
    }

    /// Runs `firedrill` against it and answers what it printed.
    pub async fn stdout(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The records, as `firedrill evidence --json` prints them.
    pub async fn records(&self) -> Vec<Record> {
        let lines = self.stdout(&["evidence", "--json"]).await;
        let lines = lines.lines();
        lines.map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// The records, once there are `n` and none is open.
    pub async fn closed(&self, n: usize) -> Vec<Record> {
        eventually(&format!("{n} closed records"), async || {
            let records = self.records().await;
            let open = records.iter().any(|r| r.class == Class::Open);
            (records.len() >= n && !open).then_some(records)
        })
        .await
    }

    pub async fn rule(&self, name: &str) -> RuleItem {
        self.api.rule(name).await.unwrap()
    }

    /// The sum of all series of a metric whose labels contain each of these texts.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.api.metrics().await.unwrap();
        let mut sum = 0.0;
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (found, given) = series.split_once('{').unwrap_or((series, ""));
            if found == name && labels.iter().all(|label| given.contains(label)) {
                sum += value.parse::<f64>().unwrap();
            }
        }
        sum as u64
    }

    /// Waits until every client's connection has ended, and with it every descriptor and record.
    pub async fn quiet(&self) {
        eventually("no open connections", async || {
            (self.metric("firedrill_connections_open", &[]).await == 0).then_some(())
        })
        .await;
        eventually("no open records", async || {
            let open = self
                .stdout(&["evidence", "--class", "open", "--json"])
                .await;
            open.is_empty().then_some(())
        })
        .await;
        let mut now = 0;
        let deadline = Instant::now() + super::PATIENCE;
        while Instant::now() < deadline {
            now = descriptors(self.process.pid());
            if now == self.idle_descriptors {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!(
            "{now} descriptors are open, before there were {}: {:#?}",
            self.idle_descriptors,
            open_files(self.process.pid())
        );
    }
}

/// Waits until an asynchronous condition gives something.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, waiting).await
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    open_files(pid).len()
}

/// What they are.
fn open_files(pid: u32) -> Vec<PathBuf> {
    let open = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap();
    // One may close while this looks.
    open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect()
}
