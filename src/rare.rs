//! Room that is taken only once it is needed: thousands of idle connections pay for what few use.

use std::ops::{Deref, DerefMut};

/// What a [`Rare`] reads as before it was written.
pub trait Empty: Default + 'static {
    /// The same as the default, for all to read.
    fn empty() -> &'static Self;
}

/// A `T` that takes the room of a pointer until it is first written. Reading never takes any.
#[derive(Debug, Default)]
pub struct Rare<T>(Option<Box<T>>);

impl<T: Empty> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::empty())
    }
}

impl<T: Empty> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T> Rare<T> {
    /// For writing only where something was written before.
    pub fn written(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }
}
