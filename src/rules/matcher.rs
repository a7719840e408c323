//! Which operations a rule means.

mod glob;
mod ranges;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::operation::{Facts, Request, Sni};
use crate::units::{format_duration, format_size};

pub use glob::{Glob, HostGlob, PathGlob};
pub use ranges::{Ordinals, Subnet};

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
    /// The path without its query.
    pub path: Option<PathGlob>,
    /// Parameters of the query, as they came (not decoded); of a repeated one any may match.
    pub query: Vec<(String, Glob)>,
    /// Headers; of a repeated one any value may match.
    pub headers: Vec<(String, Glob)>,
}

/// Whether an operation is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meets {
    /// It is.
    Now,
    /// It is not, and will be once all of this has come.
    Later(Awaited),
    /// It never will be.
    Never,
}

/// What has still to come of a connection for conditions on it to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Awaited {
    /// So many bytes read in all.
    pub bytes: Option<u64>,
    /// So much time since it was accepted.
    pub age: Option<Duration>,
    /// The host that its client asks for, or that it asks for none.
    pub sni: bool,
}

impl Awaited {
    /// Awaits whatever of either comes first.
    pub fn join(&mut self, other: Self) {
        self.bytes = self.bytes.into_iter().chain(other.bytes).min();
        self.age = self.age.into_iter().chain(other.age).min();
        self.sni |= other.sni;
    }
}

impl Matcher {
    /// Whether it asks for something that only HTTP has.
    #[must_use]
    pub fn needs_http(&self) -> bool {
        let Self {
            clients: _,
            connections: _,
            bytes: _,
            age: _,
            sni: _,
            methods,
            path,
            query,
            headers,
        } = self;
        !(methods.is_empty() && path.is_none() && query.is_empty() && headers.is_empty())
    }

    /// Whether it asks for something that is only looked for where bytes have no known messages.
    #[must_use]
    pub fn needs_stream(&self) -> bool {
        self.sni.is_some()
    }

    /// Its conditions that can't hold yet when a connection is accepted, by their keys.
    pub fn late(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("bytes", self.bytes.is_some()),
            ("age", self.age.is_some()),
            ("sni", self.sni.is_some()),
        ];
        all.into_iter()
            .filter_map(|(key, given)| given.then_some(key))
    }

    /// Whether the operation is meant, as far as it is known. A condition on HTTP is false where
    /// there is none. What held once of a connection holds to its end.
    #[must_use]
    pub fn meets(&self, facts: &Facts<'_>) -> Meets {
        let client = |net: &Subnet| net.contains(facts.client);
        let ordinal = |span: &Ordinals| span.contains(facts.connection);
        let fixed = (self.clients.is_empty() || self.clients.iter().any(client))
            && (self.connections.is_empty() || self.connections.iter().any(ordinal))
            && match &facts.http {
                None => !self.needs_http(),
                Some(request) => self.matches_request(request),
            };
        let host = match (&self.sni, facts.sni) {
            (None, _) | (_, Sni::Unknown) => true,
            (Some(glob), Sni::Named(host)) => glob.matches(host),
            (Some(_), Sni::Absent) => false,
        };
        if !fixed || !host {
            return Meets::Never;
        }
        let awaited = Awaited {
            bytes: self.bytes.filter(|bytes| *bytes > facts.bytes),
            age: self.age.filter(|age| *age > facts.age),
            sni: self.sni.is_some() && facts.sni == Sni::Unknown,
        };
        if awaited == Awaited::default() {
            Meets::Now
        } else {
            Meets::Later(awaited)
        }
    }

    fn matches_request(&self, request: &Request<'_>) -> bool {
        let method = self.methods.is_empty() || self.methods.iter().any(|m| m == request.method);
        method
            && self.path.as_ref().is_none_or(|p| p.matches(request.path))
            && self.query.iter().all(|(name, value)| {
                pairs(request.query).any(|(n, v)| n == name && value.matches(v.as_bytes()))
            })
            && self.headers.iter().all(|(name, value)| {
                let mut named = request.headers.iter();
                named.any(|h| h.name.eq_ignore_ascii_case(name) && value.matches(h.value))
            })
    }

    /// As in the file; what is not asked for is left out.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let globs = |pairs: &[(String, Glob)]| {
            let map: Map<_, _> = pairs
                .iter()
                .map(|(name, glob)| (name.clone(), glob.0.clone().into()))
                .collect();
            (!map.is_empty()).then(|| map.into())
        };
        let clients = self.clients.iter().map(|net| net.to_string().into());
        let connections = self.connections.iter().map(Ordinals::to_json);
        let methods = self.methods.iter().map(|method| method.clone().into());
        let conditions = [
            ("client", one_or_list(clients.collect())),
            ("connection", one_or_list(connections.collect())),
            ("bytes", self.bytes.map(|n| format_size(n).into())),
            ("age", self.age.map(|age| format_duration(age).into())),
            ("sni", self.sni.as_ref().map(|glob| glob.as_str().into())),
            ("method", one_or_list(methods.collect())),
            ("path", self.path.as_ref().map(|glob| glob.0.clone().into())),
            ("query", globs(&self.query)),
            ("headers", globs(&self.headers)),
        ];
        let given = conditions.into_iter();
        given
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect()
    }
}

