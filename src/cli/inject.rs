//! `firedrill inject`: a rule in one line. Kinds and parameters come from the registry.

use clap::builder::PossibleValuesParser;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Map, Value, json};

use super::Failure;
use super::complete;
use super::output::Output;
use super::schedule::{Ramps, Schedule};
use super::status::{fault, until};
use super::targets::{self, Targets};
use crate::faults::{self, KINDS, Kind, Param, Type};
use crate::operation::Direction;
use crate::rules::Per;
use crate::wire::RuleItem;

/// What `inject` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub(super) struct Args {
    /// The proxy on which it goes wrong
    #[arg(add = ArgValueCompleter::new(complete::proxies))]
    proxy: String,

    /// What goes wrong; see below
    #[arg(add = ArgValueCompleter::new(complete::kinds))]
    kind: String,

    /// The kind's parameters
    #[arg(value_name = "KEY=VALUE", add = ArgValueCompleter::new(complete::params))]
    params: Vec<String>,

    /// The chance of each operation, 0 to 1 [default: 1]
    #[arg(long, value_name = "P")]
    probability: Option<f64>,

    /// How long in all, or `forever` [default: 10m]
    #[arg(long = "for", value_name = "TIME", value_parser = super::lifetime)]
    lifetime: Option<String>,

    /// What the rule is called [default: PROXY-KIND]
    #[arg(long)]
    name: Option<String>,

    /// Only clients of this address or subnet
    #[arg(long, value_name = "CIDR")]
    client: Vec<String>,

    /// Only these connections of the proxy, in the order of their arrival: 3, 1-5 or 10-
    #[arg(long, value_name = "RANGE")]
    connection: Vec<String>,

    /// Only once this much of the connection was read, both directions together
    #[arg(long, value_name = "SIZE")]
    bytes: Option<String>,

    /// Only once the connection is this old
    #[arg(long, value_name = "TIME")]
    age: Option<String>,

    /// Only TLS connections to this host, on a `tcp` proxy; `*` stands for anything
    #[arg(long, value_name = "GLOB")]
    sni: Option<String>,

    /// Only requests of this method
    #[arg(long)]
    method: Option<String>,

    /// Only requests for this host, without its port; `*` stands for anything
    #[arg(long, value_name = "GLOB")]
    host: Option<String>,

    /// Only requests of this path; `*` stays within a segment, `**` crosses, `{id}` is a part of one
    #[arg(long, value_name = "GLOB")]
    path: Option<String>,

    /// Only requests with this header; `*` stands for anything in its value
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,

    /// Only requests with this cookie, the same way
    #[arg(long, value_name = "NAME=VALUE")]
    cookie: Vec<String>,

    /// Only requests with this text in their body
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,

    /// Only gRPC calls of this SERVICE, or SERVICE/METHOD
    #[arg(long, value_name = "CALL")]
    grpc: Option<String>,

    /// Only answers with this status: 503, 5xx or 500-599
    #[arg(long, value_name = "CODE")]
    response_status: Vec<String>,

    /// Only these of the requests that are meant, from 1: 3, 1-2 or 10-
    #[arg(long, value_name = "RANGE")]
    nth: Vec<String>,

    /// By what `--nth` counts [default: proxy]
    #[arg(long, requires = "nth", value_parser = PossibleValuesParser::new(Per::ALL.map(|(word, _)| word)))]
    per: Option<String>,

    /// Only this direction, where the kind has one
    #[arg(long, value_parser = PossibleValuesParser::new(Direction::ALL.map(Direction::as_str)))]
    direction: Option<String>,

    /// Leave the first N matching operations alone
    #[arg(long, value_name = "N")]
    skip: Option<u64>,

    /// Then inject at most N times
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Select and record, but never inject
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    schedule: Schedule,

    #[command(flatten)]
    ramps: Ramps,
}

pub(super) async fn run(args: &Args, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let kind = faults::find(&args.kind).ok_or_else(|| unknown(&args.kind))?;
    let body = body(args, kind)?;
    let suggested = || format!("{}-{}", args.proxy, kind.name);
    let name = args.name.clone().unwrap_or_else(suggested);
    let fixed = args.name.is_some();
    let made = targets.ask(move |client| {
        let (name, body) = (name.clone(), body.clone());
        async move {
            let create = async |name: String| {
                let mut body = body.clone();
                body["name"] = name.into();
                client.create_rule(&body).await
            };
            targets::make(&name, fixed, create).await
        }
    });
    targets::print(out, made.await, text)
}

