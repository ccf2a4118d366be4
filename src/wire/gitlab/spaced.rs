//! JSON with a space behind every comma and colon, as the reference's library writes it.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{Result, Write};

/// Appends `value` on one line.
pub(super) fn write<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let mut serializer = Serializer::with_formatter(out, Spaced);
    value.serialize(&mut serializer).expect("answers hold only strings, numbers, booleans, lists and structs");
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        writer.write_all(b": ")
    }
}
