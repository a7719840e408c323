//! How an upstream is met.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{Alpn, provider};

/// What is expected of an upstream, and what it is shown.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    /// The name that its certificate must have, and that it is asked for.
    server_name: ServerName<'static>,
}

impl Client {
    /// `roots`: the CAs that are trusted; `None`: its certificate is not verified. `own`: what it is
    /// shown if it asks.
    ///
    /// # Errors
    /// No CA is named.
    pub fn new(
        roots: Option<RootCertStore>,
        own: Option<Arc<CertifiedKey>>,
        server_name: ServerName<'static>,
    ) -> Result<Self, String> {
        let provider = provider();
        let verifier: Arc<dyn ServerCertVerifier> = match roots {
            Some(roots) => {
                let built =
                    WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
                built.build().map_err(|error| error.to_string())?
            }
            None => Arc::new(Anyone(provider.clone())),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match own {
            Some(own) => {
                let own: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(own));
                config.with_client_cert_resolver(own)
            }
            None => config.with_no_client_auth(),
        };
        Ok(Self {
            config,
            server_name,
        })
    }

    /// The name that is asked for.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// How to shake hands, offering these protocols.
    #[must_use]
    pub fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.alpn_protocols = alpn;
        Arc::new(config)
    }
}

/// Takes any certificate, as `verify: false` says; its owner must still have its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
