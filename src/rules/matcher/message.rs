//! Conditions on what a message holds behind its request's head: the body, the answer.

use memchr::memmem;
use serde_json::{Map, Value};

use super::Pattern;
use super::ranges::Statuses;
use crate::operation::{Body, Response};
use crate::units::format_size;

/// How much of a body is looked at where a rule does not say.
pub const BODY_WITHIN: u64 = 64 << 10;

/// Conditions on a request's body; all must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyMatch {
    /// This text is found in it.
    pub contains: Option<String>,
    /// This is found in it.
    pub regex: Option<super::Regex>,
    /// It is JSON, and the values at these JSON Pointers (RFC 6901) match.
    pub json: Vec<(String, Pattern)>,
    /// A longer one is not looked at.
    pub within: u64,
}

impl Default for BodyMatch {
    fn default() -> Self {
        Self {
            contains: None,
            regex: None,
            json: Vec::new(),
            within: BODY_WITHIN,
        }
    }
}

impl BodyMatch {
    /// Whether a body matches; `None`: it is not known, or too long to be looked at.
    pub(super) fn matches(&self, body: &Body<'_>) -> Option<bool> {
        let bytes = body
            .bytes()
            .filter(|bytes| bytes.len() as u64 <= self.within)?;
        let contains = |text: &String| memmem::find(bytes, text.as_bytes()).is_some();
        let plain = self.contains.as_ref().is_none_or(contains)
            && self.regex.as_ref().is_none_or(|regex| regex.matches(bytes));
        Some(plain && (self.json.is_empty() || self.matches_json(body.json())))
    }

    fn matches_json(&self, json: Option<&Value>) -> bool {
        self.json.iter().all(|(pointer, pattern)| {
            let found = json.and_then(|json| json.pointer(pointer));
            found.is_some_and(|value| is_like(value, pattern))
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let json = self.json.iter();
        let json: Map<_, _> = json.map(|(p, v)| (p.clone(), v.to_json())).collect();
        let keys = [
            ("contains", self.contains.as_deref().map(Value::from)),
            ("regex", self.regex.as_ref().map(|r| r.as_str().into())),
            ("json", (!json.is_empty()).then(|| json.into())),
            (
                "within",
                (self.within != BODY_WITHIN).then(|| format_size(self.within).into()),
            ),
        ];
        super::given(keys).into()
    }
}

/// A text is compared without its quotes, any other scalar as it is written; lists and maps are
/// only ever there.
fn is_like(value: &Value, pattern: &Pattern) -> bool {
    match (value, pattern) {
        (Value::String(text), _) => pattern.matches(text.as_bytes()),
        (Value::Array(_) | Value::Object(_), Pattern::Glob(glob)) => glob.0 == "*",
        (Value::Array(_) | Value::Object(_), Pattern::Regex(_)) => false,
        (Value::Number(number), Pattern::Glob(glob)) if number.is_f64() => {
            // 42.0 and 4.2e1 are the number that a user writes as 42.
            let same = glob
                .0
                .parse::<f64>()
                .is_ok_and(|n| Some(n) == number.as_f64());
            same || pattern.matches(number.to_string().as_bytes())
        }
        (scalar, _) => pattern.matches(scalar.to_string().as_bytes()),
    }
}

/// Conditions on an answer's head; all must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseMatch {
    /// The status is in any of these. Empty: any.
    pub statuses: Vec<Statuses>,
    /// Headers; of a repeated one any value may match.
    pub headers: Vec<(String, Pattern)>,
}

impl ResponseMatch {
    pub(super) fn matches(&self, response: &Response<'_>) -> bool {
        let status = |span: &Statuses| span.contains(response.status);
        (self.statuses.is_empty() || self.statuses.iter().any(status))
            && has_headers(response.headers, &self.headers)
    }

