//! Partitions: named cuts between services.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{Edge, Timetable, Ttl};
use crate::operation::Direction;
use crate::seed::{self, Draw};

/// What a cut connection meets.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
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

/// Which services no longer hear which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Groups, two or more; a service is in one at most, and who is in none hears everybody.
    Between(Vec<Vec<String>>),
    /// These hear each other, and are cut off from all other services.
    Isolate(Vec<String>),
    /// In a ring of these each hears its two neighbours only. Four or more: of three, each is the
    /// others' neighbour.
    Ring(Vec<String>),
    /// These services, or all that there are, in so many groups by chance.
    Split {
        /// Two or more.
        groups: usize,
        /// `None`: all that the proxies connect.
        services: Option<Vec<String>>,
        /// What chance is drawn from; `None`: the process's own seed.
        seed: Option<u64>,
    },
}

impl Shape {
    /// As in the file: the key, and what it says.
    #[must_use]
    pub fn to_json(&self) -> (&'static str, Value) {
        match self {
            Self::Between(groups) => ("between", json!(groups)),
            Self::Isolate(list) => ("isolate", json!(list)),
            Self::Ring(list) => ("ring", json!(list)),
            Self::Split {
                groups,
                services,
                seed,
            } => {
                let mut out = json!({ "groups": groups });
                if let Some(services) = services {
                    out["services"] = json!(services);
                }
                if let Some(seed) = seed {
                    out["seed"] = json!(seed);
                }
                ("split", out)
            }
        }
    }
}

/// A named cut between services, as defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Unique among partitions.
    pub name: String,
    /// Who is cut off from whom.
    pub shape: Shape,
    /// Only these no longer hear those beyond the cut; empty: nobody does.
    pub deaf: Vec<String>,
    /// What a cut connection meets.
    pub mode: Mode,
    /// Whether it is in force.
    pub enabled: bool,
    /// How long it stays enabled.
    pub ttl: Ttl,
    /// When it acts while it is enabled; `None`: all the time.
    pub timetable: Option<Timetable>,
}

