//! `traces`: where finished operations are sent as spans.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::files::read;
use super::node::Node;
use super::tls;
use super::value::{Value, quoted};
use crate::tls::Tls;
use crate::url::{NoUrl, Url};

const COLLECTOR: &str = "the address of a collector such as `http://127.0.0.1:4318`";

/// What the exporter says itself.
const OUR_HEADERS: [&str; 6] = [
    "host",
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "user-agent",
];

/// Where finished operations are sent as spans, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracesConfig {
    /// The collector's address, before `/v1/traces`.
    pub otlp: Url,
    /// Sent with every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How TLS is spoken, where the address says so.
    pub tls: Option<Tls>,
    /// For one request, with its answer.
    pub timeout: Duration,
    /// What Firedrill is called among the services: `service.name`.
    pub service: String,
    /// What else is said of it.
    pub resource: Vec<(String, String)>,
    /// Also operations whose caller does not record its own span.
    pub all: bool,
}

impl TracesConfig {
    /// For one request, with its answer, unless it is said.
    pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
    /// What Firedrill is called unless it is said.
    pub(super) const SERVICE: &str = "firedrill";
}

pub(super) fn traces(node: &Node<'_>) -> Option<Option<TracesConfig>> {
    node.map(|f| {
        let otlp = f.need("otlp", COLLECTOR, address);
        let headers = f.or("headers", Vec::new(), headers);
        let timeout = f.or("timeout", TracesConfig::TIMEOUT, Node::time);
        let service = f.or("service", TracesConfig::SERVICE.to_owned(), |n| {
            n.some_text("the name of a service")
        });
        let resource = f.or("resource", Vec::new(), resource);
        let all = f.or("all", false, Node::flag);
        let said = f.get("tls");
        let otlp = otlp?;
        let tls = spoken(node, &otlp, said.as_ref());
        Some(TracesConfig {
            otlp,
            headers,
            tls,
            timeout,
            service,
            resource,
            all,
        })
    })
}

fn address(node: &Node<'_>) -> Option<Url> {
    if let Value::Int(_, port) = node.value {
        node.wrong(COLLECTOR, did_you_mean(&format!("127.0.0.1:{port}")));
        return None;
    }
    let text = node.text(COLLECTOR)?;
    let wrong = |why: NoUrl| {
        let found = quoted(&text);
        let (message, hint) = match why {
            // Not to be shown to whoever looks on.
            NoUrl::User => (
                format!("expected {COLLECTOR}; {why}"),
                Some("what the collector wants to know goes into `headers`".to_owned()),
            ),
            _ => (
                format!("expected {COLLECTOR}, found {found}: {why}"),
                did_you_mean(&text),
            ),
        };
        match hint {
            Some(hint) => node.problem_hint(message, hint),
            None => node.problem(message),
        }
    };
    let url = Url::parse(&text).map_err(wrong).ok()?;
    if url.path.ends_with("/v1/traces") {
        node.problem_hint("`/v1/traces` is put behind it", "leave it out");
        return None;
    }
    Some(url)
}

/// A host without a scheme is one over HTTP, on the usual port unless it says another.
fn did_you_mean(text: &str) -> Option<String> {
    let port = if text.contains(':') { "" } else { ":4318" };
    let meant = format!("http://{text}{port}");
    let is_one = !text.contains("://") && Url::parse(&meant).is_ok();
    is_one.then(|| format!("did you mean `{meant}`?"))
}

fn headers(node: &Node<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let pairs = node.pairs("a map of headers")?;
    let pairs = pairs.into_iter().filter_map(|(name, node)| {
        let Ok(read) = HeaderName::from_bytes(name.as_bytes()) else {
            let message = format!("expected the name of a header, found {}", quoted(name));
            node.its_key().problem(message);
            return None;
        };
        if OUR_HEADERS.contains(&read.as_str()) {
            node.its_key()
                .problem_hint("Firedrill sets this header itself", "leave it out");
            return None;
        }
        Some((read, header(&node)?))
    });
    Some(pairs.collect())
}

/// A text, or the file that it stands in.
fn header(node: &Node<'_>) -> Option<HeaderValue> {
    let text = match node.value {
        Value::Map(_) => node.map(|f| f.need("file", "the path of a file", in_a_file))??,
        Value::Null | Value::List(_) => {
            node.wrong("a text, or `{ file: PATH }`", None);
            return None;
        }
        _ => node.loose_text()?,
    };
    let Ok(mut value) = HeaderValue::from_str(&text) else {
        node.problem("it has characters that no header may have");
        return None;
    };
    // Not to be seen in any log.
    value.set_sensitive(true);
    Some(value)
}

fn in_a_file(node: &Node<'_>) -> Option<String> {
    let path = node.some_text("the path of a file")?;
    let bytes = read(node, &node.report().folder().join(&path), None)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    if text.trim().is_empty() {
        node.problem(format!("{} has no text in it", quoted(&path)));
        return None;
    }
    Some(text.trim().to_owned())
}

fn resource(node: &Node<'_>) -> Option<Vec<(String, String)>> {
    let pairs = node.pairs("a map of attributes")?;
    let pairs = pairs.into_iter().filter_map(|(key, node)| {
        if key == "service.name" {
            node.its_key()
                .problem_hint("this one has a key of its own", "say `traces.service`");
            return None;
        }
        Some((key.to_owned(), node.loose_text()?))
    });
    Some(pairs.collect())
}

/// `said`: what stands under the section's `tls`.
fn spoken(node: &Node<'_>, otlp: &Url, said: Option<&Node<'_>>) -> Option<Tls> {
    if otlp.secure {
        return tls::with_server(&node.key("otlp"), said, &otlp.host);
    }
    if let Some(said) = said {
        said.its_key().problem_hint(
            "no TLS is spoken there: `otlp` begins with `http:`",
            "write `https:`, or leave `tls` out",
        );
    }
    None
}
