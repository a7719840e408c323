//! A connection to a server that this process asks something itself, over HTTP/1.1: a control plane,
//! a collector of traces.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::clock;
use crate::tls;
use crate::url::Url;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NotDialled {
    /// Nobody answers there.
    #[error("can't connect: {0}")]
    Connect(io::Error),
    /// No TLS with whoever answers there.
    #[error("no TLS: {0}")]
    Trust(io::Error),
    /// No HTTP with it.
    #[error("{0}")]
    Http(hyper::Error),
}

/// Connects, name resolution included, and shakes hands where there is TLS; `limit` for each of the
/// two. The connection lives until the sender is dropped and what it was asked is answered.
///
/// # Errors
/// Why there is none; taking longer is `TimedOut`.
pub async fn dial(
    url: &Url,
    tls: Option<&tls::Client>,
    limit: Duration,
) -> Result<SendRequest<Full<Bytes>>, NotDialled> {
    let stream = in_time(limit, TcpStream::connect((url.host.as_str(), url.port)));
    let stream = stream.await.map_err(NotDialled::Connect)?;
    let Some(tls) = tls else {
        return speak(stream).await;
    };
    let connector = TlsConnector::from(tls.config(vec![b"http/1.1".to_vec()]));
    let greeted = in_time(limit, connector.connect(tls.server_name(), stream));
    speak(greeted.await.map_err(NotDialled::Trust)?).await
}

async fn in_time<T>(limit: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    clock::within(limit, what).await.ok_or_else(late)?
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, NotDialled> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(NotDialled::Http)?;
    // Its error reaches us through the answer.
    tokio::spawn(connection);
    Ok(sender)
}
