//! A change is answered once the state file has it.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::App;
use crate::clock;

/// A disk that takes longer does not hold up those who make changes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for the state file, if there is one. A heal waits for nothing.
pub(super) async fn wait(State(app): State<App>, request: Request, next: Next) -> Response {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    let waits = !reads && request.uri().path() != "/v1/heal";
    let response = next.run(request).await;
    if let Some(kept) = app
        .kept
        .as_ref()
        .filter(|_| waits && response.status().is_success())
    {
        let (mut kept, generation) = (kept.clone(), app.context.state.generation());
        let wait = kept.wait_for(|kept| *kept >= generation);
        // What is not kept in time has been logged, or will be.
        let _ = clock::within(PATIENCE, wait).await;
    }
    response
}
