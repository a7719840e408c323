//! A service: an HTTP/1.1 server on a port of its own, a role, and the role's ledger.
//!
//! Knows nothing of what a role does. A service works on when its caller has gone; it is busy for
//! as long.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::http::{IDEMPOTENCY_KEY, TRACEPARENT};
use super::ledger::Ledger;
use crate::clock;

/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(50);

/// A request as a role sees it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// Without the query.
    pub(super) path: String,
    pub(super) query: String,
    /// The operation that the caller names.
    pub(super) operation: Option<String>,
    /// The trace that the caller says it belongs to.
    pub(super) trace: Option<String>,
    /// `null` where there is none, or no JSON.
    pub(super) body: Value,
}

impl Asked {
    /// The path, for a `match` on its segments.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.path.split('/').skip(1).collect()
    }

    /// Whether the query says `key=1`.
    pub(super) fn says(&self, key: &str) -> bool {
        let mut pairs = self.query.split('&').filter_map(|p| p.split_once('='));
        pairs.any(|(k, v)| k == key && v == "1")
    }

    /// A text of the body; empty where there is none.
    pub(super) fn text(&self, key: &str) -> &str {
        self.body[key].as_str().unwrap_or_default()
    }
}

/// What a role says.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Reply {
    pub(super) fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body }
    }

    pub(super) fn unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, json!({ "error": "not found" }))
    }
}

/// The service crashed: its connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("crashed")]
pub(super) struct Crashed;

/// What a service does.
pub(super) trait Role: Send + Sync + 'static {
    /// What it durably knows.
    fn ledger(&self) -> &Ledger;

    /// Answers a request, or crashes over it.
    fn answer(self: Arc<Self>, asked: Asked)
    -> impl Future<Output = Result<Reply, Crashed>> + Send;
}

/// How much is being worked on, over all services.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    /// Counts one more until what is answered is dropped.
    pub(super) fn begin(&self) -> Work {
        self.0.fetch_add(1, AcqRel);
        Work(self.clone())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.load(Acquire) == 0
    }
}

/// Something that is being worked on.
#[derive(Debug)]
pub(super) struct Work(Busy);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, AcqRel);
    }
}

/// A port that a service will answer on.
#[derive(Debug)]
pub(super) struct Port {
    listener: TcpListener,
    /// What is bound.
    pub(super) address: SocketAddr,
}

impl Port {
    pub(super) async fn bind(wanted: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(wanted).await;
        let listener = listener.with_context(|| format!("can't listen on {wanted}"))?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
        })
    }

    /// Answers until dropped.
    pub(super) async fn serve<R: Role>(self, role: Arc<R>, busy: Busy) {
        let mut connections = JoinSet::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&role), busy.clone()));
                }
                // Mostly for want of descriptors: some will be given back.
                Err(error) => {
                    tracing::warn!(%error, "can't accept");
                    clock::sleep(PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn connection<R: Role>(stream: TcpStream, role: Arc<R>, busy: Busy) {
    let service = service_fn(move |request| answer(Arc::clone(&role), request, busy.begin()));
    let mut server = http1::Builder::new();
    // A caller that says no more, or has gone, does not stop what it has asked for.
    server.half_close(true);
    let served = server.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn answer<R: Role>(
    role: Arc<R>,
    request: Request<Incoming>,
    _work: Work,
) -> Result<Response<Full<Bytes>>, Crashed> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Crashed)?.to_bytes();
    let header = |name| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned)
    };
    let (operation, trace) = (header(IDEMPOTENCY_KEY), header(TRACEPARENT));
    let asked = Asked {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        operation,
        trace,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let reply = match (&asked.method, asked.path.as_str()) {
        (&Method::GET, "/ledger") => Reply::new(StatusCode::OK, role.ledger().to_json()),
        _ => role.answer(asked).await?,
    };
    let mut response = Response::new(Full::new(format!("{}\n", reply.body).into()));
    *response.status_mut() = reply.status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}
