//! `firedrill partition`: a cut in one line, on every instance that it concerns.

mod spread;

use clap::ArgGroup;
use clap::builder::PossibleValuesParser;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use super::complete;
use super::failure::Failure;
use super::output::Output;
use super::schedule::{Ramps, Schedule};
use super::targets::Targets;
use super::verbs::{self, Verb};
use crate::rules::{Mode, Shape};
use crate::wire::PartitionItem;

/// What `partition` takes.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "firedrill partition [OPTIONS] <A> <B>...\n       \
                      firedrill partition [OPTIONS] --isolate <A,B>\n       \
                      firedrill partition [OPTIONS] --ring <A,B,C,D>\n       \
                      firedrill partition [OPTIONS] --random [N]\n       \
                      firedrill partition <COMMAND>",
    subcommand_value_name = "COMMAND",
    after_help = "\
Examples:
  firedrill partition checkout payment,orders --for 30s
  firedrill partition checkout payment --one-way   (checkout is the deaf one)
  firedrill partition a b,c d              (three groups)
  firedrill partition --isolate payment    (from all others)
  firedrill partition --ring a,b,c,d       (each hears its neighbours only)
  firedrill partition --random 3 --seed 7
  firedrill partition off checkout-payment-orders

It acts on every proxy whose `from` and `to` it sets apart. Of several
instances each cuts what it has of it, and all do or none does. A first
service that is called like a command goes behind `--`."
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    cut: Cut,
}

/// What is to be cut, and how.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("shape").args(["groups", "isolate", "ring", "random"]))]
struct Cut {
    /// The services of one side, separated by commas; then those of the other sides
    #[arg(value_name = "A B", value_parser = services, add = ArgValueCompleter::new(complete::services))]
    groups: Vec<Services>,

    /// Cut these off from all other services
    #[arg(long, value_name = "A,B", value_parser = services, add = ArgValueCompleter::new(complete::services))]
    isolate: Option<Services>,

    /// Let each of these hear its two neighbours only
    #[arg(long, value_name = "A,B,C,D", value_parser = services, add = ArgValueCompleter::new(complete::services))]
    ring: Option<Services>,

    /// Split the services by chance, in N groups [default: 2]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "2")]
    random: Option<usize>,

    /// What `--random` splits [default: all services]
    #[arg(long, value_name = "A,B", requires = "random", conflicts_with_all = ["groups", "isolate", "ring"], value_parser = services, add = ArgValueCompleter::new(complete::services))]
    among: Option<Services>,

    /// What `--random` is drawn from [default: the instance's seed]
    #[arg(long, value_name = "N", requires = "random", conflicts_with_all = ["groups", "isolate", "ring"])]
    seed: Option<u64>,

    /// How long in all, or `forever` [default: 10m]
    #[arg(long = "for", value_name = "TIME", value_parser = super::lifetime)]
    lifetime: Option<String>,

    /// Only A no longer hears the others
    #[arg(long, conflicts_with_all = ["ring", "random"])]
    one_way: bool,

    /// What a cut connection meets [default: blackhole]
    #[arg(long, value_parser = PossibleValuesParser::new(Mode::ALL.map(|(word, _)| word)))]
    mode: Option<String>,

    /// What it is called [default: of its services]
    #[arg(long)]
    name: Option<String>,

    #[command(flatten)]
    schedule: Schedule,
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
    if let Some(verb) = &args.verb {
        if !args.cut.groups.is_empty() {
            return Err(Failure::usage(
                "either services are to be cut, or a partition that is there is meant",
                "a service that is called like a command goes behind `--`: \
                 `firedrill partition -- A B`",
            ));
        }
        return verbs::run::<PartitionItem>(verb, targets, out).await;
    }
    let wanted = wanted(&args.cut)?;
    spread::run(&wanted, targets, out).await
}

/// A partition that is to be made.
#[derive(Debug, Clone)]
struct Wanted {
    /// What it is called, if nothing is called so already.
    name: String,
    /// Whether it must be called so.
    fixed: bool,
    shape: Shape,
    deaf: Vec<String>,
    /// The rest of the body.
    body: Value,
}

impl Wanted {
    /// What makes it, where this is the shape.
    fn body(&self, name: &str, shape: &Shape, deaf: &[String]) -> Value {
        let mut body = self.body.clone();
        let (key, value) = shape.to_json();
        body["name"] = name.into();
        body[key] = value;
        if !deaf.is_empty() {
            body["deaf"] = json!(deaf);
        }
        body
    }
}

