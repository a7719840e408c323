//! `--serve`: the stack stands with its rules off, for a drill from another terminal.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use super::stack::{Ports, Stack};
use crate::client::DEFAULT_URL;

/// Runs the stack until SIGTERM or SIGINT.
///
/// # Errors
/// It can't start.
pub async fn serve(say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let stop = told_to_stop()?;
    serve_until(say, stop).await
}

/// Resolves at SIGTERM or SIGINT.
///
/// # Errors
/// Signals can't be listened to.
pub(super) fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Runs the stack until `stop` resolves.
///
/// # Errors
/// It can't start.
pub async fn serve_until(
    say: &mut dyn FnMut(&str),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let stack = Stack::start(Ports::Friendly).await?;
    for line in page(&stack) {
        say(&line);
    }
    stop.await;
    say("Stopping.");
    stack.stop().await;
    Ok(())
}

fn page(stack: &Stack) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for address in &stack.taken {
        lines.push(format!("{address} is taken; any free port stands for it."));
    }
    let url = stack.control.url();
    lines.push("The checkout story stands. Its rules are off.".to_owned());
    lines.push(String::new());
    lines.push(format!("  {:10} {url}", "control"));
    for (name, proxy, service) in &stack.addresses {
        lines.push(format!("  {name:10} proxy {proxy}, service {service}"));
    }
    lines.push(String::new());
    lines.push("To try from another terminal:".to_owned());
    lines.push(String::new());
    if url != DEFAULT_URL {
        lines.push(format!("  export FIREDRILL_URL={url}"));
    }
    let web = stack.web;
    lines.extend([
        "  firedrill inject payment response_loss --probability 0.5 --for 20s".to_owned(),
        format!("  curl -X POST http://{web}/orders"),
        "  firedrill evidence --class unseen".to_owned(),
        String::new(),
        "POST /orders is the naive web tier: a timeout is a failure.".to_owned(),
        "POST /orders?careful=1 is the repaired one: it says \"pending\" and finds out;".to_owned(),
        format!("  curl http://{web}/orders/order-781 shows what came of it."),
        "With retry=1 either tries a second time at once. With storm=1 it is in a hurry".to_owned(),
        "and tries four times at once, with calm=1 it backs off, and has a breaker.".to_owned(),
        "GET /ledger at a service shows what it knows, at payment the charges.".to_owned(),
        String::new(),
        "Whole drills: firedrill drill run configs/drills/lost-payment-response.yaml".to_owned(),
        "Ctrl-C ends it.".to_owned(),
    ]);
    lines
}