fn text(made: &RuleItem) -> String {
    let on = made.proxies.as_deref().unwrap_or_default().join(", ");
    let mut what = format!("{} on {on}", fault(&made.fault));
    if made.probability < 1.0 {
        what += &format!(", each with a chance of {}", made.probability);
    }
    if made.dry_run {
        what += ", recorded only (dry run)";
    }
    let until = until(made.enabled, &made.standing);
    let name = &made.name;
    format!("{name}: {what}, {until}\nlift it: firedrill rule off {name}")
}

/// The rule, but for its name.
fn body(args: &Args, kind: &Kind) -> Result<Value, Failure> {
    let matcher = matcher(args)?;
    let schedule = args
        .schedule
        .to_json(&args.ramps, args.lifetime.as_deref())?;
    let mut rule = json!({
        "name": null,
        "proxies": [args.proxy],
        "match": matcher,
        "dry_run": args.dry_run,
        "fault": { kind.name: params(kind, &args.params)? },
    });
    for (key, value) in [
        ("probability", args.probability.map(Value::from)),
        ("ttl", args.lifetime.clone().map(Value::from)),
        ("direction", args.direction.clone().map(Value::from)),
        ("skip", args.skip.map(Value::from)),
        ("limit", args.limit.map(Value::from)),
        ("schedule", schedule),
    ] {
        if let Some(value) = value {
            rule[key] = value;
        }
    }
    Ok(rule)
}

fn matcher(args: &Args) -> Result<Map<String, Value>, Failure> {
    // A number is what the file would have.
    let ordinal = |text: &String| match text.parse::<u64>() {
        Ok(number) => Value::from(number),
        Err(_) => Value::from(text.as_str()),
    };
    let pairs = |list: &[String], takes| -> Result<Option<Value>, Failure> {
        let pairs = list.iter().map(|pair| {
            let (name, value) = split(pair, takes)?;
            Ok((name.to_owned(), value.into()))
        });
        let pairs = pairs.collect::<Result<Map<_, _>, Failure>>()?;
        Ok((!pairs.is_empty()).then(|| pairs.into()))
    };
    let grpc = args.grpc.as_ref().map(|call| match call.split_once('/') {
        Some((service, method)) => json!({ "service": service, "method": method }),
        None => json!({ "service": call }),
    });
    let statuses = list(args.response_status.iter().map(ordinal));
    let nth = list(args.nth.iter().map(ordinal)).map(|nth| match &args.per {
        Some(per) => json!({ "nth": nth, "per": per }),
        None => json!({ "nth": nth }),
    });
    let conditions = [
        ("client", list(args.client.iter().cloned().map(Value::from))),
        ("connection", list(args.connection.iter().map(ordinal))),
        ("bytes", args.bytes.clone().map(Value::from)),
        ("age", args.age.clone().map(Value::from)),
        ("sni", args.sni.clone().map(Value::from)),
        ("method", args.method.clone().map(Value::from)),
        ("host", args.host.clone().map(Value::from)),
        ("path", args.path.clone().map(Value::from)),
        ("headers", pairs(&args.header, "--header takes NAME=VALUE")?),
        ("cookies", pairs(&args.cookie, "--cookie takes NAME=VALUE")?),
        ("grpc", grpc),
        (
            "body",
            args.body.as_ref().map(|text| json!({ "contains": text })),
        ),
        (
            "response",
            statuses.map(|status| json!({ "status": status })),
        ),
        ("request", nth),
    ];
    let given = conditions.into_iter();
    Ok(given
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect())
}

/// Several values are a list, one stands for itself.
fn list(values: impl Iterator<Item = Value>) -> Option<Value> {
    let mut values: Vec<_> = values.collect();
    match values.len() {
        0 => None,
        1 => values.pop(),
        _ => Some(values.into()),
    }
}

fn split<'a>(pair: &'a str, takes: &str) -> Result<(&'a str, &'a str), Failure> {
    let found = pair.split_once('=').filter(|(key, _)| !key.is_empty());
    found.ok_or_else(|| {
        let message = format!("{takes}, found `{pair}`");
        Failure::usage(message, "`firedrill inject --help` has examples")
    })
}

