//! From a model's text to what GitLab parses, piece by piece, so that one piece of code serves streams and whole answers.

use crate::domain::FinishReason;

/// Turns a model's text into what GitLab reads. Pieces may be cut anywhere between two characters.
pub trait Shape: Send {
    /// Takes in more of the model's text and appends to `out` what may be said already.
    fn push(&mut self, text: &str, out: &mut String) -> Flow;
    /// The model has ended, or [`Flow::Enough`] was said: appends the rest.
    fn finish(&mut self, reason: FinishReason, out: &mut String);
}

/// Whether more of the model's text is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    More,
    /// Nothing that follows would be said: the job can be dropped.
    Enough,
}

/// Says everything as it comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Shape for Plain {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        out.push_str(text);
        Flow::More
    }

    fn finish(&mut self, _reason: FinishReason, _out: &mut String) {}
}

/// Shapes a text that is there already.
pub fn shape_whole(shape: &mut dyn Shape, text: &str, reason: FinishReason) -> String {
    let mut out = String::with_capacity(text.len());
    shape.push(text, &mut out);
    shape.finish(reason, &mut out);
    out
}
