//! A typed client of the control API.
//!
//! One connection a request: a command line asks rarely, and a connection that was kept could be a
//! dead one when it is needed to heal. Nothing is retried here.

mod error;
mod events;
mod lines;
mod records;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::clock;
use crate::config;
use crate::dial::{NotDialled, dial};
use crate::evidence::Filter;
use crate::evidence::findings::{Finding, Wanted};
use crate::tls;
use crate::url::{NoUrl, Url};
use crate::wire::{
    DrillItem, ErrorBody, Healed, Heartbeat, List, PartitionItem, ProxyItem, Reloaded, RuleItem,
    Status,
};

pub use error::ClientError;
pub use events::{Events, News};
use lines::Lines;
pub use records::Records;

/// Where `firedrill serve` listens when its file does not say.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8474";

/// The header with which a controller names itself.
const CONTROLLER: &str = "firedrill-controller";
/// For the connection, name resolution included.
const CONNECT: Duration = Duration::from_secs(5);
/// Until an answer begins.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest answer that is not a stream of records.
const MAX_ANSWER: usize = 64 << 20;

/// Whose certificates a control plane that speaks TLS may show, and what it is shown.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Whom to trust.
    pub roots: Roots,
    /// Shown if it asks.
    pub own: Option<Arc<CertifiedKey>>,
}

/// The CAs that are trusted.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// Those that this system trusts.
    #[default]
    System,
    /// These.
    These(RootCertStore),
    /// Whoever answers is believed.
    Anyone,
}

/// A control plane's address, and the token for it. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    /// As given.
    url: String,
    at: Url,
    bearer: Option<HeaderValue>,
    /// Where the URL says `https`.
    tls: Option<Arc<tls::Client>>,
    controller: Option<HeaderValue>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the token.
        write!(f, "Client({})", self.url)
    }
}

