//! The collector: how it is asked, and what its answers mean (OTLP/HTTP).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use crate::clock;
use crate::config::TracesConfig;
use crate::dial::dial;
use crate::evidence::asks_to_wait;
use crate::tls;
use crate::url::Url;

/// The most of an answer that is read: it has a number and a few words.
const MAX_ANSWER: usize = 64 << 10;

/// Where it listens for traces below its address.
const PATH: &str = "/v1/traces";

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("firedrill/", env!("CARGO_PKG_VERSION")));

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Said {
    /// It has it, but for so many spans, for this reason.
    Taken(u64, String),
    /// It never will, whatever is tried.
    Refused(String),
    /// Not now: nobody is there, or it is busy; it may have said for how long.
    Later(String, Option<Duration>),
}

/// One collector, and the connection to it.
pub(super) struct Collector {
    url: Url,
    tls: Option<Arc<tls::Client>>,
    headers: HeaderMap,
    timeout: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Collector {
    /// Nothing is connected yet.
    pub(super) fn new(config: &TracesConfig) -> Self {
        Self {
            url: config.otlp.clone(),
            tls: config.tls.as_ref().and_then(|tls| tls.originate.clone()),
            headers: config.headers.iter().cloned().collect(),
            timeout: config.timeout,
            connection: None,
        }
    }

    /// As users read it.
    pub(super) fn address(&self) -> String {
        format!("{}{PATH}", self.url.to_string().trim_end_matches('/'))
    }

    /// Sends a batch, within the time that is set for it. Dropped midway, the connection is given up.
    pub(super) async fn send(&mut self, batch: &Bytes) -> Said {
        let kept = self.connection.take().filter(|kept| !kept.is_closed());
        let asked = clock::within(self.timeout, async {
            if let Some(kept) = kept {
                match self.ask(kept, batch).await {
                    // It was closed before there was an answer, as idle ones are now and then.
                    Err(error) if error.is_canceled() || error.is_incomplete_message() => {}
                    Err(error) => return Said::Later(error.to_string(), None),
                    Ok(said) => return said,
                }
            }
            let dialled = dial(&self.url, self.tls.as_deref(), self.timeout).await;
            let connection = match dialled {
                Ok(connection) => connection,
                Err(error) => return Said::Later(error.to_string(), None),
            };
            let asked = self.ask(connection, batch).await;
            asked.unwrap_or_else(|error| Said::Later(error.to_string(), None))
        });
        let late = || Said::Later("no answer in time".to_owned(), None);
        asked.await.unwrap_or_else(late)
    }

    /// Asks over a connection, and keeps it if it can be used again.
    async fn ask(
        &mut self,
        mut connection: SendRequest<Full<Bytes>>,
        batch: &Bytes,
    ) -> hyper::Result<Said> {
        connection.ready().await?;
        let mut request = Request::new(Full::new(batch.clone()));
        *request.method_mut() = Method::POST;
        // The path was read as one, and this behind it is one.
        *request.uri_mut() = format!("{}{PATH}", self.url.path)
            .parse()
            .unwrap_or_default();
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(HOST, self.url.authority.clone());
        headers.insert(CONTENT_TYPE, PROTOBUF);
        headers.insert(USER_AGENT, AGENT);
        let answer = connection.send_request(request).await?;
        let (said, whole) = read(answer).await;
        if whole {
            self.connection = Some(connection);
        }
        Ok(said)
    }

    /// What to look at when it says this, beside what it says.
    pub(super) fn hint(&self, said: &str) -> &'static str {
        if self.url.port == 4317 {
            return "; 4317 is the port for gRPC, over HTTP it is 4318";
        }
        match said.get(..3) {
            Some("404" | "405") => "; `traces.otlp` is the address before `/v1/traces`",
            Some("401" | "403") => "; what it wants goes into `traces.headers`",
            _ => "",
        }
    }
}

/// What an answer means, and whether all of it was read.
async fn read(answer: Response<Incoming>) -> (Said, bool) {
    let status = answer.status();
    let headers = answer.headers().iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let after = asks_to_wait(status.as_u16(), headers);
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let whole = body.is_ok();
    let said = match status {
        // What can't be read does not make less of a success.
        _ if status.is_success() => {
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
            let partial = answer.partial_success.unwrap_or_default();
            let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0);
            Said::Taken(rejected, partial.error_message)
        }
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let after = after.map(|seconds| Duration::from_secs(seconds.into()));
            Said::Later(status.to_string(), after)
        }
        _ => Said::Refused(status.to_string()),
    };
    (said, whole)
}
