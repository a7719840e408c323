//! Several instances under one command: two real processes with traffic through both.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::process::Output;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::process::{Firedrill, firedrill, output};
use support::{Server, soon};

/// Whether what is said comes back, rather than an end.
async fn answers(proxy: SocketAddr) -> bool {
    let talk = async {
        let mut stream = TcpStream::connect(proxy).await?;
        stream.write_all(b"hello").await?;
        let mut back = [0; 5];
        stream.read_exact(&mut back).await?;
        Ok::<_, std::io::Error>(back)
    };
    soon("an answer or an end", talk)
        .await
        .is_ok_and(|back| back == *b"hello")
}

/// An instance with these edges, each a proxy `FROM-TO`, and an echo behind it.
async fn instance(edges: &[(&str, &str)]) -> Firedrill {
    let echo = Server::echo().await.addr;
    let proxies = edges.iter().map(|(from, to)| {
        format!(
            "  - {{ name: {from}-{to}, from: {from}, to: {to}, listen: 127.0.0.1:0, upstream: \"{echo}\" }}\n"
        )
    });
    let proxies: String = proxies.collect();
    Firedrill::start(&format!("proxies:\n{proxies}")).await
}

async fn run(of: &[&Firedrill], line: &str) -> Output {
    let urls: Vec<_> = of.iter().map(|fire| &*fire.url).collect();
    let mut command = firedrill();
    command
        .args(line.split(' '))
        .env("FIREDRILL_URL", urls.join(","));
    output(command).await
}

async fn done(of: &[&Firedrill], line: &str) -> String {
    let ran = run(of, line).await;
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{line}: {stderr}");
    assert_eq!(stderr, "", "{line}");
    String::from_utf8(ran.stdout).unwrap()
}

/// What fails: its exit code and what it says of it.
async fn fails(of: &[&Firedrill], line: &str) -> (i32, String) {
    let ran = run(of, line).await;
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert!(
        stderr
            .lines()
            .last()
            .is_some_and(|l| l.starts_with("hint: ")),
        "{stderr}"
    );
    (ran.status.code().unwrap(), stderr)
}

async fn partitions(of: &Firedrill) -> Vec<Value> {
    let all = of.api.partitions().await.unwrap().items;
    all.iter()
        .map(|p| serde_json::to_value(p).unwrap())
        .collect()
}

