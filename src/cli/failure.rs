//! Why a command did not do what was asked: a message, what to do, and an exit code.

use std::fmt::Display;

use crate::client::ClientError;
use crate::config::{Problem, Problems};

/// Bad file or usage.
pub(super) const USAGE: u8 = 2;
/// It could not be done.
const FAILED: u8 = 1;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// To be said.
    Say {
        /// What went wrong.
        message: String,
        /// What to do.
        hint: String,
        /// The exit code.
        exit: u8,
    },
    /// A bad file: each problem names its place itself.
    Problems(Problems),
    /// All has been said; the exit code.
    Said(u8),
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Say {
            message: message.into(),
            hint: hint.into(),
            exit: USAGE,
        }
    }

    /// Some target failed; which, has been said.
    pub(super) fn said() -> Self {
        Self::Said(FAILED)
    }

    /// The same, said in the log.
    pub(super) fn logged(self) -> Self {
        let exit = self.exit_code();
        match self {
            Self::Say { message, hint, .. } => tracing::error!(hint, "{message}"),
            Self::Problems(problems) => {
                for problem in &problems.list {
                    let Problem {
                        path,
                        line,
                        column,
                        hint,
                        message,
                    } = problem;
                    let file = problems.file.as_deref();
                    tracing::error!(file, line, column, path, hint, "{message}");
                }
            }
            Self::Said(_) => {}
        }
        Self::Said(exit)
    }

    /// What the system refused, be it stdout or a runtime.
    pub(super) fn of_the_system(error: impl Display) -> Self {
        Self::Say {
            message: error.to_string(),
            hint: "that is the system's word; try again".to_owned(),
            exit: FAILED,
        }
    }

    /// What ended a server.
    pub(super) fn of_running(error: &anyhow::Error) -> Self {
        if let Some(problems) = error.downcast_ref::<Problems>() {
            return problems.clone().into();
        }
        Self::Say {
            message: format!("{error:#}"),
            hint: "RUST_LOG=debug says more".to_owned(),
            exit: FAILED,
        }
    }

    /// For the shell.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Say { exit, .. } => *exit,
            Self::Problems(_) => USAGE,
            Self::Said(exit) => *exit,
        }
    }
}

/// Nobody reads on: that is how `| head` ends, and no failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::Said(0)
        } else {
            Self::of_the_system(format!("can't write: {error}"))
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let mut message = error.to_string();
        let mut hint = error.hint();
        let exit = if error.is_usage() { USAGE } else { FAILED };
        if let ClientError::Api { code, path, .. } = &error {
            if let Some(path) = path {
                message = format!("{path}: {message}");
            }
            // The API's own hints speak of its routes.
            match code.as_str() {
                "not_found" => "`firedrill status` lists what there is".clone_into(&mut hint),
                "exists" => "choose another with --name".clone_into(&mut hint),
                "too_many" => "`firedrill rule rm NAME` those that are done".clone_into(&mut hint),
                _ => {}
            }
        }
        Self::Say {
            message,
            hint,
            exit,
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Problems(problems)
    }
}
