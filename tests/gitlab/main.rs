//! GitLab's gateway over a socket: the exchanges that an unmodified GitLab and the editors behind it have with it.

mod calls;
mod edge;
mod golden;
mod shape;
#[path = "../support/full.rs"]
#[expect(dead_code, reason = "shared with other tests and benches, which use more of it")]
mod support;
