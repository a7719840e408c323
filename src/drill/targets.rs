//! The instances that a drill works on: what they carry, and what it sets on them and lifts again.
//!
//! Everything goes over their API, as a controller with a name. What is turned on has a ttl that
//! ends shortly after its time, so that nothing depends on this process to be lifted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::plan::{Fault, What};
use super::probe::Proxies;
use super::sample::Micros;
use crate::client::{Client, ClientError};
use crate::clock::{self, Timestamp};
use crate::config::{partition_to_json, rule_to_json};
use crate::rules::{Partition, Protocol, Shape};
use crate::units::format_duration;
use crate::wire::{ProxyItem, Standing, Status};

/// How long something stays on past its time, if nobody turns it off.
pub const GRACE: Duration = Duration::from_secs(5);

/// A drill can't begin.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Why.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// What was asked for is wrong; else it is how things stand.
    pub usage: bool,
}

impl Refused {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
            usage: true,
        }
    }

    fn of(url: &str, error: &ClientError) -> Self {
        let path = match error {
            ClientError::Api {
                path: Some(path), ..
            } => format!("{path}: "),
            _ => String::new(),
        };
        let message = error.to_string();
        let message = match message.contains(url) {
            true => message,
            false => format!("{url}: {path}{message}"),
        };
        Self {
            usage: matches!(error, ClientError::Api { .. }) || error.is_usage(),
            ..Self::new(message, error.hint())
        }
    }
}

/// An instance.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its API, with the drill as controller.
    pub client: Client,
    /// How it stood when the drill began.
    pub status: Status,
    /// How far ahead its clock is, once that is known.
    pub skew: Micros,
}

/// An edge: proxies of one name, on whatever instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The proxy.
    pub proxy: String,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// What it carries.
    pub protocol: Protocol,
    /// Where it can be reached from here.
    pub address: String,
    /// Whether it has a listener.
    pub enabled: bool,
}

/// A definition of ours on an instance.
#[derive(Debug, Clone)]
struct Placed {
    target: usize,
    fault: usize,
    name: String,
    is_rule: bool,
}

/// How often a fault acted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acted {
    /// Operations that it chose.
    pub selected: u64,
    /// Operations in which it changed what a side saw.
    pub injected: u64,
}

/// All instances.
#[derive(Debug, Clone)]
pub struct Targets {
    /// In the order of their URLs.
    pub list: Vec<Target>,
    /// In the order in which instances name them.
    pub edges: Vec<Edge>,
    placed: Vec<Placed>,
}

impl Proxies for Targets {
    fn address(&self, name: &str) -> Option<String> {
        let edge = self.edges.iter().find(|edge| edge.proxy == name);
        edge.map(|edge| edge.address.clone())
    }
}

impl Targets {
    /// Asks each how it stands.
    ///
    /// # Errors
    /// One that does not answer.
    pub async fn meet(clients: &[Client], controller: &str) -> Result<Self, Refused> {
        let mut list = Vec::new();
        let mut edges: Vec<Edge> = Vec::new();
        for client in clients {
            let of = |error: ClientError| Refused::of(client.url(), &error);
            let client = client.clone().controlled_by(controller).map_err(of)?;
            let status = client.status().await.map_err(of)?;
            for proxy in &status.proxies {
                if edges.iter().all(|edge| edge.proxy != proxy.name) {
                    edges.push(edge(client.url(), proxy));
                }
            }
            list.push(Target {
                client,
                status,
                skew: 0,
            });
        }
        Ok(Self {
            list,
            edges,
            placed: Vec::new(),
        })
    }

    /// The place of an edge.
    #[must_use]
    pub fn edge(&self, proxy: &str) -> Option<usize> {
        self.edges.iter().position(|edge| edge.proxy == proxy)
    }

