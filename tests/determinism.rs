//! The same seed and the same requests meet the same faults: in another process, in another order,
//! over other connections. Another seed meets others.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::pay::{Caller, Met, Upstream};
use support::process::Firedrill;
use support::{PATIENCE, Server, get, post, soon};

const P: f64 = 0.3;

/// The answer that an operation is hit with.
const HIT: u16 = 418;

/// A process with one rule, under this seed (`None`: it chooses one).
async fn process(seed: Option<u64>, upstream: SocketAddr) -> Firedrill {
    let seed = seed.map_or(String::new(), |seed| format!("seed: {seed}\n"));
    Firedrill::start(&format!(
        "{seed}proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {upstream}, protocol: http }}]\n\
         rules: [{{ name: some, probability: {P}, fault: {{ abort: {{ status: {HIT} }} }} }}]\n"
    ))
    .await
}

/// Sends requests over so many clients at the same time; answers which of them were hit.
async fn hits(
    firedrill: &Firedrill,
    requests: Vec<(String, String)>,
    clients: usize,
) -> BTreeSet<String> {
    let addr = firedrill.proxy("p").await;
    let total = requests.len();
    let queue = Arc::new(Mutex::new(VecDeque::from(requests)));
    let calling: Vec<_> = (0..clients)
        .map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                let mut caller = Caller::new(addr, PATIENCE);
                let mut hit = BTreeSet::new();
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some((name, request)) = next else {
                        return hit;
                    };
                    match caller.ask(&request).await {
                        Met::Answered(HIT, _) => assert!(hit.insert(name)),
                        Met::Answered(200, _) => {}
                        met => panic!("{name}: {met:?}"),
                    }
                }
            })
        })
        .collect();
    let mut all = BTreeSet::new();
    for client in calling {
        all.extend(client.await.unwrap());
    }
    let rule = firedrill.rule("some").await;
    assert_eq!(
        (rule.standing.selected, rule.standing.injected),
        (all.len() as u64, all.len() as u64),
        "of {total}: what clients met is what was counted"
    );
    all
}

/// Requests of distinct keys on one path.
fn keyed(n: usize) -> Vec<(String, String)> {
    let request = |n| (format!("key-{n}"), post("/pay", &format!("key-{n}"), "x"));
    (0..n).map(request).collect()
}

/// Requests without keys: distinct paths and queries.
fn unkeyed(n: usize) -> Vec<(String, String)> {
    let path = |n| match n % 2 {
        0 => format!("/item/{n}"),
        _ => format!("/search?q={n}"),
    };
    (0..n).map(|n| (path(n), get(&path(n)))).collect()
}

