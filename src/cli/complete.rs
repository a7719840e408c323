//! How a line could go on: words that follow from the code, and names that a running instance knows.
//!
//! A shell asks by running `firedrill` with [`ASKED`] set and the line behind `--`. Nobody wants to
//! wait for it or to read of errors in the middle of a line: an instance that does not answer at
//! once is as one that knows nothing.

mod shells;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::Duration;

use clap::{Command, CommandFactory, Parser};
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;

use super::Cli;
use super::targets::{Targets, Whom};
use crate::client::{Client, ClientError};
use crate::clock;
use crate::faults::{self, KINDS, Kind, Type};

pub(super) use shells::SHELLS;

/// The variable that says which shell asks.
pub(super) const ASKED: &str = "FIREDRILL_COMPLETE";
/// How long an instance may take.
const PATIENCE: Duration = Duration::from_millis(150);

/// Answers a shell, if one asks.
pub(super) fn answer() -> bool {
    let asking = CompleteEnv::with_factory(command).var(ASKED).shells(SHELLS);
    let dir = std::env::current_dir().ok();
    // What can't be completed is not: the user reads of it when the line is run.
    asking
        .try_complete(std::env::args_os(), dir.as_deref())
        .unwrap_or(true)
}

/// The command line, whose options are offered where one is begun, or nothing else is left.
fn command() -> Command {
    let line = Line::asked();
    let command = Cli::command();
    if line.current.starts_with('-') {
        return command;
    }
    without_options(command)
}

fn without_options(command: Command) -> Command {
    let hidden = command.disable_help_flag(true).disable_version_flag(true);
    let hidden = hidden.mut_args(|arg| {
        let positional = arg.is_positional();
        arg.hide(!positional)
    });
    hidden.mut_subcommands(without_options)
}

/// Options that say whom to ask, each with a value.
const WHOM: &[&str] = &["--url", "--cacert", "--cert", "--key"];

/// What a line says of that.
#[derive(Debug, Parser)]
struct Asked {
    #[command(flatten)]
    whom: Whom,
}

/// The line that is to be completed.
#[derive(Debug, Default)]
struct Line {
    /// The words before the current one, the program first.
    before: Vec<String>,
    current: String,
}

impl Line {
    fn asked() -> Self {
        let mut words = match std::env::var(shells::LINE) {
            // Up to where the user is.
            Ok(line) => shells::words(&line),
            Err(_) => {
                let args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
                let mut words: Vec<_> = args.skip_while(|arg| arg != "--").skip(1).collect();
                let index = std::env::var("_CLAP_COMPLETE_INDEX").ok();
                if let Some(index) = index.and_then(|index| index.parse::<usize>().ok()) {
                    words.resize(index.min(words.len()) + 1, String::new());
                }
                words
            }
        };
        Self {
            current: words.pop().unwrap_or_default(),
            before: words,
        }
    }

    /// The words behind the command `name`.
    fn after(&self, name: &str) -> Option<Vec<&str>> {
        let at = self.before.iter().position(|word| word == name)?;
        let words = self.before.iter().skip(at + 1);
        Some(words.map(String::as_str).collect())
    }

    /// What would be asked, were it run.
    fn targets(&self) -> Option<Targets> {
        let mut said = vec!["firedrill"];
        let mut words = self.before.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some((name, _)) if WHOM.contains(&name) => said.push(word),
                None if WHOM.contains(&word) => said.extend([word].into_iter().chain(words.next())),
                None if word == "--insecure" => said.push(word),
                _ => {}
            }
        }
        let asked = Asked::try_parse_from(said).ok()?;
        Targets::new(&asked.whom).ok()
    }
}

/// What an instance is asked; nothing where it does not answer at once.
fn asked<F>(ask: impl Fn(Client) -> F) -> BTreeSet<String>
where
    F: Future<Output = Result<Vec<String>, ClientError>> + Send + 'static,
{
    let Some(targets) = Line::asked().targets() else {
        return BTreeSet::new();
    };
    let Ok(runtime) = super::runtime() else {
        return BTreeSet::new();
    };
    let asking = targets.ask(move |client| {
        let answer = ask(client);
        async move { Ok(clock::within(PATIENCE, answer).await) }
    });
    let answers = runtime.block_on(asking);
    // Not even a lookup of a name that hangs is waited for.
    runtime.shutdown_background();
    let answers = answers
        .into_iter()
        .filter_map(|(_, answer)| answer.ok()??.ok());
    answers.flatten().collect()
}

/// Those of `words` that begin with what is there.
fn beginning<'a>(
    words: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    current: &str,
) -> Vec<CompletionCandidate> {
    let fits = words
        .into_iter()
        .filter(|(word, _)| word.starts_with(current));
    let candidate = |(word, help): (&str, Option<&str>)| {
        CompletionCandidate::new(word).help(help.map(|help| help.to_owned().into()))
    };
    fits.map(candidate).collect()
}

fn names(names: &BTreeSet<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    beginning(names.iter().map(|name| (&**name, None)), &current)
}

