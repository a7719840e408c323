//! Programs that users have, as processes on ports of their own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::Server;
use super::process::{Firedrill, Process, eventually, output, program};

/// What a command that has ended printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// Firedrill with one proxy `p`, and the proxy's address.
pub async fn proxy(upstream: SocketAddr, protocol: &str, more: &str) -> (Firedrill, SocketAddr) {
    let firedrill = Firedrill::start(&format!(
        "proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {upstream}, protocol: {protocol} }}]\n{more}"
    ))
    .await;
    let addr = firedrill.proxy("p").await;
    (firedrill, addr)
}

/// Bytes in which each mebibyte differs from every other.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

pub fn redis_cli(addr: SocketAddr, args: &[&str]) -> Command {
    let mut command = program("redis-cli", "redis-tools");
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    command.args(["-h", &host, "-p", &port]).args(args);
    command
}

/// A server program on a port of its own.
pub struct Program {
    pub addr: SocketAddr,
    pub dir: TempDir,
    process: Process,
    /// What asks it to end.
    quit: Signal,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have children and shared memory to clear away; whoever takes too long is killed.
        if self.process.ended().is_none() {
            self.process.signal(self.quit);
        }
        for _ in 0..500 {
            if self.process.ended().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Program {
    /// Starts what `command` makes for a directory and a free address. Another may take the port
    /// meanwhile; then it is tried again.
    pub async fn start(command: impl Fn(&Path, SocketAddr) -> Command) -> Self {
        let mut said = String::new();
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let addr = Server::nobody().await;
            let mut command = command(dir.path(), addr);
            let mut process = Process::spawn(command.stdout(Stdio::null()));
            let up = eventually("it listens, or it ends", async || {
                let up = TcpStream::connect(addr).await.is_ok();
                (up || process.ended().is_some()).then_some(up)
            })
            .await;
            if up && process.ended().is_none() {
                return Self {
                    addr,
                    dir,
                    process,
                    quit: Signal::TERM,
                };
            }
            said += &process.log();
        }
        panic!("it does not start: {said}");
    }

    /// A server of files; `more` is said behind its address.
    pub async fn nginx(more: &str) -> Self {
        Self::start(|dir, addr| {
        let root = dir.join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("hello.txt"), "hello from nginx\n").unwrap();
        fs::write(root.join("digits.txt"), "0123456789".repeat(100)).unwrap();
        fs::write(root.join("big.bin"), noise(5_000_000)).unwrap();
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};", dir.display()))
            .join(" ");
        let conf = format!(
            "daemon off; master_process off; pid {0}/pid; error_log stderr warn;\n\
             events {{ worker_connections 512; }}\n\
             http {{ {temp} log_format l '$connection $request_method $uri $status'; access_log {0}/access.log l;\n\
             server {{ listen {addr} {more}; keepalive_requests 10000000; root {0}/root; keepalive_timeout 60s; }} }}\n",
            dir.display()
        );
        let file = dir.join("nginx.conf");
        fs::write(&file, conf).unwrap();
        let mut nginx = program("nginx", "nginx-light");
        nginx.arg("-e").arg("stderr").arg("-p").arg(dir).arg("-c").arg(file);
        nginx
    })
    .await
    }

    pub async fn redis() -> Self {
        Self::start(|dir, addr| {
            let mut redis = program("redis-server", "redis-server");
            redis.args(["--bind", "127.0.0.1", "--port", &addr.port().to_string()]);
            redis
                .args(["--save", "", "--appendonly", "no", "--dir"])
                .arg(dir);
            redis
        })
        .await
    }

    pub async fn iperf3() -> Self {
        Self::start(|_, addr| {
            let mut iperf3 = program("iperf3", "iperf3");
            iperf3.args(["-s", "-B", "127.0.0.1", "-p", &addr.port().to_string()]);
            iperf3
        })
        .await
    }

    /// A cluster of its own, for the user `postgres` without a password.
    pub async fn postgres() -> Self {
        let mut postgres = Self::start(|dir, addr| {
            let data = dir.join("data");
            let mut initdb = program("initdb", "postgresql");
            initdb.args(["-U", "postgres", "-A", "trust", "--no-sync"]);
            initdb.args(["--locale=C", "--encoding=UTF8", "-D"]);
            initdb.arg(&data);
            unprivileged(&mut initdb, dir);
            let made = initdb.output().unwrap();
            assert!(made.status.success(), "{made:?}");
            let mut postgres = program("postgres", "postgresql");
            postgres.arg("-D").arg(&data);
            postgres.args(["-h", "127.0.0.1", "-p", &addr.port().to_string()]);
            postgres.args(["-c", "fsync=off", "-c", "unix_socket_directories="]);
            unprivileged(&mut postgres, dir);
            postgres
        })
        .await;
        // A fast shutdown: who is connected is disconnected.
        postgres.quit = Signal::INT;
        eventually("it takes queries", async || {
            let asked = output(psql(postgres.addr, &["-c", "SELECT 1"])).await;
            asked.status.success().then_some(())
        })
        .await;
        postgres
    }

    /// A server that lets the user of this process in by the key in its directory, and what to
    /// call `ssh` with to get there through `proxy`.
    pub async fn sshd() -> Self {
        Self::start(|dir, addr| {
            for name in ["host", "key"] {
                let mut keygen = program("ssh-keygen", "openssh-client");
                keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
                let made = keygen.arg(dir.join(name)).output().unwrap();
                assert!(made.status.success(), "{made:?}");
            }
            if geteuid().is_root() {
                // The package leaves it to the service to make it.
                fs::create_dir_all("/run/sshd").unwrap();
            }
            let config = dir.join("sshd_config");
            let text = format!(
                "ListenAddress {addr}\nHostKey {0}/host\nAuthorizedKeysFile {0}/key.pub\n\
                 PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
                dir.display()
            );
            fs::write(&config, text).unwrap();
            let mut sshd = program("sshd", "openssh-server");
            sshd.args(["-D", "-e", "-f"]).arg(config);
            sshd
        })
        .await
    }
}

/// As a user who is not root where this is: some servers refuse to be.
fn unprivileged(command: &mut Command, dir: &Path) {
    command.current_dir(dir);
    if !geteuid().is_root() {
        return;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find_map(|l| l.strip_prefix("postgres:"));
    let user: Vec<_> = user.expect("the package makes a user").split(':').collect();
    let (uid, gid) = (user[1].parse().unwrap(), user[2].parse().unwrap());
    chown(dir, Some(uid), Some(gid)).unwrap();
    command.uid(uid).gid(gid);
}

/// A command of PostgreSQL, as the user `postgres`, without what the environment might add.
pub fn postgres_client(name: &str, addr: SocketAddr) -> Command {
    let mut command = program(name, "postgresql");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
        .env("PGSSLMODE", "disable")
        .env("PGGSSENCMODE", "disable");
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    command.args(["-h", &host, "-p", &port, "-U", "postgres"]);
    command
}

/// `psql` that prints rows only, and no start-up file's settings.
pub fn psql(addr: SocketAddr, args: &[&str]) -> Command {
    let mut command = postgres_client("psql", addr);
    command
        .args(["-X", "-q", "-A", "-t", "-d", "postgres"])
        .args(args);
    command
}
