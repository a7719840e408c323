//! How clients are met.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

use super::authority::{Authority, Wrong, names_of, wrong};
use super::{Alpn, provider};

/// The certificate that clients are shown.
#[derive(Debug)]
pub enum Shown {
    /// This one, to all.
    Own(Arc<CertifiedKey>),
    /// One that a local CA mints for the host that a client asks for.
    Minted(Box<Authority>),
}

/// What a client has said of itself before it is answered.
#[derive(Debug, Clone)]
pub struct Hello {
    /// The host that it asks for.
    pub host: Option<String>,
    /// The protocols that it offers, in its order.
    pub alpn: Alpn,
}

/// What clients are shown, and what is expected of them.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    shown: Shown,
    alpn: Option<Alpn>,
}

impl Server {
    /// `clients`: the CAs of clients' certificates; `None`: they need none. `alpn`: the protocols
    /// that are spoken, if that was said.
    ///
    /// # Errors
    /// No CA is named.
    pub fn new(
        shown: Shown,
        clients: Option<RootCertStore>,
        alpn: Option<Alpn>,
    ) -> Result<Self, String> {
        let provider = provider();
        let verifier = match clients {
            Some(roots) => {
                let built =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
                built.build().map_err(|error| error.to_string())?
            }
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(match &shown {
                Shown::Own(own) => Arc::new(SingleCertAndKey::from(own.clone())),
                Shown::Minted(_) => Arc::new(Nothing),
            });
        Ok(Self {
            config,
            shown,
            alpn,
        })
    }

    /// The protocols that are spoken, if that was said.
    #[must_use]
    pub fn alpn(&self) -> Option<&Alpn> {
        self.alpn.as_ref()
    }

    /// How to answer one client that has come to `local` of this proxy: with these protocols, and
    /// on purpose with a `wrong` certificate.
    ///
    /// # Errors
    /// There can be no certificate for the host that it asks for.
    pub fn config(
        &self,
        hello: &Hello,
        local: IpAddr,
        proxy: &str,
        alpn: Alpn,
        bad: Option<Wrong>,
    ) -> Result<Arc<ServerConfig>, String> {
        let mut config = self.config.clone();
        config.alpn_protocols = alpn;
        let names = || match &hello.host {
            Some(host) => vec![host.clone()],
            None => names_of(local, proxy),
        };
        if let Some(how) = bad {
            let authority = match &self.shown {
                Shown::Own(_) => None,
                Shown::Minted(authority) => Some(&**authority),
            };
            config.cert_resolver = only(wrong(how, &names(), authority)?);
            // One who was here before is not to come in without being shown it, nor to come back.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else if let Shown::Minted(authority) = &self.shown {
            let names = names();
            if let Some((name, others)) = names.split_first() {
                config.cert_resolver = only(authority.mint(name, others)?);
            }
        }
        Ok(Arc::new(config))
    }
}

fn only(certificate: Arc<CertifiedKey>) -> Arc<dyn ResolvesServerCert> {
    Arc::new(SingleCertAndKey::from(certificate))
}

/// Stands where each client's own comes.
#[derive(Debug)]
struct Nothing;

impl ResolvesServerCert for Nothing {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
