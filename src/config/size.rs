//! Sizes as people write them.

use std::fmt;

const UNITS: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// A number of bytes, shown in the largest binary unit that divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Reads `512MiB`, `1.5 GiB`, `2G`, `4096`. `None` where it is not a size or does not fit 64 bits.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let unit_at = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..unit_at], text[unit_at..].trim());
        let factor = match unit {
            "" | "B" => 1,
            "k" | "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            "T" => 1 << 40,
            _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self);
        }
        let bytes = number.parse::<f64>().ok()? * factor as f64;
        (bytes.is_finite() && bytes < 1e18).then_some(Self(bytes as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS[..4].iter().rev().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) => write!(formatter, "{}{name}", self.0 / factor),
            None => write!(formatter, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("512MiB", Some(512 << 20)),
            ("512 mib", Some(512 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2G", Some(2 << 30)),
            ("2GB", Some(2_000_000_000)),
            ("4096", Some(4096)),
            ("0", Some(0)),
            ("", None),
            ("-1", None),
            ("1e9", None),
            ("NaN", None),
            ("many", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(Bytes::parse(text).map(|bytes| bytes.0), bytes, "{text}");
        }
    }

    #[test]
    fn shows_the_largest_whole_unit() {
        for (bytes, text) in [(512 << 20, "512MiB"), (3 << 29, "1536MiB"), (1500, "1500B"), (0, "0B")] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
