//! `http` and `https` addresses, as users write them.

use std::fmt;

use http::{HeaderValue, Uri};

/// Where a server is asked, and under which prefix of its paths.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    said: String,
    /// Whether TLS is spoken.
    pub secure: bool,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    /// The scheme's own where none is said.
    pub port: u16,
    /// Its path, without a slash at the end; often empty.
    pub path: String,
    /// What `Host` says.
    pub authority: HeaderValue,
}

/// Why a text is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoUrl {
    /// Something stands where it can't.
    #[error("it can't be parsed")]
    Malformed,
    /// Another scheme, or none.
    #[error("it is neither http nor https")]
    Scheme,
    /// Nowhere to connect to.
    #[error("it names no host")]
    Host,
    /// Before the host.
    #[error("it holds a user")]
    User,
    /// Behind the path.
    #[error("it has a query")]
    Query,
}

impl Url {
    /// Reads `http://host:port/path` or the same with `https`; port and path may be left out.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, NoUrl> {
        let uri: Uri = text.parse().map_err(|_| NoUrl::Malformed)?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(NoUrl::Scheme),
        };
        let authority = uri.authority().ok_or(NoUrl::Host)?;
        if authority.as_str().contains('@') {
            return Err(NoUrl::User);
        }
        if uri.query().is_some() {
            return Err(NoUrl::Query);
        }
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(NoUrl::Host);
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("" | ":") if secure => 443,
            Some("" | ":") => 80,
            // One past 65535 is no port to it.
            _ => authority.port_u16().ok_or(NoUrl::Malformed)?,
        };
        Ok(Self {
            said: text.to_owned(),
            secure,
            host: host.to_owned(),
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| NoUrl::Malformed)?,
        })
    }
}

/// As it was written.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({})", self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_users_write_them() {
        for (text, host, port, path) in [
            ("http://127.0.0.1:8474", "127.0.0.1", 8474, ""),
            ("http://127.0.0.1:8474/", "127.0.0.1", 8474, ""),
            ("http://chaos.example/fire/", "chaos.example", 80, "/fire"),
            ("http://[::1]:8474", "::1", 8474, ""),
            ("https://chaos.example", "chaos.example", 443, ""),
            ("https://[::1]:8474/a/b", "::1", 8474, "/a/b"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.secure, text.starts_with("https"), "{text}");
            let got = (url.host.as_str(), url.port, url.path.as_str());
            assert_eq!(got, (host, port, path), "{text}");
            assert_eq!(url.to_string(), text);
        }
        for (text, why) in [
            ("", NoUrl::Malformed),
            ("a b", NoUrl::Malformed),
            ("http://", NoUrl::Malformed),
            ("http://a:99999", NoUrl::Malformed),
            ("ftp://a", NoUrl::Scheme),
            ("chaos.example:80", NoUrl::Scheme),
            ("/v1/traces", NoUrl::Scheme),
            ("http://u:p@a", NoUrl::User),
            ("http://a/?q", NoUrl::Query),
        ] {
            assert_eq!(Url::parse(text), Err(why), "{text}");
        }
    }
}
