//! Netlink attributes: length, type, value, padded to four bytes. What does not fit its length ends the list.

/// Flags in the upper bits of an attribute's type (nested, network byte order).
const TYPE: u16 = 0x3fff;

/// A list of attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the first attribute of this type.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter()
            .find(|(is, _)| *is == kind)
            .map(|(_, value)| value)
    }

    pub fn nested(self, kind: u16) -> Option<Self> {
        self.get(kind).map(Attributes)
    }

    /// A number in network byte order, as nf_tables writes all of its own.
    pub fn number(self, kind: u16) -> Option<u64> {
        let bytes = self.get(kind).filter(|bytes| bytes.len() <= 8)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    }

    pub fn u32(self, kind: u16) -> Option<u32> {
        self.number(kind)?.try_into().ok()
    }

    /// A text up to its NUL.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        text(self.get(kind)?)
    }
}

/// Text up to a NUL.
pub fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()
}

impl<'a> IntoIterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter(self.0)
    }
}

#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [l0, l1, t0, t1] = *self.0.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([t0, t1]) & TYPE, value))
    }
}

#[cfg(test)]
mod tests {
    use super::Attributes;

    #[test]
    fn values_are_found_behind_their_padding() {
        let bytes = [5, 0, 1, 0, b'x', 0, 0, 0, 8, 0, 2, 0x80, 0, 0, 1, 2];
        let attributes = Attributes(&bytes);
        assert_eq!(attributes.text(1), Some("x"));
        assert_eq!(attributes.u32(2), Some(258));
        assert_eq!(attributes.get(3), None);
    }

    #[test]
    fn impossible_lengths_end_the_list() {
        for length in [0_u8, 3, 9] {
            assert_eq!(
                Attributes(&[length, 0, 1, 0, 1, 2, 3, 4]).get(1),
                None,
                "length {length}"
            );
        }
    }
}
