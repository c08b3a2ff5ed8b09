//! What some events have more of to tell than a few words.

use serde::Serialize;

/// A certificate (OpenSSH's PROTOCOL.certkeys) that somebody logs in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vouched {
    /// What its authority calls it.
    pub id: String,
    /// Its number.
    pub serial: u64,
    /// `SHA256:…` of its authority's key.
    pub authority: String,
}

/// Something was done to a file, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deed {
    /// `open-read`, `open-write`, `open-read-write`, `close`, `list`, `remove`, `mkdir`, `rmdir`, `rename`, `link`,
    /// `symlink`, `setstat`, `copy`, `extended`.
    pub action: &'static str,
    /// Which; for `symlink` the new one, for `extended` the name of the request.
    pub path: String,
    /// The new name, what a symbolic link leads to, or what was copied into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What was changed, by `setstat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// `ok`, or why not; `unanswered` where the session ended before.
    pub outcome: &'static str,
    /// With `close`: bytes read from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// With `close`: bytes written to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
}
