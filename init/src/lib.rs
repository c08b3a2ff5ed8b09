//! What the server and the first process of a container say to each other. All that they share is this.
//!
//! The bytes are described in `docs/init-protocol.md`. Both sides take the other for hostile: a decoder never trusts a
//! length, holds at most one frame, and answers anything odd with [`Malformed`], after which the connection is over.

mod protocol;

pub use protocol::forward::{Address, DISPLAY_MIN, DISPLAY_PORT, Dial, Failure, Listen};
pub use protocol::from_init::FromInit;
pub use protocol::limits::{
    BODY_BYTES_MAX, DATA_BYTES_MAX, FRAME_BYTES_MAX, MODES_MAX, PATH_BYTES_MAX, REASON_BYTES_MAX,
    STRINGS_MAX, WINDOW_BYTES,
};
pub use protocol::start::{Program, Start, Terminal};
pub use protocol::to_init::ToInit;
pub use protocol::wire::Malformed;
pub use protocol::{Exit, OutputStream, Token, VERSION};
