//! Sconce: code completion and chat on a machine you own.
//!
//! See ARCHITECTURE.md for the rooms and who may know whom.
#![deny(unsafe_code)]

pub mod arch;
pub mod auth;
pub mod bench;
pub mod catalog;
pub mod certificate;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod device;
pub mod dialect;
pub mod domain;
pub mod egress;
pub mod engine;
pub mod feature;
pub mod http;
pub mod nn;
pub mod provider;
pub mod route;
pub mod sampler;
pub mod scheduler;
pub mod search;
pub mod serve;
pub mod tokenizer;
pub mod wire;
