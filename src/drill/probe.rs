//! Probes: asking something outside, and holding the answer against what it should be.

use std::time::Duration;

use serde_json::Value;

use super::command::{self, Environment};
use super::http::{self, Place};
use super::load::Zero;
use super::sample::Asked;
use crate::clock;
use crate::config::drill::{
    Address, Asked as How, Bounds, Check, CommandProbe, HttpProbe, JsonCheck, JsonIs, Request,
};

/// Where each proxy listens, as far as this process is concerned.
pub trait Proxies {
    /// `host:port`.
    fn address(&self, name: &str) -> Option<String>;
}

/// Something that can be asked, again and again.
#[derive(Debug, Clone)]
pub struct Probe {
    check: Check,
    place: Option<Place>,
    environment: Environment,
    /// From one time to the next.
    pub every: Duration,
}

impl Probe {
    /// Of a check that asks; `None`: it is none.
    ///
    /// # Errors
    /// It names no place that can be asked.
    pub fn new(
        check: &Check,
        proxies: &impl Proxies,
        environment: &Environment,
    ) -> Result<Option<Self>, String> {
        let (request, how): (Option<&Request>, &How) = match check {
            Check::Http(probe) => (Some(&probe.request), &probe.asked),
            Check::Prometheus { url, asked, .. } => (Some(url), asked),
            Check::Tcp { asked, .. } => (None, asked),
            Check::Command(probe) => (None, &probe.asked),
            _ => return Ok(None),
        };
        let place = request
            .map(|request| place(&request.to, proxies))
            .transpose()?;
        Ok(Some(Self {
            check: check.clone(),
            place,
            environment: environment.clone(),
            every: how.every,
        }))
    }

    /// Asks once.
    pub async fn ask(&self, zero: Zero) -> Asked {
        let at = zero.now();
        let said = match (&self.check, &self.place) {
            (Check::Http(probe), Some(place)) => ask_http(probe, place).await,
            (
                Check::Prometheus {
                    url,
                    query,
                    is,
                    asked,
                },
                Some(place),
            ) => ask_prometheus(place, &url.path, query, is, asked.timeout).await,
            (Check::Tcp { address, asked }, _) => {
                let accepts = http::accepts(address, asked.timeout).await;
                accepts.map(|()| format!("{address} accepts connections"))
            }
            (Check::Command(probe), _) => ask_command(probe, &self.environment).await,
            _ => Err("it can't be asked".to_owned()),
        };
        let (good, said) = match said {
            Ok(said) => (true, said),
            Err(said) => (false, said),
        };
        Asked { at, good, said }
    }
}

/// Where a request goes.
///
/// # Errors
/// There is no such proxy, or no such host.
pub(super) fn place(to: &Address, proxies: &impl Proxies) -> Result<Place, String> {
    let (secure, authority) = host(to, proxies)?;
    Place::new(secure, &authority)
}

/// Whether TLS is spoken there, and `host:port`.
///
/// # Errors
/// There is no such proxy.
pub fn host(to: &Address, proxies: &impl Proxies) -> Result<(bool, String), String> {
    match to {
        Address::Host { secure, authority } => Ok((*secure, authority.clone())),
        Address::Proxy(name) => {
            let address = proxies.address(name);
            let address = address.ok_or_else(|| format!("there is no proxy `{name}`"))?;
            Ok((false, address))
        }
    }
}

async fn ask_http(probe: &HttpProbe, place: &Place) -> Result<String, String> {
    let Request {
        path,
        method,
        headers,
        body,
        ..
    } = &probe.request;
    let request = place.request(method, path, headers, body.as_deref());
    let request = request.map_err(|error| error.to_string())?;
    let answer = place.ask(request, probe.asked.timeout).await;
    let (status, body) = answer.map_err(|error| error.to_string())?;
    let said = format!("{method} {path} answered {}", status.as_u16());
    if !probe.statuses.iter().any(|s| s.contains(status.as_u16())) {
        return Err(said);
    }
    let text = String::from_utf8_lossy(&body);
    if let Some(wanted) = &probe.contains
        && !text.contains(wanted)
    {
        return Err(format!("{said} without `{wanted}`"));
    }
    match held(&probe.json, &text) {
        Ok(values) if values.is_empty() => Ok(said),
        Ok(values) => Ok(format!("{said}: {values}")),
        Err(values) => Err(format!("{said}: {values}")),
    }
}

async fn ask_command(probe: &CommandProbe, environment: &Environment) -> Result<String, String> {
    let ran = command::run(&probe.run, environment).await?;
    if ran.code != Some(probe.exit.into()) {
        return Err(ran.in_words());
    }
    let values = held(&probe.json, &ran.stdout)?;
    Ok(match values.is_empty() {
        true => ran.in_words(),
        false => values,
    })
}

async fn ask_prometheus(
    place: &Place,
    prefix: &str,
    query: &str,
    is: &Bounds,
    timeout: Duration,
) -> Result<String, String> {
    let path = format!("{prefix}/api/v1/query?query={}", encoded(query));
    let request = place.request("GET", &path, &[], None);
    let request = request.map_err(|error| error.to_string())?;
    let answer = place.ask(request, timeout).await;
    let (status, body) = answer.map_err(|error| error.to_string())?;
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let values = values_of(&json).ok_or_else(|| {
        let why = json["error"]
            .as_str()
            .unwrap_or("that is no answer of Prometheus");
        format!("`{query}` answered {}: {why}", status.as_u16())
    })?;
    if values.is_empty() {
        return Err(format!("`{query}` has no value"));
    }
    let wrong = values.iter().find(|value| !is.hold(**value));
    match wrong {
        Some(value) => Err(format!("`{query}` is {value}")),
        None => Ok(format!("`{query}` is {}", values[0])),
    }
}

