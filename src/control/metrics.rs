//! `/metrics`: what is defined now, and the text that Prometheus scrapes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};

use super::App;
use super::error::{self, Failure};
use super::routes::{Api, Route};
use super::status::{healthz, readiness};
use crate::clock;
use crate::metrics::Defined;
use crate::pipeline::Context;
use crate::state::Stopping;

/// Between two looks at which series are still needed.
const PAUSE: Duration = Duration::from_secs(1);

/// The second port: numbers and probes, nothing that changes anything.
pub fn metrics_app(context: Arc<Context>) -> Router {
    let ready = async |Shared(context): Shared<Arc<Context>>| readiness(&context);
    let metrics = async |Shared(context): Shared<Arc<Context>>| scrape(&context);
    Router::new()
        .route("/metrics", routing::get(metrics))
        .route("/healthz", routing::get(healthz))
        .route("/readyz", routing::get(ready))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(context)
}

/// The same on the control port.
pub(super) fn routes(api: Api) -> Api {
    let metrics = async |Shared(app): Shared<App>| scrape(&app.context);
    let route = Route::new("metrics", "Everything that is counted")
        .answers_text(200, "Prometheus' text format");
    api.get("/metrics", metrics, route)
}

/// Everything that is counted, in Prometheus' text format.
fn scrape(context: &Context) -> Result<Response, Failure> {
    bring_up_to_date(context);
    let (text, format) = context.metrics.encode().map_err(|error| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error.to_string(),
        )
        .hint("that is a fault of Firedrill itself: please report it")
    })?;
    Ok(([(header::CONTENT_TYPE, format)], text).into_response())
}

/// Retires the series of what no longer exists.
fn bring_up_to_date(context: &Context) {
    let state = &context.state;
    let (_, rules) = state.rules();
    let (_, partitions) = state.partitions();
    let rules = rules.into_iter().map(|d| d.definition);
    let partitions = partitions.into_iter().map(|d| d.definition);
    context.metrics.retain(&Defined {
        proxies: state.edges().iter().map(|e| e.name.clone()).collect(),
        rules: rules
            .map(|r| (r.name.clone(), r.fault.kind.name, r.enabled))
            .collect(),
        partitions: partitions.map(|p| (p.name.clone(), p.enabled)).collect(),
        evidence_dropped: context.ledger.dropped(),
    });
}

/// Retires series while nobody scrapes, until the process stops: rules come and go, and each that
/// acts leaves some. Cancel-safe.
pub async fn retire(context: Arc<Context>) {
    while context.state.stopping() == Stopping::No {
        let changed = context.state.changed();
        bring_up_to_date(&context);
        changed.await;
        clock::sleep(PAUSE).await;
    }
}
