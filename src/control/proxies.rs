//! `/v1/proxies`.

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use serde_json::Value;

use super::asker::Asker;
use super::body::Input;
use super::definitions::{name_it, without_nulls};
use super::error::Failure;
use super::routes::{Api, Route};
use super::{App, Control};
use crate::config;
use crate::proxy::Plan;
use crate::rules::Edge;
use crate::state::{By, Refused};
use crate::units;
use crate::wire::{List, ProxyItem};

pub(super) fn routes(api: Api) -> Api {
    const ALL: &str = "/v1/proxies";
    const ONE: &str = "/v1/proxies/{name}";
    api.get(
        ALL,
        list,
        Route::new("list_proxies", "All proxies").lists::<ProxyItem>("In the order of definition"),
    )
    .post(
        ALL,
        create,
        Route::new("create_proxy", "Starts a proxy")
            .changes()
            .takes("Proxy")
            .answers::<ProxyItem>(201, "It listens")
            .refuses(&[409]),
    )
    .get(
        ONE,
        get,
        Route::new("get_proxy", "One proxy")
            .answers::<ProxyItem>(200, "As defined, and how it stands")
            .refuses(&[404]),
    )
    .put(
        ONE,
        put,
        Route::new(
            "put_proxy",
            "Starts a proxy, or changes the one of that name",
        )
        .changes()
        .about("Where it listens elsewhere, the new address is bound first.")
        .takes("ProxyPut")
        .answers::<ProxyItem>(200, "Changed")
        .answers::<ProxyItem>(201, "It listens")
        .refuses(&[409]),
    )
    .patch(
        ONE,
        patch,
        Route::new("patch_proxy", "Changes the given keys of a proxy")
            .changes()
            .takes("ProxyPatch")
            .answers::<ProxyItem>(200, "Changed")
            .refuses(&[404, 409]),
    )
    .delete(
        ONE,
        delete,
        Route::new("delete_proxy", "Stops a proxy")
            .changes()
            .about("No new clients; those that stand go on without rules.")
            .answers_nothing(204, "Stopped")
            .refuses(&[404, 409]),
    )
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
            enabled: edge.enabled,
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

    /// Makes or changes a proxy. `define` is given the one that there is. Answers whether it is new.
    pub(super) async fn put_proxy(
        &self,
        by: By,
        name: &str,
        define: impl FnOnce(Option<&Edge>) -> Result<Edge, Failure>,
    ) -> Result<bool, Failure> {
        let turn = self.supervisor.turn().await;
        let old = turn.find(name);
        let edge = define(old.as_deref())?;
        self.check_upstream(&edge)?;
        turn.rearrange(Plan::put(edge), by).await?;
        Ok(old.is_none())
    }

    /// Whether a proxy may have its upstream by the API. One of the file keeps the one that it has.
    pub(super) fn check_upstream(&self, edge: &Edge) -> Result<(), Failure> {
        let edges = self.context.state.edges();
        let known = edges
            .iter()
            .any(|e| e.name == edge.name && e.upstream == edge.upstream);
        if known || self.upstreams.allow(&edge.upstream) {
            return Ok(());
        }
        let message = format!("proxies may not connect to `{}` here", edge.upstream);
        let failure = Failure::new(StatusCode::FORBIDDEN, "upstream_not_allowed", message);
        Err(failure
            .at("upstream")
            .hint("choose another, or add it to `control.upstreams` in the file"))
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
    Asker(by): Asker,
    Input(body): Input,
) -> Result<(StatusCode, Json<ProxyItem>), Failure> {
    let edge = config::edge_from_json(&without_nulls(body))?;
    let name = edge.name.clone();
    let define = |old: Option<&Edge>| match old {
        None => Ok(edge),
        Some(old) => Err(Refused::Exists("proxy", old.name.clone()).into()),
    };
    app.put_proxy(by, &name, define).await?;
    Ok((StatusCode::CREATED, Json(app.find_proxy(&name)?)))
}

async fn put(
    Shared(app): Shared<App>,
    Asker(by): Asker,
    Path(name): Path<String>,
    Input(mut body): Input,
) -> Result<(StatusCode, Json<ProxyItem>), Failure> {
    name_it("proxy", &mut body, &name)?;
    let edge = config::edge_from_json(&without_nulls(body))?;
    let new = app.put_proxy(by, &name, |_| Ok(edge)).await?;
    let status = match new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, Json(app.find_proxy(&name)?)))
}

async fn patch(
    Shared(app): Shared<App>,
    Asker(by): Asker,
    Path(name): Path<String>,
    Input(mut body): Input,
) -> Result<Json<ProxyItem>, Failure> {
    name_it("proxy", &mut body, &name)?;
    let Value::Object(keys) = body else {
        return Err(Failure::invalid("", "expected a map"));
    };
    let define = |old: Option<&Edge>| {
        let old = old.ok_or_else(|| Refused::NotFound("proxy", name.clone()))?;
        let mut all = config::edge_to_json(old);
        if let Value::Object(all) = &mut all {
            all.extend(keys);
        }
        Ok(config::edge_from_json(&without_nulls(all))?)
    };
    app.put_proxy(by, &name, define).await?;
    Ok(Json(app.find_proxy(&name)?))
}

async fn delete(
    Shared(app): Shared<App>,
    Asker(by): Asker,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let plan = Plan {
        remove: vec![name],
        ..Plan::default()
    };
    app.supervisor.rearrange(plan, by).await?;
    Ok(StatusCode::NO_CONTENT)
}
