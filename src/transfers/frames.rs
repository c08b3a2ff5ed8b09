//! One direction of SFTP as packets (draft-ietf-secsh-filexfer-02 §3), of which only the beginning is kept.

/// Kept of one packet, in bytes: a header and two paths of 4 KiB, as long as Linux has them, or what a name of a variable
/// length leaves of that. What follows is counted and forgotten.
const HEAD_BYTES_MAX: usize = 12 << 10;

/// Longest packet, in bytes. OpenSSH's server takes 256 KiB and others some more; lines of text would be longer by far.
const PACKET_BYTES_MAX: u32 = 16 << 20;

/// Of a packet with a file's bytes: its number, a handle of 256 bytes, offset and length.
const TRANSFER_HEAD_BYTES: usize = 1 + 4 + 4 + 256 + 8 + 4;

/// Of a packet of which nothing but its number matters.
const NUMBER_HEAD_BYTES: usize = 1 + 4;

pub(super) const WRITE: u8 = 6;
pub(super) const DATA: u8 = 103;
pub(super) const NAME: u8 = 104;
pub(super) const ATTRS: u8 = 105;
pub(super) const EXTENDED_REPLY: u8 = 201;

/// Finds the packets in what comes in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The bytes of the length that have come.
    length: u32,
    length_bytes: u8,
    /// Of the packet's own bytes.
    left: u32,
    head: Vec<u8>,
}

/// It is no packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoPacket;

impl Frames {
    /// Takes what came, and gives each packet's beginning that is complete with it to `visit`.
    ///
    /// # Errors
    /// There is no such packet, or `visit` fails.
    pub(super) fn take<E: From<NoPacket>>(
        &mut self,
        mut bytes: &[u8],
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.length_bytes < 4 {
                self.length = self.length << 8 | u32::from(*first);
                self.length_bytes += 1;
                bytes = rest;
                if self.length_bytes == 4 {
                    self.left = self.length;
                    self.head.clear();
                    if !(1..=PACKET_BYTES_MAX).contains(&self.length) {
                        return Err(NoPacket.into());
                    }
                }
                continue;
            }
            let here = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (mine, after) = bytes.split_at_checked(here).unwrap_or((bytes, &[]));
            let kind = *self.head.first().unwrap_or(first);
            let wanted = head_bytes(kind).saturating_sub(self.head.len());
            self.head.extend_from_slice(mine.get(..wanted).unwrap_or(mine));
            self.left -= u32::try_from(here).unwrap_or(self.left);
            bytes = after;
            if self.left == 0 {
                self.length_bytes = 0;
                visit(&self.head)?;
            }
        }
        Ok(())
    }
}

fn head_bytes(kind: u8) -> usize {
    match kind {
        WRITE | DATA => TRANSFER_HEAD_BYTES,
        NAME | ATTRS | EXTENDED_REPLY => NUMBER_HEAD_BYTES,
        _ => HEAD_BYTES_MAX,
    }
}

/// Reads a packet's fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    /// A string, or what is there of it.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length).unwrap_or((self.0, &[]));
        self.0 = rest;
        Some(string)
    }
}
