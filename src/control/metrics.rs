//! `/metrics`: what is defined now, and the text that Prometheus scrapes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
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
    let metrics =
        async |Shared(context): Shared<Arc<Context>>, asked: HeaderMap| scrape(&context, &asked);
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
    let metrics = async |Shared(app): Shared<App>, asked: HeaderMap| scrape(&app.context, &asked);
    let route = Route::new("metrics", "Everything that is counted")
        .about("As OpenMetrics, with exemplars, where `Accept` likes that best.")
        .answers_text(200, "Prometheus' text format, or OpenMetrics")
        .or_text(200, OPENMETRICS);
    api.get("/metrics", metrics, route)
}

/// Everything that is counted, in the format that is liked best.
fn scrape(context: &Context, asked: &HeaderMap) -> Result<Response, Failure> {
    bring_up_to_date(context);
    let vary = (header::VARY, "accept");
    if prefers_openmetrics(asked) {
        let (text, format) = context.metrics.open_metrics(&context.ledger);
        return Ok(([(header::CONTENT_TYPE, format), vary], text).into_response());
    }
    let (text, format) = context.metrics.encode().map_err(|error| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error.to_string(),
        )
        .hint("that is a fault of Firedrill itself: please report it")
    })?;
    let format = [(header::CONTENT_TYPE, format.as_str()), vary];
    Ok((format, text).into_response())
}

const OPENMETRICS: &str = "application/openmetrics-text";

/// Whether `Accept` names OpenMetrics, in a version that is 1.0 or reads it, and likes nothing better;
/// of two that it likes as much, it is the first. Who takes anything gets what has always been here.
fn prefers_openmetrics(asked: &HeaderMap) -> bool {
    let lines = asked.get_all(header::ACCEPT).into_iter();
    let ranges = lines.filter_map(|line| line.to_str().ok());
    let mut best = (0.0, false);
    for range in ranges.flat_map(|line| line.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (mut quality, mut version) = (1.0, None);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.trim().parse::<f32>().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        let ours = media.eq_ignore_ascii_case(OPENMETRICS)
            && matches!(version, None | Some("1.0.0" | "0.0.1"));
        let classic = ["text/plain", "text/*", "*/*"];
        let known = ours || classic.iter().any(|m| media.eq_ignore_ascii_case(m));
        if known && quality > best.0 {
            best = (quality, ours);
        }
    }
    best.1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_accept_likes_best_is_answered() {
        let asked = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT, line.parse().unwrap());
            }
            prefers_openmetrics(&headers)
        };
        for accept in [
            // Prometheus 2.2x, 2.4x and 3.
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "Application/OpenMetrics-Text",
            "text/plain;q=0.5, application/openmetrics-text ; Version = \"1.0.0\" ; Q = 0.6",
            "text/html, application/openmetrics-text;q=0.1",
        ] {
            assert!(asked(&[accept]), "{accept}");
        }
        assert!(asked(&["text/plain;q=0.5", "application/openmetrics-text"]));
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.4,text/plain;q=0.5",
            "application/openmetrics-text;q=much,*/*",
            "application/openmetrics-text;version=2.0.0,text/plain;q=0.1",
            "text/plain,application/openmetrics-text",
            "application/json",
            ";;,=;q,,",
        ] {
            assert!(!asked(&[accept]), "{accept}");
        }
        assert!(!asked(&[]));
    }
}
