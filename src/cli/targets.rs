//! The control planes that a command acts on: all at the same time, and who did not is said.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::failure::{Failure, USAGE};
use super::output::Output;
use crate::client::{Client, ClientError, DEFAULT_URL, Roots, Trust};
use crate::tls;

/// Where the token comes from; an argument could be read by other users of the machine.
const TOKEN: &str = "FIREDRILL_TOKEN";
/// Or the file that it stands in, as for `serve`.
const TOKEN_FILE: &str = "FIREDRILL_TOKEN_FILE";

/// Whom a command asks, and as whom.
#[derive(Debug, clap::Args)]
pub(super) struct Whom {
    /// The control port of a running Firedrill; several act on all of them
    #[arg(
        long,
        global = true,
        env = "FIREDRILL_URL",
        value_delimiter = ',',
        default_value = DEFAULT_URL,
        hide_env_values = true,
        display_order = 900
    )]
    pub(super) url: Vec<String>,

    /// The controller whose changes these are; what a silent one set is lifted
    /// where the file says so
    #[arg(
        long,
        global = true,
        env = "FIREDRILL_CONTROLLER",
        value_name = "NAME",
        hide_env_values = true,
        display_order = 901
    )]
    pub(super) controller: Option<String>,

    #[command(flatten)]
    tls: Tls,
}

/// How control ports that speak TLS are met. The words are curl's.
#[derive(Debug, clap::Args)]
struct Tls {
    /// Trust the CAs in this PEM file, for `https` URLs, instead of the system's
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "FIREDRILL_CACERT",
        hide_env_values = true,
        display_order = 902
    )]
    cacert: Option<PathBuf>,

    /// Show this certificate to a control port that asks for one
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "FIREDRILL_CERT",
        hide_env_values = true,
        display_order = 903
    )]
    cert: Option<PathBuf>,

    /// The private key of --cert
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "FIREDRILL_KEY",
        hide_env_values = true,
        display_order = 904
    )]
    key: Option<PathBuf>,

    /// Believe whoever answers an `https` URL
    #[arg(long, global = true, display_order = 905)]
    insecure: bool,
}

impl Tls {
    fn trust(&self) -> Result<Trust, Failure> {
        let roots = match &self.cacert {
            _ if self.insecure => Roots::Anyone,
            None => Roots::System,
            Some(file) => {
                let text = read(file)?;
                let roots = tls::certificates(&text).and_then(tls::trusted);
                Roots::These(roots.map_err(|message| unfit(file, &message))?)
            }
        };
        let own = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                let chain = tls::certificates(&read(cert)?);
                let chain = chain.map_err(|message| unfit(cert, &message))?;
                let own = tls::identity(chain, &read(key)?);
                Some(own.map_err(|message| unfit(key, &message))?)
            }
            _ => {
                let message = "a certificate is shown with its key: --cert and --key";
                return Err(Failure::usage(message, "give both, or neither"));
            }
        };
        Ok(Trust { roots, own })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| unfit(file, &format!("can't be read: {error}")))
}

fn unfit(file: &Path, message: &str) -> Failure {
    let message = format!("{} {message}", file.display());
    Failure::usage(&message, "name a PEM file")
}

/// What the environment says is the token: itself, or the file that it is in.
fn token() -> Result<Option<String>, Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(token) = set(TOKEN) {
        return Ok(token.into_string().ok());
    }
    let Some(file) = set(TOKEN_FILE).map(PathBuf::from) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(&file).map_err(|error| {
        let message = format!("{TOKEN_FILE}: {} can't be read: {error}", file.display());
        Failure::usage(message, "name the file with the token, or leave it out")
    })?;
    Ok(Some(text.trim().to_owned()))
}

#[derive(Debug)]
pub(super) struct Targets(Vec<Client>);

/// What each target answered, in the order of the URLs.
pub(super) type Answers<T> = Vec<(String, Result<T, ClientError>)>;

impl Targets {
    /// Each once, however often it is named.
    pub(super) fn new(whom: &Whom) -> Result<Self, Failure> {
        Self::at(whom, &whom.url)
    }

