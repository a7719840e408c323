//! Drives Firedrill with toxiproxy_rust as it is. Prints a line for each step, `NAME ADDRESS`, and
//! goes on when a line comes: what the step has changed is measured meanwhile.
//!
//! `toxiproxy CONTROL UPSTREAM`

use std::io::{self, Write};

use toxiproxy_rust::client::Client;
use toxiproxy_rust::proxy::{Proxy, ProxyPack};

fn step(name: &str, proxy: &Proxy) {
    println!("{name} {}", proxy.proxy_pack.listen);
    io::stdout().flush().unwrap();
    io::stdin().read_line(&mut String::new()).unwrap();
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (control, upstream) = (&args[1], &args[2]);
    let toxiproxy = Client::new(control.as_str());
    assert!(toxiproxy.is_running());
    assert!(toxiproxy.version().unwrap().contains("\"version\": \"2."));
    let pack = |name: &str, listen: &str| {
        ProxyPack::new(name.to_owned(), listen.to_owned(), upstream.clone())
    };
    let made = toxiproxy
        .populate(vec![pack("rust", "localhost:0")])
        .unwrap();
    assert_eq!(made.len(), 1);
    let proxy = toxiproxy.find_proxy("rust").unwrap();
    assert_eq!(proxy.proxy_pack.upstream, *upstream);
    assert!(proxy.proxy_pack.enabled && proxy.proxy_pack.toxics.is_empty());
    assert!(!proxy.proxy_pack.listen.ends_with(":0"));
    assert!(toxiproxy.find_proxy("nobody").is_err());
    assert_eq!(toxiproxy.all().unwrap().len(), 1);
    step("plain", &proxy);

    let down = || "downstream".to_owned();
    let toxics: &[(&str, &str, &dyn Fn(&Proxy))] = &[
        ("latency", "latency_downstream", &|p| {
            p.with_latency(down(), 200, 0, 1.0);
        }),
        ("latency", "latency_upstream", &|p| {
            p.with_latency("upstream".to_owned(), 200, 0, 1.0);
        }),
        ("bandwidth", "bandwidth_downstream", &|p| {
            p.with_bandwidth(down(), 100, 1.0);
        }),
        ("slow_close", "slow_close_downstream", &|p| {
            p.with_slow_close(down(), 300, 1.0);
        }),
        ("timeout", "timeout_downstream", &|p| {
            p.with_timeout(down(), 100, 1.0);
        }),
        ("slicer", "slicer_downstream", &|p| {
            p.with_slicer(down(), 10, 0, 50_000, 1.0);
        }),
        ("limit_data", "limit_data_downstream", &|p| {
            p.with_limit_data(down(), 100, 1.0);
        }),
        ("plain", "latency_downstream", &|p| {
            p.with_latency(down(), 200, 0, 0.0);
        }),
    ];
    for (name, toxic, make) in toxics {
        make(&proxy);
        let all = proxy.toxics().unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].name, *toxic);
        step(name, &proxy);
        proxy.delete_all_toxics().unwrap();
        assert!(proxy.toxics().unwrap().is_empty());
        step("plain", &proxy);
    }
    proxy
        .with_latency(down(), 200, 0, 1.0)
        .with_limit_data(down(), 100, 1.0);
    let names: Vec<_> = proxy
        .toxics()
        .unwrap()
        .into_iter()
        .map(|t| t.name)
        .collect();
    assert_eq!(names, ["latency_downstream", "limit_data_downstream"]);
    proxy.apply(|| step("limit_data", &proxy)).unwrap();

    // Held, and let go.
    proxy
        .with_bandwidth(down(), 0, 1.0)
        .apply(|| step("held", &proxy))
        .unwrap();
    step("released", &proxy);
    proxy
        .with_timeout(down(), 0, 1.0)
        .apply(|| step("held", &proxy))
        .unwrap();
    step("closed", &proxy);

    step("keep", &proxy);
    proxy.with_down(|| step("down", &proxy)).unwrap();
    step("plain", &proxy);
    proxy.disable().unwrap();
    proxy.with_latency(down(), 200, 0, 1.0);
    toxiproxy.reset().unwrap();
    let proxy = toxiproxy.find_and_reset_proxy("rust").unwrap();
    assert!(toxiproxy.find_proxy("rust").unwrap().proxy_pack.enabled);
    assert!(proxy.toxics().unwrap().is_empty());
    step("plain", &proxy);

    // It is the same, though its toxics are not said.
    proxy.with_latency(down(), 200, 0, 1.0);
    let listen = proxy.proxy_pack.listen.clone();
    let both = vec![pack("rust", &listen), pack("other", "localhost:0")];
    let populated = toxiproxy.populate(both).unwrap();
    assert_eq!(populated[0].proxy_pack.toxics.len(), 1);
    step("latency", &populated[0]);
    step("plain", &populated[1]);
    assert!(toxiproxy.populate(vec![pack("", "localhost:0")]).is_err());
    for proxy in populated {
        proxy.delete().unwrap();
    }
    assert!(toxiproxy.all().unwrap().is_empty());
    println!("done -");
}
