//! A proxy's `tls`: reads the certificates and keys that it names, so that what is wrong with one is
//! a problem with a place.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;

use super::files::read;
use super::node::{Fields, Node};
use super::value::{Value, quoted};
use crate::rules::Edge;
use crate::tls::{self, Alpn, Authority, Client, Server, Shown, Tls};

/// The names that `firedrill ca` gives to the files of a local CA.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// See [`CA_CERTIFICATE`].
pub const CA_KEY: &str = "ca.key";

const PEM: &str = "the path of a PEM file";

/// How a proxy before `upstream` speaks TLS.
pub(super) fn tls(node: &Node<'_>, upstream: Option<&str>) -> Option<Tls> {
    let made = node.map(|f| {
        let terminate = f.opt("terminate", terminate);
        let originate = f.opt("originate", |n| originate(n, upstream));
        Tls {
            said: node.value.into(),
            terminate: terminate.map(Arc::new),
            originate: originate.map(Arc::new),
        }
    })?;
    if *node.value == Value::Map(Vec::new()) {
        node.problem_hint(
            "says nothing",
            "`terminate`: TLS with clients; `originate`: TLS with the upstream",
        );
    }
    Some(made)
}

/// How the control port meets its clients.
pub(super) fn control(node: &Node<'_>) -> Option<Tls> {
    let server = node.map(|f| server(node, f, |_| None))??;
    Some(Tls {
        said: node.value.into(),
        terminate: Some(Arc::new(server)),
        originate: None,
    })
}

/// How a server that this process itself asks is met; `node`: where it is named; `said`: what there is
/// to say of it, as of an upstream.
pub(super) fn with_server(node: &Node<'_>, said: Option<&Node<'_>>, host: &str) -> Option<Tls> {
    let usual = Value::bool(true);
    let node = match said {
        None => node.with(&usual),
        Some(said) => said.clone(),
    };
    if said.is_some() && !matches!(node.value, Value::Map(_)) {
        node.wrong("a map", None);
        return None;
    }
    let client = originate(&node, Some(&format!("{host}:443")))?;
    Some(Tls {
        said: node.value.into(),
        terminate: None,
        originate: Some(Arc::new(client)),
    })
}

fn terminate(node: &Node<'_>) -> Option<Server> {
    const ALPN: &str = "a list of protocols such as `[h2, http/1.1]`";
    node.map(|f| server(node, f, |f| f.opt("alpn", |n| n.texts(ALPN, spoken))))?
}

/// What clients are shown and what is expected of them; `alpn`: reads which protocols are spoken.
fn server(
    node: &Node<'_>,
    f: &mut Fields<'_, '_>,
    alpn: impl FnOnce(&mut Fields<'_, '_>) -> Option<Vec<String>>,
) -> Option<Server> {
    let ca = f.get("ca");
    let own = own(f);
    let clients = f.opt("client_ca", trusted);
    let alpn = alpn(f);
    let shown = match (ca, own) {
        (Some(ca), None) => Shown::Minted(Box::new(authority(&ca)?)),
        (None, Some(own)) => Shown::Own(own?),
        (Some(ca), Some(_)) => {
            ca.its_key().problem_hint(
                "the certificate is in a file, or minted by a CA: not both",
                "leave `ca` out, or `cert` and `key`",
            );
            return None;
        }
        (None, None) => {
            node.problem_hint(
                "names no certificate",
                "`cert` and `key` are PEM files; or `ca`, the folder of a local CA that `firedrill ca` makes",
            );
            return None;
        }
    };
    let alpn = alpn.map(|all| all.into_iter().map(String::into_bytes).collect::<Alpn>());
    let server = Server::new(shown, clients, alpn);
    server.map_err(|message| node.problem(message)).ok()
}

