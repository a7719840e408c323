//! `firedrill ca`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::Failure;
use super::output::Output;
use crate::config::{CA_CERTIFICATE, CA_KEY};
use crate::tls::NewAuthority;

/// What `ca` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A proxy with `tls: { terminate: { ca: DIR } }` mints a certificate for each
host that clients ask for. Whoever has the key can do so too: keep it, and
trust the certificate only where drills are run.")]
pub(super) struct Args {
    /// Where its two files go
    #[arg(long, value_name = "DIR", default_value = "firedrill-ca")]
    out: PathBuf,
    /// Replace one that is there: what trusts it no longer trusts what is minted
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let (certificate, key) = (args.out.join(CA_CERTIFICATE), args.out.join(CA_KEY));
    if !args.force
        && let Some(there) = [&certificate, &key].into_iter().find(|file| file.exists())
    {
        return Err(Failure::usage(
            format!("{} is there already", there.display()),
            "choose another folder with --out, or replace it with --force",
        ));
    }
    let made = NewAuthority::make().map_err(Failure::of_the_system)?;
    let written = fs::create_dir_all(&args.out)
        .and_then(|()| write(&key, &made.key, 0o600))
        .and_then(|()| write(&certificate, &made.certificate, 0o644));
    written.map_err(|error| Failure::Say {
        message: format!("can't write to {}: {error}", args.out.display()),
        hint: "may this user write there?".to_owned(),
        exit: 1,
    })?;
    let (certificate, key) = (certificate.display(), key.display());
    if out.json {
        return out.object(&json!({
            "certificate": certificate.to_string(),
            "key": key.to_string(),
        }));
    }
    out.text(&format!(
        "\
made {certificate}, to be trusted by clients
made {key}, to be kept from everyone
in the file:  tls: {{ terminate: {{ ca: {dir} }} }}
curl:         curl --cacert {certificate} https://…
openssl:      openssl s_client -CAfile {certificate} -connect …
Python:       REQUESTS_CA_BUNDLE={certificate} or SSL_CERT_FILE={certificate}
Node.js:      NODE_EXTRA_CA_CERTS={certificate}
Go, Rust:     SSL_CERT_FILE={certificate}
Java:         keytool -importcert -cacerts -alias firedrill -file {certificate}",
        dir = args.out.display(),
    ))
}

/// Writes a file anew, so that nobody reads what replaces it through what was open to them.
fn write(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut opened = options.write(true).create_new(true).mode(mode).open(file)?;
    // Whatever the umask leaves of it.
    opened.set_permissions(fs::Permissions::from_mode(mode))?;
    opened.write_all(text.as_bytes())
}
