//! Serde types and framing of each protocol, without logic. Knows nobody.
