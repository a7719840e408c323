//! `firedrill demo`.

use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::Failure;
use super::output::Output;
use crate::demo;

/// What `demo` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only run the stack and leave the drilling to you
    #[arg(long)]
    pub(super) serve: bool,

    /// Only run one of the stack's services, for stacks of containers (see configs/demo)
    #[arg(long, value_name = "NAME", conflicts_with = "serve",
        value_parser = PossibleValuesParser::new(demo::Service::ALL.map(|(word, _)| word)))]
    service: Option<String>,

    /// With --service: where it listens [default: 127.0.0.1 and the port of --serve]
    #[arg(long, value_name = "ADDRESS", requires = "service")]
    listen: Option<String>,

    /// With --service: the host whose proxies lead to the others, by the ports of --serve
    #[arg(
        long,
        value_name = "HOST",
        requires = "service",
        default_value = "127.0.0.1"
    )]
    through: String,
}

pub(super) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let mut unread = None;
    // A reader who has gone ends the printing, not the drill.
    let mut say = |line: &str| {
        if !out.json && unread.is_none() {
            unread = out.text(line).err();
        }
    };
    if let Some(service) = args.service.as_deref().and_then(demo::Service::named) {
        let listen = args.listen.as_deref();
        return super::run_proxies(service.run(listen, &args.through, &mut say));
    }
    if args.serve {
        return super::run_proxies(demo::serve(&mut say));
    }
    let ending = super::run_proxies(demo::run(demo::Options::default(), &mut say))?;
    if out.json {
        let acts: Vec<_> = ending.acts.iter().map(act).collect();
        out.object(&json!({ "held": ending.held, "acts": acts }))?;
    }
    match (ending.held, unread) {
        (false, _) => Err(Failure::said()),
        (true, Some(failure)) => Err(failure),
        (true, None) => Ok(()),
    }
}

fn act(played: &demo::Played) -> serde_json::Value {
    json!({
        "caller": played.act.caller.to_string(),
        "number": played.act.number,
        "promise": played.promise.map(|promise| promise.to_string()),
        "differences": played.differences,
    })
}