    /// The same at other URLs.
    pub(super) fn at(whom: &Whom, urls: &[String]) -> Result<Self, Failure> {
        let token = token()?;
        let trust = whom.tls.trust()?;
        let mut clients: Vec<Client> = Vec::with_capacity(urls.len());
        for url in urls.iter().map(|url| url.trim()) {
            if clients.iter().any(|client| client.url() == url) {
                continue;
            }
            let client = Client::trusting(url, token.as_deref(), trust.clone())?;
            clients.push(match &whom.controller {
                Some(name) => client.controlled_by(name)?,
                None => client,
            });
        }
        Ok(Self(clients))
    }

    pub(super) fn clients(&self) -> &[Client] {
        &self.0
    }

    /// Asks all of them at the same time: one that hangs does not keep another from healing.
    pub(super) async fn ask<T, F>(&self, act: impl Fn(Client) -> F) -> Answers<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        let asked = self.0.iter().map(|client| {
            let answer = tokio::spawn(act(client.clone()));
            (client.url().to_owned(), answer)
        });
        let asked: Vec<_> = asked.collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (url, answer) in asked {
            let answer = answer.await.unwrap_or_else(|error| {
                Err(ClientError::Protocol {
                    url: url.clone(),
                    reason: error.to_string(),
                })
            });
            answers.push((url, answer));
        }
        answers
    }
}

/// Prints what was answered: of one target as it is, of several with their URLs.
pub(super) fn print<T: Serialize>(
    out: &Output,
    mut answers: Answers<T>,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    if answers.len() == 1
        && let Some((_, answer)) = answers.pop()
    {
        let value = answer?;
        return if out.json {
            out.object(&value)
        } else {
            out.text(&text(&value))
        };
    }
    if out.json {
        let targets: Vec<_> = answers.iter().map(target).collect();
        out.object(&json!({ "targets": targets }))?;
    }
    let mut failed = false;
    let all_wrong = answers.iter().all(|(_, answer)| match answer {
        Ok(_) => false,
        Err(error) => error.is_usage(),
    });
    let mut apart = "";
    for (url, answer) in answers {
        match answer {
            Ok(value) if !out.json => {
                out.text(&format!("{apart}{url}:\n{}", text(&value)))?;
                apart = "\n";
            }
            Ok(_) => {}
            Err(error) => {
                failed = true;
                say(&url, error);
            }
        }
    }
    match (failed, all_wrong) {
        (false, _) => Ok(()),
        (true, false) => Err(Failure::said()),
        // Then it was not they.
        (true, true) => Err(Failure::Said(USAGE)),
    }
}

/// Says on stderr what went wrong at one of several targets.
pub(super) fn say(url: &str, error: ClientError) {
    if let Failure::Say {
        message,
        hint,
        exit,
    } = error.into()
    {
        let message = if message.contains(url) {
            message
        } else {
            format!("{url}: {message}")
        };
        super::output::failure(&Failure::Say {
            message,
            hint,
            exit,
        });
    }
}

/// What one of several targets answered, as data.
pub(super) fn target<T: Serialize>((url, answer): &(String, Result<T, ClientError>)) -> Value {
    match answer {
        Ok(value) => json!({ "url": url, "result": value }),
        Err(error) => refusal(url, error),
    }
}

/// What went wrong at one of several targets, as data.
pub(super) fn refusal(url: &str, error: &ClientError) -> Value {
    json!({
        "url": url,
        "error": { "message": error.to_string(), "hint": error.hint() },
    })
}

/// Makes something under `name`, or under `name-2`, `name-3`, … if it is only a suggestion.
pub(super) async fn make<T, F>(
    name: &str,
    fixed: bool,
    make: impl Fn(String) -> F,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut n = 1u32;
    loop {
        let tried = if n == 1 {
            name.to_owned()
        } else {
            format!("{name}-{n}")
        };
        match make(tried).await {
            // Ends: the control plane has room for a bounded number of names.
            Err(error) if error.is_exists() && !fixed => n += 1,
            answer => return answer,
        }
    }
}
