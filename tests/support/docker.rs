//! A Docker Engine: the one that runs, or one of this test's own; and commands that are given time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, program};

/// How long a thing may take that starts containers, on a machine with much else to do.
pub const LONG: Duration = Duration::from_secs(120);

/// How a command ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// What it said on stdout, having ended well.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a command to its end.
pub async fn run(mut command: Command) -> Said {
    command.stdin(Stdio::null());
    let said = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    let running = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(LONG, running).await;
    let output = output.unwrap_or_else(|_| panic!("it does not end: {said}"));
    let output = output.unwrap_or_else(|error| panic!("{said}: {error}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// Waits until something comes about, on a machine with much else to do.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// See the module.
pub struct Docker {
    host: Option<String>,
    own: Option<Process>,
    dir: TempDir,
}

impl Docker {
    /// The Engine that answers, or one that is started.
    pub async fn start() -> Self {
        let mut docker = Self {
            host: None,
            own: None,
            // Sockets are in it, whose paths can't be long.
            dir: tempfile::Builder::new()
                .prefix("fd")
                .tempdir_in("/tmp")
                .unwrap(),
        };
        if docker.docker(&["info"]).await.code != Some(0) {
            docker.start_own().await;
        }
        docker
    }

    async fn start_own(&mut self) {
        let at = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let host = format!("unix://{}", at("docker.sock"));
        let mut engine = program("dockerd", "docker.io");
        // Without a bridge of its own: one that is left over from another would be in its way.
        engine.args(["--bridge", "none", "--host", &host]);
        for (option, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            engine.args([option, &at(name)]);
        }
        self.own = Some(Process::spawn(&mut engine));
        self.host = Some(host);
        eventually("the Engine answers", async || {
            let own = self.own.as_mut().unwrap();
            let ended = own.ended();
            assert_eq!(ended, None, "{}", own.log());
            let info = self.docker(&["info"]).await;
            (info.code == Some(0)).then_some(())
        })
        .await;
    }

    fn command(&self, name: &str, package: &str) -> Command {
        // Debian's own, where there is another: that one brings what it builds images with.
        let debian = Path::new("/usr/bin").join(name);
        let mut command = match debian.is_file() {
            true => Command::new(debian),
            false => program(name, package),
        };
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command.env("DOCKER_BUILDKIT", "1");
        command.env("DOCKER_CONFIG", self.dir.path());
        command
    }

    /// Runs `docker`.
    pub async fn docker(&self, args: &[&str]) -> Said {
        let mut command = self.command("docker", "docker.io");
        command.args(args);
        run(command).await
    }

    /// The command `docker-compose`, for a project.
    pub fn compose(&self, project: &str, files: &[PathBuf]) -> Command {
        let mut command = self.command("docker-compose", "docker-compose");
        command.args(["--project-name", project]);
        for file in files {
            command.arg("--file").arg(file);
        }
        command
    }

    /// What `docker inspect` says of a thing.
    pub async fn inspect(&self, name: &str) -> Value {
        let said = self.docker(&["inspect", name]).await.well();
        let mut all: Vec<Value> = serde_json::from_str(&said).unwrap();
        all.remove(0)
    }

    /// Makes an image of a tree.
    pub async fn import(&self, tree: &Path, image: &str) {
        let archive = self.dir.path().join("tree.tar");
        let mut tar = program("tar", "tar");
        tar.args(["--create", "--numeric-owner", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(tree)
            .arg(".");
        run(tar).await.well();
        let from = archive.to_str().unwrap();
        self.docker(&["import", from, image]).await.well();
        fs::remove_file(&archive).unwrap();
    }

    /// A folder of this test's.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let Some(mut own) = self.own.take() else {
            return;
        };
        // It ends its containers, and what started them.
        own.signal(Signal::TERM);
        let deadline = Instant::now() + LONG;
        while own.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
