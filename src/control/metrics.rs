//! `/metrics`: what is defined now, and the text that Prometheus scrapes.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};

use super::App;
use super::error::{self, Failure};
use super::routes::{Api, Route};
use super::status::{healthz, readiness};
use crate::metrics::Defined;
use crate::pipeline::Context;

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
