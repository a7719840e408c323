//! Whether anything of the drill is left on an edge.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::super::report;
use super::super::sample::{Micros, Samples, Seen};
use super::Run;
use crate::clock;

/// How long a connection through an edge is looked at.
const GLANCE: Duration = Duration::from_millis(300);

impl Run<'_> {
    /// Looks at each edge whether anything of the drill is left.
    pub(super) async fn residue(
        &self,
        samples: &Samples,
        healed: Micros,
        drilled: bool,
    ) -> Vec<Option<report::Residue>> {
        let mut found = Vec::new();
        for (n, edge) in self.targets.edges.iter().enumerate() {
            if !drilled || !edge.enabled {
                found.push(None);
                continue;
            }
            let after = |s: &&Seen| s.edge == n && s.began > healed && s.injected;
            let touched = samples.seen.iter().filter(after).count();
            let (state, said) = match touched {
                0 => glance(&edge.address).await,
                n => (
                    "residue",
                    format!("{n} operations were still changed after all was lifted"),
                ),
            };
            found.push(Some(report::Residue {
                state: state.to_owned(),
                said,
            }));
        }
        found
    }
}

/// Whether a connection through an edge stands.
async fn glance(address: &str) -> (&'static str, String) {
    let connected = clock::within(Duration::from_secs(2), TcpStream::connect(address)).await;
    let mut stream = match connected {
        Some(Ok(stream)) => stream,
        Some(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return ("residue", format!("{address} refuses connections"));
        }
        Some(Err(error)) => {
            return (
                "unknown",
                format!("{address} can't be reached from here: {error}"),
            );
        }
        None => return ("unknown", format!("{address} can't be reached from here")),
    };
    let mut byte = [0];
    match clock::within(GLANCE, stream.read(&mut byte)).await {
        // It says something first, or nothing: both are as it should be.
        None | Some(Ok(1)) => ("clean", "connections stand".to_owned()),
        Some(Ok(_)) => ("residue", "connections are closed at once".to_owned()),
        Some(Err(error)) => ("residue", format!("connections break at once: {error}")),
    }
}