fn wanted(cut: &Cut) -> Result<Wanted, Failure> {
    let (suggested, shape, first) = if let Some(Services(list)) = &cut.isolate {
        (
            format!("{}-isolated", list.join("-")),
            Shape::Isolate(list.clone()),
            list,
        )
    } else if let Some(Services(list)) = &cut.ring {
        (
            format!("ring-{}", list.join("-")),
            Shape::Ring(list.clone()),
            list,
        )
    } else if let Some(groups) = cut.random {
        let shape = Shape::Split {
            groups,
            services: cut.among.as_ref().map(|list| list.0.clone()),
            seed: cut.seed,
        };
        (format!("random-{groups}"), shape, &Vec::new())
    } else {
        let groups: Vec<_> = cut.groups.iter().map(|group| group.0.clone()).collect();
        let [first, _, ..] = &cut.groups[..] else {
            return Err(too_few(cut.groups.first()));
        };
        (groups.concat().join("-"), Shape::Between(groups), &first.0)
    };
    let schedule = cut
        .schedule
        .to_json(&Ramps::default(), cut.lifetime.as_deref())?;
    Ok(Wanted {
        fixed: cut.name.is_some(),
        name: cut.name.clone().unwrap_or(suggested),
        shape,
        deaf: if cut.one_way {
            first.clone()
        } else {
            Vec::new()
        },
        body: json!({ "mode": cut.mode, "ttl": cut.lifetime, "schedule": schedule }),
    })
}

fn too_few(one: Option<&Services>) -> Failure {
    match one {
        None => Failure::usage(
            "a partition needs two sides or more",
            "such as `firedrill partition checkout payment,orders`; `firedrill partition --help` \
             has other shapes",
        ),
        Some(Services(list)) => {
            let list = list.join(",");
            Failure::usage(
                format!("a partition needs two sides or more, and there is only `{list}`"),
                format!("name the other side too; `--isolate {list}` cuts it off from all others"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn parsed(line: &str) -> Result<Value, String> {
        let words = ["firedrill", "partition"]
            .into_iter()
            .chain(line.split(' '));
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Partition(args) => match wanted(&args.cut) {
                Ok(wanted) => {
                    let mut body = wanted.body(&wanted.name, &wanted.shape, &wanted.deaf);
                    if let Value::Object(keys) = &mut body {
                        keys.retain(|_, value| !value.is_null());
                    }
                    Ok(body)
                }
                Err(failure) => Err(format!("{failure:?}")),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_shape_is_that_of_the_file() {
        for (line, body) in [
            (
                "a b,c --one-way --for 30s",
                json!({"name": "a-b-c", "between": [["a"], ["b", "c"]], "deaf": ["a"], "ttl": "30s"}),
            ),
            (
                "a b,c d --mode reset --name x",
                json!({"name": "x", "between": [["a"], ["b", "c"], ["d"]], "mode": "reset"}),
            ),
            (
                "--isolate a,b --one-way",
                json!({"name": "a-b-isolated", "isolate": ["a", "b"], "deaf": ["a", "b"]}),
            ),
            (
                "--ring a,b,c,d",
                json!({"name": "ring-a-b-c-d", "ring": ["a", "b", "c", "d"]}),
            ),
            (
                "--random",
                json!({"name": "random-2", "split": {"groups": 2}}),
            ),
            (
                "--random 3 --seed 7 --among a,b,c",
                json!({
                    "name": "random-3",
                    "split": {"groups": 3, "services": ["a", "b", "c"], "seed": 7},
                }),
            ),
            (
                "a b --at 10s --lasts 30s --every 5m --for 1h",
                json!({
                    "name": "a-b", "between": [["a"], ["b"]], "ttl": "1h",
                    "schedule": {"at": "10s", "for": "30s", "every": "5m"},
                }),
            ),
            (
                "-- ls a",
                json!({"name": "ls-a", "between": [["ls"], ["a"]]}),
            ),
            ("a ls", json!({"name": "a-ls", "between": [["a"], ["ls"]]})),
        ] {
            assert_eq!(parsed(line), Ok(body), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_before_anyone_is_asked() {
        for line in [
            "a",
            "--one-way",
            "a ,",
            "a b --for soon",
            "a b --mode loud",
            "a b --isolate c",
            "--ring a,b,c,d --random",
            "--ring a,b,c,d --one-way",
            "a b --seed 7",
            "a b --every 5m",
            "a b --at 20m",
            "a b --at 20m --for 20m",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
        for line in ["a b --at 20m --for forever", "a b --at 20m --for 21m"] {
            assert!(parsed(line).is_ok(), "{line}");
        }
    }
}
