//! The load: requests that are sent on time, a command that makes traffic, or none but what is there.

mod generator;
mod schedule;
mod template;

pub use generator::{Generator, Log, Zero};
pub use schedule::Schedule;
pub use template::{Names, Template};
