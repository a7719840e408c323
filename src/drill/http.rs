//! One HTTP/1.1 connection to somewhere, plain or over TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::clock;
use crate::config;
use crate::dial::dial;
use crate::tls;
use crate::url::Url;

/// The longest answer that is read.
const MAX_ANSWER: usize = 16 << 20;
/// For a connection; how long an answer may take in all is up to who asks.
const CONNECT: Duration = Duration::from_secs(30);

/// A place that answers HTTP.
#[derive(Debug, Clone)]
pub(super) struct Place {
    url: Url,
    tls: Option<Arc<tls::Client>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("no answer within {}", crate::units::format_duration(*.0))]
    Timeout(Duration),
    #[error("{0}")]
    Broken(String),
}

impl NoAnswer {
    fn broken(error: impl ToString) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Place {
    /// The host of a URL.
    ///
    /// # Errors
    /// When it can't be one.
    pub(super) fn new(secure: bool, authority: &str) -> Result<Self, String> {
        let wrong = |why: &dyn ToString| format!("`{authority}`: {}", why.to_string());
        let scheme = if secure { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://{authority}")).map_err(|why| wrong(&why))?;
        let tls = || {
            let name = ServerName::try_from(url.host.clone()).map_err(|why| wrong(&why))?;
            let roots = Some(config::system_roots().clone());
            tls::Client::new(roots, None, name).map(Arc::new)
        };
        let tls = if secure { Some(tls()?) } else { None };
        Ok(Self { url, tls })
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
        let dialled = dial(&self.url, self.tls.as_deref(), CONNECT).await;
        dialled.map_err(|why| NoAnswer::Broken(format!("{}: {why}", self.url)))
    }

    /// Asks once, on a connection of its own.
    pub(super) async fn ask(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        let asking = async {
            let mut sender = self.connect().await?;
            let answer = sender.send_request(request).await;
            whole(answer.map_err(NoAnswer::broken)?).await
        };
        let answer = clock::within(timeout, asking).await;
        answer.unwrap_or(Err(NoAnswer::Timeout(timeout)))
    }

    /// A request to here.
    pub(super) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let mut request = Request::builder().method(method).uri(path);
        let own = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !own {
            request = request.header(HOST, &self.url.authority);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = body.map_or_else(Bytes::new, |text| text.to_owned().into());
        request.body(Full::new(body)).map_err(NoAnswer::broken)
    }
}

/// Reads an answer to its end.
pub(super) async fn whole(
    answer: Response<hyper::body::Incoming>,
) -> Result<(StatusCode, Bytes), NoAnswer> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(NoAnswer::broken)?.to_bytes();
    Ok((status, body))
}

/// Whether something accepts connections at `host:port`.
pub(super) async fn accepts(address: &str, timeout: Duration) -> Result<(), String> {
    let connected = clock::within(timeout, TcpStream::connect(address)).await;
    let connected = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
    connected.map(drop).map_err(|error| error.to_string())
}
