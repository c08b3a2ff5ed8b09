//! What is to be changed about a file (draft-ietf-secsh-filexfer-02 §5), in a few words.

use std::fmt::Write as _;

use super::frames::Fields;

/// `size=0 owner=0:0 mode=600 times`. What cannot be read is left out.
pub(super) fn shown(fields: &mut Fields<'_>) -> String {
    let mut text = String::new();
    // A field that is missing ends it.
    describe(fields, &mut text).unwrap_or_default();
    text.trim_start().to_owned()
}

fn describe(fields: &mut Fields<'_>, text: &mut String) -> Option<()> {
    let flags = fields.u32()?;
    if flags & 1 != 0 {
        write!(text, " size={}", fields.u64()?).ok()?;
    }
    if flags & 2 != 0 {
        write!(text, " owner={}:{}", fields.u32()?, fields.u32()?).ok()?;
    }
    if flags & 4 != 0 {
        write!(text, " mode={:o}", fields.u32()? & 0o7777).ok()?;
    }
    if flags & 8 != 0 {
        text.push_str(" times");
    }
    Some(())
}
