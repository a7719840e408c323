//! Texts with wildcards.

/// A text in which `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(pub String);

impl Glob {
    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let star = Star {
            len: 1,
            crosses: true,
            takes_one: false,
        };
        wildcard(self.0.as_bytes(), text, |pattern| {
            (pattern.first() == Some(&b'*')).then_some(star)
        })
    }
}

/// A path in which `*` stays within a segment and `**` crosses segments; `{name}` is a run of
/// characters within a segment, one at least, so that `/orders/{id}` is an order and not the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathGlob(pub String);

impl PathGlob {
    /// Whether the whole of `path` (without the query, as it came) matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let star = |len, crosses| Star {
            len,
            crosses,
            takes_one: false,
        };
        wildcard(
            self.0.as_bytes(),
            path.as_bytes(),
            |pattern| match pattern {
                [b'*', b'*', ..] => Some(star(2, true)),
                [b'*', ..] => Some(star(1, false)),
                [b'{', ..] => pattern.iter().position(|b| *b == b'}').map(|end| Star {
                    takes_one: true,
                    ..star(end + 1, false)
                }),
                _ => None,
            },
        )
    }
}

/// A host name in which `*` stands for any run of characters, dots too. Kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostGlob(Glob);

impl HostGlob {
    /// Names are compared without case.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(Glob(pattern.to_ascii_lowercase()))
    }

    /// The pattern, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.0
    }

    /// Whether the whole of `host`, in lower case, matches.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        self.0.matches(host.as_bytes())
    }
}

/// A wildcard in a pattern.
#[derive(Debug, Clone, Copy)]
struct Star {
    /// Bytes of it in the pattern.
    len: usize,
    /// It may cross a `/`.
    crosses: bool,
    /// It stands for one character at least, other than a `/`.
    takes_one: bool,
}

/// Matches in time proportional to pattern times text. `star` says whether a wildcard begins here.
///
/// Only the last wildcard of either sort needs to be reconsidered: whatever an earlier one could
/// take, a later crossing one can take as well, and one that may not cross is pinned between the
/// same two slashes.
fn wildcard(pattern: &[u8], text: &[u8], star: impl Fn(&[u8]) -> Option<Star>) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on with the pattern, and the text, when the guess was wrong.
    let mut within: Option<(usize, usize)> = None;
    let mut across: Option<(usize, usize)> = None;
    loop {
        let found = star(&pattern[p..]);
        let one = text.get(t).is_some_and(|b| *b != b'/');
        if let Some(star) = found.filter(|star| one || !star.takes_one) {
            p += star.len;
            t += usize::from(star.takes_one);
            if star.crosses {
                across = Some((p, t));
                within = None;
            } else {
                within = Some((p, t));
            }
            continue;
        }
        match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b && found.is_none() => {
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
            ("/orders/{id}", "/orders/42", true),
            ("/orders/{id}", "/orders/", false),
            ("/orders/{id}", "/orders/42/items", false),
            ("/orders/{id}/items/{n}", "/orders/42/items/1", true),
            ("/{a}-{b}.json", "/x-y.json", true),
            ("/{a}-{b}.json", "/x-.json", false),
            ("/**/{last}", "/a/b/", false),
            ("/**/{last}", "/a/b/c", true),
            ("/{open", "/{open", true),
        ] {
            assert_eq!(
                PathGlob(pattern.to_owned()).matches(path),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn hosts_have_no_case_and_stars_cross_dots() {
        for (pattern, host, expected) in [
            ("*.Example.com", "pay.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("EXAMPLE.com", "example.com", true),
            ("*", "example.com", true),
        ] {
            let glob = HostGlob::new(pattern);
            assert_eq!(glob.matches(host), expected, "{pattern} {host}");
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
            [b'{', rest @ ..] if rest.contains(&b'}') => {
                let end = rest.iter().position(|b| *b == b'}').unwrap();
                let some = text.first().is_some_and(|b| *b != b'/');
                some && (1..=text.len())
                    .take_while(|n| !text[..*n].contains(&b'/'))
                    .any(|n| obvious(&rest[end + 1..], &text[n..]))
            }
            [c, rest @ ..] => text.first() == Some(c) && obvious(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn paths_match_as_defined(pattern in "([ab/*]|\\{x?\\}){0,8}", path in "[ab/]{0,8}") {
            let fast = PathGlob(pattern.clone()).matches(&path);
            prop_assert_eq!(fast, obvious(pattern.as_bytes(), path.as_bytes()));
        }
    }
}
