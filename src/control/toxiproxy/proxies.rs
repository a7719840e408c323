//! Proxies: listed, made, changed, removed; populate and reset.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::Asked;
use super::answer::{Refusal, answer};
use super::toxic::Toxic;
use super::toxics::remove_all;
use crate::clock;
use crate::config::{ToxiproxyProxy, read_go};
use crate::proxy::Plan;
use crate::rules::Edge;
use crate::state::Draft;

/// How long the name of an address may take to be resolved.
const RESOLVING: std::time::Duration = std::time::Duration::from_secs(5);

impl Asked {
    /// Where a proxy listens, as it is told.
    fn listen(&self, edge: &Edge) -> String {
        let bound = self.control().supervisor.bound(&edge.name);
        bound.map_or_else(|| edge.listen.clone(), |address| address.to_string())
    }

    fn item(&self, edge: &Edge) -> Value {
        let toxics = self.toxics_of(&edge.name);
        json!({
            "name": edge.name,
            "listen": self.listen(edge),
            "upstream": edge.upstream,
            "enabled": edge.enabled,
            "toxics": toxics.iter().map(Toxic::to_json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn proxies(&self) -> Response {
        let edges = self.state().edges();
        let all = edges
            .iter()
            .map(|edge| (edge.name.clone(), self.item(edge)));
        let all: Map<_, _> = all.collect();
        answer(StatusCode::OK, &Value::Object(all))
    }

    pub(super) fn proxy(&self, name: &str) -> Result<Response, Refusal> {
        let edge = self.edge(name)?;
        Ok(answer(StatusCode::OK, &self.item(&edge)))
    }

    /// One that may be had by the API.
    fn allowed(&self, edge: &Edge) -> Result<(), Refusal> {
        let allowed = self.control().check_upstream(edge);
        allowed.map_err(|failure| Refusal::new(StatusCode::FORBIDDEN, failure.message()))
    }

    pub(super) async fn create_proxy(&self) -> Result<Response, Refusal> {
        let bad = |why: String| Refusal::bad_body(&why);
        let said = read_go(&self.body).map_err(bad)?;
        let said = ToxiproxyProxy::read(&said).map_err(bad)?;
        if let Some(missing) = said.missing() {
            return Err(Refusal::missing(missing));
        }
        let edge = said
            .to_edge()
            .map_err(|problem| Refusal::bad_body(&problem.to_string()))?;
        let name = edge.name.clone();
        let turn = self.control().supervisor.turn().await;
        if turn.find(&name).is_some() {
            return Err(Refusal::proxy_exists());
        }
        self.allowed(&edge)?;
        turn.rearrange(Plan::put(edge), self.by.clone()).await?;
        let edge = self.edge(&name)?;
        Ok(answer(StatusCode::CREATED, &self.item(&edge)))
    }

    pub(super) async fn update_proxy(&self, name: &str) -> Result<Response, Refusal> {
        let bad = |why: String| Refusal::bad_body(&why);
        let turn = self.control().supervisor.turn().await;
        let old = turn.find(name).ok_or_else(Refusal::no_proxy)?;
        let said = read_go(&self.body).map_err(bad)?;
        let mut said = ToxiproxyProxy::read(&said).map_err(bad)?;
        // What was read and is sent back changes nothing: port 0 stays port 0.
        let told = self.listen(&old);
        said.listen = said.listen.filter(|listen| *listen != told);
        let edge = said
            .lay_over(Edge::clone(&old))
            .map_err(|problem| Refusal::bad_body(&problem.to_string()))?;
        self.allowed(&edge)?;
        turn.rearrange(Plan::put(edge), self.by.clone()).await?;
        let edge = self.edge(name)?;
        Ok(answer(StatusCode::OK, &self.item(&edge)))
    }

    pub(super) async fn delete_proxy(&self, name: &str) -> Result<Response, Refusal> {
        let turn = self.control().supervisor.turn().await;
        turn.find(name).ok_or_else(Refusal::no_proxy)?;
        let plan = Plan {
            remove: vec![name.to_owned()],
            close: true,
            ..Plan::default()
        };
        let also = |draft: &mut Draft| remove_all(draft, name);
        turn.rearrange_with(plan, self.by.clone(), also).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Every proxy enabled, no toxic left: one change, or none.
    pub(super) async fn reset(&self) -> Result<Response, Refusal> {
        let turn = self.control().supervisor.turn().await;
        let edges = self.state().edges();
        let disabled = edges.iter().filter(|edge| !edge.enabled);
        let enabled = |edge: &Arc<Edge>| Edge {
            enabled: true,
            ..Edge::clone(edge)
        };
        let plan = Plan {
            put: disabled.map(enabled).collect(),
            ..Plan::default()
        };
        let also = |draft: &mut Draft| {
            let mut names = edges.iter().map(|edge| &edge.name);
            names.try_for_each(|name| remove_all(draft, name))
        };
        turn.rearrange_with(plan, self.by.clone(), also).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Each in turn, until one fails; those before it stay.
    pub(super) async fn populate(&self) -> Result<Response, Refusal> {
        let mut done = Vec::new();
        let populated = self.populate_each(&mut done).await;
        let items = done.iter().filter_map(|name: &String| self.edge(name).ok());
        let items: Vec<_> = items.map(|edge| self.item(&edge)).collect();
        Ok(match populated {
            Ok(()) => answer(StatusCode::CREATED, &json!({ "proxies": items })),
            Err(refusal) if items.is_empty() => refusal.with_proxies(Value::Null),
            Err(refusal) => refusal.with_proxies(items.into()),
        })
    }

    async fn populate_each(&self, done: &mut Vec<String>) -> Result<(), Refusal> {
        let bad = |why: String| Refusal::bad_body(&why);
        let said = read_go(&self.body).map_err(bad)?;
        let list = match &said {
            Value::Null => &[],
            Value::Array(list) => list.as_slice(),
            _ => {
                let why = "json: cannot unmarshal object into Go value of type []Proxy";
                return Err(Refusal::bad_body(why));
            }
        };
        let list: Vec<_> = list
            .iter()
            .map(ToxiproxyProxy::read)
            .collect::<Result<_, _>>()
            .map_err(bad)?;
        for (n, said) in list.iter().enumerate() {
            if let Some(missing) = said.missing() {
                return Err(Refusal::missing(&format!("{missing} at proxy {}", n + 1)));
            }
        }
        for said in list {
            let edge = said
                .to_edge()
                .map_err(|problem| Refusal::bad_body(&problem.to_string()))?;
            let name = edge.name.clone();
            self.populate_one(edge).await?;
            done.push(name);
        }
        Ok(())
    }

    async fn populate_one(&self, edge: Edge) -> Result<(), Refusal> {
        let turn = self.control().supervisor.turn().await;
        let name = edge.name.clone();
        if let Some(old) = turn.find(&name)
            && old.upstream == edge.upstream
            && is_same(&edge.listen, &self.listen(&old)).await
        {
            return Ok(());
        }
        self.allowed(&edge)?;
        let also = |draft: &mut Draft| remove_all(draft, &name);
        turn.rearrange_with(Plan::put(edge), self.by.clone(), also)
            .await?;
        Ok(())
    }
}

/// Whether an address that is asked for is the one where a proxy is.
async fn is_same(asked: &str, told: &str) -> bool {
    if asked == told {
        return true;
    }
    let Ok(told) = told.parse::<SocketAddr>() else {
        return false;
    };
    let found = clock::within(RESOLVING, tokio::net::lookup_host(asked)).await;
    match found {
        Some(Ok(mut all)) => all.any(|address| address == told),
        _ => false,
    }
}
