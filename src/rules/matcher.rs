//! Which operations a rule means.

mod glob;
mod meets;
mod message;
mod pattern;
mod ranges;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use self::meets::Sum;
use super::Nth;
use crate::operation::{Facts, Request, Sni};
use crate::units::{format_duration, format_size};

pub use glob::{Glob, HostGlob, PathGlob};
pub use meets::{Awaited, Meets, Rest};
pub use message::{BodyMatch, GrpcMatch, ResponseMatch};
pub use pattern::{PathPattern, Pattern, Regex};
pub use ranges::{Ordinals, Statuses, Subnet};

/// The header by which a caller asks for rules that are marked as `asked`.
pub const ASKS: &str = "x-firedrill-fault";

/// Every condition must hold; an empty one matches all operations, connections included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matcher {
    /// The client is in any of these. Empty: any.
    pub clients: Vec<Subnet>,
    /// The connection's ordinal at its proxy is in any of these. Empty: any.
    pub connections: Vec<Ordinals>,
    /// At least so many bytes of the connection have been read.
    pub bytes: Option<u64>,
    /// The connection was accepted at least that long ago.
    pub age: Option<Duration>,
    /// The host that a TLS client asks for.
    pub sni: Option<HostGlob>,
    /// Any of these; compared as it came. Empty: any.
    pub methods: Vec<String>,
    /// The host that a request is for.
    pub host: Option<HostGlob>,
    /// The path without its query.
    pub path: Option<PathPattern>,
    /// Parameters of the query, as they came (not decoded); of a repeated one any may match.
    pub query: Vec<(String, Pattern)>,
    /// Headers; of a repeated one any value may match.
    pub headers: Vec<(String, Pattern)>,
    /// Cookies; of a repeated one any value may match.
    pub cookies: Vec<(String, Pattern)>,
    /// It is a gRPC call, of this service and method.
    pub grpc: Option<GrpcMatch>,
    /// What a request's body holds.
    pub body: Option<Arc<BodyMatch>>,
    /// What the upstream's answer is.
    pub response: Option<Arc<ResponseMatch>>,
    /// The how-manieth it is of those that meet the rest. Not looked at by [`Matcher::meets`]: who
    /// asks counts. In the outermost matcher only.
    pub nth: Option<Nth>,
    /// The caller asks for it by this name. In the outermost matcher only.
    pub asked: Option<String>,
    /// These hold as well.
    pub all: Vec<Matcher>,
    /// At least one of these holds. Empty: nothing is asked.
    pub any: Vec<Matcher>,
    /// This does not hold.
    pub not: Option<Box<Matcher>>,
}

/// Where and when conditions are to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// A connection with no known messages, when it is accepted.
    Accepted,
    /// A connection with no known messages, sooner or later.
    Stream,
    /// An HTTP request.
    Http,
}

impl Matcher {
    /// Whether the operation is meant, as far as it is known. What held once of a connection holds
    /// to its end. A condition on what there is not (HTTP of a plain connection) is false, and so
    /// is its negation: who asks about requests does not mean connections.
    #[must_use]
    pub fn meets(&self, facts: &Facts<'_>) -> Meets {
        self.judge(facts, true)
    }

