//! `firedrill schema`.

use super::Failure;
use super::output::Output;
use crate::config;

pub(super) fn run(out: &Output) -> Result<(), Failure> {
    out.object(&config::schema())
}
