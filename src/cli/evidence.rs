//! `firedrill evidence`: a line for each operation, what each side saw.

use clap::builder::PossibleValuesParser;
use clap_complete::engine::ArgValueCompleter;
use tokio::sync::mpsc;

use super::Failure;
use super::complete;
use super::moment;
use super::output::{Aligned, Output, clean, short};
use super::status::clock_time;
use super::story;
use super::targets::{self, Targets};
use crate::client::ClientError;
use crate::clock::Timestamp;
use crate::evidence::{Class, Client, Filter, Outcome, Record, RecordId};
use crate::rules::Statuses;

/// What `evidence` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  firedrill evidence --class unseen    (answered, and the client never knew)
  firedrill evidence --id pay-4711     (one operation: what its caller was told, what each other saw)
  firedrill evidence --since 5m --status 5xx
  firedrill evidence --follow --json | jq 'select(.deliveries > 1)'

TOLD is what the client was told. Times are UTC.")]
pub(super) struct Args {
    /// Only of this operation: its identity, its trace, or a record's own id. Alone, it is told as
    /// two stories, from all records that belong to it
    #[arg(long)]
    id: Option<String>,

    /// Only of this class
    #[arg(long, value_parser = PossibleValuesParser::new(Class::ALL.map(Class::as_str)))]
    class: Option<String>,

    /// Only of this proxy
    #[arg(long, add = ArgValueCompleter::new(complete::proxies))]
    proxy: Option<String>,

    /// Only of this calling service
    #[arg(long, add = ArgValueCompleter::new(complete::services))]
    from: Option<String>,

    /// Only of this called service
    #[arg(long, add = ArgValueCompleter::new(complete::services))]
    to: Option<String>,

    /// Only where the upstream or Firedrill answered so: 503, 5xx or 500-599
    #[arg(long, value_parser = statuses)]
    status: Option<Statuses>,

    /// Only those that began since: how long ago (5m), or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    since: Option<Timestamp>,

    /// Only those that began before: how long ago, or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    until: Option<Timestamp>,

    /// Only those that this rule or partition chose
    #[arg(long, add = ArgValueCompleter::new(complete::definitions))]
    rule: Option<String>,

    /// Only those that began before the record of this id: the page before
    #[arg(long, value_name = "ID", conflicts_with = "follow")]
    before: Option<RecordId>,

    /// Only the last N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Then go on with each operation as it finishes
    #[arg(long, short)]
    follow: bool,
}

fn statuses(text: &str) -> Result<Statuses, String> {
    let read = Statuses::parse(text);
    read.map_err(|hint| hint.unwrap_or_else(|| "expected 503, 5xx or 500-599".to_owned()))
}

/// What comes from one of several targets that are followed.
enum News {
    Record(Box<Record>),
    Failed(String, ClientError),
}

pub(super) async fn run(args: Args, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let filter = Filter {
        id: args.id,
        class: args.class.as_deref().and_then(Class::find),
        proxy: args.proxy,
        from: args.from,
        to: args.to,
        rule: args.rule,
        status: args.status,
        since: args.since,
        until: args.until,
        before: args.before,
        limit: args.limit,
        hashed: None,
    };
    let alone = Filter {
        id: filter.id.clone(),
        ..Filter::default()
    };
    if args.follow {
        follow(filter, targets, out).await
    } else if let Some(id) = filter.id.clone().filter(|_| filter == alone) {
        story::tell(id, targets, out).await
    } else {
        list(filter, targets, out).await
    }
}

async fn list(filter: Filter, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let answers = targets.ask(|client| {
        let filter = filter.clone();
        async move { client.evidence(&filter).await?.collect().await }
    });
    let mut answers = answers.await;
    if answers.len() == 1
        && let Some((_, answer)) = answers.pop()
    {
        return print(&answer?, out);
    }
    let mut records = Vec::new();
    let mut failed = false;
    for (url, answer) in answers {
        match answer {
            Ok(some) => records.extend(some),
            Err(error) => {
                failed = true;
                targets::say(&url, error);
            }
        }
    }
    records.sort_by_key(|record| record.started);
    print(&records, out)?;
    if failed { Err(Failure::said()) } else { Ok(()) }
}

fn print(records: &[Record], out: &Output) -> Result<(), Failure> {
    if out.json {
        return out.lines(records);
    }
    if records.is_empty() {
        out.note("no records");
        return Ok(());
    }
    let rows: Vec<_> = records.iter().map(cells).collect();
    let mut aligned = Aligned::default();
    for row in &rows {
        aligned.fit(row);
    }
    let header = header();
    aligned.fit(&header);
    let all = std::iter::once(&header).chain(&rows);
    let text: String = all.map(|row| aligned.line(row)).collect();
    out.text(&text)
}

