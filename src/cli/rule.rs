//! `firedrill rule`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::Failure;
use super::output::Output;
use super::status::{rules_table, until};
use super::targets::{self, Targets};
use crate::wire::RuleItem;

/// What `rule` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List all rules
    Ls,
    /// Show a rule, as in the file
    Show {
        /// The rule
        name: String,
    },
    /// Enable a rule; its schedule and lifetime begin anew
    On {
        /// The rule
        name: String,
        /// How long, or `forever` [default: its ttl, else 10m]
        #[arg(long = "for", value_name = "TIME", value_parser = super::lifetime)]
        lifetime: Option<String>,
    },
    /// Disable a rule; it stays defined
    Off {
        /// The rule
        name: String,
    },
    /// Delete a rule
    Rm {
        /// The rule
        name: String,
    },
}

pub(super) async fn run(args: &Args, targets: &Targets, out: &Output) -> Result<(), Failure> {
    match &args.verb {
        Verb::Ls => {
            let rules = targets.ask(async |client| client.rules().await).await;
            targets::print(out, rules, |list| rules_table(&list.items))
        }
        Verb::Show { name } => {
            let rule = targets.ask(|client| {
                let name = name.clone();
                async move { client.rule(&name).await }
            });
            targets::print(out, rule.await, show)
        }
        Verb::On { name, lifetime } => {
            let keys = json!({ "enabled": true, "ttl": lifetime });
            patch(name, keys, targets, out).await
        }
        Verb::Off { name } => patch(name, json!({ "enabled": false }), targets, out).await,
        Verb::Rm { name } => {
            let deleted = targets.ask(|client| {
                let name = name.clone();
                async move {
                    client.delete_rule(&name).await?;
                    Ok(json!({ "deleted": name }))
                }
            });
            targets::print(out, deleted.await, |_| format!("{name}: deleted"))
        }
    }
}

async fn patch(name: &str, keys: Value, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let rule = targets.ask(|client| {
        let (name, keys) = (name.to_owned(), keys.clone());
        async move { client.patch_rule(&name, &keys).await }
    });
    targets::print(out, rule.await, |rule| {
        let on = if rule.enabled { "on, " } else { "" };
        format!(
            "{}: {on}{}",
            rule.name,
            until(rule.enabled, rule.standing.expires_at)
        )
    })
}

/// YAML, without what was not said: it could stand in a file so, but for the counts.
fn show(rule: &RuleItem) -> String {
    let mut value = serde_json::to_value(rule).unwrap_or_default();
    if let Value::Object(keys) = &mut value {
        keys.retain(|_, v| !v.is_null() && v.as_object().is_none_or(|map| !map.is_empty()));
    }
    serde_yaml::to_string(&value).unwrap_or_else(|_| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_shown_as_in_the_file() {
        let rule = json!({
            "name": "slow", "proxies": ["payment"], "enabled": true, "match": {"method": "POST"},
            "probability": 0.3, "skip": 0, "limit": null, "max_active": null, "ttl": "30s",
            "dry_run": false, "direction": null, "fault": {"delay": {"latency": "150ms"}},
            "source": "api", "active": true, "expires_at": null, "generation": 7,
            "selected": 3, "injected": 2,
        });
        let rule = serde_json::from_value(rule).unwrap();
        insta::assert_snapshot!(show(&rule), @r#"
        name: slow
        proxies:
        - payment
        enabled: true
        match:
          method: POST
        probability: 0.3
        skip: 0
        ttl: 30s
        dry_run: false
        fault:
          delay:
            latency: 150ms
        source: api
        active: true
        generation: 7
        selected: 3
        injected: 2
        "#);
    }
}
