//! Where requests carry the team's own id of an operation.

use serde_json::Value;

use crate::operation::{Body, Request};

/// The longest body that is looked at for an id.
pub const MOST_BODY: usize = 64 << 10;

/// Where requests carry the team's own id of an operation. The first that a request has holds, in the
/// order of these fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnId {
    /// A header.
    pub header: Option<String>,
    /// A parameter of the query, as it came (not decoded).
    pub query: Option<String>,
    /// A part of the path: of the first pattern that matches.
    pub path: Vec<PathPart>,
    /// A JSON Pointer into a body of at most [`MOST_BODY`]: to a text, a number or a boolean.
    pub json: Option<String>,
}

impl OwnId {
    /// The id that the head of a request has; an empty one is none.
    #[must_use]
    pub fn of_head<'a>(&'a self, request: &Request<'a>) -> Option<&'a str> {
        let header = self.header.as_deref().and_then(|name| request.header(name));
        let query = || {
            let name = self.query.as_deref()?;
            let mut parts = request.query?.split('&');
            parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let path = || self.path.iter().find_map(|part| part.find(request.path));
        let found = header.map(unquoted).filter(|id| !id.is_empty());
        let found = found.or_else(|| query().filter(|id| !id.is_empty()));
        found.or_else(path)
    }

    /// Whether a request of which the head has no id may have one in its body.
    #[must_use]
    pub fn asks_of_body(&self) -> bool {
        self.json.is_some()
    }

    /// The id that a body has.
    #[must_use]
    pub fn of_body(&self, body: &Body<'_>) -> Option<String> {
        match body.json()?.pointer(self.json.as_deref()?)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        }
    }
}

/// A value without the quotes of a structured field's string (RFC 9651, section 3.3.3).
#[must_use]
pub fn unquoted(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    inner.unwrap_or(value)
}

/// A path such as `/orders/{id}/**`, of which one segment is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPart {
    segments: Vec<Segment>,
    /// Whether any segments may follow.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Is(String),
    Any,
    Meant,
}

impl PathPart {
    /// Reads a pattern: segments, of which `*` is any, `{name}` the one that is meant, and `**`, as the
    /// last, any that follow.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a path begins with `/`");
        };
        let (rest, open) = match rest.strip_suffix("/**") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let segment = |segment: &str| {
            let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
            match segment {
                "*" => Ok(Segment::Any),
                _ if name.is_some_and(|name| !name.is_empty() && !name.contains(['{', '}'])) => {
                    Ok(Segment::Meant)
                }
                _ if segment.contains(['*', '{', '}']) => {
                    Err("`*` and `{name}` each stand for a whole segment, `**` for the last ones")
                }
                _ => Ok(Segment::Is(segment.to_owned())),
            }
        };
        let segments: Vec<_> = rest.split('/').map(segment).collect::<Result<_, _>>()?;
        match segments.iter().filter(|s| **s == Segment::Meant).count() {
            1 => Ok(Self { segments, open }),
            0 => Err("no segment is `{name}`"),
            _ => Err("only one segment can be the id"),
        }
    }

    /// The segment that is meant, of a path that matches; an empty one is none.
    #[must_use]
    pub fn find<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut found = None;
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Is(text) if text != part => return None,
                Segment::Is(_) | Segment::Any => {}
                Segment::Meant => found = Some(part).filter(|part| !part.is_empty()),
            }
        }
        found.filter(|_| self.open || parts.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request<'a>(
        path: &'a str,
        query: Option<&'a str>,
        headers: &'a [httparse::Header<'a>],
    ) -> Request<'a> {
        Request {
            authority: None,
            method: "POST",
            path,
            query,
            headers,
            http2: false,
        }
    }

    #[test]
    fn one_segment_of_a_path_is_the_id() {
        for (pattern, path, found) in [
            ("/orders/{id}", "/orders/42", Some("42")),
            ("/orders/{id}", "/orders/", None),
            ("/orders/{id}", "/orders/42/items", None),
            ("/orders/{id}/**", "/orders/42/items/7", Some("42")),
            ("/orders/{id}/**", "/orders/42", Some("42")),
            ("/*/orders/{id}", "/v2/orders/42", Some("42")),
            ("/*/orders/{id}", "/v2/payments/42", None),
            ("/{id}", "/42", Some("42")),
            ("/{id}", "42", None),
            ("/{id}", "", None),
        ] {
            let part = PathPart::parse(pattern).unwrap();
            assert_eq!(part.find(path), found, "{pattern} {path}");
        }
        for bad in [
            "",
            "orders/{id}",
            "/orders",
            "/o{id}",
            "/{a}/{b}",
            "/**",
            "/**/{id}",
            "/{}",
        ] {
            assert!(PathPart::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn header_then_query_then_path_then_body() {
        let own = OwnId {
            header: Some("x-order".to_owned()),
            query: Some("order".to_owned()),
            path: vec![PathPart::parse("/orders/{id}").unwrap()],
            json: Some("/order/id".to_owned()),
        };
        let header = httparse::Header {
            name: "X-Order",
            value: b"\"h\"",
        };
        let of = |path, query, headers: &[httparse::Header<'_>]| {
            own.of_head(&request(path, query, headers))
                .map(str::to_owned)
        };
        let found = |id: &str| Some(id.to_owned());
        assert_eq!(of("/orders/p", Some("order=q"), &[header]), found("h"));
        assert_eq!(of("/orders/p", Some("a=1&order=q"), &[]), found("q"));
        assert_eq!(of("/orders/p", Some("orders=q&order="), &[]), found("p"));
        assert_eq!(of("/", None, &[]), None);
        for (body, id) in [
            (r#"{"order":{"id":"b"}}"#, Some("b")),
            (r#"{"order":{"id":42}}"#, Some("42")),
            (r#"{"order":{"id":null}}"#, None),
            (r#"{"order":{"id":{}}}"#, None),
            (r#"{"order":"#, None),
        ] {
            let found = own.of_body(&Body::whole(body.as_bytes()));
            assert_eq!(found.as_deref(), id, "{body}");
        }
        assert_eq!(own.of_body(&Body::Long), None);
    }

    proptest! {
        /// No pattern and no path do more than match or not.
        #[test]
        fn nothing_panics(pattern in "[/a-c*{}]{0,12}", path in "[/a-c]{0,12}") {
            if let Ok(part) = PathPart::parse(&pattern)
                && let Some(found) = part.find(&path)
            {
                prop_assert!(!found.is_empty() && !found.contains('/') && path.contains(found));
            }
        }
    }
}
