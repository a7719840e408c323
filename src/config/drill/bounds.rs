//! What a number must be.

/// What a number must be: all of these.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bounds(pub Vec<(Comparison, f64)>);

/// How a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `<`
    Below,
    /// `=`
    Equals,
}

impl Comparison {
    /// The words in the file.
    pub const ALL: [(&'static str, Self); 5] = [
        ("at_least", Self::AtLeast),
        ("at_most", Self::AtMost),
        ("above", Self::Above),
        ("below", Self::Below),
        ("equals", Self::Equals),
    ];

    fn words(self) -> &'static str {
        match self {
            Self::AtLeast => "at least",
            Self::AtMost => "at most",
            Self::Above => "above",
            Self::Below => "below",
            Self::Equals => "equal to",
        }
    }
}

impl Bounds {
    /// Whether a number is within them; one that is none is not.
    #[must_use]
    pub fn hold(&self, value: f64) -> bool {
        let one = |(comparison, bound): &(Comparison, f64)| match comparison {
            Comparison::AtLeast => value >= *bound,
            Comparison::AtMost => value <= *bound,
            Comparison::Above => value > *bound,
            Comparison::Below => value < *bound,
            Comparison::Equals => value == *bound,
        };
        self.0.iter().all(one)
    }

    /// In words; `unit` writes a number.
    #[must_use]
    pub fn in_words(&self, unit: impl Fn(f64) -> String) -> String {
        let one = |(comparison, bound): &(Comparison, f64)| {
            format!("{} {}", comparison.words(), unit(*bound))
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" and ")
    }
}
