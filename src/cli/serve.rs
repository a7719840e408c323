//! `firedrill serve`.

use std::path::PathBuf;

use super::Failure;
use super::logs::Format;
use crate::config::Given;
use crate::serve::{self, Files};

/// What `serve` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A proxy is NAME=LISTEN->UPSTREAM, with what else a file would say of it behind
a question mark; in a shell it stands between quotes:

  firedrill serve --proxy 'payment=0.0.0.0:7001->payment:8080?protocol=http'

Other keys, such as from, to and connect_timeout, follow: ?from=shop&to=bank
FIREDRILL_PROXY holds several with blanks between them. What the command line
says beats the environment, and both beat the file; its proxies are added to
the file's. With --proxy alone no file is read.

SIGTERM stops it, SIGHUP reads the file again, SIGUSR1 heals.")]
pub(super) struct Args {
    /// The file; a bad one starts nothing [default: firedrill.yaml]
    #[arg(
        short,
        long,
        value_name = "FILE",
        required = false,
        env = "FIREDRILL_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,

    /// A proxy; alone, or besides those of the file
    #[arg(
        short,
        long = "proxy",
        value_name = "PROXY",
        env = "FIREDRILL_PROXY",
        hide_env_values = true
    )]
    proxies: Vec<String>,

    /// Proxies as Toxiproxy's `-config` file has them; alone, or besides `-c`
    #[arg(long, value_name = "FILE")]
    toxiproxy: Option<PathBuf>,

    /// Where the control port listens; beyond loopback a token is needed
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "FIREDRILL_CONTROL",
        hide_env_values = true
    )]
    control: Option<String>,

    /// A file with the control port's token
    #[arg(
        long,
        value_name = "FILE",
        env = "FIREDRILL_TOKEN_FILE",
        hide_env_values = true
    )]
    token_file: Option<PathBuf>,

    /// The control port needs no token: whoever reaches it can break things
    #[arg(
        long,
        env = "FIREDRILL_WITHOUT_TOKEN",
        hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    without_token: bool,

    /// A second port, with /metrics and the probes only
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "FIREDRILL_METRICS",
        hide_env_values = true
    )]
    metrics: Option<String>,

    /// How long what stands may take to end once it is to stop [default: 8s]
    #[arg(
        long,
        value_name = "TIME",
        env = "FIREDRILL_DRAIN",
        hide_env_values = true
    )]
    drain: Option<String>,

    /// How what it logs is written
    #[arg(
        long,
        value_name = "FORMAT",
        env = "FIREDRILL_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text"
    )]
    pub(super) log_format: Format,
}

impl Args {
    fn files(&self) -> Files {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let proxies = self.proxies.iter().flat_map(|text| text.split_whitespace());
        let given = Given {
            proxies: proxies.map(str::to_owned).collect(),
            control: some(&self.control),
            token_file: self.token_file.clone(),
            without_token: self.without_token,
            metrics: some(&self.metrics),
            drain: some(&self.drain),
        };
        // Whoever says elsewhere what runs needs no file.
        let elsewhere = self.toxiproxy.is_some() || !given.proxies.is_empty();
        let default = (!elsewhere).then(|| PathBuf::from("firedrill.yaml"));
        Files {
            config: self.config.clone().or(default),
            toxiproxy: self.toxiproxy.clone(),
            given,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let ran = super::run_proxies(serve::run(args.files()));
    match args.log_format {
        Format::Text => ran,
        // Whoever reads JSON can read nothing else.
        Format::Json => ran.map_err(Failure::logged),
    }
}
