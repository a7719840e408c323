//! The HTTP API: what people and programs ask of a running Firedrill, and what they change.
//!
//! Owns routes, who may use them, and the shape of errors; the words of a body are the decoder's,
//! the changes are the state's. Nothing here touches traffic. [`serve`] runs it on a listener that
//! the caller has bound.

mod asker;
mod body;
mod changes;
mod definitions;
mod error;
mod events;
mod evidence;
mod guard;
mod kept;
mod metrics;
mod openapi;
mod partitions;
mod proxies;
mod reload;
mod routes;
mod rules;
mod status;
mod stream;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use axum::{Router, middleware, routing};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::{self, Timestamp};
use crate::config::Upstreams;
use crate::pipeline::Context;
use crate::proxy::Supervisor;
use routes::Api;

pub use events::touched;
pub use metrics::metrics_app;
pub use reload::{Ask, NotReloaded};

/// How long requests that are being answered at shutdown may take.
const GRACE: Duration = Duration::from_secs(1);

/// What the API speaks for.
pub struct Control {
    /// State, ledger, metrics, seed.
    pub context: Arc<Context>,
    /// Who starts and stops proxies.
    pub supervisor: Arc<Supervisor>,
    /// Needed for everything but the probes, where there is one.
    pub token: Option<String>,
    /// Names in `Host` that are accepted besides addresses and names without a dot.
    pub hosts: Vec<String>,
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
        // Not the token.
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
    api.router
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
    let api = proxies::routes(api);
    let api = evidence::routes(api);
    metrics::routes(api).described(OPENAPI, openapi::route())
}

/// Answers until `shutdown`, and for a short while what is being answered then.
///
/// # Errors
/// When the listener can no longer be used.
pub async fn serve(
    listener: TcpListener,
    control: Control,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    run(listener, app(control), shutdown).await
}

/// The same for the second port: [`metrics_app`] alone.
///
/// # Errors
/// When the listener can no longer be used.
pub async fn serve_metrics(
    listener: TcpListener,
    context: Arc<Context>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    run(listener, metrics_app(context), shutdown).await
}

async fn run(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let began = Arc::new(Notify::new());
    let begin = Arc::clone(&began);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
        shutdown.await;
        begin.notify_one();
    });
    let overtime = async {
        began.notified().await;
        clock::sleep(GRACE).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = overtime => Ok(()),
    }
}
