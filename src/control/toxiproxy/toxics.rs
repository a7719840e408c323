//! Toxics: listed, made, changed, removed.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::Asked;
use super::answer::{Refusal, answer};
use super::toxic::{Sort, Toxic};
use crate::config::{self, Fields, read_go};
use crate::operation::Direction;
use crate::rules::{Edge, Rule};
use crate::state::{Change, Defined, Draft, Refused, State};

/// The toxics of a proxy that are in force: all of upstream, then all of downstream.
pub(super) fn toxics_of<'r>(
    rules: impl Iterator<Item = &'r Defined<Rule>>,
    proxy: &str,
) -> Vec<Toxic> {
    let enabled = rules.filter(|d| d.definition.enabled && d.expires.is_none());
    let mut toxics: Vec<_> = enabled
        .filter_map(|d| Toxic::of_rule(&d.definition, proxy))
        .collect();
    toxics.sort_by_key(|toxic| toxic.stream as usize);
    toxics
}

/// Takes away all toxics of a proxy, those that were healed too.
pub(super) fn remove_all(draft: &mut Draft, proxy: &str) -> Result<(), Refused> {
    let toxics = draft.rules().filter(|d| d.expires.is_none());
    let toxics = toxics.filter(|d| Toxic::of_rule(&d.definition, proxy).is_some());
    let names: Vec<_> = toxics.map(|d| d.definition.name.clone()).collect();
    let mut changes = names.into_iter().map(Change::RemoveRule);
    changes.try_for_each(|change| draft.apply(change))
}

fn named(toxics: Vec<Toxic>, name: &str) -> Result<Toxic, Refusal> {
    let mut toxics = toxics.into_iter();
    let found = toxics.find(|toxic| toxic.name == name);
    found.ok_or_else(Refusal::no_toxic)
}

fn edge_of<'e>(edges: &'e [Arc<Edge>], proxy: &str) -> Result<&'e Arc<Edge>, Refusal> {
    let found = edges.iter().find(|edge| edge.name == proxy);
    found.ok_or_else(Refusal::no_proxy)
}

/// The rule that a toxic is, if it can act on its proxy.
fn rule(toxic: &Toxic, edge: &Edge) -> Result<Rule, Refusal> {
    let rule = toxic
        .to_rule(&edge.name)
        .map_err(|why| Refusal::bad_body(&why))?;
    let kind = rule.fault.kind;
    let protocol = edge.protocol.as_str();
    if !edge.suits(kind) {
        let why = format!(
            "{} can't act on a proxy with protocol {protocol}",
            toxic.sort.name
        );
        return Err(Refusal::bad_body(&why));
    }
    // What no file and no body could say, neither could tell of again.
    let said = config::rule_to_json(&rule);
    match config::rule_from_json(&said, std::slice::from_ref(edge)) {
        Ok(_) => Ok(rule),
        Err(problems) => {
            let first = problems.list.first();
            let why = first.map_or_else(String::new, ToString::to_string);
            Err(Refusal::bad_body(&why))
        }
    }
}

impl Asked {
    pub(super) fn state(&self) -> &State {
        &self.control().context.state
    }

    pub(super) fn edge(&self, proxy: &str) -> Result<Arc<Edge>, Refusal> {
        edge_of(&self.state().edges(), proxy).map(Arc::clone)
    }

    pub(super) fn toxics_of(&self, proxy: &str) -> Vec<Toxic> {
        toxics_of(self.state().rules().1.iter(), proxy)
    }

    pub(super) fn toxics(&self, proxy: &str) -> Result<Response, Refusal> {
        self.edge(proxy)?;
        let all = self.toxics_of(proxy).iter().map(Toxic::to_json).collect();
        Ok(answer(StatusCode::OK, &Value::Array(all)))
    }

    pub(super) fn toxic(&self, proxy: &str, name: &str) -> Result<Response, Refusal> {
        self.edge(proxy)?;
        let toxic = named(self.toxics_of(proxy), name)?;
        Ok(answer(StatusCode::OK, &toxic.to_json()))
    }