/// The numbers in an answer to an instant query; `None`: it is no such answer.
fn values_of(json: &Value) -> Option<Vec<f64>> {
    let number = |pair: &Value| pair.get(1)?.as_str()?.parse().ok();
    let data = &json["data"];
    match data["resultType"].as_str()? {
        "scalar" => Some(vec![number(&data["result"])?]),
        "vector" => {
            let series = data["result"].as_array()?.iter();
            series.map(|one| number(&one["value"])).collect()
        }
        _ => None,
    }
}

/// Everything but letters, digits and what RFC 3986 calls unreserved, percent-encoded.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let one = |b: u8| match plain(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

/// Holds a JSON text against what its values must be; answers what they are.
///
/// # Errors
/// What is not as it must be.
fn held(checks: &[JsonCheck], text: &str) -> Result<String, String> {
    if checks.is_empty() {
        return Ok(String::new());
    }
    let json: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    let mut said = Vec::new();
    for JsonCheck { pointer, is } in checks {
        let name = if pointer.is_empty() { "it" } else { pointer };
        let Some(value) = json.pointer(pointer) else {
            return Err(format!("there is no {name}"));
        };
        let (holds, found) = match is {
            JsonIs::Equal(wanted) => (same(value, wanted), short(value)),
            JsonIs::Number(bounds) => {
                let holds = value.as_f64().is_some_and(|n| bounds.hold(n));
                (holds, short(value))
            }
            JsonIs::Length(bounds) => {
                let length = match value {
                    Value::Array(list) => Some(list.len()),
                    Value::Object(map) => Some(map.len()),
                    Value::String(text) => Some(text.chars().count()),
                    _ => None,
                };
                let holds = length.is_some_and(|n| bounds.hold(n as f64));
                let found = length.map_or("no list".to_owned(), |n| format!("of length {n}"));
                (holds, found)
            }
        };
        let found = format!("{name} is {found}");
        if !holds {
            return Err(found);
        }
        said.push(found);
    }
    Ok(said.join(", "))
}

/// `1` and `1.0` are one number.
fn same(value: &Value, wanted: &Value) -> bool {
    match (value.as_f64(), wanted.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => value == wanted,
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Waits for the next time; of times that were missed, the next that is to come.
pub async fn wait(every: Duration, began: clock::Instant) {
    let passed = clock::now().saturating_duration_since(began);
    let times = (passed.as_secs_f64() / every.as_secs_f64()).floor() + 1.0;
    clock::sleep_until(began + every.mul_f64(times)).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::drill::Comparison;

    fn check(pointer: &str, is: JsonIs) -> JsonCheck {
        JsonCheck {
            pointer: pointer.to_owned(),
            is,
        }
    }

    #[test]
    fn values_are_held_against_what_they_must_be() {
        let text = r#"{"charges": 2, "status": "ok", "list": [1, 2, 3]}"#;
        let bounds = |n| Bounds(vec![(Comparison::AtMost, n)]);
        for (is, said) in [
            (
                check("/charges", JsonIs::Number(bounds(2.0))),
                Ok("/charges is 2"),
            ),
            (
                check("/charges", JsonIs::Number(bounds(1.0))),
                Err("/charges is 2"),
            ),
            (
                check("/charges", JsonIs::Equal(json!(2.0))),
                Ok("/charges is 2"),
            ),
            (
                check("/status", JsonIs::Equal(json!("no"))),
                Err("/status is \"ok\""),
            ),
            (
                check("/status", JsonIs::Number(bounds(1.0))),
                Err("/status is \"ok\""),
            ),
            (
                check("/list", JsonIs::Length(bounds(3.0))),
                Ok("/list is of length 3"),
            ),
            (
                check("/charges", JsonIs::Length(bounds(3.0))),
                Err("/charges is no list"),
            ),
            (
                check("/none", JsonIs::Equal(json!(null))),
                Err("there is no /none"),
            ),
        ] {
            let found = held(&[is], text);
            assert_eq!(found.as_deref().map_err(String::as_str), said);
        }
        assert!(held(&[check("", JsonIs::Equal(json!(1)))], "{").is_err());
        assert_eq!(held(&[], "{"), Ok(String::new()));
    }

    #[test]
    fn what_prometheus_answers() {
        let vector = json!({ "status": "success", "data": { "resultType": "vector", "result": [
            { "metric": {}, "value": [1.5, "2"] }, { "metric": {}, "value": [1.5, "NaN"] } ] } });
        let values = values_of(&vector).unwrap();
        assert!(values[0] == 2.0 && values[1].is_nan());
        let scalar = json!({ "data": { "resultType": "scalar", "result": [1, "7.5"] } });
        assert_eq!(values_of(&scalar), Some(vec![7.5]));
        assert_eq!(values_of(&json!({ "error": "parse error" })), None);
        assert_eq!(encoded("a{b=\"c\"} + 1"), "a%7Bb%3D%22c%22%7D%20%2B%201");
    }
}
