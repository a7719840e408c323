//! `firedrill status --watch`: how things stand, and what has happened since the line before.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::events;
use super::failure::Failure;
use super::output::{Aligned, Output, Screen, short, table};
use super::status::{FAULT_WIDTH, cut, fault, heading, stands};
use super::targets::{self, Answers, Targets};
use crate::client::{Client, ClientError, News};
use crate::clock::{self, Instant};
use crate::wire::{ProxyItem, Standing, Status};

/// So many of the last changes are shown.
const EVENTS: usize = 5;
/// So that a line fits 80 columns.
const NAME_WIDTH: usize = 24;
const BETWEEN_WIDTH: usize = 28;

/// What is known of an instance from the times before.
#[derive(Debug, Default)]
struct Known {
    last: Option<(Instant, Status)>,
    events: VecDeque<String>,
    since: Option<u64>,
}

/// What an instance says at one time: how it stands, and the changes since the last.
type Said = (Status, Vec<News>);

pub(super) async fn run(every: Duration, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let mut ended = Ended::new().map_err(Failure::of_the_system)?;
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut screen = None;
    loop {
        let asking = targets.ask(|client| {
            let since = known.get(client.url()).and_then(|known| known.since);
            ask(client, since)
        });
        let answers = tokio::select! {
            answers = asking => answers,
            () = ended.wait() => return Ok(()),
        };
        let first = known.is_empty();
        let none = answers.iter().all(|(_, answer)| answer.is_err());
        if first && !out.json {
            // Not before it is known that there is something to be seen.
            screen = match none {
                true => None,
                false => Screen::open()?,
            };
        }
        match &screen {
            Some(screen) => screen.show(&view(&answers, &mut known))?,
            None => plain(answers, &mut known, targets, out)?,
        }
        tokio::select! {
            () = clock::sleep(every) => {}
            () = ended.wait() => return Ok(()),
        }
    }
}

async fn ask(client: Client, since: Option<u64>) -> Result<Said, ClientError> {
    let status = client.status().await?;
    let since = since.unwrap_or(status.generation.saturating_sub(EVENTS as u64));
    // A process that was started anew counts anew.
    let since = since.min(status.generation);
    let events = client.events(since, false).await?.collect().await?;
    Ok((status, events))
}

/// Where nothing can be drawn: all of it, again and again, until nobody answers.
fn plain(
    answers: Answers<Said>,
    known: &mut BTreeMap<String, Known>,
    targets: &Targets,
    out: &Output,
) -> Result<(), Failure> {
    let none = answers.iter().all(|(_, answer)| answer.is_err());
    if out.json {
        let answers = answers.iter().map(|(url, answer)| match answer {
            Ok((status, _)) => (json!(status), json!({ "url": url, "result": status })),
            Err(error) => (json!(null), targets::refusal(url, error)),
        });
        let (mut one, all): (Vec<_>, Vec<_>) = answers.unzip();
        match (targets.clients().len(), none) {
            (1, true) => {}
            (1, false) => out.lines(&[one.pop()])?,
            _ => out.lines(&[json!({ "targets": all })])?,
        }
    } else if !none {
        out.text(&format!("{}\n\n", view(&answers, known).trim_end()))?;
    }
    // So that the next time is not the first.
    for (url, _) in &answers {
        known.entry(url.clone()).or_default();
    }
    let single = answers.len() == 1;
    for (url, answer) in answers {
        match answer {
            Err(error) if single => return Err(error.into()),
            Err(error) => targets::say(&url, error),
            Ok(_) => {}
        }
    }
    if none { Err(Failure::said()) } else { Ok(()) }
}

fn view(answers: &Answers<Said>, known: &mut BTreeMap<String, Known>) -> String {
    let single = answers.len() == 1;
    let mut all = Vec::new();
    for (url, answer) in answers {
        let known = known.entry(url.clone()).or_default();
        let text = match answer {
            Ok((status, news)) => known.view(status, news),
            // It may come back.
            Err(error) => format!("{error}\n{}", error.hint()),
        };
        all.push(match single {
            true => text,
            false => format!("{url}\n{text}"),
        });
    }
    all.join("\n\n")
}

impl Known {
    fn view(&mut self, status: &Status, news: &[News]) -> String {
        let now = clock::now();
        let before = self.last.take();
        self.note(news);
        self.since = Some(status.generation);
        let before = before
            .as_ref()
            // One that was started anew has nothing to be compared with.
            .filter(|(_, before)| before.started == status.started)
            .map(|(at, before)| (now.saturating_duration_since(*at), before));
        let mut sections = vec![heading(status), proxies(status, before)];
        if !status.rules.is_empty() {
            sections.push(rules(status, before.map(|(_, before)| before)));
        }
        if !status.partitions.is_empty() {
            sections.push(partitions(status, before.map(|(_, before)| before)));
        }
        if !self.events.is_empty() {
            sections.push(Vec::from(self.events.clone()).join("\n"));
        }
        self.last = Some((now, status.clone()));
        sections.join("\n\n")
    }

    fn note(&mut self, news: &[News]) {
        for news in news {
            if let News::Change(event) = news {
                let mut line = Aligned::default().line(&events::cells(event));
                line.truncate(line.trim_end().len());
                self.events.push_back(short(&line, 79));
            }
        }
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }
}