    /// Makes all definitions, switched off, so that what can't be is known before anything is.
    ///
    /// # Errors
    /// What an instance refuses; names that are taken.
    pub async fn prepare(&mut self, faults: &[Fault]) -> Result<(), Refused> {
        for (n, fault) in faults.iter().enumerate() {
            let made = match &fault.what {
                What::Rule(rule) => {
                    let bodies = self.list.iter().map(|target| {
                        let has = |name: &&String| target.has(name);
                        let mut body = rule_to_json(rule);
                        match &rule.proxies {
                            None => Some(body),
                            Some(names) => {
                                let own: Vec<_> = names.iter().filter(has).collect();
                                body["proxies"] = json!(own);
                                (!own.is_empty()).then_some(body)
                            }
                        }
                    });
                    let bodies: Vec<_> = bodies.collect();
                    if let Some(missing) = rule
                        .proxies
                        .iter()
                        .flatten()
                        .find(|name| self.list.iter().all(|target| !target.has(name)))
                    {
                        return Err(self.no_proxy(missing));
                    }
                    self.place(n, &fault.name, true, bodies).await?
                }
                What::Partition(partition) => {
                    let several = self.list.len() > 1;
                    let bodies = self.list.iter().map(|target| {
                        let part = match several {
                            true => part_of(partition, target),
                            false => Some((**partition).clone()),
                        };
                        part.map(|part| partition_to_json(&part))
                    });
                    let bodies: Vec<_> = bodies.collect();
                    self.place(n, &fault.name, false, bodies).await?
                }
                What::Run(_) => continue,
            };
            if made == 0 {
                return Err(Refused::new(
                    format!("`{}` has nothing to act on", fault.name),
                    "`firedrill status` shows the proxies, and which services they connect",
                ));
            }
        }
        Ok(())
    }

