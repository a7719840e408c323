//! `firedrill health`: for whoever starts it again when it is not well.

use serde_json::json;

use super::Failure;
use super::output::Output;
use super::targets::{self, Targets};

pub(super) async fn run(targets: &Targets, out: &Output) -> Result<(), Failure> {
    let ready = async |client: crate::client::Client| {
        client.ready().await?;
        Ok(json!({ "ready": true }))
    };
    let answers = targets.ask(ready).await;
    targets::print(out, answers, |_| "ready".to_owned())
}
