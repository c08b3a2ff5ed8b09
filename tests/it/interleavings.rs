//! Everything that can come between, at every moment of a session (L6, L7, I8, I9): whatever happens, no container
//! is left, and the client reads a reason or gets its program's own end.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tempfile::TempDir;

use crate::harness::{
    Fault, FaultProxy, Output, Registry, Running, TINY, TestServer, call, launcher, poll_until,
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
    let pairs = EVENTS.into_iter().flat_map(|event| moments.iter().map(move |moment| (event, *moment)));

    let cases = pairs.map(|(event, moment)| {
        // A case that fails panics; the others are walked all the same.
        let case = AssertUnwindSafe(walk(event, moment, &image)).catch_unwind();
        case.map(move |result| result.err().map(|_| (event, moment)))
    });
    let failed = futures::stream::iter(cases).buffer_unordered(AT_ONCE);
    let failed: Vec<_> = failed.filter_map(std::future::ready).collect().await;

    assert!(failed.is_empty(), "{} cases failed: {failed:#?}", failed.len());
}

/// One case from its start to its end; it fails by panicking with the case in its words.
async fn walk(event: Event, moment: Moment, image: &str) {
    let case = Case::start(event, moment, image).await;
    let client = case.spoil().await;
    case.check(client).await;
}

impl Case {
    async fn start(event: Event, moment: Moment, image: &str) -> Self {
        let folder = TempDir::with_prefix("coracle-it-between-").unwrap();
        let engine = FaultProxy::listen(folder.path());
        let pulls = moment == Moment::During(call::PULL);
        let (image, policy) = if pulls { (image, "Always") } else { (TINY, "Never") };
        let server = TestServer::builder().image(image).pull_policy(policy).docker_host(&engine.url());
        // A slow engine overruns the launch's time-out; a busy machine must not.
        let overruns = event == Event::EngineIsSlow && moment.is_of_the_launch();
        let server = server
            .docker_config(if overruns { "timeout: 3s" } else { "timeout: 30s" })
            .section("shutdown: {grace: 1s}")
            .start()
            .await;
        engine.take();
        Self { event, moment, engine, server, _folder: folder }
    }

    /// Runs a client up to the moment, and lets the event happen.
    async fn spoil(&self) -> Running {
        let Moment::During(call) = self.moment else {
            let mut client = self.server.ssh(&["echo started; sleep 1; echo more; sleep 3; exit 7"]).spawn();
            client.wait_for("started").await;
            return self.happen(client);
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
        let client = self.server.ssh(&["exit 7"]).spawn();
        self.engine.wait_for(call).await;
        self.happen(client)
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
        let what = format!("the client's end: {:?} at {:?}\n", self.event, self.moment);
        poll_until(&what, DEADLINE, async || client.has_ended().then_some(())).await;
        let output = client.end().await;
        if self.event != Event::ClientLeaves {
            self.assert_told_or_ended(&output);
        }
        self.engine.mend();
        if self.event == Event::EngineGoesAway {
            self.engine.come_back();
        }
        if self.event == Event::ServerDrains {
            self.server.assert_ends_within(DEADLINE).await;
        } else {
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
            eprintln!("{:?} at {:?}: {}", self.event, self.moment, output.stderr().trim());
            output.assert_told("");
        }
    }
}
