//! Headers, and fields in bodies. All numbers are big endian.

use super::limits::{BODY_BYTES_MAX, STRINGS_MAX};

/// Kind (1), zero (3), process (4), length of the body (4).
pub(crate) const HEADER_BYTES: usize = 12;

/// The other side does not speak this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(
    /// What is wrong.
    pub &'static str,
);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// A frame taken apart as far as all frames are alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    pub(crate) kind: u8,
    pub(crate) process: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Raw<'a> {
    /// The first frame of `received`, whose body may have so many bytes, and how many it takes; `None` when more has to
    /// be received first.
    pub(crate) fn split(
        received: &'a [u8],
        body_bytes_max: usize,
    ) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((header, rest)) = received.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [kind, zeros @ .., p0, p1, p2, p3, l0, l1, l2, l3] = *header;
        if zeros != [0; 3] {
            return Err(Malformed("bytes of a frame's header that have to be zero are not"));
        }
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length > body_bytes_max {
            return Err(Malformed("a frame is too long"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let process = u32::from_be_bytes([p0, p1, p2, p3]);
        Ok(Some((Self { kind, process, body }, HEADER_BYTES + length)))
    }
}

/// Writes one frame; its length is filled in at the end.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn begin(out: &'a mut Vec<u8>, kind: u8, process: u32) -> Self {
        let start = out.len();
        out.extend([kind, 0, 0, 0]);
        out.extend(process.to_be_bytes());
        out.extend([0; 4]);
        Self { out, start }
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.out.push(value);
        self
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.out.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.out.extend(value.to_be_bytes());
        self
    }

    /// Bytes up to the end of the body.
    pub(crate) fn rest(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend(bytes);
        self
    }

    /// Bytes behind their length.
    pub(crate) fn string(&mut self, bytes: &[u8]) -> &mut Self {
        // A longer one makes the frame too long anyway.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).rest(bytes)
    }

    pub(crate) fn strings(&mut self, strings: &[Vec<u8>]) -> &mut Self {
        self.u32(u32::try_from(strings.len()).unwrap_or(u32::MAX));
        for string in strings {
            self.string(string);
        }
        self
    }

    /// Fills the length in. Takes the frame back when it is longer than any may be.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        let length = self.out.len() - self.start - HEADER_BYTES;
        let place = self.out.get_mut(self.start + HEADER_BYTES - 4..self.start + HEADER_BYTES);
        match (place, u32::try_from(length)) {
            (Some(place), Ok(length32)) if length <= BODY_BYTES_MAX => {
                place.copy_from_slice(&length32.to_be_bytes());
                Ok(())
            }
            _ => {
                self.out.truncate(self.start);
                Err(Malformed("a frame is too long"))
            }
        }
    }
}

/// Reads the fields of a body.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("a frame is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed("a frame is too short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A list whose elements cannot hold NUL, since they become C strings.
    pub(crate) fn strings(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > STRINGS_MAX {
            return Err(Malformed("a list is too long"));
        }
        (0..count).map(|_| self.string().and_then(without_nul).map(<[u8]>::to_vec)).collect()
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("a frame is longer than what is in it")) }
    }
}

pub(crate) fn without_nul(bytes: &[u8]) -> Result<&[u8], Malformed> {
    if bytes.contains(&0) { Err(Malformed("a string holds NUL")) } else { Ok(bytes) }
}
