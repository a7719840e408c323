//! A local CA: made once by `firedrill ca`, it mints a certificate for each host that clients ask
//! for; good ones, and on purpose bad ones.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{identity, provider};
use crate::clock::{self, Instant, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);
/// Clients refuse certificates that are valid for longer than 398 days.
const VALID: Duration = Duration::from_secs(397 * 86_400);
const CA_VALID: Duration = Duration::from_secs(3650 * 86_400);
/// A clock that is a little behind must not find it invalid yet.
const BEFORE: Duration = DAY;
/// Certificates that are kept, and how long: well before they expire.
const MOST_KEPT: usize = 1000;
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// How a certificate is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It was valid until yesterday.
    Expired,
    /// It is for another host.
    Host,
    /// No CA has signed it.
    SelfSigned,
}

/// A CA that was made just now, as PEM texts.
pub struct NewAuthority {
    /// To be trusted by clients.
    pub certificate: String,
    /// To be kept from everyone.
    pub key: String,
}

impl NewAuthority {
    /// Makes one, valid for ten years.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn make() -> Result<Self, String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut params = params(&[], BEFORE, CA_VALID)?;
        // Its own name: two of them in one trust store must not be taken for each other.
        let name = format!("Firedrill local CA {:08x}", crate::seed::choose() as u32);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = Vec::new();
        let certificate = params.self_signed(&key).map_err(|e| e.to_string())?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// A CA whose key is at hand.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Of all that it mints: what is dear is making keys.
    leaf: KeyPair,
    minted: Mutex<Minted>,
}

/// Certificates by the name they were asked for, and the names in the order of their coming.
#[derive(Default)]
struct Minted {
    all: HashMap<Box<str>, (Arc<CertifiedKey>, Instant)>,
    order: VecDeque<Box<str>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Takes up a CA.
    ///
    /// # Errors
    /// The key can't be used, or is not the certificate's.
    pub fn load(certificate: CertificateDer<'static>, key: &[u8]) -> Result<Self, String> {
        // It says what is wrong with the key better than what follows would.
        identity(vec![certificate.clone()], key)?;
        let unusable = |error: rcgen::Error| format!("can't be used: {error}");
        let text = std::str::from_utf8(key).map_err(|_| "is no PEM file".to_owned())?;
        let key = KeyPair::from_pem(text).map_err(unusable)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key).map_err(unusable)?,
            certificate,
            leaf: KeyPair::generate().map_err(unusable)?,
            minted: Mutex::default(),
        })
    }

    /// The certificate for one name; `others` are good for it as well. Minted once, then kept.
    ///
    /// # Errors
    /// The name can't stand in a certificate.
    pub(super) fn mint(&self, name: &str, others: &[String]) -> Result<Arc<CertifiedKey>, String> {
        let now = clock::now();
        let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kept, at)) = minted.all.get(name)
            && now - *at < KEPT
        {
            return Ok(Arc::clone(kept));
        }
        let names: Vec<_> = std::iter::once(name.to_owned())
            .chain(others.iter().cloned())
            .collect();
        let made = self.sign(params(&names, BEFORE, VALID)?)?;
        if minted.order.len() >= MOST_KEPT
            && let Some(oldest) = minted.order.pop_front()
        {
            minted.all.remove(&oldest);
        }
        if minted
            .all
            .insert(name.into(), (Arc::clone(&made), now))
            .is_none()
        {
            minted.order.push_back(name.into());
        }
        Ok(made)
    }

    fn sign(&self, params: CertificateParams) -> Result<Arc<CertifiedKey>, String> {
        let made = params.signed_by(&self.leaf, &self.issuer);
        let made = made.map_err(|error| error.to_string())?;
        let chain = vec![made.into(), self.certificate.clone()];
        certified(chain, &self.leaf)
    }
}

/// A certificate for these names that is wrong in one way, signed by `authority` where there is one
/// and it is not that which is wrong.
///
/// # Errors
/// A name can't stand in a certificate.
pub(super) fn wrong(
    how: Wrong,
    names: &[String],
    authority: Option<&Authority>,
) -> Result<Arc<CertifiedKey>, String> {
    let params = match how {
        Wrong::Expired => {
            let now = Timestamp::now().0 / 1_000_000;
            let at = |ago: Duration| Duration::from_secs(now.saturating_sub(ago.as_secs()));
            let mut params = params(names, BEFORE, VALID)?;
            params.not_before = date_time_ymd(1970, 1, 1) + at(DAY * 30);
            params.not_after = date_time_ymd(1970, 1, 1) + at(DAY);
            params
        }
        // A name that nobody can have (RFC 2606).
        Wrong::Host => params(&["wrong-host.invalid".to_owned()], BEFORE, VALID)?,
        Wrong::SelfSigned => params(names, BEFORE, VALID)?,
    };
    match authority.filter(|_| how != Wrong::SelfSigned) {
        Some(authority) => authority.sign(params),
        None => {
            let key = KeyPair::generate().map_err(|error| error.to_string())?;
            let made = params.self_signed(&key).map_err(|e| e.to_string())?;
            certified(vec![made.into()], &key)
        }
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> Result<Arc<CertifiedKey>, String> {
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let pair = CertifiedKey::from_der(chain, key, &provider());
    pair.map(Arc::new).map_err(|error| error.to_string())
}

/// A server's certificate for these names, from a while before now.
fn params(
    names: &[String],
    before: Duration,
    valid: Duration,
) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    let epoch = date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(Timestamp::now().0 / 1_000_000);
    params.not_before = epoch + now.saturating_sub(before);
    params.not_after = epoch + (now.saturating_sub(before) + valid);
    params.distinguished_name = DistinguishedName::new();
    // The field holds 64 characters; the names that count are the alternative ones.
    if let Some(name) = names.first().filter(|name| name.len() <= 64) {
        params
            .distinguished_name
            .push(DnType::CommonName, name.as_str());
    }
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// The names of an address on this machine that a client may have called it by.
pub(super) fn names_of(local: IpAddr, proxy: &str) -> Vec<String> {
    let mut names = vec![local.to_canonical().to_string(), "localhost".to_owned()];
    // A proxy's name may have what a host's has not.
    if DnsName::try_from(proxy).is_ok() {
        names.push(proxy.to_owned());
    }
    names
}
