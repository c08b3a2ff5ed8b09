//! The control socket: a Unix socket that answers root and the server's own user, and nobody else.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, UCred};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{Config, Socket};
use super::protocol::{Answer, Living, Question, REQUEST_BYTES_MAX, Reply, Request, Server, VERSION};
use super::register::Register;
use crate::ids::{ConnectionId, InstanceId};
use crate::session::{Cut, Registry};
use crate::shutdown::Drain;

/// Askers at a time. Past it they wait to be accepted.
const ASKERS_MAX: usize = 32;

/// How long an asker has to say what it wants; past it it is left.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an asker has to take an answer; past it it is left.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that an asker may wait for the end of connections; who asks for more waits so long.
const KILL_WAIT_MAX: Duration = Duration::from_mins(5);

/// Between two lines to somebody who waits for the end of a drain, at most: whoever has gone is noticed so.
const BEAT: Duration = Duration::from_secs(2);

/// After an accept that failed, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long those who wait for the end have to hear of it.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest reason that users are told, in characters; past it it is cut.
const REASON_CHARS_MAX: usize = 200;

/// A socket that is listened on; its name goes with it.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    /// To tell our name from one that somebody else made meanwhile.
    file: (u64, u64),
}

impl Bound {
    /// The socket of this configuration, if there is to be one. One in the state folder that cannot be made costs no more
    /// than a warning; the state folder has to be locked.
    ///
    /// # Errors
    /// There is something else in its place, another server answers there, or it cannot be made.
    pub async fn of(config: &Config, state_dir: &Path) -> anyhow::Result<Option<Self>> {
        let Some(path) = config.path(state_dir) else { return Ok(None) };
        let bound = Self::make(&path).await;
        let bound = bound.with_context(|| format!("failed to make the control socket `{}`", path.display()));
        match bound {
            Err(error) if config.socket == Socket::Auto => {
                let error = format!("{error:#}");
                tracing::warn!(error, "`coracle ps`, `kill` and `drain` do not work");
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    async fn make(path: &Path) -> anyhow::Result<Self> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(found) if !found.file_type().is_socket() => bail!("there is something else of this name"),
            Ok(_) => match UnixStream::connect(path).await {
                Ok(_) => bail!("another server answers there"),
                // What a killed server left.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error.into()),
            },
        }
        // Made aside and renamed: it is never there with other permissions, nor without somebody who listens.
        let aside = path.with_extension("new");
        if fs::symlink_metadata(&aside).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(&aside)?;
        }
        let listener = UnixListener::bind(&aside)?;
        fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
        let found = fs::symlink_metadata(&aside)?;
        fs::rename(&aside, path)?;
        Ok(Self { listener, path: path.to_owned(), file: (found.dev(), found.ino()) })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if found.is_ok_and(|found| found == self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "the control socket's name stays");
        }
    }
}

/// What can be asked and told over the control socket.
#[derive(Clone, Debug)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    register: Arc<Register>,
    registry: Registry,
    drain: Drain,
    instance: InstanceId,
    begun: Instant,
    /// From the beginning of a drain until the server is down, at most.
    drain_at_most: Duration,
    drain_wanted: CancellationToken,
    /// Set at the end: whether all containers are gone.
    down: watch::Sender<Option<bool>>,
    tasks: TaskTracker,
}

