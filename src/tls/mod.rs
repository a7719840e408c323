//! TLS: what a proxy shows its clients and what it expects of its upstream, made of PEM texts once
//! and shared by all connections; a local CA that mints certificates.
//!
//! No sockets and no files here: `config` reads the files, `proxy` shakes hands.

mod authority;
mod client;
mod server;

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

pub use authority::{Authority, NewAuthority, Wrong};
pub use client::Client;
pub use server::{Hello, Server, Shown};

/// What stands under a proxy's `tls`: as the file said it, and what was made of it.
#[derive(Clone)]
pub struct Tls {
    /// The section in the words of the file.
    pub said: serde_json::Value,
    /// How clients are met; `None`: not with TLS.
    pub terminate: Option<Arc<Server>>,
    /// How the upstream is met; `None`: not with TLS.
    pub originate: Option<Arc<Client>>,
}

/// Two are the same if they were said so.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.said == other.said
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.said)
    }
}

/// Protocols of ALPN, in the order of preference.
pub type Alpn = Vec<Vec<u8>>;

fn provider() -> Arc<CryptoProvider> {
    // Named, so that no other crate's choice of a default can matter.
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificates of a PEM text, one at least.
///
/// # Errors
/// What is wrong with it.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if all.is_empty() => Err("has no certificate (`BEGIN CERTIFICATE`)".to_owned()),
        Ok(all) => {
            for certificate in &all {
                let read = ParsedCertificate::try_from(certificate);
                read.map_err(|_| "has a certificate that can't be read".to_owned())?;
            }
            Ok(all)
        }
        Err(error) => Err(format!("is no PEM file: {error}")),
    }
}

/// A certificate, with those that lead to its CA behind it, and its private key.
///
/// # Errors
/// There is no private key in `key`, it can't be used, or it belongs to another certificate.
pub fn identity(
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
) -> Result<Arc<CertifiedKey>, String> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => "has no private key (`BEGIN PRIVATE KEY`)".to_owned(),
        error => format!("is no PEM file: {error}"),
    })?;
    let pair = CertifiedKey::from_der(chain, key, &provider());
    pair.map(Arc::new).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "is not the key of the certificate".to_owned(),
        error => format!("can't be used: {error}"),
    })
}

/// The CAs that are trusted.
///
/// # Errors
/// One of them is no certificate of a CA.
pub fn trusted(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let added = roots.add(certificate);
        added.map_err(|error| format!("has a certificate that can't be a CA's: {error}"))?;
    }
    Ok(roots)
}
