//! One question to another service, with a patience: a connection of its own, no retry, no reuse.
//!
//! What is given up is let go of at once: the connection closes, as a real caller's does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::clock;

/// Where a service is found: `host:port`.
pub(super) type Way = Arc<str>;

/// The header that names an operation.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that says to which trace a request belongs.
pub(super) const TRACEPARENT: &str = "traceparent";

/// A question: where to, what, and how long an answer is awaited.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    to: Way,
    method: Method,
    path: String,
    body: Option<Value>,
    operation: Option<String>,
    trace: Option<String>,
    patience: Duration,
}

/// An answer came in full.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Answer {
    /// A text of the body; empty where there is none.
    pub(super) fn text(&self, key: &str) -> &str {
        self.body[key].as_str().unwrap_or_default()
    }
}

/// No answer came, or none that is one: the caller stopped waiting, or the connection ended. What
/// the other side did is not known.
#[derive(Debug)]
pub(super) struct NoAnswer;

impl Ask {
    pub(super) fn get(to: &Way, path: String, patience: Duration) -> Self {
        Self {
            to: Arc::clone(to),
            method: Method::GET,
            path,
            body: None,
            operation: None,
            trace: None,
            patience,
        }
    }

    pub(super) fn post(to: &Way, path: &str, body: Value, patience: Duration) -> Self {
        Self {
            method: Method::POST,
            body: Some(body),
            ..Self::get(to, path.to_owned(), patience)
        }
    }

    /// Names the operation that this belongs to.
    pub(super) fn operation(mut self, operation: Option<&str>) -> Self {
        self.operation = operation.map(str::to_owned);
        self
    }

    /// Says to which trace this belongs.
    pub(super) fn trace(mut self, trace: Option<&str>) -> Self {
        self.trace = trace.map(str::to_owned);
        self
    }

    /// Asks once.
    pub(super) async fn send(self) -> Result<Answer, NoAnswer> {
        let patience = self.patience;
        let answer = clock::within(patience, self.exchange()).await;
        answer.ok_or(NoAnswer)?.map_err(|error| {
            tracing::debug!(%error, "no answer");
            NoAnswer
        })
    }

    async fn exchange(self) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect(&*self.to).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Dropped with this future, and the connection with it.
        let mut carrying = JoinSet::new();
        carrying.spawn(connection);
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(HOST, &*self.to);
        if let Some(operation) = self.operation {
            request = request.header(IDEMPOTENCY_KEY, operation);
        }
        if let Some(trace) = self.trace {
            request = request.header(TRACEPARENT, trace);
        }
        if self.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = self.body.map_or_else(Bytes::new, |b| b.to_string().into());
        let answer = sender.send_request(request.body(Full::new(body))?).await?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await?.to_bytes();
        Ok(Answer {
            status,
            body: serde_json::from_slice(&bytes)?,
        })
    }
}