    pub(super) fn create_toxic(&self, proxy: &str) -> Result<Response, Refusal> {
        self.edge(proxy)?;
        let said = read_go(&self.body).map_err(|why| Refusal::bad_body(&why))?;
        let mut json = Value::Null;
        self.state().change(self.by.clone(), |draft| {
            let edge = edge_of(draft.edges(), proxy)?;
            let there = |name: &str| {
                let name = Toxic::rule_name(proxy, name);
                let mut rules = draft.rules().map(|d| &d.definition);
                rules
                    .find(|rule| rule.name == name)
                    .map(|rule| rule.enabled)
            };
            let toxic = made(&said, there)?;
            let rule = rule(&toxic, edge)?;
            json = toxic.to_json();
            // One that was healed, or has expired: it is no toxic any more.
            if there(&toxic.name).is_some() {
                draft.apply(Change::RemoveRule(rule.name.clone()))?;
            }
            Ok::<_, Refusal>(draft.apply(Change::AddRule(rule))?)
        })?;
        Ok(answer(StatusCode::OK, &json))
    }

    pub(super) fn update_toxic(&self, proxy: &str, name: &str) -> Result<Response, Refusal> {
        self.edge(proxy)?;
        named(self.toxics_of(proxy), name)?;
        let said = read_go(&self.body).map_err(|why| Refusal::bad_body(&why))?;
        let mut json = Value::Null;
        self.state().change(self.by.clone(), |draft| {
            let edge = edge_of(draft.edges(), proxy)?;
            let mut toxic = named(toxics_of(draft.rules(), proxy), name)?;
            toxic.alter(&said).map_err(|why| Refusal::bad_body(&why))?;
            let rule = rule(&toxic, edge)?;
            json = toxic.to_json();
            Ok::<_, Refusal>(draft.apply(Change::PutRule(rule))?)
        })?;
        Ok(answer(StatusCode::OK, &json))
    }

    pub(super) fn delete_toxic(&self, proxy: &str, name: &str) -> Result<Response, Refusal> {
        self.state().change(self.by.clone(), |draft| {
            edge_of(draft.edges(), proxy)?;
            named(toxics_of(draft.rules(), proxy), name)?;
            let rule = Toxic::rule_name(proxy, name);
            Ok::<_, Refusal>(draft.apply(Change::RemoveRule(rule))?)
        })?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

/// The toxic that a body describes, in the order in which Toxiproxy looks at it. `there`: whether a
/// rule of its name is there, and enabled.
fn made(said: &Value, there: impl Fn(&str) -> Option<bool>) -> Result<Toxic, Refusal> {
    let bad = |why: String| Refusal::bad_body(&why);
    let fields = Fields::of(said, "ToxicWrapper").map_err(bad)?;
    let name = fields.text("name").map_err(bad)?.unwrap_or_default();
    let word = fields.text("type").map_err(bad)?.unwrap_or_default();
    let stream = fields.text("stream").map_err(bad)?;
    let toxicity = fields
        .real("toxicity", "float32")
        .map_err(bad)?
        .unwrap_or(1.0);
    let invalid = |what: &str| Refusal::new(StatusCode::BAD_REQUEST, what);
    let stream = match stream.map(|stream| stream.to_ascii_lowercase()).as_deref() {
        None | Some("downstream") => Direction::Downstream,
        Some("upstream") => Direction::Upstream,
        Some(_) => {
            return Err(invalid(
                "stream was invalid, can be either upstream or downstream",
            ));
        }
    };
    let sort = Sort::find(&word).ok_or_else(|| invalid("invalid toxic type"))?;
    let name = match name.is_empty() {
        true => format!("{word}_{stream}"),
        false => name,
    };
    if there(&name) == Some(true) {
        return Err(Refusal::toxic_exists());
    }
    let mut attributes = sort.defaults();
    sort.read(fields.get("attributes"), &mut attributes)
        .map_err(bad)?;
    Ok(Toxic {
        name,
        sort,
        stream,
        toxicity,
        attributes,
    })
}
