//! `/v1/rules`.

use serde_json::Value;

use super::definitions::Resource;
use crate::config::{self, Problems};
use crate::rules::{Edge, Rule, Ttl};
use crate::state::{Change, Defined, State};
use crate::wire::{RuleItem, Standing};

pub(super) enum Rules {}

impl Resource for Rules {
    const WHAT: &'static str = "rule";
    const PATH: &'static str = "/v1/rules";
    type Definition = Rule;
    type Item = RuleItem;

    fn decode(body: &Value, edges: &[Edge]) -> Result<Rule, Problems> {
        config::rule_from_json(body, edges)
    }
    fn all(state: &State) -> (u64, Vec<Defined<Rule>>) {
        state.rules()
    }
    fn name(rule: &Rule) -> &str {
        &rule.name
    }
    fn item(rule: &Rule, standing: Standing) -> RuleItem {
        RuleItem::new(rule, standing)
    }
    fn add(rule: Rule) -> Change {
        Change::AddRule(rule)
    }
    fn put(rule: Rule) -> Change {
        Change::PutRule(rule)
    }
    fn remove(name: String) -> Change {
        Change::RemoveRule(name)
    }
    fn switch(name: String, on: bool, ttl: Ttl) -> Change {
        Change::SwitchRule(name, on, ttl)
    }
}