/// `k=v` as JSON: of the shape that the parameter's type asks for. What is still wrong with a value,
/// the decoder says better.
fn params(kind: &Kind, pairs: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut map = Map::new();
    for pair in pairs {
        let (key, text) = split(pair, "a parameter is KEY=VALUE")?;
        let (name, inner) = match key.split_once('.') {
            Some((name, inner)) => (name, Some(inner)),
            None => (key, None),
        };
        let param = kind.param(name).ok_or_else(|| unknown_param(kind, name))?;
        let twice = match (param.ty, inner) {
            (Type::Map, Some(inner)) => {
                let pairs = map.entry(name).or_insert_with(|| json!({}));
                let pairs = pairs.as_object_mut();
                pairs.and_then(|pairs| pairs.insert(inner.to_owned(), text.into()))
            }
            (Type::Map, None) => {
                let message = format!("`{name}` is a map: {name}.KEY=VALUE, found `{pair}`");
                return Err(Failure::usage(message, "give one such pair for each key"));
            }
            (_, Some(_)) => {
                let message = format!("`{name}` is {}, not a map", param.ty.describe());
                return Err(Failure::usage(message, format!("write {name}=VALUE")));
            }
            (ty, None) => map.insert(name.to_owned(), value(ty, text)),
        };
        if twice.is_some() {
            let message = format!("`{key}` is given twice");
            return Err(Failure::usage(message, "give it once"));
        }
    }
    let needed = kind.params.iter().filter(|param| param.default.is_none());
    let missing: Vec<_> = needed.filter(|p| !map.contains_key(p.name)).collect();
    if let [first, ..] = missing[..] {
        let names: Vec<_> = missing.iter().map(|p| format!("`{}`", p.name)).collect();
        let message = format!("{} needs {}", kind.name, names.join(" and "));
        let hint = format!(
            "{}=VALUE, {}: {}",
            first.name,
            first.ty.describe(),
            first.help
        );
        return Err(Failure::usage(message, hint));
    }
    Ok(map)
}

fn value(ty: Type, text: &str) -> Value {
    let numeric = matches!(ty, Type::Count { .. } | Type::ChoiceOrStatus(_));
    match (text.parse::<u64>(), text.parse::<f64>()) {
        (Ok(number), _) if numeric => number.into(),
        (_, Ok(ratio)) if matches!(ty, Type::Ratio | Type::RatioOrSize) => ratio.into(),
        _ if ty == Type::Names => text.split(',').map(str::trim).collect(),
        _ => text.into(),
    }
}

fn unknown_param(kind: &Kind, name: &str) -> Failure {
    let names: Vec<_> = kind.params.iter().map(|param| param.name).collect();
    let near = nearest(name, &names).map(|near| format!("did you mean `{near}`? "));
    let hint = if names.is_empty() {
        "it takes none".to_owned()
    } else {
        format!("{}it takes {}", near.unwrap_or_default(), names.join(", "))
    };
    Failure::usage(format!("{} takes no parameter `{name}`", kind.name), hint)
}

fn unknown(word: &str) -> Failure {
    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    let near = nearest(word, &names).map(|near| format!("did you mean `{near}`? "));
    let hint = format!(
        "{}`firedrill inject --help` lists their parameters",
        near.unwrap_or_default()
    );
    let mut message = format!("there is no kind of fault `{word}`; there are");
    for kind in KINDS {
        message += &format!("\n{}", entry(2, kind.name, kind.summary));
    }
    Failure::usage(message, hint)
}

/// The word that was probably meant.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.replace('-', "_").to_lowercase();
    let scored = known.iter().map(|k| (strsim::jaro_winkler(&word, k), *k));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score > 0.75)
        .map(|(_, known)| known)
}

fn after_help() -> String {
    let mut text = "\
Examples:
  firedrill inject payment delay latency=300ms jitter=50ms --for 30s
  firedrill inject payment abort headers.retry-after=1 --probability 0.3
  firedrill inject payment response_loss --path '/authorize/*' --limit 1
  firedrill inject payment abort --path '/orders/{id}' --nth 1-2 --per identity
  firedrill inject orders-db reset --client 10.0.0.0/8 --bytes 64KiB
  firedrill inject payment drop --at 10s --lasts 30s --every 5m --for 1h

Kinds and their parameters:"
        .to_owned();
    for kind in KINDS {
        text += &format!("\n{}\n", entry(2, kind.name, kind.summary));
        for param in kind.params {
            text += &format!("{}\n", entry(6, param.name, &describe(param)));
        }
    }
    text
}

fn describe(param: &Param) -> String {
    let default = match param.default {
        None => "needed".to_owned(),
        Some(default) => format!("default {default}"),
    };
    format!("{}; {} ({default})", param.help, param.ty.describe())
}

