//! What can be done to a rule or a partition that is there: listed, shown, switched, deleted.

use clap::Subcommand;
use clap_complete::engine::ArgValueCompleter;
use serde::Serialize;
use serde_json::{Value, json};

use super::Failure;
use super::complete;
use super::output::Output;
use super::status::{partitions_table, rules_table, until};
use super::targets::{self, Targets};
use crate::client::{Client, ClientError};
use crate::wire::{List, PartitionItem, RuleItem, Standing};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List all
    Ls,
    /// Show one, as in the file
    Show {
        /// Which
        #[arg(add = ArgValueCompleter::new(complete::definitions))]
        name: String,
    },
    /// Enable one; its schedule and lifetime begin anew
    On {
        /// Which
        #[arg(add = ArgValueCompleter::new(complete::definitions))]
        name: String,
        /// How long in all, or `forever` [default: its ttl, else 10m]
        #[arg(long = "for", value_name = "TIME", value_parser = super::lifetime)]
        lifetime: Option<String>,
    },
    /// Disable one; it stays defined
    Off {
        /// Which
        #[arg(add = ArgValueCompleter::new(complete::definitions))]
        name: String,
    },
    /// Delete one
    Rm {
        /// Which
        #[arg(add = ArgValueCompleter::new(complete::definitions))]
        name: String,
    },
}

/// A sort of definition, as the API knows it.
pub(super) trait Definition: Serialize + Send + Sized + 'static {
    fn all(client: &Client) -> impl Future<Output = Result<List<Self>, ClientError>> + Send;
    fn one(client: &Client, name: &str) -> impl Future<Output = Result<Self, ClientError>> + Send;
    fn patch(
        client: &Client,
        name: &str,
        keys: &Value,
    ) -> impl Future<Output = Result<Self, ClientError>> + Send;
    fn delete(client: &Client, name: &str) -> impl Future<Output = Result<(), ClientError>> + Send;
    fn table(all: &[Self]) -> String;
    /// Its name, whether it is enabled, and how it stands.
    fn stands(&self) -> (&str, bool, &Standing);
}

impl Definition for RuleItem {
    async fn all(client: &Client) -> Result<List<Self>, ClientError> {
        client.rules().await
    }
    async fn one(client: &Client, name: &str) -> Result<Self, ClientError> {
        client.rule(name).await
    }
    async fn patch(client: &Client, name: &str, keys: &Value) -> Result<Self, ClientError> {
        client.patch_rule(name, keys).await
    }
    async fn delete(client: &Client, name: &str) -> Result<(), ClientError> {
        client.delete_rule(name).await
    }
    fn table(all: &[Self]) -> String {
        rules_table(all)
    }
    fn stands(&self) -> (&str, bool, &Standing) {
        (&self.name, self.enabled, &self.standing)
    }
}

impl Definition for PartitionItem {
    async fn all(client: &Client) -> Result<List<Self>, ClientError> {
        client.partitions().await
    }
    async fn one(client: &Client, name: &str) -> Result<Self, ClientError> {
        client.partition(name).await
    }
    async fn patch(client: &Client, name: &str, keys: &Value) -> Result<Self, ClientError> {
        client.patch_partition(name, keys).await
    }
    async fn delete(client: &Client, name: &str) -> Result<(), ClientError> {
        client.delete_partition(name).await
    }
    fn table(all: &[Self]) -> String {
        partitions_table(all)
    }
    fn stands(&self) -> (&str, bool, &Standing) {
        (&self.name, self.enabled, &self.standing)
    }
}

pub(super) async fn run<D: Definition>(
    verb: &Verb,
    targets: &Targets,
    out: &Output,
) -> Result<(), Failure> {
    match verb {
        Verb::Ls => {
            let all = targets.ask(async |client| D::all(&client).await).await;
            targets::print(out, all, |list| D::table(&list.items))
        }
        Verb::Show { name } => {
            let one = targets.ask(|client| {
                let name = name.clone();
                async move { D::one(&client, &name).await }
            });
            targets::print(out, one.await, show)
        }
        Verb::On { name, lifetime } => {
            let keys = json!({ "enabled": true, "ttl": lifetime });
            switch::<D>(name, keys, targets, out).await
        }
        Verb::Off { name } => {
            let keys = json!({ "enabled": false });
            switch::<D>(name, keys, targets, out).await
        }
        Verb::Rm { name } => {
            let deleted = targets.ask(|client| {
                let name = name.clone();
                async move {
                    D::delete(&client, &name).await?;
                    Ok(json!({ "deleted": name }))
                }
            });
            targets::print(out, deleted.await, |_| format!("{name}: deleted"))
        }
    }
}

async fn switch<D: Definition>(
    name: &str,
    keys: Value,
    targets: &Targets,
    out: &Output,
) -> Result<(), Failure> {
    let switched = targets.ask(|client| {
        let (name, keys) = (name.to_owned(), keys.clone());
        async move { D::patch(&client, &name, &keys).await }
    });
    targets::print(out, switched.await, |item: &D| {
        let (name, enabled, standing) = item.stands();
        let on = if enabled { "on, " } else { "" };
        format!("{name}: {on}{}", until(enabled, standing))
    })
}

/// YAML, without what was not said: it could stand in a file so, but for the counts.
fn show(item: &impl Serialize) -> String {
    let mut value = serde_json::to_value(item).unwrap_or_default();
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
        let rule: RuleItem = serde_json::from_value(rule).unwrap();
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