impl Client {
    /// A client of the control plane at `url`: `http://host:port`, `https://host:port`, or
    /// `host:port`.
    ///
    /// # Errors
    /// When that is no such URL, or the token can't be sent. Nothing is connected yet.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        Self::trusting(url, token, Trust::default())
    }

    /// The same, with a word on whom to trust where `url` is `https`.
    ///
    /// # Errors
    /// Also when there is no CA to trust.
    pub fn trusting(url: &str, token: Option<&str>, trust: Trust) -> Result<Self, ClientError> {
        let wrong = |reason| ClientError::Url {
            url: url.to_owned(),
            reason,
        };
        let full = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let at = Url::parse(&full).map_err(|why| match why {
            NoUrl::User => wrong(format!("{why}; a token goes into FIREDRILL_TOKEN")),
            why => wrong(why.to_string()),
        })?;
        let tls = || {
            let name = ServerName::try_from(at.host.clone())
                .map_err(|_| wrong("its host can't be a name in a certificate".to_owned()))?;
            let roots = match trust.roots {
                Roots::System => Some(config::system_roots().clone()),
                Roots::These(roots) => Some(roots),
                Roots::Anyone => None,
            };
            let client = tls::Client::new(roots, trust.own, name);
            client.map(Arc::new).map_err(|reason| ClientError::Trust {
                url: url.to_owned(),
                reason,
            })
        };
        let tls = if at.secure { Some(tls()?) } else { None };
        let bearer = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| ClientError::Token)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            url: url.to_owned(),
            at,
            bearer: bearer.transpose()?,
            tls,
            controller: None,
        })
    }

    /// The same, whose changes are this controller's.
    ///
    /// # Errors
    /// When that can't be sent as a name.
    pub fn controlled_by(mut self, name: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(name).map_err(|_| ClientError::Controller)?;
        self.controller = Some(value);
        Ok(self)
    }

    /// As given to [`Client::new`].
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How everything stands.
    ///
    /// # Errors
    /// See [`ClientError`]; so for every method here.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.json(Method::GET, "/v1/status", None).await
    }

    /// All proxies.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn proxies(&self) -> Result<List<ProxyItem>, ClientError> {
        self.json(Method::GET, "/v1/proxies", None).await
    }

    /// One proxy.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn proxy(&self, name: &str) -> Result<ProxyItem, ClientError> {
        self.json(Method::GET, &at("proxies", name), None).await
    }

    /// Makes a proxy, of the same object as in the file.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_proxy(&self, proxy: &Value) -> Result<ProxyItem, ClientError> {
        self.json(Method::POST, "/v1/proxies", Some(proxy)).await
    }

    /// Makes a proxy, or puts this in the place of the one that there is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_proxy(&self, name: &str, proxy: &Value) -> Result<ProxyItem, ClientError> {
        self.json(Method::PUT, &at("proxies", name), Some(proxy))
            .await
    }

    /// Alters these keys of a proxy.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn patch_proxy(&self, name: &str, keys: &Value) -> Result<ProxyItem, ClientError> {
        self.json(Method::PATCH, &at("proxies", name), Some(keys))
            .await
    }

    /// Deletes a proxy.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_proxy(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&at("proxies", name)).await
    }

    /// All rules.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rules(&self) -> Result<List<RuleItem>, ClientError> {
        self.json(Method::GET, "/v1/rules", None).await
    }

    /// One rule.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rule(&self, name: &str) -> Result<RuleItem, ClientError> {
        self.json(Method::GET, &at("rules", name), None).await
    }

    /// Makes a rule, of the same object as in the file.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_rule(&self, rule: &Value) -> Result<RuleItem, ClientError> {
        self.json(Method::POST, "/v1/rules", Some(rule)).await
    }

    /// Makes a rule, or replaces the one of that name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_rule(&self, name: &str, rule: &Value) -> Result<RuleItem, ClientError> {
        self.json(Method::PUT, &at("rules", name), Some(rule)).await
    }

    /// Alters the given keys of a rule; `enabled`, with or without `ttl`, switches it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn patch_rule(&self, name: &str, keys: &Value) -> Result<RuleItem, ClientError> {
        self.json(Method::PATCH, &at("rules", name), Some(keys))
            .await
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_rule(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&at("rules", name)).await
    }

    /// All partitions.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn partitions(&self) -> Result<List<PartitionItem>, ClientError> {
        self.json(Method::GET, "/v1/partitions", None).await
    }

    /// One partition.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn partition(&self, name: &str) -> Result<PartitionItem, ClientError> {
        self.json(Method::GET, &at("partitions", name), None).await
    }

    /// Makes a partition, of the same object as in the file.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_partition(&self, partition: &Value) -> Result<PartitionItem, ClientError> {
        self.json(Method::POST, "/v1/partitions", Some(partition))
            .await
    }

    /// Makes a partition, or replaces the one of that name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_partition(
        &self,
        name: &str,
        partition: &Value,
    ) -> Result<PartitionItem, ClientError> {
        self.json(Method::PUT, &at("partitions", name), Some(partition))
            .await
    }

    /// Alters the given keys of a partition; `enabled`, with or without `ttl`, switches it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn patch_partition(
        &self,
        name: &str,
        keys: &Value,
    ) -> Result<PartitionItem, ClientError> {
        self.json(Method::PATCH, &at("partitions", name), Some(keys))
            .await
    }

    /// Deletes a partition.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_partition(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&at("partitions", name)).await
    }

    /// Disables every rule and every partition.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn heal(&self) -> Result<Healed, ClientError> {
        self.json(Method::POST, "/v1/heal", None).await
    }

    /// Reads the file again, and applies what is different.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.json(Method::POST, "/v1/reload", None).await
    }

    /// What drills have on there now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn drills(&self) -> Result<List<DrillItem>, ClientError> {
        self.json(Method::GET, "/v1/drills", None).await
    }

    /// Says that the controller is still there.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn heartbeat(&self) -> Result<Heartbeat, ClientError> {
        self.json(Method::POST, "/v1/heartbeat", None).await
    }

    /// The changes after the generation `since`, as far as they are kept; with `follow`, then each
    /// as it is made, until the process stops.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(&self, since: u64, follow: bool) -> Result<Events, ClientError> {
        let path = format!("/v1/events?since={since}&follow={follow}");
        let answer = self.send(Method::GET, &path, None).await?;
        Ok(Events::new(Lines::new(self.clone(), answer.into_body())))
    }

    /// The records in memory, oldest first; open operations too.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn evidence(&self, filter: &Filter) -> Result<Records, ClientError> {
        self.records(filter, false).await
    }

    /// The finished records in memory, then each as it finishes, until the process stops.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn follow(&self, filter: &Filter) -> Result<Records, ClientError> {
        self.records(filter, true).await
    }

    /// Whether it takes traffic: an error if it does not.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.send(Method::GET, "/readyz", None).await.map(drop)
    }

    /// What the records in memory show.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn findings(&self, wanted: &Wanted) -> Result<List<Finding>, ClientError> {
        let Wanted {
            finding,
            from,
            to,
            since,
            until,
        } = wanted;
        let query = query([
            ("finding", finding.clone()),
            ("from", from.clone()),
            ("to", to.clone()),
            ("since", since.map(|at| at.to_string())),
            ("until", until.map(|at| at.to_string())),
        ]);
        let path = format!("/v1/findings?{query}");
        self.json(Method::GET, &path, None).await
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let answer = self.send(Method::GET, "/metrics", None).await?;
        let bytes = self.collect(answer).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn records(&self, filter: &Filter, follow: bool) -> Result<Records, ClientError> {
        let f = filter;
        let query = query([
            ("id", f.id.clone()),
            ("class", f.class.map(|c| c.to_string())),
            ("proxy", f.proxy.clone()),
            ("from", f.from.clone()),
            ("to", f.to.clone()),
            ("rule", f.rule.clone()),
            ("status", f.status.map(|statuses| statuses.to_string())),
            ("since", f.since.map(|at| at.to_string())),
            ("until", f.until.map(|at| at.to_string())),
            ("before", f.before.map(|id| id.to_string())),
            ("limit", f.limit.map(|n| n.to_string())),
            ("follow", follow.then(|| "true".to_owned())),
        ]);
        let path = format!("/v1/evidence?{query}");
        let answer = self.send(Method::GET, &path, None).await?;
        Ok(Records(Lines::new(self.clone(), answer.into_body())))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        let answer = self.send(method, path, body).await?;
        let bytes = self.collect(answer).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.protocol(&error))
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, path, None).await.map(drop)
    }

    async fn collect(&self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect();
        let body = clock::within(ANSWER, body).await;
        let body = body.ok_or_else(|| self.protocol(&"its answer does not end"))?;
        Ok(body.map_err(|error| self.protocol(&error))?.to_bytes())
    }

    /// Asks, and answers a success; anything else is an error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ClientError> {
        let dialled = dial(&self.at, self.tls.as_deref(), CONNECT).await;
        let mut sender = dialled.map_err(|why| match why {
            NotDialled::Connect(source) => ClientError::Connect {
                url: self.url.clone(),
                source,
            },
            NotDialled::Trust(source) => ClientError::Trust {
                url: self.url.clone(),
                reason: source.to_string(),
            },
            NotDialled::Http(error) => self.protocol(&error),
        })?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.at.path))
            .header(HOST, &self.at.authority);
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        if let Some(controller) = &self.controller {
            request = request.header(CONTROLLER, controller);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |value| value.to_string().into());
        let request = request.body(Full::new(body));
        let request = request.map_err(|error| self.protocol(&error))?;
        let answer = clock::within(ANSWER, sender.send_request(request)).await;
        let answer = answer.ok_or_else(|| self.protocol(&"it says nothing"))?;
        let answer = answer.map_err(|error| self.protocol(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.refusal(answer).await)
    }

    async fn refusal(&self, answer: Response<Incoming>) -> ClientError {
        let status = answer.status();
        let bytes = match self.collect(answer).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(ErrorBody { error }) => ClientError::Api {
                status: status.as_u16(),
                code: error.code,
                message: error.message,
                hint: error.hint,
                path: error.path,
            },
            Err(_) => self.protocol(&status_line(status)),
        }
    }

    fn protocol(&self, reason: &impl ToString) -> ClientError {
        ClientError::Protocol {
            url: self.url.clone(),
            reason: reason.to_string(),
        }
    }
}

