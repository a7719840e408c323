//! `POST /v1/reload`: the file is read again. Who does that is handed in.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use tokio::sync::oneshot;

use super::App;
use super::asker::Asker;
use super::error::Failure;
use super::routes::{Api, Route};
use crate::config::Problems;
use crate::proxy::StartError;
use crate::state::{By, Source};
use crate::wire::Reloaded;

/// A request to read the file again.
#[derive(Debug)]
pub struct Ask {
    /// Who asks.
    pub by: By,
    /// What became of it.
    pub answer: oneshot::Sender<Result<Reloaded, NotReloaded>>,
}

/// Why a file was not applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// It does not load.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// It loads, and how things stand is in the way.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl From<NotReloaded> for Failure {
    fn from(error: NotReloaded) -> Self {
        match error {
            NotReloaded::Problems(problems) => Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_file",
                problems.to_string(),
            )
            .hint("mend the file; nothing was changed"),
            NotReloaded::Start(error) => error.into(),
        }
    }
}

pub(super) fn routes(api: Api) -> Api {
    let route = Route::new("reload", "Reads the file again, and applies what differs")
        .about("Takes no body. A file that does not load changes nothing.")
        .changes()
        .answers::<Reloaded>(200, "What runs is what the file says")
        .refuses(&[409, 422]);
    api.post("/v1/reload", reload, route)
}

async fn reload(Shared(app): Shared<App>, Asker(by): Asker) -> Result<Json<Reloaded>, Failure> {
    let no_file = || {
        Failure::new(
            StatusCode::CONFLICT,
            "no_file",
            "it was started without a file",
        )
        .hint("`firedrill serve -c FILE` starts it with one")
    };
    let reload = app.reload.as_ref().ok_or_else(no_file)?;
    let (answer, answered) = oneshot::channel();
    let by = By {
        source: Source::File,
        ..by
    };
    let stopping = || {
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "the process is stopping",
        )
        .hint("start it again")
    };
    let sent = reload.send(Ask { by, answer }).await;
    sent.map_err(|_| stopping())?;
    let reloaded = answered.await.map_err(|_| stopping())?;
    Ok(Json(reloaded?))
}
