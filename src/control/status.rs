//! `/v1/status`, `/v1/heal`, and the probes.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, State as Shared};
use axum::http::StatusCode;

use super::App;
use super::definitions::{audit, items};
use super::error::Failure;
use super::partitions::Partitions;
use super::rules::Rules;
use crate::pipeline::Context;
use crate::state::{Change, Source, Stopping};
use crate::wire::{EvidenceStatus, Healed, Status};

pub(super) async fn status(Shared(app): Shared<App>) -> Json<Status> {
    let Context {
        state,
        ledger,
        seed,
        ..
    } = &*app.context;
    let generation = state.generation();
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: *seed,
        generation,
        started: app.started,
        proxies: app.proxies().items,
        rules: items::<Rules>(state).items,
        partitions: items::<Partitions>(state).items,
        evidence: EvidenceStatus {
            records: ledger.len(),
            capacity: app.capacity,
            dropped: ledger.dropped(),
        },
    })
}

/// Disables everything. Takes no body, waits for nothing, looks at nothing that could be wrong.
pub(super) async fn heal(
    Shared(app): Shared<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Result<Json<Healed>, Failure> {
    let state = &app.context.state;
    let (_, rules) = state.rules();
    let (_, partitions) = state.partitions();
    let generation = state.apply(vec![Change::Heal], Source::Api)?;
    audit(peer, "healed", "everything", "", generation);
    let rules = rules.into_iter().map(|d| d.definition);
    let partitions = partitions.into_iter().map(|d| d.definition);
    Ok(Json(Healed {
        generation,
        rules: rules
            .filter(|r| r.enabled)
            .map(|r| r.name.clone())
            .collect(),
        partitions: partitions
            .filter(|p| p.enabled)
            .map(|p| p.name.clone())
            .collect(),
    }))
}

/// The process is there.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// It takes traffic: everything was bound before this was, and it is not stopping.
pub(super) fn readiness(context: &Context) -> (StatusCode, &'static str) {
    match context.state.stopping() {
        Stopping::No => (StatusCode::OK, "ok\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}
