//! The HTTP surface with a fake lane behind it: called as a service where that is enough, over a loopback socket where
//! the connection itself matters.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with benches, which use more of it")]
mod support;

mod admission;
mod bad_input;
mod client;
mod generation;
mod hanging_up;
mod pages;
mod restart;
mod shutdown;
mod socket;
mod streams;
