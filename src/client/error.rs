//! Why a control plane did not answer as asked, and what to do about it.

use std::io;

use super::DEFAULT_URL;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// This can't be a control plane's address.
    #[error("`{url}` is not a URL of a control plane: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This can't be sent as a token.
    #[error("the token has characters that no header may have")]
    Token,
    /// This can't be sent as a controller's name.
    #[error("the controller's name has characters that no header may have")]
    Controller,
    /// Nobody answers there.
    #[error("can't connect to {url}: {source}")]
    Connect {
        /// As given.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// No TLS with whoever answers there: it, or this end, is not trusted.
    #[error("no TLS with {url}: {reason}")]
    Trust {
        /// As given.
        url: String,
        /// Why.
        reason: String,
    },
    /// The control plane refused.
    #[error("{message}")]
    Api {
        /// The answer's status.
        status: u16,
        /// Stable, for programs.
        code: String,
        /// For people.
        message: String,
        /// What to do.
        hint: Option<String>,
        /// Where in the body.
        path: Option<String>,
    },
    /// Whoever answers does not speak this API, or the connection broke.
    #[error("{url} did not answer as a control plane does: {reason}")]
    Protocol {
        /// As given.
        url: String,
        /// What happened.
        reason: String,
    },
}

impl ClientError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Url { .. } => format!("such as {DEFAULT_URL}; set it with --url"),
            Self::Token => "check FIREDRILL_TOKEN".to_owned(),
            Self::Controller => "name the run in plain characters, such as `drill-7`".to_owned(),
            Self::Connect { .. } => {
                "is `firedrill serve` running? --url or FIREDRILL_URL says where".to_owned()
            }
            Self::Trust { .. } => {
                "--cacert names the CA of its certificate; --cert and --key are what it is shown"
                    .to_owned()
            }
            Self::Api { hint, .. } => {
                let help = || "`firedrill status` shows what there is".to_owned();
                hint.clone().unwrap_or_else(help)
            }
            Self::Protocol { .. } => "is that the control port, and not a proxy's?".to_owned(),
        }
    }

    /// Whether what was sent was wrong, not how things stand.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Token | Self::Controller => true,
            Self::Api { code, .. } => {
                matches!(
                    code.as_str(),
                    "invalid" | "malformed" | "query" | "controller"
                )
            }
            Self::Connect { .. } | Self::Trust { .. } | Self::Protocol { .. } => false,
        }
    }

    /// Whether there is something of that name already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Api { code, .. } if code == "exists")
    }
}
