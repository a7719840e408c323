//! A control plane on a port of its own, with proxies and records, and no traffic.
#![allow(dead_code)]

use std::sync::Arc;

use firedrill::client::Client;
use firedrill::clock::Timestamp;
use firedrill::config;
use firedrill::control::{self, Access, Control, Port};
use firedrill::evidence::{
    Cause, Class, Delivery, Ledger, Observed, Outcome, Record, RequestSeen, Room,
};
use firedrill::metrics::Metrics;
use firedrill::pipeline::Context;
use firedrill::proxy::{Supervisor, Workers};
use firedrill::rules::Protocol;
use firedrill::state::{State, Stopping};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A control plane on a port of its own, with one HTTP proxy `payment` and one TCP proxy `db`.
pub struct Plane {
    pub context: Arc<Context>,
    pub client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

pub const CAPACITY: usize = 1000;

/// The one place that knows how these are put together.
fn parts() -> (Arc<Context>, Arc<Supervisor>) {
    let context = Arc::new(Context {
        state: Arc::new(State::default()),
        ledger: Arc::new(Ledger::new(Some(Room {
            records: CAPACITY,
            bytes: usize::MAX,
        }))),
        metrics: Arc::new(Metrics::new().unwrap()),
        seed: 42,
        ladder: firedrill::evidence::Ladder::default(),
        linger: std::time::Duration::from_secs(5),
        half_close: std::time::Duration::from_secs(60),
        handshake: std::time::Duration::from_secs(2),
        held: firedrill::pipeline::Held::new(1 << 20, 1 << 24),
    });
    let supervisor = Arc::new(Supervisor::new(
        Arc::clone(&context),
        Workers::start().unwrap(),
    ));
    (context, supervisor)
}

impl Plane {
    pub async fn start(token: Option<&str>, hosts: &[&str]) -> Self {
        Self::with(token, hosts, "").await
    }

    /// One whose token Toxiproxy's dialect does not need.
    pub async fn open(token: &str) -> Self {
        Self::with(Some(token), &[], "control: { toxiproxy: open }").await
    }

    /// One whose proxies may connect to these upstreams only: a list as in a file.
    pub async fn allowing(upstreams: &str) -> Self {
        Self::with(None, &[], &format!("control: {{ upstreams: {upstreams} }}")).await
    }

    async fn with(token: Option<&str>, hosts: &[&str], file: &str) -> Self {
        let (context, supervisor) = parts();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = config::parse(file, "plane.yaml").unwrap().control;
        let control = Control {
            context: Arc::clone(&context),
            supervisor,
            access: Access::new(
                token.map(str::to_owned),
                token.map(|token| format!("{token}-for-reading")),
                hosts.iter().map(|h| (*h).to_owned()).collect(),
            )
            .opening_toxiproxy(control.toxiproxy_open),
            upstreams: control.upstreams,
            started: Timestamp::now(),
            capacity: CAPACITY,
            kept: None,
            reload: None,
        };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(control::serve(listener, Port::default(), control, async {
            let _ = stopped.await;
        }));
        let client = Client::new(&format!("http://{address}"), token).unwrap();
        for (name, protocol) in [("payment", "http"), ("db", "tcp")] {
            let proxy = json!({
                "name": name,
                "from": "checkout",
                "listen": "127.0.0.1:0",
                "upstream": "127.0.0.1:1",
                "protocol": protocol,
            });
            client.create_proxy(&proxy).await.unwrap();
        }
        Self {
            context,
            client,
            stop,
            serving,
        }
    }

    /// A finished record, put into the ledger.
    pub fn record(&self, proxy: &str, class: Class) {
        let mut record = Record {
            id: self.context.ledger.next_id(),
            proxy: proxy.into(),
            from: "checkout".into(),
            to: proxy.into(),
            protocol: Protocol::Http,
            started: Timestamp::now(),
            identity: None,
            trace: None,
            attempt: 1,
            request: RequestSeen {
                method: Some("POST".into()),
                path: Some("/authorize/1".into()),
                bytes: 10,
                ..RequestSeen::default()
            },
            upstream: Vec::new(),
            client: firedrill::evidence::Client::default(),
            faults: Vec::new(),
            class: Class::Open,
            cause: Cause::None,
            deliveries: 0,
            observed: Observed::default(),
        };
        if class != Class::NeverDelivered {
            record.upstream.push(Delivery {
                sent_at: Some(Timestamp::now()),
                answered_at: (class == Class::Unseen).then(Timestamp::now),
                ..Delivery::default()
            });
        }
        record.client.outcome = Outcome::Closed;
        let entry = self.context.ledger.begin(record);
        assert_eq!(self.context.ledger.finish(&entry, 0), class);
    }

    pub async fn end(self) {
        self.context.state.stop(Stopping::Now);
        let _ = self.stop.send(());
        self.serving.await.unwrap();
    }
}
