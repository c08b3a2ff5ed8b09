//! Coracle: an SSH front end that gives every connection a container of its own.

#![forbid(unsafe_code)]

mod any_case;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod engine;
pub mod events;
pub mod forward;
pub mod hook;
pub mod identity;
pub mod ids;
pub mod metrics;
pub mod policy;
pub mod pool;
pub mod recording;
pub mod secret;
pub mod session;
pub mod shutdown;
pub mod ssh;
pub mod state;
pub mod telemetry;
mod tls;
pub mod traces;
pub mod transfers;
pub mod value;
