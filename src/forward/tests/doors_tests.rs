//! What programs are told of the client's agent and display.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::callers::{Answer, Asked};
use super::{DEADLINE, container, until};
use crate::engine::fake::{Call, FakeEngine, Fault, Step};
use crate::engine::{Container, EngineError};
use crate::forward::x11::PROTOCOL;
use crate::forward::{Door, Doors, MakeReception, Manner, Opener, Reception};
use crate::identity::Identity;
use crate::ids::{ConnectionId, Username};
use crate::policy::{ListenPermit, PolicyConfig, Rules, decide_agent, decide_display};
use crate::secret::Secret;
use crate::session::Provision;

fn rules() -> Rules {
    let everything = r#"{"forwarding": {"agent": "enable", "x11": "enable"}}"#;
    Rules::default().narrowed_by(&serde_json::from_str::<PolicyConfig>(everything).unwrap())
}

fn agent() -> ListenPermit {
    decide_agent(&rules(), &Identity::proven(Username::parse("alice").unwrap())).unwrap()
}

fn display() -> ListenPermit {
    let identity = Identity::proven(Username::parse("alice").unwrap());
    decide_display(&rules(), &identity, PROTOCOL, Secret::new(vec![7; 16])).unwrap()
}

/// A connection whose programs start.
struct House {
    engine: FakeEngine,
    container: Arc<dyn Container>,
    client: Arc<Asked>,
    agent: Arc<Door>,
    display: Arc<Door>,
    over: CancellationToken,
    tasks: TaskTracker,
}

impl House {
    async fn new() -> Self {
        let (engine, container) = container().await;
        Self {
            engine,
            container,
            client: Asked::who(Answer::Takes),
            agent: Arc::default(),
            display: Arc::default(),
            over: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    fn reception(&self) -> MakeReception {
        let (client, over, tasks) = (Arc::clone(&self.client), self.over.clone(), self.tasks.clone());
        Box::new(move || Reception {
            opener: Arc::clone(&client) as Arc<dyn Opener>,
            manner: Manner::Plain,
            places: Arc::new(Semaphore::new(9)),
            tasks: tasks.clone(),
            sessions: TaskTracker::new(),
            until: Box::pin(over.clone().cancelled_owned()),
        })
    }

    /// The variables that a program gets; with X11 on this screen.
    async fn program(&self, screen: Option<u32>) -> Vec<(String, String)> {
        let agent = (Arc::clone(&self.agent), self.reception());
        let display = screen.map(|screen| ((Arc::clone(&self.display), self.reception()), screen));
        let doors = Doors { connection: ConnectionId::random(), agent, display };
        let mut env = Vec::new();
        doors.provide(&self.container).await.add_to(&mut env);
        env
    }

    fn listened(&self) -> usize {
        self.engine.calls().iter().filter(|call| matches!(call, Call::Listen(..))).count()
    }

    async fn end(self) {
        self.over.cancel();
        self.tasks.close();
        timeout(DEADLINE, self.tasks.wait()).await.expect("no task may stay");
        assert!(self.engine.listening().is_empty(), "nothing may listen any more");
    }
}

/// F6
#[tokio::test]
async fn once_granted_one_socket_is_every_later_programs() {
    let house = House::new().await;
    assert!(house.program(None).await.is_empty());

    house.agent.permit(agent());
    let (first, second) = tokio::join!(house.program(None), house.program(None));

    assert_eq!(first[0].0, "SSH_AUTH_SOCK");
    assert_eq!(first, second);
    assert_eq!(house.listened(), 1);
    house.end().await;
}

/// F6
#[tokio::test]
async fn without_a_socket_the_program_runs_and_the_next_request_tries_again() {
    let house = House::new().await;
    house.agent.permit(agent());
    let refusal = || EngineError::Gone { reason: "no room".to_owned() };
    house.engine.break_step(Step::Listen, Fault::fail(refusal));
    assert!(house.program(None).await.is_empty());

    house.engine.mend(Step::Listen);
    house.agent.permit(agent());

    assert_eq!(house.program(None).await.len(), 1);
    house.end().await;
}

/// F7
#[tokio::test]
async fn a_display_is_for_the_sessions_that_were_granted_it_and_made_anew_when_it_has_gone() {
    let house = House::new().await;
    house.display.permit(display());

    assert!(house.program(None).await.is_empty());
    let env = house.program(Some(3)).await;

    let names: Vec<_> = env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["DISPLAY", "XAUTHORITY"]);
    assert!(env[0].1.starts_with("localhost:1") && env[0].1.ends_with(".3"), "{env:?}");
    assert!(!house.display.is_over());
    house.over.cancel();
    until(|| house.display.is_over(), || "the display stays".to_owned()).await;
    assert!(house.program(Some(3)).await.is_empty());
    house.end().await;
}
