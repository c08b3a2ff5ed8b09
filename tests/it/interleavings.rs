//! Everything that can come between, at every moment of a session (L6, L7, I8, I9): whatever happens, no container
//! is left, and the client reads a reason or gets its program's own end.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::{
    Client, Fault, FaultProxy, Output, Registry, Running, TINY, TestServer, call, free_port, launcher,
    poll_until,
};

/// Cases at a time: each has a server, a client and a container.
const AT_ONCE: usize = 3;
/// Longer than any time-out that may be running.
const DEADLINE: Duration = Duration::from_secs(40);
/// How late a slow engine answers.
const LATENESS: Duration = Duration::from_secs(5);

/// What comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    ClientLeaves,
    EngineFails,
    EngineGoesAway,
    EngineIsSlow,
    ServerDrains,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// While the engine has this request.
    During(&'static str),
    /// While the program's output flows.
    Streaming,
}

const EVENTS: [Event; 5] = [
    Event::ClientLeaves,
    Event::EngineFails,
    Event::EngineGoesAway,
    Event::EngineIsSlow,
    Event::ServerDrains,
];
const MOMENTS: [Moment; 8] = [
    Moment::During(call::PULL),
    Moment::During(call::CREATE),
    Moment::During(call::START),
    Moment::During(call::EXEC_CREATE),
    Moment::During(call::EXEC_START),
    Moment::Streaming,
    Moment::During(call::INSPECT),
    Moment::During(call::REMOVE),
];

/// Without the requests that are made for programs where the engine starts them.
const MOMENTS_WITH_INIT: [Moment; 6] = [
    Moment::During(call::PULL),
    Moment::During(call::IMAGE),
    Moment::During(call::CREATE),
    Moment::During(call::START),
    Moment::Streaming,
    Moment::During(call::REMOVE),
];

/// The moments at which forwards make a difference: they are being made, are busy, or go.
const MOMENTS_OF_FORWARDS: [Moment; 3] =
    [Moment::During(call::EXEC_START), Moment::Streaming, Moment::During(call::REMOVE)];

/// What the client does meanwhile, besides its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Nothing,
    /// `-L` and `-R`, with data without end.
    Forwards,
}

/// What runs inside for [`Habit::Forwards`]: by `-L` and `-R` comes all that somebody reads.
const BUSY: &str =
    "nc -ll -p 7001 -e yes 2>/dev/null & listener=$!; yes | nc 127.0.0.1 7002 >/dev/null 2>&1 & talker=$!;";
/// Connections of forwards outlive the program, and hold up its client. By their numbers first: just started, they may not have
/// their names yet.
const NO_MORE: &str = "kill $listener $talker 2>/dev/null; killall nc yes 2>/dev/null";
/// Comes by either before anything happens.
const ENOUGH: usize = 1_000_000;

impl Moment {
    fn is_of_the_launch(self) -> bool {
        [call::PULL, call::IMAGE, call::CREATE, call::START]
            .into_iter()
            .any(|call| self == Self::During(call))
    }
}

struct Case {
    event: Event,
    moment: Moment,
    habit: Habit,
    engine: FaultProxy,
    server: TestServer,
    _folder: TempDir,
}

/// L6, L7, I8, I9
#[tokio::test]
async fn whatever_comes_between_leaves_nothing_and_says_why() {
    let mut registry = Registry::start().await;
    let image = registry.push(TINY, "between:1").await;
    let moments = if launcher() == "init" { MOMENTS_WITH_INIT.as_slice() } else { MOMENTS.as_slice() };
    let plain = EVENTS.into_iter().flat_map(|event| moments.iter().map(move |moment| (event, *moment)));
    let of_forwards = MOMENTS_OF_FORWARDS.into_iter().filter(|moment| moments.contains(moment));
    let forwarding = of_forwards.flat_map(|moment| EVENTS.map(|event| (event, moment)));
    let plain = plain.map(|(event, moment)| (event, moment, Habit::Nothing));
    let all = plain.chain(forwarding.map(|(event, moment)| (event, moment, Habit::Forwards)));

    let cases = all.map(|(event, moment, habit)| {
        // A case that fails panics; the others are walked all the same.
        let case = AssertUnwindSafe(walk(event, moment, habit, &image)).catch_unwind();
        case.map(move |result| {
            result.err().map(|panic| format!("{event:?} at {moment:?} with {habit:?}: {}", words_of(&*panic)))
        })
    });
    let failed = futures::stream::iter(cases).buffer_unordered(AT_ONCE);
    let failed: Vec<_> = failed.filter_map(std::future::ready).collect().await;

    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n== "));
}

/// What a panic said.
fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words")
}

/// One case from its start to its end; it fails by panicking with the case in its words.
async fn walk(event: Event, moment: Moment, habit: Habit, image: &str) {
    let case = Case::start(event, moment, habit, image).await;
    let client = case.spoil().await;
    case.check(client).await;
}

impl Case {
    async fn start(event: Event, moment: Moment, habit: Habit, image: &str) -> Self {
        let folder = TempDir::with_prefix("coracle-it-between-").unwrap();
        let engine = FaultProxy::listen(folder.path());
        let pulls = moment == Moment::During(call::PULL);
        let (image, policy) = if pulls { (image, "Always") } else { (TINY, "Never") };
        let server = TestServer::builder().image(image).pull_policy(policy).docker_host(&engine.url());
        let server = if habit == Habit::Forwards { server.forwarding() } else { server };
        // A slow engine overruns the launch's time-out; a busy machine must not.
        let overruns = event == Event::EngineIsSlow && moment.is_of_the_launch();
        let server = server
            .docker_config(if overruns { "timeout: 3s" } else { "timeout: 30s" })
            .section("shutdown: {grace: 1s}")
            .start()
            .await;
        if habit == Habit::Forwards && moment == Moment::During(call::REMOVE) {
            // The first login fills a volume by a container of its own. One that cannot be removed waits for the reaper's
            // next round, and that is too long here.
            server.ssh(&["true"]).output().await.assert_success();
            server.assert_all_gone_within(DEADLINE).await;
        }
        engine.take();
        Self { event, moment, habit, engine, server, _folder: folder }
    }

