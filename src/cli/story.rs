//! `firedrill evidence --id`: one operation as its caller was told of it, and as everyone else saw it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::Failure;
use super::output::{Output, clean};
use super::status::clock_time;
use super::targets::{self, Targets};
use crate::client::ClientError;
use crate::evidence::story::{self, Story, Teller};
use crate::evidence::{Filter, Record};

/// How often what was found is asked for by further names: along a chain of edges each may call the
/// operation something else.
const ROUNDS: usize = 4;

pub(super) async fn tell(id: String, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let (records, failed) = all(&id, targets).await?;
    match Story::of(&id, &records) {
        Some(story) if out.json => out.object(&story)?,
        Some(story) => out.text(&print(&story))?,
        None => out.note(&format!(
            "no record of {id}: is the id right, and the record still kept?"
        )),
    }
    if failed { Err(Failure::said()) } else { Ok(()) }
}

/// All records that belong to it, of every target; whether one did not answer.
async fn all(id: &str, targets: &Targets) -> Result<(Vec<Record>, bool), Failure> {
    let (mut records, mut failed) = (Vec::<Record>::new(), false);
    let mut asked = BTreeSet::new();
    let mut next = BTreeSet::from([id.to_owned()]);
    for _ in 0..ROUNDS {
        for name in std::mem::take(&mut next) {
            let filter = Filter {
                id: Some(name.clone()),
                ..Filter::default()
            };
            asked.insert(name);
            let answers = targets.ask(|client| {
                let filter = filter.clone();
                async move { client.evidence(&filter).await?.collect().await }
            });
            for (url, answer) in answers.await {
                match answer {
                    Ok(some) => records.extend(some),
                    Err(error) => said(&mut failed, &url, error, targets)?,
                }
            }
        }
        records.sort_by_key(|record| (record.started, record.id));
        records.dedup_by_key(|record| record.id);
        next = &story::names(&records) - &asked;
        if next.is_empty() {
            break;
        }
    }
    Ok((records, failed))
}

/// One of several that does not answer is named, once; the only one is the failure.
fn said(
    failed: &mut bool,
    url: &str,
    error: ClientError,
    targets: &Targets,
) -> Result<(), Failure> {
    if targets.clients().len() == 1 {
        return Err(error.into());
    }
    if !std::mem::replace(failed, true) {
        targets::say(url, error);
    }
    Ok(())
}

fn print(story: &Story) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        // A text takes every line.
        let _ = writeln!(text, "{}", clean(line));
    };
    let mut teller = |title: &str, teller: &Teller| {
        line(title);
        for fact in &teller.facts {
            line(&format!("  {}  {}", clock_time(fact.at, 12), fact.what));
        }
        line("");
    };
    teller(
        &format!(
            "The story of {}, as {} was told it",
            story.id, story.customer.name
        ),
        &story.customer,
    );
    for participant in &story.participants {
        teller(&format!("What {} saw", participant.name), participant);
    }
    if !story.faults.is_empty() {
        line("What was injected");
        for fault in &story.faults {
            line(&format!("  {}  {}", clock_time(fault.at, 12), fault.what));
        }
        line("");
    }
    line("What is unknown");
    for unknown in &story.unknown {
        let to = unknown.to.as_deref();
        let to = to.map_or("to all".to_owned(), |to| format!("to {to}"));
        line(&format!("  {to}: {}", unknown.what));
    }
    if story.unknown.is_empty() {
        line("  nothing: each was told what the next one had answered");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_stories_side_by_side() {
        let lost = r#"{"id":"65f0c0de-7","proxy":"payment","from":"web","to":"payment","protocol":"http","started":"2026-01-02T03:04:05.678901Z","identity":{"by":"idempotency_key","value":"pay-4711","strength":"strong"},"attempt":1,"request":{"method":"POST","path":"/authorize/4711","bytes":120},"upstream":[{"sent_at":"2026-01-02T03:04:05.680Z","answered_at":"2026-01-02T03:04:05.690Z","status":201,"bytes":10,"error":null}],"client":{"outcome":"left","status":null,"at":"2026-01-02T03:04:06.679Z","bytes":0},"faults":[{"rule":"lost","kind":"response_loss","phase":"response","injected":true}],"class":"unseen","cause":{"rule":"lost"},"deliveries":1}"#;
        let record: Record = serde_json::from_str(lost).unwrap();
        let story = Story::of("pay-4711", &[record]).unwrap();
        insta::assert_snapshot!(print(&story), @r"
        The story of pay-4711, as web was told it
          03:04:05.678  asked payment: POST /authorize/4711
          03:04:06.679  gave up after 1s, told nothing

        What payment saw
          03:04:05.680  was sent POST /authorize/4711 by web
          03:04:05.690  answered 201

        What was injected
          03:04:05.678  web > payment, POST /authorize/4711: response_loss (rule lost)

        What is unknown
          to web: whether payment did POST /authorize/4711: it answered 201, and web did not get that
        ");
    }
}
