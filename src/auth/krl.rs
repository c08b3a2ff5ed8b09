//! OpenSSH's key revocation lists (PROTOCOL.krl). Signatures in them are skipped: the file is as trusted as the
//! configuration that names it.

use thiserror::Error;

use super::revocation::{RevocationError, RevocationList};
use super::wire::Reader;

/// How a list begins.
pub(super) const MAGIC: [u8; 8] = *b"SSHKRL\n\0";

const FORMAT_VERSION: u32 = 1;

/// Numbers that one bitmap may span, as at OpenSSH.
const BITMAP_BITS_MAX: usize = 1 << 24;

/// Sections of a list.
mod section {
    pub(super) const CERTIFICATES: u8 = 1;
    pub(super) const EXPLICIT_KEY: u8 = 2;
    pub(super) const FINGERPRINT_SHA1: u8 = 3;
    pub(super) const SIGNATURE: u8 = 4;
    pub(super) const FINGERPRINT_SHA256: u8 = 5;
    pub(super) const EXTENSION: u8 = 255;
}

/// Sections of `CERTIFICATES`.
mod certificate_section {
    pub(super) const SERIAL_LIST: u8 = 0x20;
    pub(super) const SERIAL_RANGE: u8 = 0x21;
    pub(super) const SERIAL_BITMAP: u8 = 0x22;
    pub(super) const KEY_ID: u8 = 0x23;
    pub(super) const EXTENSION: u8 = 0x39;
}

/// What is wrong with a binary list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KrlError {
    /// It was cut, or is no list.
    #[error("its {0} cannot be read")]
    Field(&'static str),
    /// Of a version that we do not know.
    #[error("its format has version {0}; only {FORMAT_VERSION} is known here")]
    Version(u32),
    /// What it says may matter.
    #[error("it has a section of type {0:#x}, which is not known here")]
    Section(u8),
    /// It says itself that it cannot be relied on without.
    #[error("its critical extension `{}` is not known here", .0.escape_debug())]
    Extension(String),
    /// 0 stands for certificates without a number.
    #[error("it revokes serial number 0 or a range that ends before it begins")]
    Serial,
}

/// Adds what `bytes` revoke to `list`.
///
/// # Errors
/// What is wrong with them.
pub(super) fn parse(bytes: &[u8], list: &mut RevocationList) -> Result<(), RevocationError> {
    let mut reader = Reader::new(bytes);
    read_header(&mut reader)?;
    let mut signed = false;
    while let Some(kind) = reader.byte() {
        let data = reader.string().ok_or(KrlError::Field("section"))?;
        if kind == section::SIGNATURE {
            // `data` is the key of the signature, which follows.
            reader.string().ok_or(KrlError::Field("signature"))?;
            signed = true;
            continue;
        }
        // Whoever signed has not signed what stands behind the signature.
        if signed {
            return Err(KrlError::Field("part behind the signature").into());
        }
        let mut data = Reader::new(data);
        match kind {
            section::CERTIFICATES => read_certificates(&mut data, list)?,
            section::EXPLICIT_KEY => each(&mut data, "key", |blob| {
                let named = Reader::new(blob).string().is_some_and(|algorithm| !algorithm.is_empty());
                if named {
                    list.add_key(blob);
                }
                named.then_some(())
            })?,
            section::FINGERPRINT_SHA1 => each(&mut data, "SHA-1 fingerprint", |sum| {
                list.add_sha1(sum.try_into().ok()?);
                Some(())
            })?,
            section::FINGERPRINT_SHA256 => each(&mut data, "SHA-256 fingerprint", |sum| {
                list.add_sha256(sum.try_into().ok()?);
                Some(())
            })?,
            section::EXTENSION => read_extension(&mut data)?,
            unknown => return Err(KrlError::Section(unknown).into()),
        }
    }
    Ok(())
}