impl Control {
    /// For a server that is down `drain_at_most` after `drain` has begun.
    #[must_use]
    pub fn new(
        register: Arc<Register>,
        registry: Registry,
        drain: Drain,
        instance: InstanceId,
        drain_at_most: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            register,
            registry,
            drain,
            instance,
            begun: Instant::now(),
            drain_at_most,
            drain_wanted: CancellationToken::new(),
            down: watch::Sender::new(None),
            tasks: TaskTracker::new(),
        }))
    }

    /// Answers there until [`Control::close`].
    pub fn serve(&self, bound: Bound) {
        self.0.tasks.spawn(self.clone().accept(bound));
    }

    /// Waits until somebody wants the server to end. Cancel safe.
    pub async fn drain_wanted(&self) {
        self.0.drain_wanted.cancelled().await;
    }

    /// Tells those who wait for it that the server is down, and answers nobody any more.
    pub async fn close(&self, clean: bool) {
        self.0.down.send_replace(Some(clean));
        self.0.tasks.close();
        if timeout(FAREWELL_TIMEOUT, self.0.tasks.wait()).await.is_err() {
            tracing::debug!("somebody at the control socket does not read");
        }
    }

    async fn accept(self, bound: Bound) {
        let places = Arc::new(Semaphore::new(ASKERS_MAX));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, bound.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                accepted = accepted => accepted,
                _ = self.down() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let control = self.clone();
                    self.0.tasks.spawn(async move {
                        if let Err(error) = control.attend(stream).await {
                            tracing::debug!(%error, "an asker at the control socket has gone");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn attend(&self, stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?;
        let (read, write) = stream.into_split();
        let mut asker = Asker(write);
        let line = tokio::select! {
            line = timeout(REQUEST_TIMEOUT, read_line(read)) => line.map_err(io::Error::from)??,
            _ = self.down() => return Ok(()),
        };
        let own = rustix::process::geteuid().as_raw();
        if peer.uid() != 0 && peer.uid() != own {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "refused at the control socket");
            let reason = format!("this socket is for root and for the user {own}, whom the server runs as");
            return asker.tell(Answer::Refused { reason }).await;
        }
        match understood(&line) {
            Err(reason) => asker.tell(Answer::Refused { reason }).await,
            Ok(Request::Ps) => asker.tell(Answer::Living(self.living())).await,
            Ok(Request::Kill { connections, user, reason, wait_seconds }) => {
                match self.find(&connections, user.as_deref()) {
                    Err(reason) => asker.tell(Answer::Refused { reason }).await,
                    Ok(ids) => {
                        let (reason, wait) = (one_line(&reason), Duration::from_secs(wait_seconds));
                        let sentence = Sentence { ids, reason, wait: wait.min(KILL_WAIT_MAX) };
                        self.kill(&mut asker, &peer, sentence).await
                    }
                }
            }
            Ok(Request::Drain { wait }) => self.drain(&mut asker, &peer, wait).await,
        }
    }

    fn living(&self) -> Living {
        let Inner { register, registry, drain, instance, begun, .. } = &*self.0;
        let server = Server {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: instance.to_string(),
            pid: std::process::id(),
            seconds: begun.elapsed().as_secs_f64().round(),
            draining: drain.begun.is_cancelled(),
        };
        Living { server, connections: register.connections(registry) }
    }

    /// Whom these words mean: all of them somebody, or none.
    fn find(&self, named: &[String], user: Option<&str>) -> Result<Vec<ConnectionId>, String> {
        let live = self.0.registry.connections();
        let mut found = Vec::new();
        for name in named {
            let shown = name.escape_debug();
            let begun: Vec<_> =
                live.iter().filter(|id| !name.is_empty() && id.as_str().starts_with(name.as_str())).collect();
            match begun.as_slice() {
                [only] => found.push((*only).clone()),
                [] => return Err(format!("no connection `{shown}`; `coracle ps` shows what there is")),
                several => {
                    let ids: Vec<_> = several.iter().take(5).map(|id| id.as_str()).collect();
                    let (count, ids) = (several.len(), ids.join(", "));
                    return Err(format!("`{shown}` may be any of {count} connections, such as {ids}"));
                }
            }
        }
        if let Some(user) = user {
            let theirs = self.0.register.of_user(user);
            if theirs.is_empty() {
                return Err(format!("`{}` has no connection", user.escape_debug()));
            }
            found.extend(theirs);
        }
        found.sort();
        found.dedup();
        if found.is_empty() { Err("no connection was named".to_owned()) } else { Ok(found) }
    }

    async fn kill(&self, asker: &mut Asker, peer: &UCred, sentence: Sentence) -> io::Result<()> {
        let Sentence { ids, reason, wait } = sentence;
        let registry = &self.0.registry;
        let words = |ids: &[ConnectionId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let connections = words(&ids);
        tracing::info!(
            uid = peer.uid(),
            pid = peer.pid(),
            ?connections,
            ?reason,
            "ending connections, as asked"
        );
        for id in &ids {
            if !registry.end(id, Cut::Operator(reason.clone())) {
                tracing::debug!(connection = %id, "left before it was ended");
            }
        }
        asker.tell(Answer::Ending { connections }).await?;
        tokio::select! {
            _ = timeout(wait, registry.gone(&ids)) => {}
            _ = self.down() => {}
        }
        let live = registry.connections();
        let (left, ended): (Vec<_>, Vec<_>) = ids.iter().cloned().partition(|id| live.contains(id));
        asker.tell(Answer::Ended { ended: words(&ended), left: words(&left) }).await
    }

    async fn drain(&self, asker: &mut Asker, peer: &UCred, wait: bool) -> io::Result<()> {
        let Inner { registry, drain_wanted, drain_at_most, .. } = &*self.0;
        tracing::info!(uid = peer.uid(), pid = peer.pid(), "draining, as asked");
        drain_wanted.cancel();
        let within_seconds = drain_at_most.as_secs();
        asker.tell(Answer::Draining { connections: registry.count(), within_seconds }).await?;
        if !wait {
            return Ok(());
        }
        loop {
            tokio::select! {
                clean = self.down() => return asker.tell(Answer::Down { clean }).await,
                () = registry.fewer() => {}
                () = sleep(BEAT) => {}
            }
            asker.tell(Answer::Draining { connections: registry.count(), within_seconds }).await?;
        }
    }

    /// Waits for the end, and says whether all containers are gone. Cancel safe.
    async fn down(&self) -> bool {
        let mut down = self.0.down.subscribe();
        match down.wait_for(Option::is_some).await {
            Ok(clean) => clean.unwrap_or_default(),
            // The sender is ours: it cannot have gone.
            Err(_) => false,
        }
    }
}

/// Connections that are to end.
struct Sentence {
    ids: Vec<ConnectionId>,
    /// What their users are told.
    reason: String,
    /// Until they are gone, at most.
    wait: Duration,
}

/// Somebody who asked something.
struct Asker(OwnedWriteHalf);

impl Asker {
    async fn tell(&mut self, answer: Answer) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Reply { version: VERSION, answer })?;
        line.push(b'\n');
        timeout(ANSWER_TIMEOUT, self.0.write_all(&line)).await?
    }
}

async fn read_line(from: OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(from.take(REQUEST_BYTES_MAX + 1)).read_until(b'\n', &mut line).await?;
    Ok(line)
}

fn understood(line: &[u8]) -> Result<Request, String> {
    /// What every version has.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    if line.len() as u64 > REQUEST_BYTES_MAX {
        return Err(format!("a request has at most {REQUEST_BYTES_MAX} bytes"));
    }
    match serde_json::from_slice::<Versioned>(line) {
        Ok(Versioned { version: VERSION }) => {}
        Ok(Versioned { version }) => {
            return Err(format!(
                "this server speaks version {VERSION} of the control protocol, not {version}; use the `coracle` that it was started with"
            ));
        }
        Err(error) => return Err(format!("this is no request: {error}")),
    }
    serde_json::from_slice(line)
        .map(|Question { request, .. }| request)
        .map_err(|error| format!("this is no request: {error}"))
}

/// What users are told goes to their terminals.
fn one_line(text: &str) -> String {
    let words = text.split(|letter: char| letter.is_control() || letter.is_whitespace());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(REASON_CHARS_MAX).collect()
}
