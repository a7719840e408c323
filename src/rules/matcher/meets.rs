//! Whether an operation is meant, as far as it is known, and what is left to be known.

use std::sync::Arc;
use std::time::Duration;

use super::{BodyMatch, ResponseMatch};
use crate::operation::{Body, Response};

/// Whether an operation is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meets {
    /// It is.
    Now,
    /// It may be, once more of it has come.
    Later(Rest),
    /// It never will be.
    Never,
}

/// The conditions that are left once the others are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// On the course of a connection: asked anew once this has come.
    Course(Awaited),
    /// On the body, which is to meet them, or (behind a `not`) not to.
    Body(Arc<BodyMatch>, bool),
    /// On the answer, the same way.
    Response(Arc<ResponseMatch>, bool),
    /// All of them.
    All(Vec<Rest>),
    /// Any of them.
    Any(Vec<Rest>),
}

/// What may decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Awaited {
    /// So many bytes read in all.
    pub bytes: Option<u64>,
    /// So much time since it was accepted.
    pub age: Option<Duration>,
    /// The host that its client asks for, or that it asks for none.
    pub sni: bool,
    /// The request's body, up to so many bytes of it.
    pub body: Option<u64>,
    /// The answer's head.
    pub response: bool,
}

impl Awaited {
    /// Awaits whatever of either comes first, and as much of a body as either.
    pub fn join(&mut self, other: Self) {
        self.bytes = self.bytes.into_iter().chain(other.bytes).min();
        self.age = self.age.into_iter().chain(other.age).min();
        self.sni |= other.sni;
        self.body = self.body.max(other.body);
        self.response |= other.response;
    }
}

impl Rest {
    /// What may decide it.
    #[must_use]
    pub fn awaited(&self) -> Awaited {
        match self {
            Self::Course(awaited) => *awaited,
            Self::Body(body, _) => Awaited {
                body: Some(body.within),
                ..Awaited::default()
            },
            Self::Response(..) => Awaited {
                response: true,
                ..Awaited::default()
            },
            Self::All(rest) | Self::Any(rest) => {
                let mut all = Awaited::default();
                rest.iter().for_each(|one| all.join(one.awaited()));
                all
            }
        }
    }

    /// Whether they hold of a request with this body, and this answer if there is one yet. What
    /// can't be judged holds neither way.
    #[must_use]
    pub fn meets(&self, body: &Body<'_>, response: Option<&Response<'_>>) -> Meets {
        match self {
            Self::Course(_) => Meets::Never,
            Self::Body(wanted, holds) => match (wanted.matches(body), body) {
                (Some(met), _) => Meets::known(met == *holds),
                (None, Body::Unknown) => Meets::Later(self.clone()),
                (None, _) => Meets::Never,
            },
            Self::Response(wanted, holds) => match response {
                Some(response) => Meets::known(wanted.matches(response) == *holds),
                None => Meets::Later(self.clone()),
            },
            Self::All(rest) | Self::Any(rest) => {
                let mut sum = Sum::new(matches!(self, Self::All(_)));
                let _ = rest.iter().any(|one| sum.add(one.meets(body, response)));
                sum.finish()
            }
        }
    }
}

impl Meets {
    pub(super) fn known(met: bool) -> Self {
        if met { Self::Now } else { Self::Never }
    }
}

/// Several conditions as one.
#[derive(Debug)]
pub(super) struct Sum {
    /// All must hold, else any.
    all: bool,
    settled: bool,
    rest: Vec<Rest>,
}

impl Sum {
    pub(super) fn new(all: bool) -> Self {
        Self {
            all,
            settled: false,
            rest: Vec::new(),
        }
    }

    /// Takes one more. Answers whether it is settled, so that no other changes it.
    #[must_use]
    pub(super) fn add(&mut self, one: Meets) -> bool {
        match one {
            Meets::Later(rest) => self.rest.push(rest),
            Meets::Now => self.settled |= !self.all,
            Meets::Never => self.settled |= self.all,
        }
        self.settled
    }

    pub(super) fn finish(mut self) -> Meets {
        if self.settled {
            return Meets::known(!self.all);
        }
        match (self.rest.len(), self.all) {
            (0, all) => Meets::known(all),
            (1, _) => self.rest.pop().map_or(Meets::Never, Meets::Later),
            (_, true) => Meets::Later(Rest::All(self.rest)),
            (_, false) => Meets::Later(Rest::Any(self.rest)),
        }
    }
}
