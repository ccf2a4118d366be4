//! One API each: translates between what clients send (`wire`) and what lanes understand (`domain`).
//!
//! Has never heard of HTTP: bodies come in as bytes, answers leave as bytes.

pub mod gitlab;
pub mod openai;