    /// A proxy that no instance has.
    pub fn no_proxy(&self, name: &str) -> Refused {
        let names: Vec<_> = self
            .edges
            .iter()
            .map(|e| format!("`{}`", e.proxy))
            .collect();
        let hint = match names.is_empty() {
            true => "no instance has any proxy".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        Refused::new(format!("there is no proxy `{name}`"), hint)
    }

    async fn place(
        &mut self,
        fault: usize,
        name: &str,
        is_rule: bool,
        bodies: Vec<Option<Value>>,
    ) -> Result<usize, Refused> {
        let mut refusal = None;
        let mut made = 0;
        for (n, body) in bodies.into_iter().enumerate() {
            let (Some(mut body), Some(target)) = (body, self.list.get(n)) else {
                continue;
            };
            body["enabled"] = json!(false);
            let client = &target.client;
            target.make_room(name, is_rule, &body).await?;
            let created = match is_rule {
                true => client.create_rule(&body).await.map(drop),
                false => client.create_partition(&body).await.map(drop),
            };
            match created {
                Ok(()) => {
                    made += 1;
                    self.placed.push(Placed {
                        target: n,
                        fault,
                        name: name.to_owned(),
                        is_rule,
                    });
                }
                Err(error) => {
                    let error = Refused::of(client.url(), &error);
                    let message = format!("`{name}`: {}", error.message);
                    refusal = Some(Refused { message, ..error });
                }
            }
        }
        match refusal {
            // What one instance has nothing for may be what another one is there for.
            Some(refusal) if made == 0 => Err(refusal),
            _ => Ok(made),
        }
    }

    /// Turns a fault on for so long; everywhere, or it is an error.
    ///
    /// # Errors
    /// The first instance that did not do it, in words.
    pub async fn turn_on(&mut self, fault: usize, lasts: Duration) -> Result<(), String> {
        let ttl = lasts.saturating_add(GRACE);
        let keys = json!({ "enabled": true, "ttl": format_duration(ttl) });
        let placed: Vec<_> = self
            .placed
            .iter()
            .filter(|p| p.fault == fault)
            .cloned()
            .collect();
        let mut failed = None;
        for placed in placed {
            let Some(target) = self.list.get_mut(placed.target) else {
                continue;
            };
            let asked = Timestamp::now();
            match target.patch(&placed, &keys).await {
                Ok(standing) => target.measure(&standing, ttl, asked),
                Err(error) => failed = Some(format!("{}: {error}", target.client.url())),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Turns a fault off.
    ///
    /// # Errors
    /// The first instance that did not do it, in words.
    pub async fn turn_off(&self, fault: usize) -> Result<(), String> {
        let keys = json!({ "enabled": false });
        let mut failed = None;
        for placed in self.placed.iter().filter(|p| p.fault == fault) {
            let Some(target) = self.list.get(placed.target) else {
                continue;
            };
            if let Err(error) = target.patch(placed, &keys).await {
                failed = Some(format!("{}: {error}", target.client.url()));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Turns all that is on off, and looks that it is, again and again for at most so long. Answers
    /// what is still on, or of which nobody could tell.
    pub async fn lift(&self, patience: Duration) -> Vec<String> {
        let deadline = clock::now() + patience;
        let lifting = self.list.iter().enumerate().map(|(n, target)| {
            let own: Vec<_> = self
                .placed
                .iter()
                .filter(|p| p.target == n)
                .cloned()
                .collect();
            let target = target.clone();
            tokio::spawn(async move { target.lift(&own, deadline).await })
        });
        let lifting: Vec<_> = lifting.collect();
        let mut left = Vec::new();
        for one in lifting {
            match one.await {
                Ok(still) => left.extend(still),
                Err(error) => left.push(error.to_string()),
            }
        }
        left
    }

    /// How often each fault acted.
    pub async fn acted(&self, faults: usize) -> Vec<Acted> {
        let mut acted = vec![Acted::default(); faults];
        for (n, target) in self.list.iter().enumerate() {
            for placed in self.placed.iter().filter(|p| p.target == n) {
                if let Ok(standing) = target.standing(placed).await {
                    acted[placed.fault].selected += standing.selected;
                    acted[placed.fault].injected += standing.injected;
                }
            }
        }
        acted
    }

    /// Takes our definitions away again, as far as that can be done.
    pub async fn remove(&mut self) {
        for placed in std::mem::take(&mut self.placed) {
            let Some(target) = self.list.get(placed.target) else {
                continue;
            };
            let removed = match placed.is_rule {
                true => target.client.delete_rule(&placed.name).await,
                false => target.client.delete_partition(&placed.name).await,
            };
            if let Err(error) = removed {
                tracing::debug!(%error, name = placed.name, "a definition stays");
            }
        }
    }
}

impl Target {
    fn has(&self, proxy: &str) -> bool {
        self.status.proxies.iter().any(|p| p.name == proxy)
    }

    async fn patch(&self, placed: &Placed, keys: &Value) -> Result<Standing, ClientError> {
        let name = &placed.name;
        Ok(match placed.is_rule {
            true => self.client.patch_rule(name, keys).await?.standing,
            false => self.client.patch_partition(name, keys).await?.standing,
        })
    }

    async fn standing(&self, placed: &Placed) -> Result<Standing, ClientError> {
        let name = &placed.name;
        Ok(match placed.is_rule {
            true => self.client.rule(name).await?.standing,
            false => self.client.partition(name).await?.standing,
        })
    }

    async fn is_on(&self, placed: &Placed) -> Result<bool, ClientError> {
        let name = &placed.name;
        let on = match placed.is_rule {
            true => self.client.rule(name).await.map(|rule| rule.enabled),
            false => self.client.partition(name).await.map(|p| p.enabled),
        };
        match on {
            // What is not there is not on.
            Err(ClientError::Api { status: 404, .. }) => Ok(false),
            on => on,
        }
    }

    async fn lift(&self, own: &[Placed], deadline: clock::Instant) -> Vec<String> {
        let off = json!({ "enabled": false });
        loop {
            let mut left = Vec::new();
            for placed in own {
                // Whether it did is what is asked next.
                let _ = self.patch(placed, &off).await;
                match self.is_on(placed).await {
                    Ok(false) => {}
                    Ok(true) => {
                        left.push(format!("{}: `{}` is on", self.client.url(), placed.name))
                    }
                    Err(error) => left.push(format!("`{}`: {error}", placed.name)),
                }
            }
            if left.is_empty() || clock::now() >= deadline {
                return left;
            }
            clock::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Makes room for a definition that an earlier run left behind, because it was killed: one that
    /// is off, and says the same.
    async fn make_room(&self, name: &str, is_rule: bool, body: &Value) -> Result<(), Refused> {
        let found = match is_rule {
            true => {
                let found = self.client.rule(name).await;
                found.map(|rule| (json!(rule), rule.enabled, rule.standing))
            }
            false => {
                let found = self.client.partition(name).await;
                found.map(|part| (json!(part), part.enabled, part.standing))
            }
        };
        let (found, enabled, standing) = match found {
            Ok(found) => found,
            Err(ClientError::Api { status: 404, .. }) => return Ok(()),
            Err(error) => return Err(Refused::of(self.client.url(), &error)),
        };
        let same = definition(&found, &json!(standing)) == definition(body, &Value::Null);
        if !same || enabled || standing.source != "api" {
            let word = if is_rule { "rule" } else { "partition" };
            return Err(Refused::new(
                format!("{} has a definition `{name}` already", self.client.url()),
                format!("give the one in the drill another name, or `firedrill {word} rm {name}`"),
            ));
        }
        let removed = match is_rule {
            true => self.client.delete_rule(name).await,
            false => self.client.delete_partition(name).await,
        };
        removed.map_err(|error| Refused::of(self.client.url(), &error))
    }

    /// Learns how far ahead its clock is: it tells when what was turned on now will end.
    fn measure(&mut self, standing: &Standing, ttl: Duration, asked: Timestamp) {
        let Some(expires) = standing.expires_at else {
            return;
        };
        let (asked, now) = (asked.0 as i64, Timestamp::now().0 as i64);
        let theirs = expires.0 as i64 - ttl.as_micros() as i64;
        let skew = theirs - (asked + now) / 2;
        // Less than the way there and back is none.
        if self.skew == 0 && skew.abs() > (now - asked) + 20_000 {
            self.skew = skew;
        }
    }
}

/// What an item defines, without how it stands, and without when it is on: that the timeline says.
fn definition<'v>(item: &'v Value, standing: &Value) -> BTreeMap<&'v str, &'v Value> {
    let said = item.as_object().into_iter().flatten();
    said.map(|(key, value)| (key.as_str(), value))
        .filter(|(key, _)| standing.get(key).is_none())
        // Chance makes the groups of a split; a rule that says no `match` matches all.
        .filter(|(key, _)| !["enabled", "ttl", "groups"].contains(key))
        .filter(|(key, value)| *key != "match" || **value != json!({}))
        .collect()
}

fn edge(url: &str, proxy: &ProxyItem) -> Edge {
    Edge {
        proxy: proxy.name.clone(),
        from: proxy.from.clone(),
        to: proxy.to.clone(),
        protocol: proxy.protocol,
        address: reachable(url, &proxy.listen),
        enabled: proxy.enabled,
    }
}

/// Where a listener can be reached: one on every interface is where its control port is.
fn reachable(url: &str, listen: &str) -> String {
    let any = listen
        .strip_prefix("0.0.0.0:")
        .or_else(|| listen.strip_prefix("[::]:"));
    let Some(port) = any else {
        return listen.to_owned();
    };
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    format!("{host}:{port}")
}

/// The part of a partition that concerns the services of one instance; `None`: there is none.
fn part_of(partition: &Partition, target: &Target) -> Option<Partition> {
    let proxies = target.status.proxies.iter();
    let known: Vec<&str> = proxies.flat_map(|p| [p.from.as_str(), &p.to]).collect();
    let here = |names: &[String]| -> Vec<String> {
        let own = names.iter().filter(|name| known.contains(&name.as_str()));
        own.cloned().collect()
    };
    let mut part = partition.clone();
    part.shape = match &partition.shape {
        Shape::Between(groups) => {
            let groups = groups.iter().map(|group| here(group));
            let groups: Vec<_> = groups.filter(|group| !group.is_empty()).collect();
            if groups.len() < 2 {
                return None;
            }
            Shape::Between(groups)
        }
        Shape::Isolate(list) => {
            let list = here(list);
            if list.is_empty() {
                return None;
            }
            Shape::Isolate(list)
        }
        // Of these a part would be another whole.
        other => other.clone(),
    };
    part.deaf = here(&part.deaf);
    if part.deaf.is_empty() && !partition.deaf.is_empty() {
        return None;
    }
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_listener_can_be_reached() {
        for (url, listen, at) in [
            ("http://h:8474", "127.0.0.1:7000", "127.0.0.1:7000"),
            ("http://h:8474", "0.0.0.0:7000", "h:7000"),
            ("https://h/fire", "0.0.0.0:7000", "h:7000"),
            ("http://[::1]:8474", "[::]:7000", "[::1]:7000"),
        ] {
            assert_eq!(reachable(url, listen), at);
        }
    }
}
