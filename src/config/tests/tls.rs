//! A proxy's TLS: which certificates and keys are taken, and what is said of the others.

use std::fs;
use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::config::{Config, edge_to_json, load};
use crate::tls::NewAuthority;

/// A folder with certificates and keys that were made just now.
pub(super) struct Pem(TempDir);

impl Pem {
    pub(super) fn make() -> Self {
        let pem = Self(TempDir::new().unwrap());
        let made = NewAuthority::make().unwrap();
        fs::create_dir(pem.0.path().join("ca")).unwrap();
        pem.put("ca/ca.pem", &made.certificate);
        pem.put("ca/ca.key", &made.key);
        for name in ["site", "other"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([format!("{name}.example")]).unwrap();
            pem.put(
                &format!("{name}.pem"),
                &params.self_signed(&key).unwrap().pem(),
            );
            pem.put(&format!("{name}.key"), &key.serialize_pem());
        }
        pem
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    pub(super) fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Loads a file in this folder with one proxy that has this.
    fn load(&self, keys: &str) -> Result<Config, String> {
        let file: PathBuf = self.0.path().join("f.yaml");
        let text = format!(
            "proxies:\n  - name: p\n    listen: 127.0.0.1:0\n    upstream: payment:1\n    {keys}\n"
        );
        fs::write(&file, text).unwrap();
        load(&file).map_err(|problems| problems.to_string().replace(&self.at(""), ""))
    }
}

#[test]
fn what_is_said_of_requests_needs_some() {
    let pem = Pem::make();
    let keys =
        "protocol: http\n    upstream_host: payment.internal\n    forwarded: { x_forwarded: true }";
    let config = pem.load(keys).unwrap();
    let edge = &config.proxies[0];
    assert_eq!(edge.upstream_host.as_deref(), Some("payment.internal"));
    assert!(edge.forwarded.x_forwarded && !edge.forwarded.forwarded);
    let printed = edge_to_json(edge);
    assert_eq!(printed["upstream_host"], "payment.internal");
    let problems = pem
        .load("upstream_host: \"a b\"\n    forwarded: { forwarded: true }")
        .unwrap_err();
    insta::assert_snapshot!(problems, @r"
    f.yaml:5:20: proxies[0].upstream_host: expected a host, with its port if need be, such as `payment.internal`, found `a b`
    f.yaml:6:5: proxies[0].forwarded: there are no requests here that it could change: `protocol: tcp`
      hint: set `protocol: http` or `auto`, or leave it out
    ");
}

#[test]
fn a_handshake_fails_only_where_there_is_one() {
    let pem = Pem::make();
    let rule = |more: &str, condition: &str| {
        format!(
            "proxies:\n  - {{ name: plain, listen: '127.0.0.1:0', upstream: 'h:1', protocol: http }}\n{more}rules:\n  - name: r\n{condition}    fault: {{ tls: {{ how: expired }} }}\n"
        )
    };
    let site = format!(
        "  - {{ name: site, listen: '127.0.0.1:0', upstream: 'h:1', tls: {{ terminate: {{ ca: {} }} }} }}\n",
        pem.at("ca")
    );
    super::good(&rule(&site, ""));
    super::good(&rule(
        &site,
        "    proxies: [site]\n    match: { client: 10.0.0.0/8 }\n",
    ));
    let mut all = String::new();
    for (more, condition) in [
        ("", ""),
        (&*site, "    proxies: [plain]\n"),
        (&*site, "    proxies: [site]\n    match: { age: 1s }\n"),
    ] {
        all += &format!("{}\n", super::bad(&rule(more, condition)));
    }
    insta::assert_snapshot!(all, @r"
f.yaml:5:14: rules[0].fault.tls: `tls` can act on no proxy: none speaks TLS with its clients
  hint: it needs a proxy with `tls: { terminate: { … } }`
f.yaml:7:14: rules[0].fault.tls: `tls` can't act on `plain`: no TLS is spoken with clients there
  hint: it can act on `site`
f.yaml:7:19: rules[0].match.age: never holds in time on `site`: `tls` acts when a connection is accepted, and `age` is known later
  hint: leave it out, or use a kind that acts on bytes, such as `reset` or `timeout`
");
}

#[test]
fn what_is_taken() {
    let pem = Pem::make();
    for (keys, terminates, originates) in [
        (
            "tls: { terminate: { cert: ./site.pem, key: site.key } }",
            true,
            false,
        ),
        (
            "tls: { terminate: { ca: ./ca, client_ca: ca/ca.pem, alpn: [h2, http/1.1] } }",
            true,
            false,
        ),
        ("tls: { originate: { ca: ca/ca.pem } }", false, true),
        (
            "tls: { originate: { verify: false, server_name: 10.0.0.1, cert: site.pem, key: site.key } }",
            false,
            true,
        ),
        (
            "tls: { terminate: { ca: ca }, originate: { ca: ca/ca.pem, server_name: payment.internal } }",
            true,
            true,
        ),
        ("proxy_protocol: { accept: true, send: v2 }", false, false),
        ("proxy_protocol: { send: v1 }", false, false),
        ("proxy_protocol:", false, false),
    ] {
        let config = pem
            .load(keys)
            .unwrap_or_else(|problems| panic!("{keys}\n{problems}"));
        let edge = &config.proxies[0];
        let has = (edge.terminate().is_some(), edge.originate().is_some());
        assert_eq!(has, (terminates, originates), "{keys}");
        // What is printed reads the same.
        let mut printed = edge_to_json(edge);
        for key in [
            "name",
            "from",
            "to",
            "enabled",
            "listen",
            "upstream",
            "protocol",
            "connect_timeout",
            "max_connections",
        ] {
            printed.as_object_mut().unwrap().remove(key);
        }
        for (key, said) in printed.as_object().unwrap() {
            let again = pem.load(&format!("{key}: {said}")).unwrap();
            assert_eq!(again.proxies[0].tls, edge.tls, "{keys}");
            assert_eq!(
                again.proxies[0].proxy_protocol, edge.proxy_protocol,
                "{keys}"
            );
        }
    }
}

#[test]
fn what_is_wrong_has_a_place() {
    let pem = Pem::make();
    pem.put("empty.pem", "");
    pem.put(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    fs::create_dir(pem.0.path().join("half")).unwrap();
    fs::copy(pem.at("ca/ca.pem"), pem.at("half/ca.pem")).unwrap();
    fs::create_dir(pem.0.path().join("mixed")).unwrap();
    fs::copy(pem.at("ca/ca.pem"), pem.at("mixed/ca.pem")).unwrap();
    fs::copy(pem.at("site.key"), pem.at("mixed/ca.key")).unwrap();
    let mut all = String::new();
    for keys in [
        "tls: {}",
        "tls: { terminate: {} }",
        "tls: { terminate: { cert: site.pem } }",
        "tls: { terminate: { key: site.key } }",
        "tls: { terminate: { cert: none.pem, key: none.key } }",
        "tls: { terminate: { cert: ca, key: site.key } }",
        "tls: { terminate: { cert: site.key, key: site.pem } }",
        "tls: { terminate: { cert: empty.pem, key: site.key } }",
        "tls: { terminate: { cert: broken.pem, key: site.key } }",
        "tls: { terminate: { cert: site.pem, key: other.key } }",
        "tls: { terminate: { ca: ca, cert: site.pem, key: site.key } }",
        "tls: { terminate: { ca: nowhere } }",
        "tls: { terminate: { ca: half } }",
        "tls: { terminate: { ca: mixed } }",
        "tls: { terminate: { ca: ca, client_ca: empty.pem, alpn: h2 } }",
        "tls: { originate: yes }",
        "tls: { originate: { ca: ca/ca.pem, verify: false } }",
        "tls: { originate: { ca: ca/ca.pem, server_name: 'a b' } }",
        "tls: { originate: { ca: broken.pem } }",
        "tls: { terminat: {} }",
        "proxy_protocol: { accept: yes, send: v3 }",
    ] {
        let problems = pem.load(keys).expect_err(keys);
        all += &format!("{keys}\n{problems}\n");
    }
    insta::assert_snapshot!(all, @r###"
tls: {}
f.yaml:5:10: proxies[0].tls: says nothing
  hint: `terminate`: TLS with clients; `originate`: TLS with the upstream
tls: { terminate: {} }
f.yaml:5:23: proxies[0].tls.terminate: names no certificate
  hint: `cert` and `key` are PEM files; or `ca`, the folder of a local CA that `firedrill ca` makes
tls: { terminate: { cert: site.pem } }
f.yaml:5:23: proxies[0].tls.terminate.key: missing; expected the path of a PEM file
tls: { terminate: { key: site.key } }
f.yaml:5:23: proxies[0].tls.terminate.cert: missing; expected the path of a PEM file
tls: { terminate: { cert: none.pem, key: none.key } }
f.yaml:5:31: proxies[0].tls.terminate.cert: `none.pem` can't be read: No such file or directory (os error 2)
f.yaml:5:46: proxies[0].tls.terminate.key: `none.key` can't be read: No such file or directory (os error 2)
tls: { terminate: { cert: ca, key: site.key } }
f.yaml:5:31: proxies[0].tls.terminate.cert: `ca` can't be read: it is no file
tls: { terminate: { cert: site.key, key: site.pem } }
f.yaml:5:31: proxies[0].tls.terminate.cert: `site.key` has no certificate (`BEGIN CERTIFICATE`)
tls: { terminate: { cert: empty.pem, key: site.key } }
f.yaml:5:31: proxies[0].tls.terminate.cert: `empty.pem` has no certificate (`BEGIN CERTIFICATE`)
tls: { terminate: { cert: broken.pem, key: site.key } }
f.yaml:5:31: proxies[0].tls.terminate.cert: `broken.pem` has a certificate that can't be read
tls: { terminate: { cert: site.pem, key: other.key } }
f.yaml:5:46: proxies[0].tls.terminate.key: `other.key` is not the key of the certificate
tls: { terminate: { ca: ca, cert: site.pem, key: site.key } }
f.yaml:5:25: proxies[0].tls.terminate.ca: the certificate is in a file, or minted by a CA: not both
  hint: leave `ca` out, or `cert` and `key`
tls: { terminate: { ca: nowhere } }
f.yaml:5:29: proxies[0].tls.terminate.ca: `nowhere/ca.pem` can't be read: No such file or directory (os error 2)
  hint: make one: `firedrill ca --out DIR`
tls: { terminate: { ca: half } }
f.yaml:5:29: proxies[0].tls.terminate.ca: `half/ca.key` can't be read: No such file or directory (os error 2)
  hint: make one: `firedrill ca --out DIR`
tls: { terminate: { ca: mixed } }
f.yaml:5:29: proxies[0].tls.terminate.ca: `ca.key` is not the key of the certificate
tls: { terminate: { ca: ca, client_ca: empty.pem, alpn: h2 } }
f.yaml:5:44: proxies[0].tls.terminate.client_ca: `empty.pem` has no certificate (`BEGIN CERTIFICATE`)
f.yaml:5:61: proxies[0].tls.terminate.alpn: expected a list of protocols such as `[h2, http/1.1]`, found `h2`
  hint: write `[h2]`
tls: { originate: yes }
f.yaml:5:23: proxies[0].tls.originate: expected `true`, or a map, found `yes`
tls: { originate: { ca: ca/ca.pem, verify: false } }
f.yaml:5:25: proxies[0].tls.originate.ca: nothing is verified against it: `verify` is `false`
  hint: leave one of them out
tls: { originate: { ca: ca/ca.pem, server_name: 'a b' } }
f.yaml:5:53: proxies[0].tls.originate.server_name: `a b` can't be a name in a certificate
  hint: set `server_name` to the one that the upstream's certificate has
tls: { originate: { ca: broken.pem } }
f.yaml:5:29: proxies[0].tls.originate.ca: `broken.pem` has a certificate that can't be read
tls: { terminat: {} }
f.yaml:5:12: proxies[0].tls.terminat: unknown key `terminat`
  hint: did you mean `terminate`?
proxy_protocol: { accept: yes, send: v3 }
f.yaml:5:31: proxies[0].proxy_protocol.accept: expected `true` or `false`, found `yes`
  hint: write `true`
f.yaml:5:42: proxies[0].proxy_protocol.send: expected one of `v1`, `v2`, found `v3`
  hint: did you mean `v1`?
"###);
}
