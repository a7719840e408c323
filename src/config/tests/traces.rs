//! `traces`: which collectors and headers are taken, and what is said of the others.

use std::fs;

use super::good;
use super::tls::Pem;
use crate::config::{TracesConfig, load};

/// Loads a file that has this, beside PEM files.
fn traces(pem: &Pem, section: &str) -> Result<Option<TracesConfig>, String> {
    let file = pem.at("f.yaml");
    fs::write(&file, format!("traces: {section}\n")).unwrap();
    let loaded = load(file.as_ref()).map(|config| config.traces);
    loaded.map_err(|problems| problems.to_string().replace(&pem.at(""), ""))
}

#[test]
fn what_is_not_said_is_at_its_default() {
    assert_eq!(good("traces:").traces, None);
    let traces = good("traces: { otlp: 'http://collector:4318/' }").traces;
    let traces = traces.unwrap();
    assert_eq!((traces.otlp.port, &*traces.otlp.path), (4318, ""));
    assert!(traces.headers.is_empty() && traces.resource.is_empty() && !traces.all);
    assert_eq!((&*traces.service, traces.tls), ("firedrill", None));
}

#[test]
fn a_header_may_stand_in_a_file_and_is_in_no_log() {
    let pem = Pem::make();
    fs::write(pem.at("secret"), "Bearer s3cret\n").unwrap();
    let section = "{ otlp: 'http://c', headers: { Authorization: { file: secret }, x-n: 1 } }";
    let traces = traces(&pem, section).unwrap().unwrap();
    let pairs = traces.headers.iter();
    let pairs: Vec<_> = pairs
        .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
        .collect();
    assert_eq!(pairs, [("authorization", "Bearer s3cret"), ("x-n", "1")]);
    assert!(!format!("{traces:?}").contains("s3cret"), "{traces:?}");
}

