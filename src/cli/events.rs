//! `firedrill events`: a line for each change, and who made it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Failure;
use super::output::{Aligned, Output, clean};
use super::status::clock_time;
use super::targets::{self, Targets};
use crate::client::{ClientError, News};
use crate::wire::EventItem;

/// What `events` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  firedrill events
  firedrill events --follow --json | jq .by

GEN is the generation, the number of the change. Times are UTC. The last 1000
changes are kept.")]
pub(super) struct Args {
    /// Then go on with each change as it is made
    #[arg(long, short)]
    follow: bool,

    /// Only those after this generation
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = generation)]
    since: u64,
}

fn generation(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| "expected a generation, a whole number such as `12`".to_owned())
}

/// At most so many of what one change touched are shown on its line.
const TOUCHED: usize = 4;

pub(super) async fn run(args: &Args, targets: &Targets, out: &Output) -> Result<(), Failure> {
    let (sender, mut coming) = mpsc::channel(64);
    for (n, client) in targets.clients().iter().enumerate() {
        let (client, sender, since, follow) =
            (client.clone(), sender.clone(), args.since, args.follow);
        tokio::spawn(async move {
            let reading = async {
                let mut events = client.events(since, follow).await?;
                while let Some(news) = events.next().await? {
                    if sender.send((n, Ok(news))).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            if let Err(error) = reading.await {
                // When nobody listens, nobody cares.
                let _ = sender.send((n, Err(error))).await;
            }
        });
    }
    drop(sender);
    let urls: Vec<_> = targets
        .clients()
        .iter()
        .map(|c| c.url().to_owned())
        .collect();
    let mut printer = Printer::new(&urls, *out);
    let mut failed = false;
    if args.follow {
        while let Some((n, news)) = coming.recv().await {
            failed |= printer.print(n, news)?;
        }
    } else {
        // In the order in which they were made, wherever that was.
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut last = vec![None; urls.len()];
        while let Some((n, news)) = coming.recv().await {
            let at = match &news {
                Ok(News::Change(event)) => Some(event.at),
                _ => last[n],
            };
            last[n] = at;
            all.entry(at).or_default().push((n, news));
        }
        for (n, news) in all.into_values().flatten() {
            failed |= printer.print(n, news)?;
        }
    }
    if failed { Err(Failure::said()) } else { Ok(()) }
}

struct Printer<'a> {
    urls: &'a [String],
    out: Output,
    aligned: Aligned,
    begun: bool,
}

impl<'a> Printer<'a> {
    fn new(urls: &'a [String], out: Output) -> Self {
        let mut aligned = Aligned::default();
        // Room for what most lines have.
        aligned.fit(&["00:00:00.000", "0000", "api 127.0.0.1:00000"].map(str::to_owned));
        Self {
            urls,
            out,
            aligned,
            begun: false,
        }
    }

    fn single(&self) -> bool {
        self.urls.len() == 1
    }

    /// Answers whether it was a failure, which is said.
    fn print(&mut self, n: usize, news: Result<News, ClientError>) -> Result<bool, Failure> {
        let url = &self.urls[n];
        let news = match news {
            Ok(news) => news,
            Err(error) if self.single() => return Err(error.into()),
            Err(error) => {
                targets::say(url, error);
                return Ok(true);
            }
        };
        if self.out.json {
            let mut value = match &news {
                News::Change(event) => serde_json::to_value(event).unwrap_or_default(),
                News::Lost(missed) => json!({ "lost": missed }),
            };
            if let (Value::Object(keys), false) = (&mut value, self.single()) {
                keys.insert("url".to_owned(), url.as_str().into());
            }
            self.out.lines(&[value])?;
            return Ok(false);
        }
        if !self.begun {
            self.begun = true;
            let header = ["TIME", "GEN", "BY", "WHAT"].map(str::to_owned);
            self.line(header.to_vec(), "AT")?;
        }
        let cells = match news {
            News::Change(event) => cells(&event).to_vec(),
            News::Lost(missed) => {
                let what = format!("{missed} changes before are no longer kept");
                ["-".to_owned(), "-".to_owned(), "-".to_owned(), what].to_vec()
            }
        };
        self.line(cells, url)?;
        Ok(false)
    }

    /// With where it was, if that is not always the same.
    fn line(&mut self, mut cells: Vec<String>, url: &str) -> Result<(), Failure> {
        if !self.single() {
            cells.insert(3, url.to_owned());
        }
        let line = self.aligned.line(&cells);
        self.out.text(&line)
    }
}

/// Time, generation, who, what.
pub(super) fn cells(event: &EventItem) -> [String; 4] {
    let touched = event.changes.iter().take(TOUCHED);
    let touched: Vec<_> = touched
        .map(|t| format!("{} {} {}", t.sort, t.name, t.what))
        .collect();
    let mut what = touched.join(", ");
    match event.changes.len() {
        0 => what = "nothing to change".to_owned(),
        n if n > TOUCHED => what += &format!(", and {} more", n - TOUCHED),
        _ => {}
    }
    [
        clock_time(event.at, 12),
        event.generation.to_string(),
        event.by.clone(),
        what,
    ]
    .map(|cell| clean(&cell))
}
