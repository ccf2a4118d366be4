//! As `mod.rs`, with a fake GitLab and a gateway in front of it.

mod fake;
pub mod gateway;
pub mod gitlab;

pub use fake::{Fake, finished, model, started, text};
