//! Problems on their way from the decoder to the user: collected, then placed and put in order.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::places::{self, End, Places, Step};
use super::problem::{Problem, Problems};

/// The most problems that are listed.
const MAX_PROBLEMS: usize = 1_000;

/// A problem whose place is still to be found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) at: Spot,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The other place that the message speaks of.
    pub(super) first: Option<Spot>,
}

/// Collects problems.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: RefCell<Vec<Found>>,
    folder: PathBuf,
    /// Scalars whose type is what is asked for.
    untyped: HashSet<Vec<Step>>,
    /// Scalars of which it is not known what they say.
    spoilt: HashSet<Vec<Step>>,
}

impl Report {
    /// Of a file in this folder, which paths in it start from.
    pub(super) fn of_file_in(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            ..Self::default()
        }
    }

    /// Where relative paths start from.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes one more, unless it is of what could not be read in the first place.
    pub(super) fn add(&self, found: Found) {
        if found.at.end == End::Key || !self.spoilt.contains(&found.at.steps) {
            self.found.borrow_mut().push(found);
        }
    }

    /// A scalar has no type of its own: a variable was put in, or it is of the command line.
    pub(super) fn untyped(&mut self, steps: Vec<Step>) {
        self.untyped.insert(steps);
    }

    /// Whether [`Report::untyped`] was said of it.
    pub(super) fn is_untyped(&self, spot: &Spot) -> bool {
        !self.untyped.is_empty() && self.untyped.contains(&spot.steps)
    }

    /// Takes a problem after which it is not known what a scalar says.
    pub(super) fn spoilt(&mut self, steps: Vec<Step>, message: String, hint: Option<String>) {
        let at = Spot {
            steps: steps.clone(),
            end: End::Value,
        };
        self.add(Found {
            at,
            message,
            hint,
            first: None,
        });
        self.spoilt.insert(steps);
    }

    /// How many problems there are so far.
    pub(super) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// Whether more would not be listed.
    pub(super) fn is_full(&self) -> bool {
        self.count() >= MAX_PROBLEMS
    }

    /// The problems, with places if there is a text, in its order.
    ///
    /// # Errors
    /// If there are any.
    pub(super) fn finish(self, file: Option<&str>, text: Option<&str>) -> Result<(), Problems> {
        let found = self.found.into_inner();
        if found.is_empty() {
            return Ok(());
        }
        let places = text.map(Places::new);
        let find = |spot: &Spot| places.as_ref()?.find(&spot.steps, spot.end);
        let more = found.len().saturating_sub(MAX_PROBLEMS);
        let mut list = Vec::new();
        for Found {
            at,
            mut message,
            hint,
            first,
        } in found.into_iter().take(MAX_PROBLEMS)
        {
            if let Some((line, _)) = first.as_ref().and_then(find) {
                message.push_str(&format!(" (line {line})"));
            }
            let (line, column) = find(&at).unzip();
            list.push(Problem {
                path: places::display(&at.steps),
                message,
                hint,
                line,
                column,
            });
        }
        list.sort_by_key(|p| p.line.zip(p.column).unwrap_or((usize::MAX, 0)));
        if more > 0 {
            let message = format!("and {more} more");
            list.push(Problem::of_the_whole(message, None));
        }
        Err(Problems {
            file: file.map(str::to_owned),
            list,
        })
    }
}

/// A place by its path.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
}
