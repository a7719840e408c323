//! `firedrill schema`: of the file, or of the API.

use super::Failure;
use super::output::Output;
use crate::{config, control};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Of what
    #[arg(value_enum, default_value_t = What::File)]
    what: What,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    /// The file: a JSON Schema
    File,
    /// The control API: an OpenAPI document, as at /v1/openapi.json
    Openapi,
}

pub(super) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    out.object(&match args.what {
        What::File => config::schema(),
        What::Openapi => control::document(),
    })
}
