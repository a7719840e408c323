//! `/v1/proxies`.

use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::{Json, Router, routing};

use super::body::Input;
use super::error::Failure;
use super::{App, Control};
use crate::config;
use crate::rules::Edge;
use crate::state::{Refused, Source};
use crate::units;
use crate::wire::{List, ProxyItem};

pub(super) fn routes(router: Router<App>) -> Router<App> {
    router
        .route("/v1/proxies", routing::get(list).post(create))
        .route("/v1/proxies/{name}", routing::get(get).delete(delete))
}

impl Control {
    /// All proxies with how they stand.
    pub(super) fn proxies(&self) -> List<ProxyItem> {
        // Read first: a list may be newer than it says, never older.
        let generation = self.context.state.generation();
        let edges = self.context.state.edges();
        let items = edges.iter().map(|edge| self.proxy(edge)).collect();
        List { generation, items }
    }

    fn proxy(&self, edge: &Edge) -> ProxyItem {
        let bound = self.supervisor.bound(&edge.name);
        let meters = self.supervisor.meters(&edge.name);
        let operations = meters.iter().flat_map(|m| m.operations());
        ProxyItem {
            name: edge.name.clone(),
            from: edge.from.clone(),
            to: edge.to.clone(),
            listen: bound.map_or_else(|| edge.listen.clone(), |address| address.to_string()),
            upstream: edge.upstream.clone(),
            protocol: edge.protocol,
            connect_timeout: units::format_duration(edge.connect_timeout),
            max_connections: edge.max_connections,
            tls: edge.tls.as_ref().map(|tls| tls.said.clone()),
            proxy_protocol: config::proxy_protocol_to_json(edge.proxy_protocol),
            upstream_host: edge.upstream_host.clone(),
            forwarded: config::forwarded_to_json(edge.forwarded),
            connections_total: meters.as_ref().map_or(0, |m| m.connections.get()),
            connections_open: meters.as_ref().map_or(0, |m| m.open.get()),
            operations: operations
                .filter(|(_, n)| *n > 0)
                .map(|(class, n)| (class.as_str().to_owned(), n))
                .collect(),
        }
    }

    fn find_proxy(&self, name: &str) -> Result<ProxyItem, Failure> {
        let edges = self.context.state.edges();
        let edge = edges.iter().find(|edge| edge.name == name);
        let edge = edge.ok_or_else(|| Refused::NotFound("proxy", name.to_owned()))?;
        Ok(self.proxy(edge))
    }
}

async fn list(Shared(app): Shared<App>) -> Json<List<ProxyItem>> {
    Json(app.proxies())
}

async fn get(
    Shared(app): Shared<App>,
    Path(name): Path<String>,
) -> Result<Json<ProxyItem>, Failure> {
    app.find_proxy(&name).map(Json)
}

async fn create(
    Shared(app): Shared<App>,
    Input(body): Input,
) -> Result<(StatusCode, Json<ProxyItem>), Failure> {
    let edge = config::edge_from_json(&body)?;
    let name = edge.name.clone();
    app.supervisor.start(edge, Source::Api).await?;
    Ok((StatusCode::CREATED, Json(app.find_proxy(&name)?)))
}

async fn delete(Shared(app): Shared<App>, Path(name): Path<String>) -> Result<StatusCode, Failure> {
    app.supervisor.stop(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