    pub(super) fn to_json(&self) -> Value {
        let statuses = self.statuses.iter().map(Statuses::to_json);
        let keys = [
            ("status", super::one_or_list(statuses.collect())),
            ("headers", super::patterns(&self.headers)),
        ];
        super::given(keys).into()
    }
}

/// Whether each of some headers is there with a value that matches.
pub(super) fn has_headers(headers: &[httparse::Header<'_>], wanted: &[(String, Pattern)]) -> bool {
    wanted.iter().all(|(name, value)| {
        let mut named = headers.iter();
        named.any(|h| h.name.eq_ignore_ascii_case(name) && value.matches(h.value))
    })
}

/// A gRPC call: its service and its method.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrpcMatch {
    /// With its package, such as `shop.Payment`.
    pub service: Option<super::Glob>,
    /// Of the service.
    pub method: Option<super::Glob>,
}

impl GrpcMatch {
    /// Whether a request with this path and content type is such a call.
    pub(super) fn matches(&self, path: &str, content_type: Option<&[u8]>) -> bool {
        const GRPC: &[u8] = b"application/grpc";
        // `application/grpc`, or that with `+proto`, `-web` or a parameter behind it.
        let grpc = content_type.is_some_and(|value| {
            let (start, rest) = value.split_at_checked(GRPC.len()).unwrap_or((value, &[]));
            start.eq_ignore_ascii_case(GRPC) && rest.first().is_none_or(|b| b"+-; ".contains(b))
        });
        let call = path.strip_prefix('/').and_then(|p| p.split_once('/'));
        let (true, Some((service, method))) = (grpc, call) else {
            return false;
        };
        let like = |glob: &Option<super::Glob>, text: &str| {
            glob.as_ref().is_none_or(|g| g.matches(text.as_bytes()))
        };
        like(&self.service, service) && like(&self.method, method)
    }

    pub(super) fn to_json(&self) -> Value {
        let text = |glob: &Option<super::Glob>| glob.as_ref().map(|g| g.0.as_str().into());
        super::given([
            ("service", text(&self.service)),
            ("method", text(&self.method)),
        ])
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Glob, Regex};
    use super::*;

    fn glob(text: &str) -> Pattern {
        Glob(text.to_owned()).into()
    }

    #[test]
    fn bodies_by_text_and_by_field() {
        let json = r#"{"amount": 42, "rate": 1e1, "currency": "EUR", "paid": true, "note": null,
                       "items": [{"sku": "A-7"}], "a/b": {"~": 1}}"#;
        let holds = |pointer: &str, pattern: Pattern| {
            let matcher = BodyMatch {
                json: vec![(pointer.to_owned(), pattern)],
                ..BodyMatch::default()
            };
            matcher.matches(&Body::whole(json.as_bytes())).unwrap()
        };
        for (pointer, pattern, expected) in [
            ("/amount", "42", true),
            ("/amount", "4*", true),
            ("/amount", "42.0", false),
            ("/rate", "10", true),
            ("/currency", "EUR", true),
            ("/currency", "\"EUR\"", false),
            ("/paid", "true", true),
            ("/note", "null", true),
            ("/note", "*", true),
            ("/items", "*", true),
            ("/items", "[*", false),
            ("/items/0/sku", "A-*", true),
            ("/items/1/sku", "*", false),
            ("/a~1b/~0", "1", true),
            ("/absent", "*", false),
        ] {
            assert_eq!(
                holds(pointer, glob(pattern)),
                expected,
                "{pointer} {pattern}"
            );
        }
        assert!(holds(
            "/currency",
            Pattern::Regex(Regex::new("^E").unwrap())
        ));
        assert!(!holds("/items", Pattern::Regex(Regex::new("").unwrap())));

        let text = BodyMatch {
            contains: Some("canary".to_owned()),
            regex: Some(Regex::new("[0-9]{3}").unwrap()),
            within: 12,
            ..BodyMatch::default()
        };
        assert_eq!(text.matches(&Body::whole(b"a canary 123")), Some(true));
        assert_eq!(text.matches(&Body::whole(b"a canary 12")), Some(false));
        assert_eq!(text.matches(&Body::whole(b"a canary 1234")), None);
        assert_eq!(text.matches(&Body::Long), None);
        let no_json = BodyMatch {
            json: vec![(String::new(), glob("*"))],
            ..BodyMatch::default()
        };
        assert_eq!(no_json.matches(&Body::whole(b"{")), Some(false));
        assert_eq!(no_json.matches(&Body::whole(b"[]")), Some(true));
    }

    #[test]
    fn what_is_a_grpc_call() {
        let call = GrpcMatch {
            service: Some(Glob("shop.*".to_owned())),
            method: Some(Glob("Authorize".to_owned())),
        };
        let path = "/shop.Payment/Authorize";
        for (path, content_type, expected) in [
            (path, Some("application/grpc"), true),
            (path, Some("application/grpc+proto"), true),
            (path, Some("Application/gRPC; x=1"), true),
            (path, Some("application/grpcx"), false),
            (path, Some("application/json"), false),
            (path, None, false),
            ("/shop.Payment/Refund", Some("application/grpc"), false),
            ("/bank.Payment/Authorize", Some("application/grpc"), false),
            ("/Authorize", Some("application/grpc"), false),
        ] {
            let matches = call.matches(path, content_type.map(str::as_bytes));
            assert_eq!(matches, expected, "{path} {content_type:?}");
        }
    }
}
