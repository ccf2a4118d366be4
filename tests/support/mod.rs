//! What the tests of the outer boundaries share: a lane that does what a test says.

mod fake;
mod gate;

pub use fake::{Fake, finished, model, started, text};
pub use gate::gate;
