//! Partitions: named cuts between groups of services.

use crate::operation::Direction;

use super::{Edge, Ttl};

/// What a cut connection meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Silence: nothing is dialled or delivered until heal.
    #[default]
    Blackhole,
    /// New connections are reset at once; those that stand fall silent.
    Refuse,
    /// New connections and those that stand are reset.
    Reset,
}

impl Mode {
    /// Every mode, by its word.
    pub const ALL: [(&'static str, Self); 3] = [
        ("blackhole", Self::Blackhole),
        ("refuse", Self::Refuse),
        ("reset", Self::Reset),
    ];

    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Refuse => "refuse",
            Self::Reset => "reset",
        }
    }
}

/// A named cut between groups of services, as defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Unique among partitions.
    pub name: String,
    /// Two groups or more; a service is in one at most.
    pub between: Vec<Vec<String>>,
    /// These no longer hear the other groups; empty: nobody hears another group.
    pub deaf: Vec<String>,
    /// What a cut connection meets.
    pub mode: Mode,
    /// Whether it is in force.
    pub enabled: bool,
    /// How long it stays enabled.
    pub ttl: Ttl,
}

impl Partition {
    /// The directions of an edge that it cuts: towards the upstream, towards the client.
    #[must_use]
    pub fn cuts(&self, edge: &Edge) -> Option<[bool; 2]> {
        let group = |service: &String| self.between.iter().position(|g| g.contains(service));
        let (from, to) = (group(&edge.from)?, group(&edge.to)?);
        if from == to {
            return None;
        }
        let deaf = |service: &String| self.deaf.is_empty() || self.deaf.contains(service);
        let cut = [deaf(&edge.to), deaf(&edge.from)];
        cut.contains(&true).then_some(cut)
    }
}

/// The place of a direction in the array of [`Partition::cuts`].
#[must_use]
pub(super) fn index(direction: Direction) -> usize {
    match direction {
        Direction::Upstream => 0,
        Direction::Downstream => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str) -> Edge {
        let mut edge = Edge::new(to, "127.0.0.1:0", "127.0.0.1:1");
        edge.from = from.to_owned();
        edge
    }

    fn split(deaf: &[&str]) -> Partition {
        let group = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        Partition {
            name: "split".to_owned(),
            between: vec![group(&["checkout"]), group(&["payment", "orders"])],
            deaf: group(deaf),
            mode: Mode::Blackhole,
            enabled: true,
            ttl: Ttl::Unsaid,
        }
    }

    #[test]
    fn only_edges_between_groups_are_cut() {
        let both = split(&[]);
        assert_eq!(both.cuts(&edge("checkout", "payment")), Some([true, true]));
        assert_eq!(both.cuts(&edge("orders", "checkout")), Some([true, true]));
        assert_eq!(both.cuts(&edge("payment", "orders")), None);
        assert_eq!(both.cuts(&edge("checkout", "elsewhere")), None);
    }

    #[test]
    fn the_deaf_do_not_hear() {
        let deaf = split(&["checkout"]);
        assert_eq!(deaf.cuts(&edge("checkout", "payment")), Some([false, true]));
        assert_eq!(deaf.cuts(&edge("payment", "checkout")), Some([true, false]));
        assert_eq!(split(&["orders"]).cuts(&edge("checkout", "payment")), None);
    }
}
