//! Which findings are asked for, and finding them.

use std::ops::ControlFlow;

use super::case::{self, Case};
use super::{About, FINDERS, Finding, MOST_RECORDS, Subject};
use crate::clock::Timestamp;
use crate::evidence::{Filter, Record};

/// Which findings are asked for; absent conditions hold for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its name in [`FINDERS`].
    pub finding: Option<String>,
    /// The service that calls.
    pub from: Option<String>,
    /// The service that is called.
    pub to: Option<String>,
    /// Judged from what began at this moment or later.
    pub since: Option<Timestamp>,
    /// And before this one.
    pub until: Option<Timestamp>,
}

impl Wanted {
    /// The records that they are judged from: of other edges too, since a service is known by what it
    /// is asked as well.
    #[must_use]
    pub fn records(&self) -> Filter {
        Filter {
            since: self.since,
            until: self.until,
            ..Filter::default()
        }
    }

    /// Calls `found` with each finding, by edge and caller in the order of their first records, until
    /// it wants no more. `now`: when the records were taken.
    pub fn judge(
        &self,
        records: &[Record],
        now: Timestamp,
        mut found: impl FnMut(Finding) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut all: Vec<&Record> = records.iter().collect();
        all.sort_by_key(|record| (record.started, record.id));
        let now = self.until.map_or(now, |until| until.min(now));
        for case in case::cases(&all, now) {
            self.judge_case(&case, &mut found)?;
        }
        ControlFlow::Continue(())
    }

    fn judge_case(
        &self,
        case: &Case<'_>,
        found: &mut impl FnMut(Finding) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        if !is(&self.from, case.from) || !is(&self.to, case.to) {
            return ControlFlow::Continue(());
        }
        let about = match case.caller {
            Some(_) => About::Caller,
            None => About::Called,
        };
        let finders = FINDERS.iter().filter(|finder| finder.about == about);
        for finder in finders.filter(|finder| is(&self.finding, finder.name)) {
            let mut judged = (finder.judge)(case);
            judged.records.truncate(MOST_RECORDS);
            found(Finding {
                finding: finder.name.to_owned(),
                subject: Subject {
                    from: case.from.to_owned(),
                    to: case.to.to_owned(),
                    caller: case.caller,
                },
                verdict: judged.verdict,
                detail: judged.detail,
                records: judged.records,
            })?;
        }
        ControlFlow::Continue(())
    }
}
