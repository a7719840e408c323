//! A collector of traces: takes OTLP over HTTP, keeps what it took, and answers as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::until;

/// How one request is answered; where nothing is said, it is taken.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// It is taken, but for so many spans.
    Reject(i64),
    /// This status, and when to come again.
    Status(u16, Option<u32>),
    /// Nothing is ever said.
    Hang,
    /// The connection is closed instead.
    Close,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub at: Instant,
    /// Which connection it came over.
    pub connection: usize,
    pub path: String,
    /// In lower case.
    pub headers: BTreeMap<String, String>,
    pub resource: Resource,
    pub spans: Vec<Span>,
    pub taken: bool,
}

#[derive(Clone)]
pub struct Collector {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0").await
    }

    /// One at this address.
    pub async fn at(addr: &str) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let this = Self {
            addr: listener.local_addr().unwrap(),
            asked: Arc::default(),
            answers: Arc::default(),
        };
        let collector = this.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(collector.clone().serve(socket, connection));
            }
        });
        this
    }

    /// The next requests are answered so, one after the other.
    pub fn answer(&self, answers: &[Answer]) {
        self.answers.lock().unwrap().extend(answers);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The spans that it took, in the order of their coming.
    pub fn spans(&self) -> Vec<Span> {
        let asked = self.asked().into_iter().filter(|asked| asked.taken);
        asked.flat_map(|asked| asked.spans).collect()
    }

    /// Waits until it has taken so many.
    pub async fn taken(&self, n: usize) -> Vec<Span> {
        until(&format!("{n} spans are taken"), || {
            Some(self.spans()).filter(|spans| spans.len() >= n)
        })
        .await
    }

    /// Answers over one connection.
    pub async fn serve(
        self,
        mut socket: impl AsyncRead + AsyncWrite + Unpin,
        connection: usize,
    ) -> io::Result<()> {
        while let Some((path, headers, body)) = request(&mut socket).await? {
            let request = ExportTraceServiceRequest::decode(&*body).unwrap();
            let answer = self.answers.lock().unwrap().pop_front();
            let [of_ours] = <[_; 1]>::try_from(request.resource_spans).unwrap();
            let [scope] = <[_; 1]>::try_from(of_ours.scope_spans).unwrap();
            assert_eq!(scope.scope.unwrap().name, "firedrill");
            self.asked.lock().unwrap().push(Asked {
                at: Instant::now(),
                connection,
                path,
                headers,
                resource: of_ours.resource.unwrap(),
                spans: scope.spans,
                taken: matches!(answer, None | Some(Answer::Reject(_))),
            });
            let (head, body) = match answer {
                None => ("200 OK".to_owned(), Vec::new()),
                Some(Answer::Reject(rejected_spans)) => {
                    let answer = ExportTraceServiceResponse {
                        partial_success: Some(ExportTracePartialSuccess {
                            rejected_spans,
                            error_message: "too old".to_owned(),
                        }),
                    };
                    ("200 OK".to_owned(), answer.encode_to_vec())
                }
                Some(Answer::Status(status, after)) => {
                    let after = after.map(|seconds| format!("\r\nRetry-After: {seconds}"));
                    let head = format!("{status} Told so{}", after.unwrap_or_default());
                    (head, Vec::new())
                }
                Some(Answer::Hang) => return std::future::pending().await,
                Some(Answer::Close) => return Ok(()),
            };
            let head = format!(
                "HTTP/1.1 {head}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(&body).await?;
            socket.flush().await?;
        }
        Ok(())
    }
}

type Request = (String, BTreeMap<String, String>, Vec<u8>);

/// One request with its body; `None`: there is no other.
async fn request(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let first: Vec<_> = lines.next().unwrap().split(' ').collect();
    assert_eq!((first[0], first[2]), ("POST", "HTTP/1.1"));
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<_, _> = pairs
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    socket.read_exact(&mut body).await?;
    Ok(Some((first[1].to_owned(), headers, body)))
}

/// Attributes as texts, by their keys.
pub fn told(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let told = attributes.iter().map(|pair| {
        let value = match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(n) => n.to_string(),
            Value::BoolValue(flag) => flag.to_string(),
            other => panic!("{other:?}"),
        };
        (pair.key.clone(), value)
    });
    told.collect()
}

/// What a span says under this key.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    told(&span.attributes).remove(key)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
