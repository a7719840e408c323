//! `/v1/rules`.

use serde_json::Value;

use super::definitions::Resource;
use crate::config::{self, Problems};
use crate::rules::{Edge, Rule, Ttl};
use crate::state::{Change, Defined, Draft, State};
use crate::wire::{RuleItem, Standing};

pub(super) enum Rules {}

impl Resource for Rules {
    const WHAT: &'static str = "rule";
    const PATH: &'static str = "/v1/rules";
    const EITHER: &'static [&'static str] = &[];
    const SHAPE: &'static str = "Rule";
    type Definition = Rule;
    type Item = RuleItem;

    fn decode(body: &Value, edges: &[Edge]) -> Result<Rule, Problems> {
        config::rule_from_json(body, edges)
    }
    fn all(state: &State) -> (u64, Vec<Defined<Rule>>) {
        state.rules()
    }
    fn find(draft: &Draft, name: &str) -> Option<Defined<Rule>> {
        draft.rules().find(|d| d.definition.name == name).cloned()
    }
    fn name(rule: &Rule) -> &str {
        &rule.name
    }
    fn item(_: &State, rule: &Rule, standing: Standing) -> RuleItem {
        RuleItem::new(rule, standing)
    }
    fn to_json(rule: &Rule) -> Value {
        config::rule_to_json(rule)
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
