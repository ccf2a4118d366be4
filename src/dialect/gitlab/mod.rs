//! GitLab's gateway protocol: its bodies and streams into calls of `feature`, and answers back.
//!
//! Knows the wire, the domain and the features; knows no HTTP.

pub mod agent;
pub mod code;
pub mod legacy;
pub mod metadata;
pub mod prompts;
pub mod search;
pub mod validation;
