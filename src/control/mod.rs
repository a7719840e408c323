//! The HTTP API: what people and programs ask of a running Firedrill, and what they change.
//!
//! Owns routes, who may use them, and the shape of errors; the words of a body are the decoder's,
//! the changes are the state's. Nothing here touches traffic. [`serve`] runs it on a listener that
//! the caller has bound.

mod asker;
mod attempts;
mod body;
mod changes;
mod definitions;
mod drills;
mod error;
mod events;
mod evidence;
mod findings;
mod guard;
mod kept;
mod metrics;
mod openapi;
mod partitions;
mod places;
mod port;
mod proxies;
mod reload;
mod routes;
mod rules;
mod status;
mod stream;
mod toxiproxy;

use std::future::Future;
use std::sync::Arc;

use axum::http::header;
use axum::{Router, middleware, routing};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::clock::Timestamp;
use crate::config::Upstreams;
use crate::pipeline::Context;
use crate::proxy::Supervisor;
use routes::Api;

pub use events::touched;
pub use guard::Access;
pub use metrics::{metrics_app, retire};
pub use port::Port;
pub use reload::{Ask, NotReloaded};

/// What the API speaks for.
pub struct Control {
    /// State, ledger, metrics, seed.
    pub context: Arc<Context>,
    /// Who starts and stops proxies.
    pub supervisor: Arc<Supervisor>,
    /// Who may ask.
    pub access: Access,
    /// What proxies made or changed here may connect to.
    pub upstreams: Upstreams,
    /// Since when the process runs.
    pub started: Timestamp,
    /// How many records the ledger keeps.
    pub capacity: usize,
    /// The generation that the state file has; a change is answered once that is the one.
    pub kept: Option<watch::Receiver<u64>>,
    /// Who reads the file again; `None`: there is no file.
    pub reload: Option<mpsc::Sender<Ask>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control(since {})", self.started)
    }
}

type App = Arc<Control>;

/// All routes of the control port, guarded.
pub fn app(control: Control) -> Router {
    let app = Arc::new(control);
    let api = api();
    let document = axum::body::Bytes::from(openapi::document(&api).to_string());
    let described = async move || ([(header::CONTENT_TYPE, "application/json")], document);
    toxiproxy::routes(api.router)
        .route(OPENAPI, routing::get(described))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), kept::wait))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            guard::guard,
        ))
        .with_state(app)
}

const OPENAPI: &str = "/v1/openapi.json";

/// What `/v1/openapi.json` answers with.
#[must_use]
pub fn document() -> serde_json::Value {
    openapi::document(&api())
}

/// Every route that is described: all but those of other dialects.
fn api() -> Api {
    let api = status::routes(Api::new());
    let api = definitions::routes::<rules::Rules>(api);
    let api = definitions::routes::<partitions::Partitions>(api);
    let api = changes::routes(api);
    let api = events::routes(api);
    let api = reload::routes(api);
    let api = drills::routes(api);
    let api = proxies::routes(api);
    let api = evidence::routes(api);
    let api = findings::routes(api);
    metrics::routes(api).described(OPENAPI, openapi::route())
}

/// Answers until `shutdown`, and for a short while what is being answered then.
pub async fn serve(
    listener: TcpListener,
    port: Port,
    control: Control,
    shutdown: impl Future<Output = ()>,
) {
    port::run(listener, port, app(control), shutdown).await;
}

/// The same for the second port: [`metrics_app`] alone.
pub async fn serve_metrics(
    listener: TcpListener,
    context: Arc<Context>,
    shutdown: impl Future<Output = ()>,
) {
    port::run(listener, Port::default(), metrics_app(context), shutdown).await;
}
