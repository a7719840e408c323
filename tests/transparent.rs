//! Transparent mode in network namespaces: an application with addresses that it can't be talked out
//! of is drilled as it is, over IPv4 and IPv6, and afterwards the tables are as before. The real
//! binary, as another user; the script that users have; needs root.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use firedrill::evidence::{Cause, Class, Record};
use tempfile::TempDir;

use support::docker::{Said, eventually, run};
use support::process::{Process, program};
use support::until;

/// A namespace of this test's.
struct Namespace(String);

impl Namespace {
    async fn new(name: &str) -> Self {
        let namespace = Self(format!("fd{}{name}", std::process::id()));
        ip(&["netns", "add", &namespace.0]).await;
        namespace
            .run(&["ip", "link", "set", "lo", "up"])
            .await
            .well();
        namespace
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program("ip", "iproute2");
        command.args(["netns", "exec", &self.0]).args(args);
        command
    }

    async fn run(&self, args: &[&str]) -> Said {
        run(self.command(args)).await
    }

    /// One end of a cable: its name, and the addresses that it has here.
    async fn plug(&self, end: &str, addresses: [&str; 2]) {
        ip(&["link", "set", end, "netns", &self.0]).await;
        for address in addresses {
            let nodad = address.contains(':').then_some("nodad");
            let mut args = vec!["ip", "address", "add", address, "dev", end];
            args.extend(nodad);
            self.run(&args).await.well();
        }
        self.run(&["ip", "link", "set", end, "up"]).await.well();
    }

    /// All tables, without what was counted and when it was looked at.
    async fn tables(&self) -> String {
        let mut tables = String::new();
        for save in ["iptables-save", "ip6tables-save"] {
            let said = self.run(&[save]).await.well();
            for line in said.lines().filter(|line| !line.starts_with('#')) {
                tables += line.split(" [").next().unwrap();
                tables += "\n";
            }
        }
        tables
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let delete = ["netns", "del", &self.0];
        let _ = program("ip", "iproute2").args(delete).status();
    }
}

async fn ip(args: &[&str]) {
    let mut command = program("ip", "iproute2");
    command.args(args);
    run(command).await.well();
}

/// An application, what it calls by addresses of its own, and Firedrill beside the application.
struct Stage {
    app: Namespace,
    far: Namespace,
    servers: Vec<Process>,
    firedrill: Process,
    dir: TempDir,
}

const FAR: [&str; 2] = ["10.77.0.2", "fd77::2"];

impl Stage {
    async fn new() -> Self {
        let (app, far) = (Namespace::new("app").await, Namespace::new("far").await);
        let (near_end, far_end) = (format!("a{}", std::process::id()), "far0");
        ip(&[
            "link", "add", &near_end, "type", "veth", "peer", "name", far_end,
        ])
        .await;
        app.plug(&near_end, ["10.77.0.1/24", "fd77::1/64"]).await;
        far.plug(far_end, ["10.77.0.2/24", "fd77::2/64"]).await;
        // What stands there already, and is none of our business.
        for (tables, table, rule) in [
            (
                "iptables",
                "nat",
                "-d 192.0.2.1 -p tcp -j DNAT --to 10.77.0.2",
            ),
            (
                "ip6tables",
                "nat",
                "-d 2001:db8::1 -p tcp -j DNAT --to fd77::2",
            ),
            ("iptables", "filter", "-d 192.0.2.9 -j DROP"),
        ] {
            let mut args = vec![tables, "-t", table, "-A", "OUTPUT"];
            args.extend(rule.split(' '));
            app.run(&args).await.well();
        }
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("page"), "as it is\n").unwrap();
        let mut servers = Vec::new();
        for port in ["8080", "8081"] {
            let mut server = far.command(&["python3", "-m", "http.server", port, "--bind", "::"]);
            server.current_dir(&dir);
            servers.push(Process::spawn(&mut server));
        }
        // Where others may run it too.
        let binary = dir.path().join("firedrill");
        fs::copy(env!("CARGO_BIN_EXE_firedrill"), &binary).unwrap();
        let firedrill = Self::serve(&app, &binary).await;
        Self {
            app,
            far,
            servers,
            firedrill,
            dir,
        }
    }

    async fn serve(app: &Namespace, binary: &Path) -> Process {
        // Into the namespace as root, which only then becomes another.
        let mut serve = app.command(&["setpriv", "--reuid", "65534", "--clear-groups"]);
        serve.arg(binary).args([
            "serve",
            "--proxy",
            "web=[::]:15001->original?protocol=http",
            "--proxy",
            "bytes=0.0.0.0:15002->original",
        ]);
        serve.env("NO_COLOR", "1").process_group(0);
        let process = Process::spawn(&mut serve);
        until("the control API is up", || {
            process.log().contains("control API on").then_some(())
        })
        .await;
        process
    }

    fn script() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/transparent/redirect")
    }

    async fn redirect(&self, args: &[&str]) -> Said {
        let script = Self::script();
        let mut all = vec!["sh", script.to_str().unwrap()];
        all.extend(args);
        self.app.run(&all).await
    }

    /// Asks Firedrill.
    async fn firedrill(&self, args: &[&str]) -> String {
        let binary = self.dir.path().join("firedrill");
        let mut all = vec![binary.to_str().unwrap()];
        all.extend(args);
        self.app.run(&all).await.well()
    }

    /// What the application is told; it knows addresses only, and nothing of Firedrill.
    async fn call(&self, address: &str) -> Said {
        let url = match address.contains(':') {
            true => format!("http://[{address}]:8080/page"),
            false => format!("http://{address}:8080/page"),
        };
        self.get(&url).await
    }

    async fn get(&self, url: &str) -> Said {
        let get = [
            "curl",
            "-sS",
            "-m",
            "10",
            "--noproxy",
            "*",
            "-w",
            "%{http_code}",
            url,
        ];
        self.app.run(&get).await
    }

    /// All records, none of them open.
    async fn records(&self) -> Vec<Record> {
        eventually("the operations end", async || {
            let lines = self.firedrill(&["evidence", "--json"]).await;
            let lines = lines.lines();
            let all: Vec<Record> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
            all.iter().all(|r| r.class != Class::Open).then_some(all)
        })
        .await
    }

    /// How often a server was asked.
    fn asked(&self) -> usize {
        self.servers[0].log().matches("GET /page").count()
    }
}

