//! What is said over the control socket: one line of JSON with a request, then lines of JSON with what comes of it. Strings
//! in it may hold what clients put there; whoever shows them escapes them.

use serde::{Deserialize, Serialize};

/// Of what is said. A server that is asked in another one says which it knows.
pub const VERSION: u32 = 1;

/// Longest request, in bytes. Past it the asker is told so.
pub const REQUEST_BYTES_MAX: u64 = 64 * 1024;

/// A line from the asker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// [`VERSION`].
    pub version: u32,
    /// What is wanted.
    pub request: Request,
}

/// A line from the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// [`VERSION`].
    pub version: u32,
    /// What comes of the request.
    pub answer: Answer,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// What lives. One [`Answer::Living`].
    Ps,
    /// Ends connections: all that are named, or none. [`Answer::Ending`], then [`Answer::Ended`].
    Kill {
        /// Ids, or how they begin.
        #[serde(default)]
        connections: Vec<String>,
        /// Also all of this user.
        #[serde(default)]
        user: Option<String>,
        /// What their users are told.
        #[serde(default)]
        reason: String,
        /// How long to wait until they are gone.
        wait_seconds: u64,
    },
    /// Ends the server once its sessions have ended. One [`Answer::Draining`]; with `wait`, one each time that there are
    /// fewer connections, and [`Answer::Down`] at the end.
    Drain {
        /// Whether to stay until the end.
        wait: bool,
    },
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Answer {
    /// Nothing, for this reason.
    Refused {
        /// For people.
        reason: String,
    },
    /// What lives.
    Living(Living),
    /// These are being ended.
    Ending {
        /// Their ids.
        connections: Vec<String>,
    },
    /// What came of it.
    Ended {
        /// These are gone, with their containers.
        ended: Vec<String>,
        /// These are still there.
        left: Vec<String>,
    },
    /// The server is going down.
    Draining {
        /// Connections that are left.
        connections: usize,
        /// At most until it is down.
        within_seconds: u64,
    },
    /// The server is about to exit.
    Down {
        /// Whether all containers are gone.
        clean: bool,
    },
}

/// A server and what lives on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Living {
    /// The server itself.
    pub server: Server,
    /// Oldest first.
    pub connections: Vec<Connection>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Of the program.
    pub version: String,
    /// Whose containers it has: the label `coracle.instance`.
    pub instance: String,
    /// Its process.
    pub pid: u32,
    /// For how long it has run.
    pub seconds: f64,
    /// Whether it is going down.
    pub draining: bool,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// As users are told it.
    pub id: String,
    /// Address and port.
    pub client: String,
    /// `connected`; `greeted`: it speaks SSH; `logged-in`; `ending`.
    pub stage: String,
    /// Once it has logged in.
    pub user: Option<String>,
    /// What it proved: `publicKey+totp`.
    pub methods: Option<String>,
    /// Empty for what everybody gets.
    pub profile: Option<String>,
    /// What the client calls itself.
    pub version: Option<String>,
    /// When it came, as RFC 3339 has it.
    pub since: String,
    /// For how long it has been there.
    pub seconds: f64,
    /// The container that all of it has.
    pub container: Option<Container>,
    /// What runs.
    pub sessions: Vec<Session>,
    /// What it has dialled and not closed yet (`ssh -L`, `-D`, `-W`).
    pub forwards: u64,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The engine's id, once there is one.
    pub id: Option<String>,
    /// `starting`, `running`, `failed`, `lost`.
    pub state: String,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Which of the connection's, from 1.
    pub number: u32,
    /// `shell`, `exec`, `subsystem`.
    pub request: String,
    /// The command or the subsystem's name, cut where it is long.
    pub detail: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// For how long it has been there.
    pub seconds: f64,
    /// Its own, where it does not use the connection's.
    pub container: Option<Container>,
}
