//! What a drill says in the end, and its exit code.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Recovery, Verdict};

/// What a drill says in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DrillOutcome)]
pub enum Outcome {
    /// What was promised is true, and all is well again.
    Held,
    /// Something that was promised is not, or it is not well again.
    Broken,
    /// It can't be said.
    Inconclusive,
    /// It was ended before its time.
    Halted,
    /// Something that it made go wrong could not be undone, or nobody could tell.
    NotLifted,
}

impl Outcome {
    /// For the shell.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Broken => 1,
            Self::Inconclusive => 3,
            Self::Halted => 4,
            Self::NotLifted => 5,
        }
    }

    /// The word in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::Inconclusive => "inconclusive",
            Self::Halted => "halted",
            Self::NotLifted => "not_lifted",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// All that a drill's outcome depends on.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// What could not be undone.
    pub not_lifted: Vec<String>,
    /// Why it was ended before its time.
    pub halted: Option<String>,
    /// Why the system was not steady before.
    pub unsteady: Option<String>,
    /// Why nothing that was seen shows anything: no load, faults that never bit.
    pub empty: Vec<String>,
    /// The promises, by name.
    pub promises: Vec<(String, Verdict)>,
    /// What became of recovery, and why; `None`: it did not come to that.
    pub recovery: Option<(Recovery, String)>,
    /// Edges that did not work in the end.
    pub residue: Vec<String>,
}

/// What a drill says in the end, and why. The gravest comes first.
#[must_use]
pub fn overall(ended: &Ended) -> (Outcome, String) {
    let of = |wanted: Verdict| {
        let these = ended.promises.iter().filter(move |(_, v)| *v == wanted);
        these.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    };
    if !ended.not_lifted.is_empty() {
        let reason = format!("could not be undone: {}", ended.not_lifted.join("; "));
        return (Outcome::NotLifted, reason);
    }
    if let Some(why) = &ended.halted {
        return (Outcome::Halted, why.clone());
    }
    if let Some(why) = &ended.unsteady {
        let reason = format!("the system was not steady before: {why}");
        return (Outcome::Inconclusive, reason);
    }
    let mut broken: Vec<_> = of(Verdict::Broken).into_iter().map(str::to_owned).collect();
    if let Some((verdict @ (Recovery::Degraded | Recovery::Metastable), why)) = &ended.recovery {
        broken.push(format!("recovery: {verdict}: {why}"));
    }
    broken.extend(ended.residue.iter().map(|what| format!("residue: {what}")));
    // A promise that broke without the drill's help is broken too.
    if !broken.is_empty() {
        return (Outcome::Broken, broken.join("; "));
    }
    if !ended.empty.is_empty() {
        return (Outcome::Inconclusive, ended.empty.join("; "));
    }
    let unknown = of(Verdict::Inconclusive);
    if !unknown.is_empty() {
        return (
            Outcome::Inconclusive,
            format!("can't be said: {}", unknown.join("; ")),
        );
    }
    match &ended.recovery {
        Some((Recovery::Recovered, _)) => {
            let kept = match ended.promises.len() {
                0 => "it is well again".to_owned(),
                1 => "the promise held, and it is well again".to_owned(),
                n => format!("all {n} promises held, and it is well again"),
            };
            (Outcome::Held, kept)
        }
        Some((_, why)) => (Outcome::Inconclusive, format!("recovery: {why}")),
        None => (Outcome::Inconclusive, "recovery was not watched".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_comes_first() {
        let mut ended = Ended {
            promises: vec![("a".to_owned(), Verdict::Held)],
            recovery: Some((Recovery::Recovered, String::new())),
            ..Ended::default()
        };
        let code = |ended: &Ended| overall(ended).0.exit_code();
        assert_eq!(code(&ended), 0);
        ended.promises.push(("b".to_owned(), Verdict::Inconclusive));
        assert_eq!(code(&ended), 3);
        ended.promises.pop();
        ended.empty.push("no load was seen".to_owned());
        assert_eq!(code(&ended), 3);
        ended.residue.push("web".to_owned());
        assert_eq!(code(&ended), 1);
        ended.residue.clear();
        ended.recovery = Some((Recovery::Metastable, String::new()));
        assert_eq!(code(&ended), 1);
        ended.recovery = Some((Recovery::Recovered, String::new()));
        ended.promises.push(("c".to_owned(), Verdict::Broken));
        assert_eq!(code(&ended), 1);
        ended.unsteady = Some("it failed".to_owned());
        assert_eq!(code(&ended), 3);
        ended.halted = Some("Ctrl-C".to_owned());
        assert_eq!(code(&ended), 4);
        ended.not_lifted.push("lost".to_owned());
        assert_eq!(code(&ended), 5);
        // Never a pass without having looked.
        let blind = Ended::default();
        assert_eq!(code(&blind), 3);
    }
}