/// A name and a text beside it, wrapped so that it stays beside it in 80 columns.
fn entry(indent: usize, name: &str, text: &str) -> String {
    const AT: usize = 21;
    const WIDTH: usize = 79;
    let mut out = format!("{:indent$}{name}", "");
    let mut column = out.chars().count();
    let mut fresh = true;
    for word in text.split(' ') {
        let length = word.chars().count();
        if fresh || column + 1 + length > WIDTH {
            if !fresh || column >= AT {
                out.push('\n');
                column = 0;
            }
            out.extend(std::iter::repeat_n(' ', AT - column));
            column = AT;
            fresh = false;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn parsed(line: &str) -> Result<Value, Failure> {
        let words = ["firedrill", "inject"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Inject(args) => {
                let kind = faults::find(&args.kind).ok_or_else(|| unknown(&args.kind))?;
                body(&args, kind)
            }
            other => panic!("{other:?}"),
        }
    }

    fn said(line: &str) -> String {
        match parsed(line) {
            Err(Failure::Say { message, hint, .. }) => format!("{message}\nhint: {hint}"),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn values_have_the_shape_that_the_parameter_asks_for() {
        let rule = parsed(
            "payment abort status=429 headers.retry-after=1 headers.x=a=b body=12 \
             --probability 0.5 --header x-tenant=canary --method POST --for 30s --limit 3",
        );
        assert_eq!(
            rule.unwrap(),
            json!({
                "name": null,
                "proxies": ["payment"],
                "match": {"method": "POST", "headers": {"x-tenant": "canary"}},
                "dry_run": false,
                "fault": {"abort": {
                    "status": 429,
                    "headers": {"retry-after": "1", "x": "a=b"},
                    "body": "12",
                }},
                "probability": 0.5,
                "ttl": "30s",
                "limit": 3,
            })
        );
        let rule = parsed(
            "db reset --client 10.0.0.0/8 --client ::1 --connection 3 --bytes 64KiB --age 5s \
             --sni *.example.com",
        );
        assert_eq!(
            rule.unwrap()["match"],
            json!({
                "client": ["10.0.0.0/8", "::1"],
                "connection": 3,
                "bytes": "64KiB",
                "age": "5s",
                "sni": "*.example.com",
            })
        );
        let rule = parsed(
            "payment delay latency=1s --host *.shop.example --cookie tenant=canary --body EUR \
             --grpc shop.Payment/Authorize --response-status 5xx --response-status 429 \
             --nth 1-2 --nth 5 --per identity",
        );
        assert_eq!(
            rule.unwrap()["match"],
            json!({
                "host": "*.shop.example",
                "cookies": {"tenant": "canary"},
                "grpc": {"service": "shop.Payment", "method": "Authorize"},
                "body": {"contains": "EUR"},
                "response": {"status": ["5xx", 429]},
                "request": {"nth": ["1-2", 5], "per": "identity"},
            })
        );
        let rule = parsed("payment abort --grpc shop.Payment --nth 3").unwrap();
        assert_eq!(
            rule["match"],
            json!({ "grpc": {"service": "shop.Payment"}, "request": {"nth": 3} })
        );
        let range = parsed("db reset --connection 1-5 --connection 9").unwrap();
        assert_eq!(range["match"], json!({ "connection": ["1-5", 9] }));
        let word = parsed("payment response_loss then=hang").unwrap();
        assert_eq!(word["fault"]["response_loss"]["then"], "hang");
        let status = parsed("payment response_loss then=504").unwrap();
        assert_eq!(status["fault"]["response_loss"]["then"], 504);
    }

    #[test]
    fn what_is_wrong_is_said_before_anyone_is_asked() {
        let lines = [
            "payment delay",
            "payment delay latencie=1s",
            "payment delay latency",
            "payment delay latency=1s latency=2s",
            "payment abort headers=x",
            "payment delay latency.x=1s",
        ];
        let all: Vec<_> = lines.iter().map(|line| said(line)).collect();
        insta::assert_snapshot!(all.join("\n\n"), @r#"
        delay needs `latency`
        hint: latency=VALUE, a duration such as `150ms`: how long

        delay takes no parameter `latencie`
        hint: did you mean `latency`? it takes latency, jitter, distribution, correlation

        a parameter is KEY=VALUE, found `latency`
        hint: `firedrill inject --help` has examples

        `latency` is given twice
        hint: give it once

        `headers` is a map: headers.KEY=VALUE, found `headers=x`
        hint: give one such pair for each key

        `latency` is a duration such as `150ms`, not a map
        hint: write latency=VALUE
        "#);
    }

    #[test]
    fn an_unknown_kind_is_answered_with_the_nearest_and_all() {
        let text = said("payment dealy latency=1s");
        assert!(text.contains("did you mean `delay`?"), "{text}");
        for kind in KINDS {
            assert!(text.contains(kind.name), "{text}");
        }
        assert!(said("payment response-loss").contains("did you mean `response_loss`?"));
        assert!(!said("payment xyzzy").contains("did you mean"));
    }

    #[test]
    fn help_knows_every_kind_and_fits_80_columns() {
        let help = after_help();
        for kind in KINDS {
            assert!(
                help.contains(&format!("\n  {}", kind.name)),
                "{}",
                kind.name
            );
        }
        let lines = help.lines().skip_while(|l| !l.starts_with("Kinds"));
        for line in lines {
            assert!(line.chars().count() < 80, "{line}");
        }
    }
}
