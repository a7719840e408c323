//! Firedrill: a fault-injection proxy that brings the evidence.

pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
mod dial;
pub mod drill;
pub mod evidence;
pub mod faults;
pub mod metrics;
pub mod operation;
pub mod otlp;
pub mod pipeline;
pub mod protocol;
pub mod proxy;
mod rare;
pub mod rules;
pub mod seed;
pub mod serve;
pub mod state;
pub mod tls;
pub mod units;
pub mod url;
pub mod wire;
