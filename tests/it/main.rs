//! The system tests: the real server, the real engine, real clients.
//!
//! `harness` starts servers and runs clients; every other module is one topic of the contract. A case made with
//! [`on_both!`] runs a second time against OpenSSH's own server in a container of the same guest image (the oracle),
//! which tests the test. `docs/testing.md` shows how to add one.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing at once, and its tasks end with its runtime"
)]

#[macro_use]
mod harness;

mod admission;
mod audit;
mod audit_events;
mod auth;
mod certificates;
mod clients;
mod control;
mod doctor;
mod drain;
mod engine_calls;
mod environment;
mod exec;
mod factors;
mod faults;
mod flow;
mod forwarding_agent;
mod forwarding_changes;
mod forwarding_clients;
mod forwarding_ends;
mod forwarding_floods;
mod forwarding_local;
mod forwarding_many;
mod forwarding_policy;
mod forwarding_remote;
mod forwarding_x11;
mod health;
mod hook_config;
mod hook_files;
mod hooks;
mod hostile;
mod hostile_container;
mod images;
mod interleavings;
mod key_options;
mod key_restrictions;
mod launchers;
mod lifecycle;
mod limits;
mod logs;
mod losses;
mod metrics;
mod modes;
mod names;
mod odd_keys;
mod passwords;
mod policy;
mod profiles;
mod prometheus;
mod readme;
mod recipes;
mod recording;
mod sandbox;
mod secrets;
mod signals;
mod subsystem;
mod terminal;
mod transport;
mod warm;
