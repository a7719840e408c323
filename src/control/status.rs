//! `/v1/status`, `/v1/heal`, and the probes.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;

use super::App;
use super::asker::Asker;
use super::definitions::items;
use super::error::Failure;
use super::partitions::Partitions;
use super::routes::{Api, Route};
use super::rules::Rules;
use crate::pipeline::Context;
use crate::state::{Change, Source, Stopping};
use crate::wire::{EvidenceStatus, Healed, Status};

pub(super) fn routes(api: Api) -> Api {
    let ready = async |Shared(app): Shared<App>| readiness(&app.context);
    api.get(
        "/v1/status",
        status,
        Route::new("status", "How everything stands").answers::<Status>(
            200,
            "Version, seed, generation, proxies, rules, partitions, how full the evidence is",
        ),
    )
    .post(
        "/v1/heal",
        heal,
        Route::new("heal", "Disables every rule and partition")
            .about("Takes no body. They stay as definitions.")
            .changes()
            .answers::<Healed>(200, "What had been on"),
    )
    .get(
        "/healthz",
        healthz,
        Route::new("healthz", "Whether the process is there")
            .open()
            .answers_text(200, "It is"),
    )
    .get(
        "/readyz",
        ready,
        Route::new("readyz", "Whether it takes traffic")
            .open()
            .answers_text(200, "It does")
            .answers_text(503, "It is stopping"),
    )
}

async fn status(Shared(app): Shared<App>) -> Json<Status> {
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
async fn heal(
    Shared(app): Shared<App>,
    asker: Result<Asker, Failure>,
) -> Result<Json<Healed>, Failure> {
    // Not even at a name that is none.
    let by = asker.map_or_else(|_| Source::Api.into(), |Asker(by)| by);
    let mut healed = Healed {
        generation: 0,
        rules: Vec::new(),
        partitions: Vec::new(),
    };
    healed.generation = app.context.state.change(by, |draft| {
        let rules = draft.rules().map(|d| &d.definition).filter(|r| r.enabled);
        healed.rules = rules.map(|r| r.name.clone()).collect();
        let partitions = draft.partitions().map(|d| &d.definition);
        let partitions = partitions.filter(|p| p.enabled);
        healed.partitions = partitions.map(|p| p.name.clone()).collect();
        draft.apply(Change::Heal)
    })?;
    Ok(Json(healed))
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