fn read_header(reader: &mut Reader<'_>) -> Result<(), KrlError> {
    let broken = || KrlError::Field("header");
    if reader.bytes(MAGIC.len()).is_none_or(|magic| magic != MAGIC) {
        return Err(broken());
    }
    let version = reader.uint32().ok_or_else(broken)?;
    if version != FORMAT_VERSION {
        return Err(KrlError::Version(version));
    }
    // The list's own version, when it was made, flags.
    for _ in 0..3 {
        reader.uint64().ok_or_else(broken)?;
    }
    // A reserved field and a comment.
    reader.string().and_then(|_| reader.string()).map(|_| ()).ok_or_else(broken)
}

fn read_certificates(reader: &mut Reader<'_>, list: &mut RevocationList) -> Result<(), RevocationError> {
    let authority = reader.string().ok_or(KrlError::Field("authority"))?;
    let authority = Some(authority).filter(|blob| !blob.is_empty());
    reader.string().ok_or(KrlError::Field("reserved field"))?;
    while let Some(kind) = reader.byte() {
        let data = reader.string().ok_or(KrlError::Field("section of certificates"))?;
        let mut data = Reader::new(data);
        match kind {
            certificate_section::SERIAL_LIST => {
                while !data.is_empty() {
                    let number = serial(&mut data)?;
                    list.add_serials(authority, number, number)?;
                }
            }
            certificate_section::SERIAL_RANGE => {
                let (lowest, highest) = (serial(&mut data)?, serial(&mut data)?);
                if lowest > highest {
                    return Err(KrlError::Serial.into());
                }
                list.add_serials(authority, lowest, highest)?;
            }
            certificate_section::SERIAL_BITMAP => {
                let offset = data.uint64().ok_or(KrlError::Field("bitmap"))?;
                let set = bitmap(offset, data.string().ok_or(KrlError::Field("bitmap"))?)?;
                if !set.is_empty() {
                    list.add_bitmap(authority, offset, set)?;
                }
            }
            certificate_section::KEY_ID => {
                while !data.is_empty() {
                    let id = data.string().ok_or(KrlError::Field("key id"))?;
                    list.add_key_id(authority, id)?;
                }
            }
            certificate_section::EXTENSION => read_extension(&mut data)?,
            unknown => return Err(KrlError::Section(unknown).into()),
        }
        if !data.is_empty() {
            return Err(KrlError::Field("section of certificates").into());
        }
    }
    Ok(())
}

fn serial(reader: &mut Reader<'_>) -> Result<u64, KrlError> {
    let serial = reader.uint64().ok_or(KrlError::Field("serial number"))?;
    if serial == 0 { Err(KrlError::Serial) } else { Ok(serial) }
}

/// The bits without leading zeros.
fn bitmap(offset: u64, number: &[u8]) -> Result<&[u8], KrlError> {
    let leading = number.iter().take_while(|byte| **byte == 0).count();
    let bits = number.get(leading..).unwrap_or_default();
    let count = bits.len().saturating_mul(8);
    if count > BITMAP_BITS_MAX {
        return Err(KrlError::Field("bitmap"));
    }
    let unused = bits.first().map_or(0, |first| first.leading_zeros());
    let highest = (count as u64).saturating_sub(u64::from(unused) + 1);
    let revokes_zero = offset == 0 && bits.last().is_some_and(|last| last & 1 == 1);
    if revokes_zero || offset.checked_add(highest).is_none() {
        return Err(KrlError::Serial);
    }
    Ok(bits)
}

/// Extensions are `name`, `critical`, `data`; we know none.
fn read_extension(reader: &mut Reader<'_>) -> Result<(), KrlError> {
    let broken = || KrlError::Field("extension");
    let name = reader.string().ok_or_else(broken)?;
    let critical = reader.byte().ok_or_else(broken)?;
    reader.string().ok_or_else(broken)?;
    if !reader.is_empty() {
        return Err(broken());
    }
    if critical == 0 { Ok(()) } else { Err(KrlError::Extension(String::from_utf8_lossy(name).into_owned())) }
}

/// Hands each string of a section to `take`, which returns `None` for one that makes no sense.
fn each(
    reader: &mut Reader<'_>,
    what: &'static str,
    mut take: impl FnMut(&[u8]) -> Option<()>,
) -> Result<(), KrlError> {
    while !reader.is_empty() {
        reader.string().and_then(&mut take).ok_or(KrlError::Field(what))?;
    }
    Ok(())
}
