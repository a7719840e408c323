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
mod metrics;
mod partitions;
mod proxies;
mod rules;
mod status;
mod stream;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::{Router, middleware, routing};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::clock::{self, Timestamp};
use crate::config::Upstreams;
use crate::pipeline::Context;
use crate::proxy::Supervisor;

pub use metrics::metrics_app;

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
    let ready = async |Shared(app): Shared<App>| status::readiness(&app.context);
    let scrape = async |Shared(app): Shared<App>| metrics::scrape(&app.context);
    let router = Router::new()
        .route("/healthz", routing::get(status::healthz))
        .route("/readyz", routing::get(ready))
        .route("/metrics", routing::get(scrape))
        .route("/v1/status", routing::get(status::status))
        .route("/v1/heal", routing::post(status::heal))
        .route("/v1/changes", routing::post(changes::changes))
        .route("/v1/events", routing::get(events::events))
        .route("/v1/heartbeat", routing::post(events::heartbeat))
        .route("/v1/evidence", routing::get(evidence::evidence));
    let router = definitions::routes::<rules::Rules>(router);
    let router = definitions::routes::<partitions::Partitions>(router);
    proxies::routes(router)
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            guard::guard,
        ))
        .with_state(app)
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
