//! Where in a distributed trace an operation stands: W3C Trace Context, as its caller sent it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::operation::Request;

/// What `traceparent` says (W3C Trace Context, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Trace {
    /// The trace.
    #[schema(value_type = String, example = "0af7651916cd43dd8448eb211c80319c")]
    pub id: TraceId,
    /// The caller's span.
    #[schema(value_type = String, example = "b7ad6b7169203331")]
    pub parent: SpanId,
    /// Whether the caller records its span.
    pub sampled: bool,
}

/// 16 bytes, not all zero; 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// 8 bytes, not all zero; 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

impl Trace {
    /// What the head of a request says.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Option<Self> {
        Self::parse(request.header("traceparent")?)
    }

    /// Reads the value of a `traceparent`. One of a later version is read as far as it is known
    /// (section 3.2.4); `None`: it is not one.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.trim().split('-');
        let [version, id, parent, flags] = [(); 4].map(|()| parts.next());
        let version = hex::<1>(version?)?;
        let known = version == [0] && parts.next().is_none();
        if version == [0xff] || !known && version == [0] {
            return None;
        }
        let (id, parent) = (hex(id?)?, hex(parent?)?);
        let [flags] = hex(flags?)?;
        let trace = Self {
            id: TraceId(id),
            parent: SpanId(parent),
            sampled: flags & 1 == 1,
        };
        (id != [0; 16] && parent != [0; 8]).then_some(trace)
    }
}

/// Lower case only, as the specification asks.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

macro_rules! as_hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                let read = hex(&text).map(Self);
                read.ok_or_else(|| serde::de::Error::custom("expected hexadecimal digits"))
            }
        }
    };
}

as_hex!(TraceId);
as_hex!(SpanId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_or_is_none() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = Trace::parse(good).unwrap();
        insta::assert_snapshot!(
            serde_json::to_string(&trace).unwrap(),
            @r#"{"id":"0af7651916cd43dd8448eb211c80319c","parent":"b7ad6b7169203331","sampled":true}"#
        );
        let back: Trace = serde_json::from_str(&serde_json::to_string(&trace).unwrap()).unwrap();
        assert_eq!(back, trace);
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more";
        assert!(!Trace::parse(later).unwrap().sampled);
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01",
            "00-0af7651916cd43dd8448eb211c8031é-b7ad6b7169203331-01",
        ] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }
}
