//! GitLab's gateway over a socket: the exchanges that an unmodified GitLab and the editors behind it have with it.

mod calls;
mod edge;
mod golden;
mod shape;
#[path = "../support/full.rs"]
mod support;