/// The proxies that there are.
pub(super) fn proxies(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = asked(async |client| {
        let all = client.proxies().await?.items.into_iter();
        Ok(all.map(|proxy| proxy.name).collect())
    });
    names(&all, current)
}

/// The rules or partitions that there are: of `evidence` both, else those of the command.
pub(super) fn definitions(current: &OsStr) -> Vec<CompletionCandidate> {
    let line = Line::asked();
    let is = |name: &str| line.before.iter().any(|word| word == name);
    let (rules, partitions) = (!is("partition"), !is("rule"));
    let all = asked(move |client| async move {
        let mut all = Vec::new();
        if rules {
            let items = client.rules().await?.items;
            all.extend(items.into_iter().map(|rule| rule.name));
        }
        if partitions {
            let items = client.partitions().await?.items;
            all.extend(items.into_iter().map(|partition| partition.name));
        }
        Ok(all)
    });
    names(&all, current)
}

/// The services that the proxies connect, as a list separated by commas; each once on a line.
pub(super) fn services(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let (listed, last) = match current.rsplit_once(',') {
        Some((listed, last)) => (format!("{listed},"), last),
        None => (String::new(), &*current),
    };
    let all = asked(async |client| {
        let all = client.proxies().await?.items.into_iter();
        Ok(all.flat_map(|proxy| [proxy.from, proxy.to]).collect())
    });
    let line = Line::asked();
    let said = line.before.iter().map(String::as_str).chain([&*listed]);
    let said: BTreeSet<_> = said.flat_map(|word| word.split(',')).collect();
    let rest = all.iter().filter(|name| !said.contains(&***name));
    let words: Vec<_> = rest.map(|name| format!("{listed}{name}")).collect();
    let last = format!("{listed}{last}");
    beginning(words.iter().map(|word| (&**word, None)), &last)
}

/// The kinds of fault.
pub(super) fn kinds(current: &OsStr) -> Vec<CompletionCandidate> {
    let kinds = KINDS.iter().map(|kind| (kind.name, Some(kind.summary)));
    beginning(kinds, &current.to_string_lossy())
}

/// The commands, of which there are manual pages.
pub(super) fn commands(current: &OsStr) -> Vec<CompletionCandidate> {
    let command = Cli::command();
    let all = command.get_subcommands().map(Command::get_name);
    let all: BTreeSet<_> = all.map(str::to_owned).collect();
    names(&all, current)
}

/// The parameters of the kind that the line names, and words that may be their values.
pub(super) fn params(current: &OsStr) -> Vec<CompletionCandidate> {
    let line = Line::asked();
    let words = line.after("inject").unwrap_or_default();
    let Some(kind) = words.iter().find_map(|word| faults::find(word)) else {
        return Vec::new();
    };
    params_of(kind, &words, &current.to_string_lossy())
}

fn params_of(kind: &Kind, said: &[&str], current: &str) -> Vec<CompletionCandidate> {
    if let Some((name, _)) = current.split_once('=') {
        let values: &[&str] = match kind.param(name).map(|param| param.ty) {
            Some(
                Type::Choice(words) | Type::ChoiceOrStatus(words) | Type::ChoiceOrDuration(words),
            ) => words,
            _ => &[],
        };
        let words: Vec<_> = values.iter().map(|word| format!("{name}={word}")).collect();
        return beginning(words.iter().map(|word| (&**word, None)), current);
    }
    let is_said = |name: &str| {
        let given = said.iter().filter_map(|word| word.split_once('='));
        given.into_iter().any(|(key, _)| key == name)
    };
    let rest = kind.params.iter().filter(|param| !is_said(param.name));
    let words: Vec<_> = rest
        .map(|param| {
            let after = if param.ty == Type::Map { "." } else { "=" };
            (format!("{}{after}", param.name), param.help)
        })
        .collect();
    let words = words.iter().map(|(word, help)| (&**word, Some(*help)));
    beginning(words, current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_kind_and_each_once() {
        let delay = faults::find("delay").unwrap();
        let words = |said: &[&str], current| -> Vec<String> {
            let all = params_of(delay, said, current).into_iter();
            all.map(|c| c.get_value().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(words(&[], "lat"), ["latency="]);
        assert!(
            words(&["latency=1s"], "")
                .iter()
                .all(|word| word != "latency=")
        );
        assert!(words(&[], "distribution=").contains(&"distribution=normal".to_owned()));
        assert_eq!(words(&[], "distribution=u"), ["distribution=uniform"]);
        assert_eq!(words(&[], "latency=1"), [""; 0]);
    }

    #[test]
    fn the_line_says_whom_to_ask() {
        let urls = |line: &str| {
            let line = Line {
                before: line.split(' ').map(str::to_owned).collect(),
                current: String::new(),
            };
            let targets = line.targets().unwrap();
            let clients = targets.clients().iter();
            clients.map(|c| c.url().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            urls("firedrill --url http://a:1,http://b:1 rule off --url=c:1"),
            ["http://a:1", "http://b:1", "c:1"]
        );
    }
}