fn status_line(status: StatusCode) -> String {
    format!("it says {status}")
}

/// Those that are said, as the query of a URL.
fn query<const N: usize>(pairs: [(&str, Option<String>); N]) -> String {
    let said = pairs
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| format!("{key}={}", escape(&value))));
    said.collect::<Vec<_>>().join("&")
}

/// The path of an item.
fn at(collection: &str, name: &str) -> String {
    format!("/v1/{collection}/{}", escape(name))
}

/// Percent-encodes all but RFC 3986's unreserved characters. A name of dots alone is encoded too:
/// as a path segment it would mean something else.
fn escape(text: &str) -> String {
    let dots = text.bytes().all(|b| b == b'.');
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(byte.into()),
            b'.' if !dots => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_users_write_them() {
        for (url, at) in [
            ("localhost:1", "http://localhost:1"),
            ("http://chaos.example/fire/", "http://chaos.example/fire/"),
            ("https://[::1]:8474", "https://[::1]:8474"),
        ] {
            let anyone = Trust {
                roots: Roots::Anyone,
                own: None,
            };
            let client = Client::trusting(url, None, anyone).unwrap();
            assert_eq!(client.tls.is_some(), client.at.secure, "{url}");
            assert_eq!(client.at, Url::parse(at).unwrap());
        }
        for url in ["ftp://a", "http://", "http://u:p@a", "a b"] {
            let error = Client::new(url, None).unwrap_err();
            assert!(matches!(error, ClientError::Url { .. }), "{url}: {error}");
        }
        assert!(matches!(
            Client::new(DEFAULT_URL, Some("a\nb")),
            Err(ClientError::Token)
        ));
    }

    #[test]
    fn names_are_one_segment_of_a_path() {
        assert_eq!(at("rules", "p/t"), "/v1/rules/p%2Ft");
        assert_eq!(at("rules", ".."), "/v1/rules/%2E%2E");
        assert_eq!(at("rules", "ä?#%"), "/v1/rules/%C3%A4%3F%23%25");
    }
}