    /// `holds`: whether it is to hold or, behind a `not`, not to. By de Morgan's laws the
    /// negation is carried down to the single conditions, so that each is judged where it stands.
    fn judge(&self, facts: &Facts<'_>, holds: bool) -> Meets {
        let mut sum = Sum::new(holds);
        let known = |met: bool| Meets::known(met == holds);
        let http = facts.http.as_ref();
        // What comes with time only. Of a request it is judged once, at its head.
        let course = |met: bool, awaited: Awaited| match (met || !holds, http) {
            (false, None) => Meets::Later(Rest::Course(awaited)),
            _ => known(met),
        };
        let client = |net: &Subnet| net.contains(facts.client);
        let ordinal = |span: &Ordinals| span.contains(facts.connection);
        let _settled = (!self.clients.is_empty()
            && sum.add(known(self.clients.iter().any(client))))
            || (!self.connections.is_empty()
                && sum.add(known(self.connections.iter().any(ordinal))))
            || self.asks_of_head()
                && sum.add(match http {
                    None => Meets::Never,
                    Some(request) => known(self.matches_request(request)),
                })
            || self.bytes.is_some_and(|bytes| {
                let awaited = Awaited {
                    bytes: Some(bytes),
                    ..Awaited::default()
                };
                sum.add(course(bytes <= facts.bytes, awaited))
            })
            || self.age.is_some_and(|age| {
                let awaited = Awaited {
                    age: Some(age),
                    ..Awaited::default()
                };
                sum.add(course(age <= facts.age, awaited))
            })
            || self.sni.as_ref().is_some_and(|glob| {
                let awaited = Awaited {
                    sni: true,
                    ..Awaited::default()
                };
                sum.add(match (http, facts.sni) {
                    (Some(_), _) => Meets::Never,
                    (None, Sni::Unknown) => Meets::Later(Rest::Course(awaited)),
                    (None, Sni::Named(host)) => known(glob.matches(host)),
                    (None, Sni::Absent) => known(false),
                })
            })
            || self
                .body
                .as_ref()
                .is_some_and(|body| sum.add(later(http, || Rest::Body(body.clone(), holds))))
            || self.response.as_ref().is_some_and(|response| {
                sum.add(later(http, || Rest::Response(response.clone(), holds)))
            })
            || self.all.iter().any(|m| sum.add(m.judge(facts, holds)))
            || !self.any.is_empty() && {
                let mut any = Sum::new(!holds);
                let _settled = self.any.iter().any(|m| any.add(m.judge(facts, holds)));
                sum.add(any.finish())
            }
            || self
                .not
                .as_ref()
                .is_some_and(|m| sum.add(m.judge(facts, !holds)));
        sum.finish()
    }

    /// Whether it can hold at all on that ground. One that can't anywhere contradicts itself.
    #[must_use]
    pub fn can_hold(&self, on: Ground) -> bool {
        self.is_possible(on, true)
    }

    /// Whether it can hold (or with `holds` false, behind a `not`, fail to) on that ground.
    #[must_use]
    pub fn is_possible(&self, on: Ground, holds: bool) -> bool {
        let http = on == Ground::Http;
        let course = !holds || on != Ground::Accepted;
        let own = [
            (
                !self.clients.is_empty() || !self.connections.is_empty(),
                true,
            ),
            (self.bytes.is_some() || self.age.is_some(), course),
            (self.sni.is_some(), on == Ground::Stream),
            (self.asks_of_http(), http),
        ];
        let own = own
            .into_iter()
            .filter_map(|(given, can)| given.then_some(can));
        let all = self.all.iter().map(|m| m.is_possible(on, holds));
        let any = (!self.any.is_empty()).then(|| {
            let mut any = self.any.iter().map(|m| m.is_possible(on, holds));
            if holds {
                any.any(|can| can)
            } else {
                any.all(|can| can)
            }
        });
        let not = self.not.iter().map(|m| m.is_possible(on, !holds));
        let mut each = own.chain(all).chain(any).chain(not);
        if holds {
            each.all(|can| can)
        } else {
            each.any(|can| can)
        }
    }