    /// Runs a client up to the moment, and lets the event happen.
    async fn spoil(&self) -> Running {
        let Moment::During(call) = self.moment else {
            return self.happen(self.stream().await);
        };
        self.engine.spoil(
            call,
            match self.event {
                Event::EngineFails => Fault::Fail(500, "the disk is full"),
                Event::EngineIsSlow => Fault::Late(LATENESS),
                // Long enough for the event to come between.
                Event::ClientLeaves | Event::EngineGoesAway | Event::ServerDrains => {
                    Fault::Late(Duration::from_millis(700))
                }
            },
        );
        let client = match self.habit {
            Habit::Nothing => self.server.ssh(&["exit 7"]).spawn(),
            Habit::Forwards => {
                let command = format!("{BUSY} {NO_MORE}; exit 7");
                self.forwarding(free_port(), &Arc::default(), &command).await.spawn()
            }
        };
        self.engine.wait_for(call).await;
        self.happen(client)
    }

    /// A client whose program's output flows, and whatever else it does.
    async fn stream(&self) -> Running {
        let script = "sleep 1; echo more; sleep 3;";
        if self.habit == Habit::Nothing {
            let mut client = self.server.ssh(&[&format!("echo started; {script} exit 7")]).spawn();
            client.wait_for("started").await;
            return client;
        }
        let (by_local, by_remote) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let here = free_port();
        // It goes on when there is data, however long that takes.
        let command = format!("{BUSY} echo started; read enough; {script} {NO_MORE}; exit 7");
        let mut client = self.forwarding(here, &by_remote, &command).await.spawn();
        client.wait_for("started").await;
        let mut counting: Option<JoinHandle<()>> = None;
        poll_until("data by -L and -R", DEADLINE, async || {
            // `nc` may not have listened yet. One at a time: those whom it has no time to take in before it is killed are
            // not told by anybody (their handshake is the kernel's alone), and would hold up the client.
            if counting.as_ref().is_none_or(JoinHandle::is_finished)
                && let Ok(peer) = TcpStream::connect(("127.0.0.1", here)).await
            {
                counting = Some(tokio::spawn(count(peer, Arc::clone(&by_local))));
            }
            [&by_local, &by_remote].iter().all(|count| count.load(Relaxed) > ENOUGH).then_some(())
        })
        .await;
        client.write(b"\n").await;
        client
    }

    /// `-L` from this port, and `-R` to somebody who counts what comes.
    async fn forwarding(&self, here: u16, counted: &Arc<AtomicUsize>, command: &str) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap().port();
        let counted = Arc::clone(counted);
        tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                tokio::spawn(count(peer, Arc::clone(&counted)));
            }
        });
        let client = self.server.ssh(&[command]);
        client.args(["-L", &format!("{here}:127.0.0.1:7001"), "-R", &format!("7002:127.0.0.1:{there}")])
    }

    fn happen(&self, mut client: Running) -> Running {
        match self.event {
            Event::ClientLeaves => client.kill(),
            Event::ServerDrains => self.server.terminate(),
            Event::EngineGoesAway => self.engine.go_away(),
            Event::EngineFails if self.moment == Moment::Streaming => {
                self.engine.spoil(call::ANY, Fault::Fail(500, "the disk is full"));
            }
            Event::EngineIsSlow if self.moment == Moment::Streaming => {
                self.engine.spoil(call::ANY, Fault::Late(LATENESS));
            }
            Event::EngineFails | Event::EngineIsSlow => {}
        }
        client
    }

    async fn check(mut self, mut client: Running) {
        let what = format!("the client's end: {:?} at {:?} with {:?}\n", self.event, self.moment, self.habit);
        poll_until(&what, DEADLINE, async || client.has_ended().then_some(())).await;
        let output = client.end().await;
        self.engine.mend();
        if self.event == Event::EngineGoesAway {
            self.engine.come_back();
        }
        if self.event == Event::ServerDrains {
            self.server.assert_ends_within(DEADLINE).await;
        }
        // A client that still waits for a listener has no session yet in which it could be told.
        let has_session = self.habit == Habit::Nothing || !self.server.log.text().contains("forward failed");
        let unheard = self.event == Event::ServerDrains && !has_session && output.stderr().is_empty();
        if self.event != Event::ClientLeaves && !unheard {
            self.assert_told_or_ended(&output);
        }
        if self.event != Event::ServerDrains {
            self.server.assert_all_gone_within(DEADLINE).await;
            // Two seconds for a container can be short on a busy machine.
            poll_until(&format!("a login that works, after {what}"), DEADLINE, async || {
                (self.server.ssh(&["exit 7"]).output().await.code() == 7).then_some(())
            })
            .await;
            self.server.assert_all_gone_within(DEADLINE).await;
            self.server.stop().await;
        }
    }

    fn assert_told_or_ended(&self, output: &Output) {
        let clean = output.code() == 7 && output.stderr().is_empty();
        if !clean {
            eprintln!(
                "{:?} at {:?} with {:?}: {}",
                self.event,
                self.moment,
                self.habit,
                output.stderr().trim()
            );
            output.assert_told("");
        }
    }
}

/// Adds up what comes, to its end.
async fn count(mut peer: TcpStream, counted: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = peer.read(&mut buffer).await {
        counted.fetch_add(read, Relaxed);
    }
}