#[tokio::test]
async fn a_partition_takes_hold_on_both_and_is_healed_on_both() {
    let one = instance(&[("checkout", "payment"), ("checkout", "mail")]).await;
    let two = instance(&[("checkout", "orders"), ("orders", "mail")]).await;
    let all = [&one, &two];
    let cut = [
        one.proxy("checkout-payment").await,
        two.proxy("checkout-orders").await,
    ];
    let left = [
        one.proxy("checkout-mail").await,
        two.proxy("orders-mail").await,
    ];
    for proxy in cut.iter().chain(&left) {
        assert!(answers(*proxy).await);
    }

    let said = done(
        &all,
        "partition checkout payment,orders --mode reset --for 5m",
    )
    .await;
    for name in ["cuts: checkout-payment\n", "cuts: checkout-orders\n"] {
        assert!(said.contains(name), "{said}");
    }
    for proxy in cut {
        assert!(!answers(proxy).await);
    }
    for proxy in left {
        assert!(answers(proxy).await);
    }
    let [of_one, of_two] = [partitions(&one).await, partitions(&two).await];
    assert_eq!(of_one[0]["between"], json!([["checkout"], ["payment"]]));
    assert_eq!(of_two[0]["between"], json!([["checkout"], ["orders"]]));
    assert_eq!(of_one[0]["name"], of_two[0]["name"]);

    let said = done(&all, "heal").await;
    for fire in all {
        assert!(
            said.contains(&format!("{}:\nhealed\n1 partition off", fire.url)),
            "{said}"
        );
    }
    for proxy in cut {
        assert!(answers(proxy).await);
    }
    let said = done(&all, "events --json").await;
    for fire in all {
        let events = said
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap());
        let of_it: Vec<_> = events.filter(|event| event["url"] == fire.url).collect();
        assert_eq!(
            of_it.last().unwrap()["changes"][0]["what"],
            "disabled",
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_instance_that_is_gone_is_named_and_nothing_is_half_cut() {
    let one = instance(&[("checkout", "payment")]).await;
    let mut two = instance(&[("checkout", "orders")]).await;
    two.process.signal(Signal::KILL);
    two.process.end().await;
    let all = [&one, &two];
    let (code, said) = fails(&all, "partition checkout payment,orders --mode reset").await;
    assert_eq!(code, 1);
    assert!(
        said.contains(&format!("can't connect to {}", two.url)),
        "{said}"
    );
    assert!(said.contains("holds at all instances or at none"), "{said}");
    assert!(partitions(&one).await.is_empty());
    assert!(answers(one.proxy("checkout-payment").await).await);

    // A heal is done wherever it can be.
    done(&[&one], "partition checkout payment").await;
    let (code, said) = fails(&all, "heal").await;
    assert_eq!(code, 1);
    assert!(said.contains(&two.url), "{said}");
    assert_eq!(partitions(&one).await[0]["enabled"], false);
}

#[tokio::test]
async fn what_one_refuses_is_taken_back_on_the_other() {
    let one = instance(&[("checkout", "payment")]).await;
    let two = instance(&[("checkout", "orders")]).await;
    let all = [&one, &two];
    done(&[&two], "partition checkout orders --name split").await;
    let (code, said) = fails(&all, "partition checkout payment,orders --name split").await;
    assert_eq!(code, 1);
    assert!(
        said.contains(&two.url) && said.contains("already"),
        "{said}"
    );
    assert!(partitions(&one).await.is_empty(), "taken back");
    assert_eq!(partitions(&two).await.len(), 1, "what was there stays");

    // Without a name of the user's it is one that is free on both.
    done(
        &[&two],
        "partition checkout orders --name checkout-payment-orders",
    )
    .await;
    done(&all, "partition checkout payment,orders").await;
    assert_eq!(
        partitions(&one).await[0]["name"],
        "checkout-payment-orders-2"
    );
}

#[tokio::test]
async fn each_instance_has_its_part_of_every_shape() {
    let one = instance(&[("a", "b"), ("c", "a")]).await;
    let two = instance(&[("c", "d"), ("d", "b"), ("x", "y")]).await;
    let all = [&one, &two];
    let named = async |fire: &Firedrill, name: &str| {
        let mut all = partitions(fire).await.into_iter();
        all.find(|p| p["name"] == name)
    };
    // a and b, c and d are neighbours; a and c, d and b are not.
    done(&all, "partition --ring a,b,c,d --name ring").await;
    let ring = named(&one, "ring").await.unwrap();
    assert_eq!(ring["between"], json!([["a", "b"], ["c"]]));
    let ring = named(&two, "ring").await.unwrap();
    assert_eq!(ring["between"], json!([["c", "d"], ["b"]]));

    let said = done(&all, "partition --isolate a --name alone").await;
    assert!(said.contains("left as it is"), "{said}");
    assert_eq!(named(&one, "alone").await.unwrap()["isolate"], json!(["a"]));
    assert_eq!(named(&two, "alone").await, None);

    done(&all, "partition a,c b,d --one-way --name deaf").await;
    assert_eq!(named(&two, "deaf").await.unwrap()["deaf"], json!(["c"]));

    // By one lot for all: who is on the same side on one is on the same side on the other.
    done(
        &all,
        "partition --random 2 --seed 7 --among a,b,c,d --name lot",
    )
    .await;
    let side = |partition: &Value, name: &str| {
        let groups = partition["between"].as_array().unwrap();
        groups
            .iter()
            .position(|g| g.as_array().unwrap().iter().any(|n| n == name))
    };
    let (of_one, of_two) = (named(&one, "lot").await, named(&two, "lot").await);
    if let (Some(of_one), Some(of_two)) = (&of_one, &of_two) {
        let together = |p: &Value| side(p, "b") == side(p, "c");
        assert_eq!(together(of_one), together(of_two));
    }
    assert!(of_one.is_some() || of_two.is_some());

    let (code, said) = fails(&all, "partition a nowhere").await;
    assert_eq!(code, 2, "{said}");
    let (code, said) = fails(&all, "partition y a").await;
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("no instance has services on two sides"),
        "{said}"
    );
}

#[tokio::test]
async fn who_made_a_change_is_said_where_it_has_a_name() {
    let one = instance(&[("checkout", "payment")]).await;
    done(&[&one], "inject checkout-payment drop --controller drill-7").await;
    let said = done(&[&one], "events").await;
    assert!(
        said.contains("(drill-7)") && said.contains("rule checkout-payment-drop made"),
        "{said}"
    );
    let beat = done(&[&one], "heartbeat --controller drill-7").await;
    assert_eq!(beat, "drill-7: nobody waits for it\n");
    let generation = one.api.status().await.unwrap().generation;
    let none = done(&[&one], &format!("events --since {generation} --json")).await;
    assert_eq!(none, "");
    let (code, _) = fails(&[&one], "heartbeat").await;
    assert_eq!(code, 2);
}

#[tokio::test]
async fn events_are_followed_as_they_come() {
    let mut one = instance(&[("checkout", "payment")]).await;
    let mut command = firedrill();
    command
        .args(["events", "--follow", "--json", "--since", "2"])
        .env("FIREDRILL_URL", &one.url)
        .stdout(std::process::Stdio::piped());
    let following = support::process::Process::spawn(&mut command);
    done(&[&one], "inject checkout-payment drop --name first").await;
    support::until("the first", || {
        following.said().contains("\"first\"").then_some(())
    })
    .await;
    done(&[&one], "heal").await;
    support::until("the heal", || {
        following.said().contains("\"disabled\"").then_some(())
    })
    .await;
    one.process.signal(Signal::TERM);
    one.process.end().await;
    assert_eq!(
        following.finish().await.code,
        Some(0),
        "the stream has ended"
    );
}

#[tokio::test]
async fn a_heartbeat_ends_with_the_script_that_started_it() {
    let one = instance(&[("checkout", "payment")]).await;
    let mut script = support::process::program("sh", "dash");
    script
        .args(["-c", "$BIN heartbeat --every 20ms & echo $!; wait"])
        .env("BIN", env!("CARGO_BIN_EXE_firedrill"))
        .env("FIREDRILL_URL", &one.url)
        .env("FIREDRILL_CONTROLLER", "drill-7")
        .stdout(std::process::Stdio::piped());
    let mut script = support::process::Process::spawn(&mut script);
    let pid = support::until("it has begun", || {
        let said = script.said();
        let began = said.contains("drill-7: nobody waits for it");
        let pid = said.lines().find_map(|line| line.parse::<u32>().ok());
        pid.filter(|_| began)
    });
    let stat = format!("/proc/{}/stat", pid.await);
    // Ended: gone, or only waiting for somebody to be told.
    let ended = || match std::fs::read_to_string(&stat) {
        Ok(stat) => stat.rsplit(')').next().unwrap().trim().starts_with('Z'),
        Err(_) => true,
    };
    assert!(!ended());
    script.signal(Signal::KILL);
    script.end().await;
    support::until("the heartbeat ends", || ended().then_some(())).await;
}