    /// Its own conditions that can't hold yet when a connection is accepted, by their keys.
    pub fn late(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("bytes", self.bytes.is_some()),
            ("age", self.age.is_some()),
            ("sni", self.sni.is_some()),
        ];
        all.into_iter()
            .filter_map(|(key, given)| given.then_some(key))
    }

    /// The matchers within it, and where they stand: the key, and which of a list.
    pub fn within(&self) -> impl Iterator<Item = (&'static str, Option<usize>, &Self)> {
        let all = self.all.iter().enumerate();
        let any = self.any.iter().enumerate();
        all.map(|(n, m)| ("all", Some(n), m))
            .chain(any.map(|(n, m)| ("any", Some(n), m)))
            .chain(self.not.iter().map(|m| ("not", None, &**m)))
    }

    /// Whether it asks about the answer, here or within.
    #[must_use]
    pub fn asks_of_answers(&self) -> bool {
        self.response.is_some() || self.within().any(|(.., m)| m.asks_of_answers())
    }

    /// Whether it asks, itself, about anything that only HTTP has.
    fn asks_of_http(&self) -> bool {
        let more = self.body.is_some() || self.response.is_some() || self.nth.is_some();
        more || self.asks_of_head()
    }

    fn asks_of_head(&self) -> bool {
        let Self {
            clients: _,
            connections: _,
            bytes: _,
            age: _,
            sni: _,
            methods,
            host,
            path,
            query,
            headers,
            cookies,
            grpc,
            body: _,
            response: _,
            nth: _,
            asked,
            all: _,
            any: _,
            not: _,
        } = self;
        let lists = methods.is_empty() && [query, headers, cookies].iter().all(|l| l.is_empty());
        !lists || host.is_some() || path.is_some() || grpc.is_some() || asked.is_some()
    }

    fn matches_request(&self, request: &Request<'_>) -> bool {
        let method = self.methods.is_empty() || self.methods.iter().any(|m| m == request.method);
        let host = |glob: &HostGlob| {
            let host = request.host();
            host.is_some_and(|host| glob.matches(&host.to_ascii_lowercase()))
        };
        method
            && self.path.as_ref().is_none_or(|p| p.matches(request.path))
            && self.host.as_ref().is_none_or(host)
            && self.query.iter().all(|(name, value)| {
                pairs(request.query).any(|(n, v)| n == name && value.matches(v.as_bytes()))
            })
            && message::has_headers(request.headers, &self.headers)
            && self.cookies.iter().all(|(name, value)| {
                cookies(request).any(|(n, v)| n == name.as_bytes() && value.matches(v))
            })
            && self.grpc.as_ref().is_none_or(|call| {
                let content_type = request.header_values("content-type").next();
                call.matches(request.path, content_type)
            })
            && self.asked.as_ref().is_none_or(|name| {
                let mut asks = request
                    .header_values(ASKS)
                    .flat_map(|v| v.split(|b| *b == b','));
                asks.any(|asked| asked.trim_ascii() == name.as_bytes())
            })
    }

    /// As in the file; what is not asked for is left out.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let clients = self.clients.iter().map(|net| net.to_string().into());
        let connections = self.connections.iter().map(Ordinals::to_json);
        let methods = self.methods.iter().map(|method| method.clone().into());
        let host = |glob: &Option<HostGlob>| glob.as_ref().map(|glob| glob.as_str().into());
        let list = |list: &[Self]| {
            let all = list.iter().map(|m| Value::from(m.to_json()));
            (!list.is_empty()).then(|| all.collect())
        };
        given([
            ("client", one_or_list(clients.collect())),
            ("connection", one_or_list(connections.collect())),
            ("bytes", self.bytes.map(|n| format_size(n).into())),
            ("age", self.age.map(|age| format_duration(age).into())),
            ("sni", host(&self.sni)),
            ("method", one_or_list(methods.collect())),
            ("host", host(&self.host)),
            ("path", self.path.as_ref().map(PathPattern::to_json)),
            ("query", patterns(&self.query)),
            ("headers", patterns(&self.headers)),
            ("cookies", patterns(&self.cookies)),
            ("grpc", self.grpc.as_ref().map(GrpcMatch::to_json)),
            ("body", self.body.as_ref().map(|body| body.to_json())),
            ("response", self.response.as_ref().map(|r| r.to_json())),
            ("request", self.nth.as_ref().map(Nth::to_json)),
            ("asked", self.asked.as_ref().map(|_| true.into())),
            ("all", list(&self.all)),
            ("any", list(&self.any)),
            ("not", self.not.as_ref().map(|m| m.to_json().into())),
        ])
    }
}

/// What is not known of a request before more of it has come; where there is none, never.
fn later(http: Option<&Request<'_>>, rest: impl FnOnce() -> Rest) -> Meets {
    http.map_or(Meets::Never, |_| Meets::Later(rest()))
}

fn given<'k>(keys: impl IntoIterator<Item = (&'k str, Option<Value>)>) -> Map<String, Value> {
    let keys = keys.into_iter();
    keys.filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

fn patterns(pairs: &[(String, Pattern)]) -> Option<Value> {
    let each = pairs.iter().map(|(name, p)| (name.clone(), p.to_json()));
    let map: Map<_, _> = each.collect();
    (!map.is_empty()).then(|| map.into())
}

pub(in crate::rules) fn one_or_list(mut values: Vec<Value>) -> Option<Value> {
    match values.len() {
        0 => None,
        1 => values.pop(),
        _ => Some(values.into()),
    }
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.into_iter().flat_map(|q| q.split('&'));
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// The cookies of a request, over all its headers of them (HTTP/2 may send one each).
fn cookies<'a>(request: &Request<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + 'a {
    let values = request.header_values("cookie");
    let parts = values.flat_map(|value| value.split(|b| *b == b';'));
    parts.filter_map(|part| {
        let at = part.iter().position(|b| *b == b'=')?;
        Some((part[..at].trim_ascii(), part[at + 1..].trim_ascii()))
    })
}