fn one_or_list(mut values: Vec<Value>) -> Option<Value> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(request: Option<Request<'a>>) -> Facts<'a> {
        Facts {
            client: [127, 0, 0, 1].into(),
            connection: 1,
            bytes: 0,
            age: Duration::ZERO,
            sni: Sni::Unknown,
            http: request,
        }
    }

    #[test]
    fn conditions_are_joined_and_repeats_count_once() {
        let headers = [
            httparse::Header {
                name: "X-Tenant",
                value: b"main",
            },
            httparse::Header {
                name: "x-tenant",
                value: b"canary-7",
            },
        ];
        let request = Request {
            method: "POST",
            path: "/authorize/1",
            query: Some("a=1&b=2&a=3&flag"),
            headers: &headers,
            http2: false,
        };
        let pair = |n: &str, v: &str| vec![(n.to_owned(), Glob(v.to_owned()))];
        let all = Matcher {
            clients: vec![Subnet::parse("127.0.0.0/8").unwrap()],
            connections: vec![Ordinals::parse("1").unwrap()],
            methods: vec!["PUT".to_owned(), "POST".to_owned()],
            path: Some(PathGlob("/authorize/*".to_owned())),
            query: pair("a", "3"),
            headers: pair("X-TENANT", "canary-*"),
            ..Matcher::default()
        };
        assert_eq!(all.meets(&facts(Some(request))), Meets::Now);
        for wrong in [
            Matcher {
                clients: vec![Subnet::parse("10.0.0.0/8").unwrap()],
                ..all.clone()
            },
            Matcher {
                connections: vec![Ordinals::parse("2-").unwrap()],
                ..all.clone()
            },
            Matcher {
                methods: vec!["post".to_owned()],
                ..all.clone()
            },
            Matcher {
                path: Some(PathGlob("/authorize".to_owned())),
                ..all.clone()
            },
            Matcher {
                query: pair("a", "2"),
                ..all.clone()
            },
            Matcher {
                headers: pair("x-tenant", "canary"),
                ..all.clone()
            },
        ] {
            assert_eq!(
                wrong.meets(&facts(Some(request))),
                Meets::Never,
                "{wrong:?}"
            );
        }
        assert_eq!(
            all.meets(&facts(None)),
            Meets::Never,
            "an HTTP match on plain TCP is false"
        );
        assert_eq!(Matcher::default().meets(&facts(None)), Meets::Now);
    }

    #[test]
    fn what_has_not_come_is_awaited_and_what_can_not_come_is_not() {
        let second = Duration::from_secs(1);
        let matcher = Matcher {
            bytes: Some(100),
            age: Some(second),
            sni: Some(HostGlob::new("*.example.com")),
            ..Matcher::default()
        };
        let meets = |bytes, age, sni| {
            matcher.meets(&Facts {
                bytes,
                age,
                sni,
                ..facts(None)
            })
        };
        let later = |bytes, age, sni| Meets::Later(Awaited { bytes, age, sni });
        let named = Sni::Named("pay.example.com");
        assert_eq!(
            meets(99, second / 2, Sni::Unknown),
            later(Some(100), Some(second), true)
        );
        assert_eq!(
            meets(100, second / 2, named),
            later(None, Some(second), false)
        );
        assert_eq!(meets(99, second, named), later(Some(100), None, false));
        assert_eq!(meets(100, second, named), Meets::Now);
        assert_eq!(meets(0, second, Sni::Named("example.com")), Meets::Never);
        assert_eq!(meets(0, second, Sni::Absent), Meets::Never);
        assert_eq!(matcher.late().collect::<Vec<_>>(), ["bytes", "age", "sni"]);

        let mut joined = Awaited {
            bytes: Some(100),
            age: None,
            sni: false,
        };
        joined.join(Awaited {
            bytes: Some(50),
            age: Some(second),
            sni: true,
        });
        let sooner = Awaited {
            bytes: Some(50),
            age: Some(second),
            sni: true,
        };
        assert_eq!(joined, sooner);
    }
}