async fn follow(filter: Filter, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let (sender, mut news) = mpsc::channel(64);
    for client in targets.clients() {
        let (client, filter, sender) = (client.clone(), filter.clone(), sender.clone());
        tokio::spawn(async move {
            let following = async {
                let mut records = client.follow(&filter).await?;
                while let Some(record) = records.next().await? {
                    if sender.send(News::Record(Box::new(record))).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            if let Err(error) = following.await {
                let failed = News::Failed(client.url().to_owned(), error);
                // When nobody listens, nobody cares.
                let _ = sender.send(failed).await;
            }
        });
    }
    drop(sender);
    let single = targets.clients().len() == 1;
    let mut failed = false;
    let mut aligned = Aligned::default();
    if !out.json {
        out.text(&aligned.line(&header()))?;
    }
    while let Some(news) = news.recv().await {
        match news {
            News::Record(record) if out.json => out.lines(&[record])?,
            News::Record(record) => out.text(&aligned.line(&cells(&record)))?,
            News::Failed(_, error) if single => return Err(error.into()),
            News::Failed(url, error) => {
                failed = true;
                targets::say(&url, error);
            }
        }
    }
    if failed { Err(Failure::said()) } else { Ok(()) }
}

fn header() -> [String; 10] {
    [
        "TIME", "ID", "PROXY", "REQUEST", "IDENTITY", "TRY", "CLASS", "CAUSE", "SENT", "TOLD",
    ]
    .map(str::to_owned)
}

fn cells(record: &Record) -> [String; 10] {
    let request = match (&record.request.method, &record.request.path) {
        (Some(method), Some(path)) => format!("{method} {path}"),
        _ => "(connection)".to_owned(),
    };
    let identity = record.identity.as_ref();
    let identity = identity.map_or("-".to_owned(), |i| i.value.clone());
    [
        clock_time(record.started, 12),
        record.id.to_string(),
        record.proxy.to_string(),
        short(&request, 40),
        short(&identity, 24),
        format!("#{}", record.attempt),
        record.class.to_string(),
        record.cause.to_string(),
        format!("{}x", record.deliveries),
        told(&record.client),
    ]
    .map(|cell| clean(&cell))
}

/// In the words of the client: a status, or why there was none.
fn told(client: &Client) -> String {
    let word = match client.outcome {
        Outcome::Waiting => "waiting",
        Outcome::Answered => "answered",
        Outcome::Partial => "partial",
        Outcome::Substituted => "substituted",
        Outcome::Closed => "closed",
        Outcome::Reset => "reset",
        Outcome::Left => "left",
    };
    match client.status {
        Some(status) => format!("{word} {status}"),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_an_operation() {
        let lost = r#"{"id":"65f0c0de-7","proxy":"payment","from":"web","to":"payment","protocol":"http","started":"2026-01-02T03:04:05.678901Z","identity":{"by":"idempotency_key","value":"pay-4711","strength":"strong"},"attempt":2,"request":{"method":"POST","path":"/authorize/4711","bytes":120},"upstream":[],"client":{"outcome":"closed","status":null,"at":null,"bytes":0},"faults":[],"class":"unseen","cause":{"rule":"lost"},"deliveries":2}"#;
        let record: Record = serde_json::from_str(lost).unwrap();
        let mut plain = record.clone();
        plain.identity = None;
        plain.request.method = None;
        plain.class = Class::Acknowledged;
        plain.cause = crate::evidence::Cause::None;
        plain.client.outcome = Outcome::Answered;
        plain.client.status = Some(200);
        let rows = [header(), cells(&record), cells(&plain)];
        let mut aligned = Aligned::default();
        for row in &rows {
            aligned.fit(row);
        }
        let text: String = rows.iter().map(|row| aligned.line(row)).collect();
        insta::assert_snapshot!(text, @r#"
        TIME          ID          PROXY    REQUEST               IDENTITY  TRY  CLASS         CAUSE      SENT  TOLD
        03:04:05.678  65f0c0de-7  payment  POST /authorize/4711  pay-4711  #2   unseen        rule lost  2x    closed
        03:04:05.678  65f0c0de-7  payment  (connection)          -         #2   acknowledged  none       2x    answered 200
        "#);
    }
}