const AS_IT_IS: &str = "as it is\n200";

#[tokio::test]
async fn an_application_with_hard_coded_addresses_is_drilled_as_it_is() {
    let stage = Stage::new().await;
    let before = stage.app.tables().await;
    eventually("the server is there", async || {
        (stage.call(FAR[0]).await.stdout == AS_IT_IS).then_some(())
    })
    .await;
    assert!(stage.records().await.is_empty());

    stage.redirect(&["up", "--to", "15001"]).await.well();
    for (n, address) in FAR.into_iter().enumerate() {
        assert_eq!(stage.call(address).await.well(), AS_IT_IS);
        let records = stage.records().await;
        assert_eq!(records.len(), n + 1);
        assert_eq!(records[n].class, Class::Acknowledged);
        assert_eq!(&*records[n].proxy, "web");
    }
    // Wherever it goes, it is met: another's rule for that address comes after.
    assert_eq!(stage.redirect(&["status"]).await.code, Some(0));

    // Faults act, copies go where the original went, and a heal is a heal.
    let abort = ["inject", "web", "abort", "status=503", "--limit", "1"];
    stage.firedrill(&abort).await;
    assert!(stage.call(FAR[1]).await.well().ends_with("503"));
    stage.firedrill(&["heal"]).await;
    let asked = stage.asked();
    stage.firedrill(&["inject", "web", "duplicate"]).await;
    assert_eq!(stage.call(FAR[0]).await.well(), AS_IT_IS);
    until("it was asked twice", || {
        (stage.asked() == asked + 2).then_some(())
    })
    .await;
    stage.firedrill(&["heal"]).await;
    let records = stage.records().await;
    assert_eq!(records[2].class, Class::Substituted);
    assert_eq!(records[3].deliveries, 2);
    stage.firedrill(&["partition", "client", "web"]).await;
    let cut = stage
        .app
        .command(&["curl", "-sS", "-m", "1", "http://10.77.0.2:8080/page"]);
    assert_eq!(run(cut).await.code, Some(28));
    stage.firedrill(&["heal"]).await;
    let records = stage.records().await;
    assert!(
        matches!(records[4].cause, Cause::Partition(_)),
        "{:#?}",
        records[4]
    );

    // Whoever comes straight to it was going nowhere else: that would come round for ever.
    for at in [
        "http://10.77.0.1:15001/",
        "http://[::1]:15001/",
        "http://127.0.0.1:15002/",
    ] {
        assert_ne!(stage.get(at).await.code, Some(0));
    }
    until("that is said", || {
        let said = stage
            .firedrill
            .log()
            .matches("and was not redirected")
            .count();
        (said == 3).then_some(())
    })
    .await;
    let records = stage.records().await;
    assert_eq!(records.len(), 8);
    for record in &records[5..] {
        assert_eq!(record.class, Class::NeverDelivered);
        assert_eq!(record.cause, Cause::Proxy);
    }

    // Set up anew, it takes the place of what stood: an edge for each address.
    let edges = ["up", "10.77.0.2:8081=15002", "[fd77::2]:8080=15001"];
    stage.redirect(&edges).await.well();
    assert_eq!(stage.call(FAR[0]).await.well(), AS_IT_IS);
    assert_eq!(stage.records().await.len(), 8);
    assert_eq!(
        stage.get("http://10.77.0.2:8081/page").await.well(),
        AS_IT_IS
    );
    assert_eq!(stage.call(FAR[1]).await.well(), AS_IT_IS);
    let records = stage.records().await;
    let proxies = records[8..].iter().map(|r| &*r.proxy);
    assert_eq!(proxies.collect::<Vec<_>>(), ["bytes", "web"]);

    // What was refused has left nothing behind.
    assert_ne!(
        stage
            .redirect(&["up", "--to", "15001", "999.1.1.1"])
            .await
            .code,
        Some(0)
    );
    stage
        .redirect(&["up", "--to", "15001", "--except", "10.77.0.2"])
        .await
        .well();
    assert_eq!(stage.call(FAR[0]).await.well(), AS_IT_IS);
    assert_eq!(stage.records().await.len(), 10);
    assert_ne!(stage.app.tables().await, before);
    stage.redirect(&["down"]).await.well();
    assert_eq!(stage.app.tables().await, before);
    assert_eq!(stage.redirect(&["status"]).await.code, Some(1));
    for address in FAR {
        assert_eq!(stage.call(address).await.well(), AS_IT_IS);
    }
    assert_eq!(stage.records().await.len(), 10);
    // Once more is as good.
    stage.redirect(&["down"]).await.well();
    assert_eq!(stage.app.tables().await, before);
    drop(stage.far);
}
