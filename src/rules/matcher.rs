//! Which operations a rule means.

use crate::operation::{Facts, Request};

/// A text in which `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(pub String);

impl Glob {
    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let star = |pattern: &[u8]| (pattern.first() == Some(&b'*')).then_some((1, true));
        wildcard(self.0.as_bytes(), text, star)
    }
}

/// A path in which `*` stays within a segment and `**` crosses segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathGlob(pub String);

impl PathGlob {
    /// Whether the whole of `path` (without the query, as it came) matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        wildcard(self.0.as_bytes(), path.as_bytes(), |pattern| {
            if pattern.starts_with(b"**") {
                Some((2, true))
            } else {
                (pattern.first() == Some(&b'*')).then_some((1, false))
            }
        })
    }
}

/// Matches in time proportional to pattern times text. `star` says whether a wildcard begins here,
/// how long it is, and whether it may cross a `/`.
///
/// Only the last wildcard of either sort needs to be reconsidered: whatever an earlier one could
/// take, a later crossing one can take as well, and one that may not cross is pinned between the
/// same two slashes.
fn wildcard(pattern: &[u8], text: &[u8], star: impl Fn(&[u8]) -> Option<(usize, bool)>) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on with the pattern, and the text, when the guess was wrong.
    let mut within: Option<(usize, usize)> = None;
    let mut across: Option<(usize, usize)> = None;
    loop {
        if let Some((len, crosses)) = star(&pattern[p..]) {
            p += len;
            if crosses {
                across = Some((p, t));
                within = None;
            } else {
                within = Some((p, t));
            }
            continue;
        }
        match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b => {
                p += 1;
                t += 1;
            }
            _ => match (within, across) {
                (Some((wp, wt)), _) if wt < text.len() && text[wt] != b'/' => {
                    within = Some((wp, wt + 1));
                    (p, t) = (wp, wt + 1);
                }
                (_, Some((ap, at))) if at < text.len() => {
                    within = None;
                    across = Some((ap, at + 1));
                    (p, t) = (ap, at + 1);
                }
                _ => return false,
            },
        }
    }
}

/// Every condition must hold; an empty one matches all operations, connections included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matcher {
    /// Any of these; compared as it came. Empty: any.
    pub methods: Vec<String>,
    /// The path without its query.
    pub path: Option<PathGlob>,
    /// Parameters of the query, as they came (not decoded); of a repeated one any may match.
    pub query: Vec<(String, Glob)>,
    /// Headers; of a repeated one any value may match.
    pub headers: Vec<(String, Glob)>,
}

impl Matcher {
    /// Whether it asks for something that only HTTP has.
    #[must_use]
    pub fn needs_http(&self) -> bool {
        *self != Self::default()
    }

    /// Whether the operation is meant. A condition on HTTP is false where there is none.
    #[must_use]
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        match &facts.http {
            None => !self.needs_http(),
            Some(request) => self.matches_request(request),
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
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.into_iter().flat_map(|q| q.split('&'));
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stays_within_a_segment_and_two_cross() {
        for (pattern, path, expected) in [
            ("/authorize/*", "/authorize/42", true),
            ("/authorize/*", "/authorize/42/x", false),
            ("/authorize/*", "/authorize/", true),
            ("/authorize/**", "/authorize/42/x", true),
            ("/a/**/z", "/a/b/c/z", true),
            ("/a/**/z", "/a/z", false),
            ("**", "/anything/at/all", true),
            ("/*/b*c/d", "/a/bxxc/d", true),
            ("/*/b*c/d", "/a/bx/c/d", false),
            ("/**/x/*", "/x/x/x/y", true),
            ("/a", "/a/", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(
                PathGlob(pattern.to_owned()).matches(path),
                expected,
                "{pattern} {path}"
            );
        }
    }

    /// The definition, written the slow and obvious way.
    fn obvious(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| obvious(rest, &text[n..])),
            [b'*', rest @ ..] => (0..=text.len())
                .take_while(|n| !text[..*n].contains(&b'/'))
                .any(|n| obvious(rest, &text[n..])),
            [c, rest @ ..] => text.first() == Some(c) && obvious(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn paths_match_as_defined(pattern in "[ab/*]{0,8}", path in "[ab/]{0,8}") {
            let fast = PathGlob(pattern.clone()).matches(&path);
            prop_assert_eq!(fast, obvious(pattern.as_bytes(), path.as_bytes()));
        }
    }

    fn facts<'a>(request: Option<Request<'a>>) -> Facts<'a> {
        Facts {
            client: ([127, 0, 0, 1], 1).into(),
            connection: 1,
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
        };
        let pair = |n: &str, v: &str| vec![(n.to_owned(), Glob(v.to_owned()))];
        let all = Matcher {
            methods: vec!["PUT".to_owned(), "POST".to_owned()],
            path: Some(PathGlob("/authorize/*".to_owned())),
            query: pair("a", "3"),
            headers: pair("X-TENANT", "canary-*"),
        };
        assert!(all.matches(&facts(Some(request))));
        for wrong in [
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
            assert!(!wrong.matches(&facts(Some(request))), "{wrong:?}");
        }
        assert!(
            !all.matches(&facts(None)),
            "an HTTP match on plain TCP is false"
        );
        assert!(Matcher::default().matches(&facts(None)));
    }
}