fn done(proxy: &ProxyItem) -> u64 {
    proxy.operations.values().sum()
}

fn proxies(status: &Status, before: Option<(Duration, &Status)>) -> String {
    if status.proxies.is_empty() {
        return "no proxies".to_owned();
    }
    let rows = status.proxies.iter().map(|p| {
        let rate = before.and_then(|(time, before)| {
            let before = before.proxies.iter().find(|b| b.name == p.name)?;
            let more = done(p).saturating_sub(done(before));
            Some(more as f64 / time.as_secs_f64().max(0.001))
        });
        [
            short(&p.name, NAME_WIDTH),
            short(&format!("{} -> {}", p.from, p.to), BETWEEN_WIDTH),
            rate.map_or("-".to_owned(), |rate| format!("{rate:.1}")),
            match p.enabled {
                true => p.connections_open.to_string(),
                false => "disabled".to_owned(),
            },
            done(p).to_string(),
        ]
    });
    table(["PROXY", "EDGE", "OP/S", "OPEN", "DONE"], &[2, 3, 4], rows)
}

/// `+3 of 4`: injected and selected since the time before.
fn since(now: &Standing, before: Option<&Standing>) -> String {
    let Some(before) = before else {
        return "-".to_owned();
    };
    let injected = now.injected.saturating_sub(before.injected);
    let selected = now.selected.saturating_sub(before.selected);
    match (injected, selected) {
        (0, 0) => "-".to_owned(),
        _ => format!("+{injected} of {selected}"),
    }
}

fn rules(status: &Status, before: Option<&Status>) -> String {
    let rows = status.rules.iter().map(|r| {
        let before = before.and_then(|b| b.rules.iter().find(|b| b.name == r.name));
        [
            short(&r.name, NAME_WIDTH),
            short(&fault(&r.fault), FAULT_WIDTH),
            stands(r.enabled, &r.standing),
            format!("{} of {}", r.standing.injected, r.standing.selected),
            since(&r.standing, before.map(|before| &before.standing)),
        ]
    });
    table(["RULE", "FAULT", "STATE", "INJECTED", "NEW"], &[3, 4], rows)
}

fn partitions(status: &Status, before: Option<&Status>) -> String {
    let rows = status.partitions.iter().map(|p| {
        let before = before.and_then(|b| b.partitions.iter().find(|b| b.name == p.name));
        [
            short(&p.name, NAME_WIDTH),
            short(&cut(p), BETWEEN_WIDTH),
            stands(p.enabled, &p.standing),
            p.standing.injected.to_string(),
            since(&p.standing, before.map(|before| &before.standing)),
        ]
    });
    table(
        ["PARTITION", "BETWEEN", "STATE", "CUT", "NEW"],
        &[3, 4],
        rows,
    )
}

/// What ends a watch: then the terminal is put in order before the process is gone.
struct Ended([tokio::signal::unix::Signal; 3]);

impl Ended {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn status(done: u64, injected: u64, cut: u64) -> Status {
        let item = |mut value: Value| {
            let standing = json!({
                "enabled": true, "ttl": null, "source": "api", "active": true, "generation": 1,
                "expires_at": null, "selected": injected + 1, "injected": injected,
            });
            for (key, standing) in standing.as_object().unwrap() {
                let keys = value.as_object_mut().unwrap();
                keys.entry(key).or_insert_with(|| standing.clone());
            }
            value
        };
        let status = json!({
            "version": "1.2.3", "seed": 42, "generation": 7, "started": clock::Timestamp::now(),
            "proxies": [{
                "name": "payment", "from": "checkout", "to": "payment", "enabled": true,
                "listen": "127.0.0.1:7001", "upstream": "127.0.0.1:8001", "protocol": "http",
                "connect_timeout": "5s", "max_connections": 10000, "source": "file",
                "connections_total": 12, "connections_open": 3,
                "operations": { "acknowledged": done, "unseen": 34 },
            }],
            "rules": [item(json!({
                "name": "a-rule-whose-name-is-longer-than-any-column", "proxies": null,
                "match": {}, "probability": 1.0, "skip": 0, "dry_run": false,
                "fault": { "abort": { "status": 503, "headers": { "retry-after": "1" } } },
            }))],
            "partitions": [item(json!({
                "name": "split", "between": [["checkout"], ["payment", "orders", "mail"]],
                "mode": "blackhole", "selected": cut, "injected": cut,
            }))],
            "evidence": { "records": 12, "capacity": 100, "dropped": 0 },
        });
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn what_is_new_stands_beside_what_is_known_within_80_columns() {
        let mut known = Known::default();
        let first = known.view(&status(10, 4, 0), &[]);
        assert!(!first.contains('+'), "{first}");
        let mut later = status(20, 7, 2);
        later.started = known.last.as_ref().unwrap().1.started;
        let text = known.view(&later, &[]);
        assert!(text.contains("+3 of 3"), "{text}");
        assert!(text.contains("+2 of 2"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let anew = known.view(&status(1, 0, 0), &[]);
        assert!(!anew.contains('+'), "it was started anew: {anew}");
    }
}
