//! Commands: run to an end, run until stopped, and undone even if nobody is left to do it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::clock;
use crate::config::drill::CommandLine;

/// The most that is kept of what a command prints: the end of it.
const KEPT: usize = 64 << 10;
/// How long a command may take to end once it is told to.
const END: Duration = Duration::from_secs(5);

/// What commands find in their environment: names and values.
pub type Environment = Vec<(String, String)>;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// What it printed, or the end of that.
    pub stdout: String,
    /// What it said on stderr, or the end of that.
    pub stderr: String,
}

impl Ran {
    /// Whether it says that it did what it should.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.code == Some(0)
    }

    /// How it ended, with its last words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let code = match self.code {
            Some(code) => format!("exit code {code}"),
            None => "ended by a signal".to_owned(),
        };
        let said = [&self.stderr, &self.stdout];
        let last = said
            .iter()
            .filter_map(|text| text.trim().lines().last())
            .next();
        match last {
            Some(last) => format!("{code}: {last}"),
            None => code,
        }
    }
}

fn command(line: &CommandLine, environment: &Environment) -> Option<Command> {
    let (program, words) = line.words.split_first()?;
    let mut command = Command::new(program);
    command
        .args(words)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is for us; we tell them.
        .process_group(0)
        .kill_on_drop(true);
    Some(command)
}

/// Runs a command to its end.
///
/// # Errors
/// It can't be started, or does not end in time; then it is killed, with all that it started.
pub async fn run(line: &CommandLine, environment: &Environment) -> Result<Ran, String> {
    let mut running = Running::start(line, environment)?;
    match clock::within(line.timeout, running.ended()).await {
        Some(ran) => ran,
        None => {
            running.signal(Signal::KILL);
            let timeout = crate::units::format_duration(line.timeout);
            Err(format!("`{line}` did not end within {timeout}"))
        }
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    out: tokio::task::JoinHandle<String>,
    err: tokio::task::JoinHandle<String>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// It can't be.
    pub fn start(line: &CommandLine, environment: &Environment) -> Result<Self, String> {
        let mut command = command(line, environment).ok_or("there is no command")?;
        let child = command.spawn();
        let mut child = child.map_err(|error| format!("`{line}` can't be run: {error}"))?;
        Ok(Self {
            out: tokio::spawn(end_of(child.stdout.take())),
            err: tokio::spawn(end_of(child.stderr.take())),
            child,
            line: line.to_string(),
        })
    }

    /// Waits for its end. What it left running may hold its pipes: that is not waited for.
    ///
    /// # Errors
    /// The system's.
    pub async fn ended(&mut self) -> Result<Ran, String> {
        let status = self.child.wait().await;
        let status = status.map_err(|error| format!("`{}`: {error}", self.line))?;
        Ok(self.told(status).await)
    }

    async fn told(&mut self, status: ExitStatus) -> Ran {
        let short = Duration::from_millis(500);
        let out = clock::within(short, &mut self.out).await;
        let err = clock::within(short, &mut self.err).await;
        let text = |read: Option<Result<String, _>>| read.and_then(Result::ok).unwrap_or_default();
        Ran {
            code: status.code(),
            stdout: text(out),
            stderr: text(err),
        }
    }

    /// Whether it has ended, and how.
    pub async fn is_over(&mut self) -> Option<Ran> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(self.told(status).await)
    }

    /// Tells it to end, and all that it started; what does not in time is killed.
    pub async fn stop(mut self) -> Option<Ran> {
        self.signal(Signal::TERM);
        let ended = clock::within(END, self.ended()).await;
        if ended.is_none() {
            self.signal(Signal::KILL);
        }
        ended.and_then(Result::ok)
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // It may have ended just now.
            let _ = kill_process_group(pid, signal);
        }
    }
}

/// Reads to the end, and keeps the last of it.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    if let Some(mut pipe) = pipe {
        while let Ok(read @ 1..) = pipe.read(&mut piece).await {
            kept.extend_from_slice(&piece[..read]);
            if kept.len() > 2 * KEPT {
                kept.drain(..kept.len() - KEPT);
            }
        }
    }
    let from = kept.len().saturating_sub(KEPT);
    String::from_utf8_lossy(&kept[from..]).into_owned()
}

/// Undoes something when this process has ended, however it did, unless it was told that it is done.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

/// Waits for a word; when there is none, since the one who had it is gone, it runs the rest.
const WATCH: &str = r#"read -r word; [ "$word" = done ] || exec "$@""#;

impl Guard {
    /// Begins to watch.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(undo: &CommandLine, environment: &Environment) -> Result<Self, String> {
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCH, "sh"])
            .args(&undo.words)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends us is not to end it.
            .process_group(0);
        let child = command.spawn();
        let child = child.map_err(|error| format!("`{undo}` can't be guarded: {error}"))?;
        Ok(Self { child })
    }

    /// It is undone.
    pub async fn release(mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            // When it is gone, nobody watches any more.
            let _ = stdin.write_all(b"done\n").await;
        }
        let _ = clock::within(END, self.child.wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, timeout: u64) -> CommandLine {
        CommandLine {
            words: ["sh", "-c", text].map(str::to_owned).to_vec(),
            timeout: Duration::from_millis(timeout),
        }
    }

    #[tokio::test]
    async fn a_command_is_run_to_its_end() {
        let environment = vec![("WORD".to_owned(), "hello".to_owned())];
        let asked = line("echo $WORD; echo oops >&2; exit 3", 10_000);
        let ran = run(&asked, &environment).await.unwrap();
        assert_eq!((ran.code, &*ran.stdout), (Some(3), "hello\n"));
        assert_eq!(ran.in_words(), "exit code 3: oops");
        let none = CommandLine {
            words: vec!["/no/such/program".to_owned()],
            timeout: Duration::from_secs(1),
        };
        assert!(run(&none, &environment).await.is_err());
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("still");
        let text = format!("(sleep 1; touch {}) & sleep 60", file.display());
        let said = run(&line(&text, 100), &Vec::new()).await.unwrap_err();
        assert!(said.contains("did not end within 100ms"), "{said}");
        clock::sleep(Duration::from_millis(1_300)).await;
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn a_guard_undoes_what_nobody_else_did() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("undone");
        let undo = line(&format!("touch {}", file.display()), 1_000);
        Guard::start(&undo, &Vec::new()).unwrap().release().await;
        assert!(!file.exists());
        // As when the process is killed: its end of the pipe closes.
        drop(Guard::start(&undo, &Vec::new()).unwrap());
        for _ in 0..500 {
            if file.exists() {
                return;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
        panic!("not undone");
    }
}