fn originate(node: &Node<'_>, upstream: Option<&str>) -> Option<Client> {
    let nothing = Value::Map(Vec::new());
    let node = match &*node.typed() {
        // At its defaults.
        Value::Bool(true, _) => node.with(&nothing),
        Value::Bool(false, _) => return None,
        Value::Map(_) => node.clone(),
        _ => {
            node.wrong("`true`, or a map", None);
            return None;
        }
    };
    node.map(|f| {
        let verify = f.or("verify", true, Node::flag);
        let ca = f.get("ca");
        let named = f.get("server_name");
        let own = own(f);
        let roots = match &ca {
            Some(ca) if !verify => {
                ca.its_key().problem_hint(
                    "nothing is verified against it: `verify` is `false`",
                    "leave one of them out",
                );
                None
            }
            Some(ca) => Some(trusted(ca)?),
            None if verify => Some(of_the_system(&node)?),
            None => None,
        };
        let name = match &named {
            Some(named) => server_name(named, &named.text("the name in its certificate")?)?,
            None if upstream == Some(Edge::ORIGINAL) => {
                node.problem_hint(
                    "with `upstream: original` it is not known whose certificate to expect",
                    "set `server_name`, or `verify: false` with any name there",
                );
                return None;
            }
            // What is wrong with the address has been said.
            None => server_name(&node, host(upstream?))?,
        };
        let own = own.map_or(Some(None), |own| own.map(Some))?;
        let client = Client::new(roots, own, name);
        client.map_err(|message| node.problem(message)).ok()
    })?
}

/// The host of `host:port`.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn server_name(node: &Node<'_>, name: &str) -> Option<ServerName<'static>> {
    let read = ServerName::try_from(name.to_owned());
    let unreadable = |_| {
        node.problem_hint(
            format!("{} can't be a name in a certificate", quoted(name)),
            "set `server_name` to the one that the upstream's certificate has",
        );
    };
    read.map_err(unreadable).ok()
}

fn spoken(node: &Node<'_>) -> Option<String> {
    const PROTOCOL: &str = "the name of a protocol such as `http/1.1`";
    let text = node.some_text(PROTOCOL)?;
    if text.len() > 255 {
        node.wrong(PROTOCOL, None);
        return None;
    }
    Some(text)
}

/// `cert` and `key`. `None`: neither is there; within it `None`: something is wrong.
fn own(f: &mut Fields<'_, '_>) -> Option<Option<Arc<CertifiedKey>>> {
    let (cert, key) = (f.get("cert"), f.get("key"));
    if cert.is_none() && key.is_none() {
        return None;
    }
    let (Some(cert), Some(key)) = (cert, key) else {
        // Both are needed.
        let mut both = |name| f.need(name, PEM, |n| Some(n.clone()));
        let _ = (both("cert"), both("key"));
        return Some(None);
    };
    let (chain, secret) = (certificates(&cert), pem(&key));
    let made = || {
        let made = tls::identity(chain?, &secret?);
        made.map_err(|message| about(&key, message)).ok()
    };
    Some(made())
}

/// The CAs in a PEM file.
fn trusted(node: &Node<'_>) -> Option<RootCertStore> {
    let roots = tls::trusted(certificates(node)?);
    roots.map_err(|message| about(node, message)).ok()
}

/// The CAs that this system trusts. Looked for once.
#[must_use]
pub fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Some systems have a few that no program can read.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

fn of_the_system(node: &Node<'_>) -> Option<RootCertStore> {
    let roots = system_roots();
    if roots.is_empty() {
        node.problem_hint(
            "this system trusts no CA that the upstream's certificate could be verified against",
            "name one with `ca`, or install the system's (`ca-certificates`)",
        );
        return None;
    }
    Some(roots.clone())
}

/// The local CA in a folder.
fn authority(node: &Node<'_>) -> Option<Authority> {
    let folder = node.some_text("the folder of a local CA")?;
    let folder = node.report().folder().join(folder);
    let read = |name| {
        read(
            node,
            &folder.join(name),
            Some("make one: `firedrill ca --out DIR`"),
        )
    };
    let (certificate, key) = (read(CA_CERTIFICATE)?, read(CA_KEY)?);
    let first = tls::certificates(&certificate).map(|all| all.into_iter().next());
    let certificate = match first {
        Ok(first) => first?,
        Err(message) => {
            node.problem(format!("`{CA_CERTIFICATE}` {message}"));
            return None;
        }
    };
    let loaded = Authority::load(certificate, &key);
    loaded
        .map_err(|message| node.problem(format!("`{CA_KEY}` {message}")))
        .ok()
}

fn certificates(node: &Node<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let read = tls::certificates(&pem(node)?);
    read.map_err(|message| about(node, message)).ok()
}

fn pem(node: &Node<'_>) -> Option<Vec<u8>> {
    let path = node.some_text(PEM)?;
    read(node, &node.report().folder().join(path), None)
}

/// Reports what is wrong with the file that is named here.
fn about(node: &Node<'_>, message: String) {
    match node.value {
        Value::Text(path) => node.problem(format!("{} {message}", quoted(path))),
        _ => node.problem(message),
    }
}
