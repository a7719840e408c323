//! The table of routes: each with its handler, what it takes and every way in which it answers.
//!
//! A route can't be added without being described: [`Api`] makes the router and, of the same calls,
//! the document that `/v1/openapi.json` answers with (`openapi` puts it together).

use std::collections::BTreeMap;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodFilter};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::App;
use super::asker::CONTROLLER;
use crate::wire::List;

/// What JSON Lines are called.
pub(super) const JSON_LINES: &str = "application/x-ndjson";

/// Refusals that any route may answer with, whatever was asked: the guard's and the port's.
const ANYWHERE: [u16; 6] = [400, 401, 403, 421, 429, 503];
/// Those of a route that reads a body.
const OF_A_BODY: [u16; 3] = [413, 415, 422];

/// Routes, and what is said of them.
pub(super) struct Api {
    pub(super) router: Router<App>,
    pub(super) paths: Map<String, Value>,
    /// The shapes of what is answered, by their names.
    pub(super) shapes: BTreeMap<String, Value>,
}

impl Api {
    pub(super) fn new() -> Self {
        Self {
            router: Router::new(),
            paths: Map::new(),
            shapes: BTreeMap::new(),
        }
    }

    pub(super) fn get<T: 'static>(
        self,
        path: &str,
        handler: impl Handler<T, App>,
        route: Route,
    ) -> Self {
        self.on(("get", MethodFilter::GET), path, handler, route)
    }

    pub(super) fn post<T: 'static>(
        self,
        path: &str,
        handler: impl Handler<T, App>,
        route: Route,
    ) -> Self {
        self.on(("post", MethodFilter::POST), path, handler, route)
    }

    pub(super) fn put<T: 'static>(
        self,
        path: &str,
        handler: impl Handler<T, App>,
        route: Route,
    ) -> Self {
        self.on(("put", MethodFilter::PUT), path, handler, route)
    }

    pub(super) fn patch<T: 'static>(
        self,
        path: &str,
        handler: impl Handler<T, App>,
        route: Route,
    ) -> Self {
        self.on(("patch", MethodFilter::PATCH), path, handler, route)
    }

    pub(super) fn delete<T: 'static>(
        self,
        path: &str,
        handler: impl Handler<T, App>,
        route: Route,
    ) -> Self {
        self.on(("delete", MethodFilter::DELETE), path, handler, route)
    }

    fn on<T: 'static>(
        mut self,
        (verb, filter): (&str, MethodFilter),
        path: &str,
        handler: impl Handler<T, App>,
        route: Route,
    ) -> Self {
        self.router = self.router.route(path, routing::on(filter, handler));
        self.describe(verb, path, route)
    }

    fn describe(mut self, verb: &str, path: &str, route: Route) -> Self {
        let item = self.paths.entry(path).or_insert_with(|| json!({}));
        item[verb] = route.described(path);
        for (name, shape) in route.shapes {
            let known = self.shapes.entry(name).or_insert_with(|| shape.clone());
            // The test of the document finds what is neither one nor the other.
            if *known != shape {
                *known = json!({ "not": {} });
            }
        }
        self
    }

    /// Describes a `GET` whose handler can't be had before the document is complete: the document's
    /// own.
    pub(super) fn described(self, path: &str, route: Route) -> Self {
        self.describe("get", path, route)
    }
}

/// What is said of one route.
pub(super) struct Route {
    operation: Value,
    parameters: Vec<Value>,
    answers: Map<String, Value>,
    refusals: Vec<u16>,
    shapes: Vec<(String, Value)>,
}

impl Route {
    /// `id`: what a generated client calls it.
    pub(super) fn new(id: &str, summary: &str) -> Self {
        Self {
            operation: json!({ "operationId": id, "summary": summary }),
            parameters: Vec::new(),
            answers: Map::new(),
            refusals: ANYWHERE.to_vec(),
            shapes: Vec::new(),
        }
    }

    /// What it does, where the summary does not say enough.
    pub(super) fn about(mut self, description: &str) -> Self {
        self.operation["description"] = json!(description);
        self
    }

    /// For everyone: no token, no checks.
    pub(super) fn open(mut self) -> Self {
        self.operation["security"] = json!([]);
        self.refusals.retain(|status| *status == 503);
        self
    }

    /// Something in the query, that may be left out.
    pub(super) fn query(self, name: &str, about: &str, shape: Value) -> Self {
        self.parameter("query", name, about, shape)
    }

    /// A header of the request, that may be left out.
    pub(super) fn header(self, name: &str, about: &str, shape: Value) -> Self {
        self.parameter("header", name, about, shape)
    }

