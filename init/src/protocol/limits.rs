//! Bounds of what one side takes from the other.

/// Bytes of one frame's body. The kernel takes at most 128 KiB for one argument and a few MiB for all.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Bytes of one whole frame.
pub const FRAME_BYTES_MAX: usize = BODY_BYTES_MAX + super::wire::HEADER_BYTES;

/// Bytes of data in one frame, where streams travel in frames.
pub const DATA_BYTES_MAX: usize = 32 << 10;

/// Bytes of one stream that may be on their way, before the other side has said that it took some.
pub const WINDOW_BYTES: u32 = 256 << 10;

/// Strings in one list: arguments, or variables.
pub const STRINGS_MAX: usize = 4096;

/// Terminal modes of one program; RFC 4254 §8 knows about sixty.
pub const MODES_MAX: usize = 256;

/// Bytes of the text that says why a program could not be started.
pub const REASON_BYTES_MAX: usize = 1024;

/// Bytes of a path, or of an address, that the init tells.
pub const PATH_BYTES_MAX: usize = 256;
