//! Tag, length, value: just enough of DER to walk through a certificate.

/// What is left to read.
pub struct Der<'a>(pub &'a [u8]);

impl<'a> Der<'a> {
    /// The value of the next element, which must have this tag.
    pub fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any_with(|found| found == tag).map(|(_, value)| value)
    }

    /// The next element if it has this tag; nothing is consumed otherwise.
    pub fn take_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.take(tag) } else { None }
    }

    /// The next element, whatever it is.
    pub fn any(&mut self) -> Option<(u8, &'a [u8])> {
        self.any_with(|_| true)
    }

    fn any_with(&mut self, is_wanted: impl Fn(u8) -> bool) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Longer lengths than four bytes name more than any certificate has.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        if !is_wanted(tag) {
            return None;
        }
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}
