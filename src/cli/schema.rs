//! `firedrill schema`: of the files, of a drill's report, or of the API.

use super::Failure;
use super::output::Output;
use crate::{config, control, drill};

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
    /// A drill's file: a JSON Schema
    Drill,
    /// The report of a drill, `report.json`: a JSON Schema
    Report,
    /// The control API: an OpenAPI document, as at /v1/openapi.json
    Openapi,
}

pub(super) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    out.object(&match args.what {
        What::File => config::schema(),
        What::Drill => config::drill_schema(),
        What::Report => drill::report::schema(),
        What::Openapi => control::document(),
    })
}