    /// It changes something, and who asks may give itself a name.
    pub(super) fn changes(self) -> Self {
        self.header(
            CONTROLLER,
            "The name of a controller; what it sets is lifted when it falls silent",
            json!({ "type": "string", "pattern": "^[!-~]{1,100}$" }),
        )
    }

    /// It changes something that has an ETag.
    pub(super) fn conditional(self) -> Self {
        let about =
            "The ETags for which the change is meant; it is refused where none of them stands";
        let tags = json!({ "type": "string" });
        self.changes()
            .header("If-Match", about, tags)
            .refuses(&[412])
    }

    fn parameter(mut self, place: &str, name: &str, about: &str, shape: Value) -> Self {
        let parameter = json!({ "in": place, "name": name, "description": about, "schema": shape });
        self.parameters.push(parameter);
        self
    }

    /// A JSON body, of a shape that the document has under this name: one of `openapi::bodies`.
    pub(super) fn takes(mut self, shape: &str) -> Self {
        self.operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(shape) } },
        });
        self.refuses(&OF_A_BODY)
    }

    /// A JSON body of a shape that is given here, and gets this name.
    pub(super) fn takes_as(mut self, name: &str, shape: Value) -> Self {
        self.shapes.push((name.to_owned(), shape));
        self.takes(name)
    }

    /// Answers JSON of this type.
    pub(super) fn answers<T: ToSchema>(mut self, status: u16, about: &str) -> Self {
        self.know::<T>();
        self.answers_as(status, about, "application/json", reference(&T::name()))
    }

    /// Answers a list of this type, with the generation that it belongs to.
    pub(super) fn lists<T: ToSchema>(mut self, about: &str) -> Self {
        self.know::<T>();
        // Types with parameters have one name, whatever these are.
        let name = format!("{}List", T::name());
        let shape = serde_json::to_value(List::<T>::schema()).unwrap_or_default();
        self.shapes.push((name.clone(), shape));
        self.answers_as(200, about, "application/json", reference(&name))
    }

    /// Answers with a stream of this type, each one a line or an event.
    pub(super) fn streams<T: ToSchema>(mut self, media: &str, about: &str) -> Self {
        self.know::<T>();
        self.answers_as(200, about, media, reference(&T::name()))
    }

    pub(super) fn answers_text(self, status: u16, about: &str) -> Self {
        self.answers_as(status, about, "text/plain", json!({ "type": "string" }))
    }

    /// The same in another format.
    pub(super) fn or_text(mut self, status: u16, media: &str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status.to_string()) {
            answer["content"][media] = json!({ "schema": { "type": "string" } });
        }
        self
    }

    pub(super) fn answers_as(
        mut self,
        status: u16,
        about: &str,
        media: &str,
        shape: Value,
    ) -> Self {
        let answer = json!({ "description": about, "content": { media: { "schema": shape } } });
        self.answers.insert(status.to_string(), answer);
        self
    }

    pub(super) fn answers_nothing(mut self, status: u16, about: &str) -> Self {
        let answer = json!({ "description": about });
        self.answers.insert(status.to_string(), answer);
        self
    }

    /// Refusals besides those that every route has; `openapi::REFUSALS` says what they mean.
    pub(super) fn refuses(mut self, statuses: &[u16]) -> Self {
        self.refusals.extend(statuses);
        self
    }

    fn know<T: ToSchema>(&mut self) {
        self.shapes.extend(shapes_of::<T>());
    }

    fn described(&self, path: &str) -> Value {
        let mut operation = self.operation.clone();
        let names = path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}'));
        let of_the_path = names.map(|(name, _)| {
            let shape = json!({ "type": "string", "minLength": 1 });
            json!({ "in": "path", "name": name, "required": true, "schema": shape })
        });
        let parameters: Vec<_> = of_the_path.chain(self.parameters.clone()).collect();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        let mut answers = self.answers.clone();
        for status in &self.refusals {
            let refusal = json!({ "$ref": format!("#/components/responses/{status}") });
            answers.entry(status.to_string()).or_insert(refusal);
        }
        operation["responses"] = answers.into();
        operation
    }
}

/// The shape of a type, and of all that it is made of.
pub(super) fn shapes_of<T: ToSchema>() -> impl Iterator<Item = (String, Value)> {
    let mut all: Vec<(String, RefOr<Schema>)> = vec![(T::name().into(), T::schema())];
    T::schemas(&mut all);
    all.into_iter()
        .filter_map(|(name, shape)| Some((name, serde_json::to_value(shape).ok()?)))
}

pub(super) fn reference(shape: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{shape}") })
}