/// A shape among the services that there are.
#[derive(Debug)]
pub enum Sides<'a> {
    /// Who stands in different groups is apart.
    Groups(Cow<'a, [Vec<String>]>),
    /// Who stands here and who does not are apart.
    Within(&'a [String]),
    /// Those that stand here but not side by side are apart.
    Ring(&'a [String]),
}

impl Sides<'_> {
    /// Whether the cut lies between two services.
    #[must_use]
    pub fn apart(&self, a: &str, b: &str) -> bool {
        let place = |list: &[String], name: &str| list.iter().position(|n| n == name);
        match self {
            Self::Groups(groups) => {
                let group = |name| groups.iter().position(|g| place(g, name).is_some());
                group(a).zip(group(b)).is_some_and(|(a, b)| a != b)
            }
            Self::Within(list) => place(list, a).is_some() != place(list, b).is_some(),
            Self::Ring(list) => {
                let both = place(list, a).zip(place(list, b));
                both.is_some_and(|(a, b)| {
                    let way = a.abs_diff(b);
                    way.min(list.len() - way) > 1
                })
            }
        }
    }
}

impl Partition {
    /// Its sides, where these are the services that there are and `seed` is the process's.
    #[must_use]
    pub fn sides(&self, services: &[&str], seed: u64) -> Sides<'_> {
        match &self.shape {
            Shape::Between(groups) => Sides::Groups(Cow::Borrowed(groups)),
            Shape::Isolate(list) => Sides::Within(list),
            Shape::Ring(list) => Sides::Ring(list),
            Shape::Split {
                groups,
                services: named,
                seed: own,
            } => {
                let named = named.as_ref().map(|list| list.iter().map(|n| &**n));
                let mut among: Vec<&str> = match named {
                    Some(named) => named.collect(),
                    None => services.to_vec(),
                };
                // By lot, and by name where two lots are the same.
                let lot = |name: &str| {
                    let key = seed::key(&[name.as_bytes()]);
                    (
                        Draw::new(own.unwrap_or(seed), &self.name, key, 1).unit(),
                        name.to_owned(),
                    )
                };
                among.sort_by(|a, b| lot(a).partial_cmp(&lot(b)).unwrap_or(Ordering::Equal));
                let mut split = vec![Vec::new(); *groups];
                for (n, name) in among.into_iter().enumerate() {
                    split[n % *groups].push(name.to_owned());
                }
                Sides::Groups(Cow::Owned(split))
            }
        }
    }

    /// The directions of an edge that it cuts, its sides being these: towards the upstream, towards
    /// the client.
    #[must_use]
    pub fn cuts(&self, sides: &Sides<'_>, edge: &Edge) -> Option<[bool; 2]> {
        if !sides.apart(&edge.from, &edge.to) {
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

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn partition(shape: Shape, deaf: &[&str]) -> Partition {
        Partition {
            name: "split".to_owned(),
            shape,
            deaf: list(deaf),
            mode: Mode::Blackhole,
            enabled: true,
            ttl: Ttl::Unsaid,
            timetable: None,
        }
    }

    const SERVICES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    fn cuts(partition: &Partition, from: &str, to: &str) -> Option<[bool; 2]> {
        partition.cuts(&partition.sides(&SERVICES, 42), &edge(from, to))
    }

    fn between(deaf: &[&str]) -> Partition {
        let groups = vec![list(&["checkout"]), list(&["payment", "orders"])];
        partition(Shape::Between(groups), deaf)
    }

    #[test]
    fn only_edges_between_groups_are_cut() {
        let both = between(&[]);
        assert_eq!(cuts(&both, "checkout", "payment"), Some([true, true]));
        assert_eq!(cuts(&both, "orders", "checkout"), Some([true, true]));
        assert_eq!(cuts(&both, "payment", "orders"), None);
        assert_eq!(cuts(&both, "checkout", "elsewhere"), None);
    }

    #[test]
    fn the_deaf_do_not_hear() {
        let deaf = between(&["checkout"]);
        assert_eq!(cuts(&deaf, "checkout", "payment"), Some([false, true]));
        assert_eq!(cuts(&deaf, "payment", "checkout"), Some([true, false]));
        assert_eq!(cuts(&between(&["orders"]), "checkout", "payment"), None);
    }

    #[test]
    fn the_isolated_hear_each_other_only() {
        let alone = partition(Shape::Isolate(list(&["a", "b"])), &[]);
        assert_eq!(cuts(&alone, "a", "c"), Some([true, true]));
        assert_eq!(cuts(&alone, "elsewhere", "b"), Some([true, true]));
        assert_eq!(cuts(&alone, "a", "b"), None);
        assert_eq!(cuts(&alone, "c", "elsewhere"), None);
        let deaf = partition(Shape::Isolate(list(&["a"])), &["a"]);
        assert_eq!(cuts(&deaf, "a", "c"), Some([false, true]));
    }

    #[test]
    fn in_a_ring_neighbours_hear_each_other() {
        let ring = partition(Shape::Ring(list(&["a", "b", "c", "d", "e"])), &[]);
        for (from, to, cut) in [
            ("a", "b", false),
            ("a", "e", false),
            ("e", "d", false),
            ("a", "c", true),
            ("d", "a", true),
            ("b", "e", true),
            ("a", "f", false),
        ] {
            assert_eq!(cuts(&ring, from, to).is_some(), cut, "{from} {to}");
        }
    }

    #[test]
    fn a_random_split_is_even_whole_and_the_seeds() {
        let split = |seed| Shape::Split {
            groups: 3,
            services: None,
            seed,
        };
        let groups = |seed, services: &[&str]| {
            let split = partition(split(seed), &[]);
            match split.sides(services, 42) {
                Sides::Groups(groups) => groups.into_owned(),
                other => panic!("{other:?}"),
            }
        };
        let first = groups(None, &SERVICES);
        assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
        let mut all = first.concat();
        all.sort();
        assert_eq!(all, SERVICES);
        let mut reversed = SERVICES;
        reversed.reverse();
        assert_eq!(groups(None, &reversed), first, "not by their order");
        assert_eq!(groups(Some(42), &SERVICES), first, "the process's seed");
        let others = (0..20).filter(|seed| groups(Some(*seed), &SERVICES) != first);
        assert!(others.count() > 10, "another seed, another split");
    }
}
