//! `firedrill partition`.

use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use super::Failure;
use super::output::Output;
use super::status::{sides, until};
use super::targets::{self, Targets};
use crate::rules::Mode;
use crate::wire::PartitionItem;

/// What `partition` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  firedrill partition checkout payment,orders --for 30s
  firedrill partition checkout payment --one-way   (checkout is the deaf one)

It acts on every proxy whose `from` and `to` fall on different sides.")]
pub(super) struct Args {
    /// The services of one side, separated by commas
    #[arg(value_parser = services)]
    a: Services,

    /// The services of the other side
    #[arg(value_parser = services)]
    b: Services,

    /// How long, or `forever` [default: 10m]
    #[arg(long = "for", value_name = "TIME", value_parser = super::lifetime)]
    lifetime: Option<String>,

    /// Only A no longer hears B
    #[arg(long)]
    one_way: bool,

    /// What a cut connection meets [default: blackhole]
    #[arg(long, value_parser = PossibleValuesParser::new(Mode::ALL.map(|(word, _)| word)))]
    mode: Option<String>,

    /// What it is called [default: of its services]
    #[arg(long)]
    name: Option<String>,
}

/// One side.
#[derive(Debug, Clone)]
struct Services(Vec<String>);

fn services(text: &str) -> Result<Services, String> {
    let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err("expected services separated by commas".to_owned());
    }
    Ok(Services(names))
}

pub(super) async fn run(args: &Args, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let sides = [&args.a.0[..], &args.b.0[..]].concat();
    let name = args.name.clone().unwrap_or_else(|| sides.join("-"));
    let fixed = args.name.is_some();
    let body = body(args);
    let made = targets.ask(move |client| {
        let (name, body) = (name.clone(), body.clone());
        async move {
            let create = async |name: String| {
                let mut body = body.clone();
                body["name"] = name.into();
                client.create_partition(&body).await
            };
            targets::make(&name, fixed, create).await
        }
    });
    targets::print(out, made.await, text)
}

fn body(args: &Args) -> Value {
    let deaf = args.one_way.then_some(&args.a.0);
    json!({
        "between": [args.a.0, args.b.0],
        "deaf": deaf,
        "mode": args.mode,
        "ttl": args.lifetime,
    })
}

fn text(made: &PartitionItem) -> String {
    let sides = sides(made, ", ");
    let cut = if made.deaf.is_empty() {
        format!("{sides} no longer hear each other")
    } else {
        format!(
            "{sides}: {} no longer hears the other side",
            made.deaf.join(", ")
        )
    };
    format!(
        "{}: {cut} ({}), {}\nlift it: firedrill heal",
        made.name,
        made.mode.as_str(),
        until(made.enabled, made.standing.expires_at),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn parsed(line: &str) -> Value {
        let words = ["firedrill", "partition"]
            .into_iter()
            .chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Partition(args) => body(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_way_makes_the_first_side_deaf() {
        assert_eq!(
            parsed("a b,c --one-way --for 30s"),
            json!({"between": [["a"], ["b", "c"]], "deaf": ["a"], "mode": null, "ttl": "30s"})
        );
        assert_eq!(parsed("a b --mode reset")["deaf"], Value::Null);
        for line in ["a", "a ,", "a b --for soon", "a b --mode loud"] {
            let words = ["firedrill", "partition"]
                .into_iter()
                .chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
