//! Sconce: code completion and chat on a machine you own. See ARCHITECTURE.md for the rooms and who may know whom.
#![deny(unsafe_code)]

pub mod domain;
