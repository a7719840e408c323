//! A proxy's `tls`.

use serde_json::{Value, json};

use super::shapes::{about, flag, list, object, text};

pub(super) fn tls() -> Value {
    object(
        "TLS with clients, with the upstream, or both",
        &[],
        [("terminate", terminate()), ("originate", originate())],
    )
}

/// Of the control port: as of a proxy, but for the protocols, of which it speaks one.
pub(super) fn control() -> Value {
    let mut map = terminate();
    map["description"] = json!("The control port speaks TLS");
    if let Some(properties) = map["properties"].as_object_mut() {
        properties.shift_remove("alpn");
    }
    map
}

/// Of a server that this process itself asks: as with the upstream.
pub(super) fn with_server() -> Value {
    let mut map = originate();
    map["description"] = json!("How TLS is spoken where the address begins with `https:`");
    map["type"] = json!("object");
    map
}

fn terminate() -> Value {
    object(
        "Clients speak TLS with the proxy",
        &[],
        [
            (
                "cert",
                about(
                    text(),
                    "A PEM file with the certificate, and those that lead to its CA, relative to this one",
                    None,
                ),
            ),
            (
                "key",
                about(text(), "A PEM file with its private key", None),
            ),
            (
                "ca",
                about(
                    text(),
                    "Instead: the folder of a local CA (`firedrill ca`), which mints a certificate for each host that is asked for",
                    None,
                ),
            ),
            (
                "client_ca",
                about(
                    text(),
                    "Clients must have a certificate of a CA in this PEM file",
                    None,
                ),
            ),
            (
                "alpn",
                about(
                    list(text()),
                    "The protocols that are spoken, the first the dearest; absent: what the upstream chooses of those the client offers, or `http/1.1` where it speaks no TLS",
                    None,
                ),
            ),
        ],
    )
}

fn originate() -> Value {
    let mut map = object(
        "The proxy speaks TLS with the upstream; `true`: all at its default",
        &[],
        [
            (
                "ca",
                about(
                    text(),
                    "A PEM file with the CAs that are trusted; absent: the system's",
                    None,
                ),
            ),
            (
                "server_name",
                about(
                    text(),
                    "The name that is asked for and that the certificate must have; absent: the host of `upstream`",
                    None,
                ),
            ),
            (
                "cert",
                about(
                    text(),
                    "A PEM file with a certificate to show if asked",
                    None,
                ),
            ),
            (
                "key",
                about(text(), "A PEM file with its private key", None),
            ),
            (
                "verify",
                about(
                    flag(),
                    "`false`: whoever answers is taken for the upstream",
                    Some(json!(true)),
                ),
            ),
        ],
    );
    map["type"] = json!(["object", "boolean"]);
    map
}