#[test]
fn without_records_there_is_nothing_to_send() {
    let problems = super::bad("traces: { otlp: 'http://c' }\nevidence: { enabled: false }");
    insta::assert_snapshot!(problems, @r"
    f.yaml:1:1: traces: no record is kept that could be sent
      hint: set `evidence.enabled`, or leave `traces` out
    ");
}

#[test]
fn https_is_spoken_as_with_an_upstream() {
    let pem = Pem::make();
    for section in [
        "{ otlp: 'https://collector', tls: { ca: ca/ca.pem } }",
        "{ otlp: 'https://[::1]:4318', tls: { verify: false, cert: site.pem, key: site.key } }",
    ] {
        let traces = traces(&pem, section).unwrap().unwrap();
        assert!(traces.tls.unwrap().originate.is_some(), "{section}");
    }
}

#[test]
fn what_is_wrong_has_a_place() {
    let pem = Pem::make();
    fs::write(pem.at("empty"), " \n").unwrap();
    fs::write(pem.at("lines"), "a\nb").unwrap();
    fs::write(pem.at("latin"), [b'a', 0xe9]).unwrap();
    let mut all = String::new();
    for section in [
        "{}",
        "http://127.0.0.1:4318",
        "{ otlp: 127.0.0.1:4318 }",
        "{ otlp: collector }",
        "{ otlp: 'grpc://collector:4317' }",
        "{ otlp: 'http://me:secret@collector' }",
        "{ otlp: 'http://collector?token=1' }",
        "{ otlp: 'http://collector:70000' }",
        "{ otlp: 'http://collector:4318/v1/traces' }",
        "{ otlp: 4318, service: '', timeout: 0, all: yes, resource: [a], headers: a }",
        "{ otlp: 'http://c', endpoint: 'http://c', tls: { ca: ca/ca.pem } }",
        "{ otlp: 'https://c', tls: true }",
        "{ otlp: 'https://c', tls: { ca: site.key } }",
        "{ otlp: 'http://c', resource: { service.name: x, a: [b] } }",
        "{ otlp: 'http://c', headers: { 'a b': c, Host: d, e: \"f\\ng\", h: [i] } }",
        "{ otlp: 'http://c', headers: { a: {}, b: { file: none }, c: { file: empty }, d: { file: lines }, e: { file: latin } } }",
    ] {
        let problems = traces(&pem, section).expect_err(section);
        all += &format!("{section}\n{problems}\n");
    }
    insta::assert_snapshot!(all, @r###"
{}
f.yaml:1:9: traces.otlp: missing; expected the address of a collector such as `http://127.0.0.1:4318`
http://127.0.0.1:4318
f.yaml:1:9: traces: expected a map, found `http://127.0.0.1:4318`
{ otlp: 127.0.0.1:4318 }
f.yaml:1:17: traces.otlp: expected the address of a collector such as `http://127.0.0.1:4318`, found `127.0.0.1:4318`: it is neither http nor https
  hint: did you mean `http://127.0.0.1:4318`?
{ otlp: collector }
f.yaml:1:17: traces.otlp: expected the address of a collector such as `http://127.0.0.1:4318`, found `collector`: it is neither http nor https
  hint: did you mean `http://collector:4318`?
{ otlp: 'grpc://collector:4317' }
f.yaml:1:17: traces.otlp: expected the address of a collector such as `http://127.0.0.1:4318`, found `grpc://collector:4317`: it is neither http nor https
{ otlp: 'http://me:secret@collector' }
f.yaml:1:17: traces.otlp: expected the address of a collector such as `http://127.0.0.1:4318`; it holds a user
  hint: what the collector wants to know goes into `headers`
{ otlp: 'http://collector?token=1' }
f.yaml:1:17: traces.otlp: expected the address of a collector such as `http://127.0.0.1:4318`, found `http://collector?token=1`: it has a query
{ otlp: 'http://collector:70000' }
f.yaml:1:17: traces.otlp: expected the address of a collector such as `http://127.0.0.1:4318`, found `http://collector:70000`: it can't be parsed
{ otlp: 'http://collector:4318/v1/traces' }
f.yaml:1:17: traces.otlp: `/v1/traces` is put behind it
  hint: leave it out
{ otlp: 4318, service: '', timeout: 0, all: yes, resource: [a], headers: a }
f.yaml:1:17: traces.otlp: expected the address of a collector such as `http://127.0.0.1:4318`, found the number 4318
  hint: did you mean `http://127.0.0.1:4318`?
f.yaml:1:32: traces.service: expected the name of a service, found an empty text
f.yaml:1:45: traces.timeout: expected a duration longer than 0, found the number 0
f.yaml:1:53: traces.all: expected `true` or `false`, found `yes`
  hint: write `true`
f.yaml:1:68: traces.resource: expected a map of attributes, found a list
f.yaml:1:82: traces.headers: expected a map of headers, found `a`
{ otlp: 'http://c', endpoint: 'http://c', tls: { ca: ca/ca.pem } }
f.yaml:1:29: traces.endpoint: unknown key `endpoint`
  hint: allowed here: `otlp`, `headers`, `timeout`, `service`, `resource`, `all`, `tls`
f.yaml:1:51: traces.tls: no TLS is spoken there: `otlp` begins with `http:`
  hint: write `https:`, or leave `tls` out
{ otlp: 'https://c', tls: true }
f.yaml:1:35: traces.tls: expected a map, found `true` (a boolean)
{ otlp: 'https://c', tls: { ca: site.key } }
f.yaml:1:41: traces.tls.ca: `site.key` has no certificate (`BEGIN CERTIFICATE`)
{ otlp: 'http://c', resource: { service.name: x, a: [b] } }
f.yaml:1:41: traces.resource["service.name"]: this one has a key of its own
  hint: say `traces.service`
f.yaml:1:61: traces.resource.a: expected a text, found a list
{ otlp: 'http://c', headers: { 'a b': c, Host: d, e: "f\ng", h: [i] } }
f.yaml:1:40: traces.headers["a b"]: expected the name of a header, found `a b`
f.yaml:1:50: traces.headers.Host: Firedrill sets this header itself
  hint: leave it out
f.yaml:1:62: traces.headers.e: it has characters that no header may have
f.yaml:1:73: traces.headers.h: expected a text, or `{ file: PATH }`, found a list
{ otlp: 'http://c', headers: { a: {}, b: { file: none }, c: { file: empty }, d: { file: lines }, e: { file: latin } } }
f.yaml:1:43: traces.headers.a.file: missing; expected the path of a file
f.yaml:1:58: traces.headers.b.file: `none` can't be read: No such file or directory (os error 2)
f.yaml:1:77: traces.headers.c.file: `empty` has no text in it
f.yaml:1:89: traces.headers.d: it has characters that no header may have
f.yaml:1:117: traces.headers.e.file: `latin` has no text in it
"###);
}