/// The same in an order that has nothing to do with the first.
fn shuffled<T>(items: Vec<T>) -> Vec<T> {
    let mut numbered: Vec<_> = items.into_iter().enumerate().collect();
    numbered.sort_by_key(|(n, _)| (*n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    numbered.into_iter().map(|(_, item)| item).collect()
}

#[track_caller]
fn assert_rate(hits: usize, of: usize) {
    let (hits, of) = (hits as f64, of as f64);
    let sigma = (of * P * (1.0 - P)).sqrt();
    // Five sigma: one seed in two million fails, and the seeds here are fixed.
    assert!((hits - of * P).abs() < 5.0 * sigma, "{hits} of {of}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_requests_are_hit_in_a_new_process_in_any_order() {
    let upstream = Upstream::start().await;
    for (what, requests) in [("keys", keyed(500)), ("no keys", unkeyed(500))] {
        let first = process(Some(42), upstream.addr).await;
        let serial = hits(&first, requests.clone(), 1).await;
        assert_rate(serial.len(), requests.len());

        let second = process(Some(42), upstream.addr).await;
        let many = hits(&second, shuffled(requests.clone()), 32).await;
        assert_eq!(serial, many, "{what}");

        let third = process(Some(43), upstream.addr).await;
        let others = hits(&third, requests.clone(), 1).await;
        assert_rate(others.len(), requests.len());
        assert_ne!(serial, others, "{what}: another seed");
        // Independent choices at p share p² of all: neither the same nor the complement.
        let shared = serial.intersection(&others).count() as f64;
        let (mean, n) = (P * P * requests.len() as f64, requests.len() as f64);
        let sigma = (n * P * P * (1.0 - P * P)).sqrt();
        assert!(
            (shared - mean).abs() < 5.0 * sigma,
            "{what}: {shared} shared"
        );
        println!(
            "{what}: {} of {} hit, the same ones in a new process over 32 clients; another seed hits {}, {shared} of them shared",
            serial.len(),
            requests.len(),
            others.len(),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_path_again_and_again_is_hit_at_a_rate_near_p_and_just_as_often_next_time() {
    let upstream = Upstream::start().await;
    let requests: Vec<_> = (0..3000).map(|n| (n.to_string(), get("/same"))).collect();
    let serially = process(Some(7), upstream.addr).await;
    let serial = hits(&serially, requests.clone(), 1).await;
    assert_rate(serial.len(), requests.len());
    // Who comes third is chance; that the third is hit is not.
    let at_once = process(Some(7), upstream.addr).await;
    let many = hits(&at_once, requests.clone(), 32).await;
    assert_eq!(serial.len(), many.len());
    let again = process(Some(7), upstream.addr).await;
    assert_eq!(serial, hits(&again, requests, 1).await);
    println!("one path: {} of 3000 hit, in three processes", serial.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_the_same_key_is_drawn_anew_and_reproducibly() {
    let upstream = Upstream::start().await;
    let attempts: Vec<_> = (0..60)
        .map(|n| (n.to_string(), post("/pay", "one-key", "x")))
        .collect();
    let first = process(Some(42), upstream.addr).await;
    let serial = hits(&first, attempts.clone(), 1).await;
    assert!(
        !serial.is_empty() && serial.len() < attempts.len(),
        "a key that is hit once must not be hit for ever: {serial:?}"
    );
    let second = process(Some(42), upstream.addr).await;
    assert_eq!(serial, hits(&second, attempts, 1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_was_chosen_is_reported_and_repeats_the_run() {
    let upstream = Upstream::start().await;
    let chosen = process(None, upstream.addr).await;
    let seed = chosen.api.status().await.unwrap().seed;
    assert!(chosen.process.log().contains(&format!("seed {seed}")));
    let first = hits(&chosen, keyed(200), 4).await;
    let repeated = process(Some(seed), upstream.addr).await;
    assert_eq!(first, hits(&repeated, keyed(200), 4).await);
    let other = process(None, upstream.addr).await;
    assert_ne!(seed, other.api.status().await.unwrap().seed);
}

/// A reset may show with the connect, the write or the read.
async fn echo(addr: SocketAddr) -> io::Result<()> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(b"x").await?;
    socket.read_exact(&mut [0]).await.map(drop)
}

/// On plain TCP a decision belongs to the connection's ordinal.
#[tokio::test]
async fn the_same_connections_are_hit() {
    let server = Server::echo().await;
    let mut runs = Vec::new();
    for seed in [42, 42, 43] {
        let firedrill = Firedrill::start(&format!(
            "seed: {seed}\nproxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {} }}]\n\
             rules: [{{ name: some, probability: {P}, fault: {{ drop: {{ then: reset }} }} }}]\n",
            server.addr
        ))
        .await;
        let addr = firedrill.proxy("p").await;
        let mut hit = Vec::new();
        for n in 0..300 {
            if soon("an echo or a reset", echo(addr)).await.is_err() {
                hit.push(n);
            }
        }
        assert_rate(hit.len(), 300);
        assert_eq!(
            firedrill.rule("some").await.standing.injected,
            hit.len() as u64
        );
        runs.push(hit);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}
