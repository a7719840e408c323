//! TLS for tests: certificates that were made just now, clients and upstreams that speak it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use firedrill::config;
use firedrill::rules::Edge;
use firedrill::tls::NewAuthority;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, server};

use super::{Server, soon};

/// A folder with CAs and what they have signed:
///
/// - `ca/`: a local CA of `firedrill ca`,
/// - `trust.pem`: another CA, which has signed `site.pem`, `.key` (of `site.example`) and
///   `caller.pem`, `.key`.
pub struct Pki {
    pub dir: TempDir,
}

impl Pki {
    pub fn make() -> Self {
        let pki = Self {
            dir: TempDir::new().unwrap(),
        };
        fs::create_dir(pki.path("ca")).unwrap();
        let made = NewAuthority::make().unwrap();
        pki.put("ca/ca.pem", &made.certificate);
        pki.put("ca/ca.key", &made.key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        pki.put("trust.pem", &params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        for name in ["site", "caller"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([format!("{name}.example")]).unwrap();
            let signed = params.signed_by(&key, &issuer).unwrap();
            pki.put(&format!("{name}.pem"), &signed.pem());
            pki.put(&format!("{name}.key"), &key.serialize_pem());
        }
        pki
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The proxy `p` before `upstream`, with more keys in the words of the file.
    pub fn edge(&self, upstream: SocketAddr, keys: &str) -> Edge {
        let file = self.path("firedrill.yaml");
        let text = format!(
            "proxies: [{{ name: p, listen: '127.0.0.1:0', upstream: '{upstream}', {keys} }}]"
        );
        fs::write(&file, text).unwrap();
        let config = config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        config.proxies.into_iter().next().unwrap()
    }

    pub fn certificates(&self, name: &str) -> Vec<CertificateDer<'static>> {
        let all = CertificateDer::pem_file_iter(self.path(name)).unwrap();
        all.map(Result::unwrap).collect()
    }

    fn key(&self, name: &str) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(self.path(name)).unwrap()
    }

    fn roots(&self, name: &str) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(name) {
            roots.add(certificate).unwrap();
        }
        roots
    }

    /// One who trusts the CA in `trusted`, shows `caller`'s certificate if `shows`, and offers `alpn`.
    pub fn client(&self, trusted: &str, shows: bool, alpn: &[&str]) -> Arc<ClientConfig> {
        self.client_of(
            &[&rustls::version::TLS13, &rustls::version::TLS12],
            trusted,
            shows,
            alpn,
        )
    }

    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        trusted: &str,
        shows: bool,
        alpn: &[&str],
    ) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots(trusted));
        let mut config = if shows {
            let (chain, key) = (self.certificates("caller.pem"), self.key("caller.key"));
            config.with_client_auth_cert(chain, key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// An upstream that is `site.example`, speaks `alpn`, and does as `serve` says.
    pub async fn upstream<F, S>(&self, demands: bool, alpn: &[&str], serve: S) -> Upstream
    where
        S: Fn(server::TlsStream<TcpStream>) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = if demands {
            let roots = Arc::new(self.roots("trust.pem"));
            let built = WebPkiClientVerifier::builder_with_provider(roots, provider);
            config.with_client_cert_verifier(built.build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        let (chain, key) = (self.certificates("site.pem"), self.key("site.key"));
        let mut config = config.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let greeted = Arc::<Mutex<Vec<Greeted>>>::default();
        let (log, serve) = (Arc::clone(&greeted), Arc::new(serve));
        let server = Server::start(move |c| {
            let (acceptor, log, serve) = (acceptor.clone(), Arc::clone(&log), Arc::clone(&serve));
            async move {
                let stream = acceptor.accept(c.socket).await?;
                let session = stream.get_ref().1;
                let greeted = Greeted {
                    host: session.server_name().map(str::to_owned),
                    alpn: session
                        .alpn_protocol()
                        .map(|p| String::from_utf8_lossy(p).into()),
                    shown: session.peer_certificates().is_some(),
                };
                log.lock().unwrap().push(greeted);
                serve(stream).await
            }
        })
        .await;
        Upstream { server, greeted }
    }
}

/// How the upstream was greeted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeted {
    pub host: Option<String>,
    pub alpn: Option<String>,
    pub shown: bool,
}

/// An upstream within TLS.
pub struct Upstream {
    server: Server,
    greeted: Arc<Mutex<Vec<Greeted>>>,
}

impl Upstream {
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    pub fn greeted(&self) -> Vec<Greeted> {
        self.greeted.lock().unwrap().clone()
    }
}

/// Shakes hands with who listens there, by this name.
pub async fn shake(
    config: &Arc<ClientConfig>,
    addr: SocketAddr,
    name: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let socket = TcpStream::connect(addr).await?;
    let connector = TlsConnector::from(Arc::clone(config));
    soon("a handshake", connector.connect(name, socket)).await
}
