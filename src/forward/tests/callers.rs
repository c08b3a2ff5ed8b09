//! Who calls what listens in a container.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Channel, DEADLINE, container, until};
use crate::engine::fake::FakeEngine;
use crate::engine::{Address, ListenSpec};
use crate::forward::{End, Manner, Opener, Reception, Refused, Traffic, Tunnel};

/// How the client answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Takes,
    Refuses,
    /// Not before it is told to.
    Waits,
}

/// A client that is asked about callers.
pub(super) struct Asked {
    answer: Answer,
    pub(super) channels: Mutex<Vec<Channel>>,
    pub(super) from: Mutex<Vec<(String, u16)>>,
    pub(super) notes: Mutex<VecDeque<Result<Traffic, Refused>>>,
    answers_now: Notify,
}

impl Asked {
    pub(super) fn who(answer: Answer) -> Arc<Self> {
        Arc::new(Self {
            answer,
            channels: Mutex::default(),
            from: Mutex::default(),
            notes: Mutex::default(),
            answers_now: Notify::new(),
        })
    }

    pub(super) async fn was_asked(&self, times: usize) {
        let count = || self.from.lock().unwrap().len();
        until(|| count() >= times, || format!("asked {} times, not {times}", count())).await;
    }

    pub(super) async fn noted(&self) -> Result<Traffic, Refused> {
        until(|| !self.notes.lock().unwrap().is_empty(), || "nothing was noted".to_owned()).await;
        self.notes.lock().unwrap().pop_front().unwrap()
    }

    pub(super) fn channel(&self) -> Channel {
        self.channels.lock().unwrap().remove(0)
    }
}

#[async_trait]
impl Opener for Asked {
    async fn open(&self, host: &str, port: u16) -> Result<Tunnel, Refused> {
        self.from.lock().unwrap().push((host.to_owned(), port));
        match self.answer {
            Answer::Refuses => return Err(Refused::ByClient),
            Answer::Takes => {}
            Answer::Waits => self.answers_now.notified().await,
        }
        let (channel, tunnel) = Channel::open();
        self.channels.lock().unwrap().push(channel);
        Ok(tunnel)
    }

    fn note(&self, _host: &str, _port: u16, outcome: Result<Traffic, Refused>) {
        self.notes.lock().unwrap().push_back(outcome);
    }
}

/// Something that listens.
pub(super) struct House {
    pub(super) engine: FakeEngine,
    pub(super) at: Address,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl House {
    pub(super) async fn of(spec: ListenSpec, client: &Arc<Asked>, manner: Manner) -> Self {
        Self::with_places(spec, client, manner, 100).await
    }

    async fn with_places(spec: ListenSpec, client: &Arc<Asked>, manner: Manner, places: usize) -> Self {
        let (engine, container) = container().await;
        let listener = container.listen(&spec).await.unwrap();
        let at = engine.listening().pop().unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let reception = Reception {
            opener: Arc::clone(client) as Arc<dyn Opener>,
            manner,
            places: Arc::new(Semaphore::new(places)),
            tasks: tasks.clone(),
            sessions: TaskTracker::new(),
            until: Box::pin(stop.clone().cancelled_owned()),
        };
        tasks.spawn(reception.serve(listener));
        tasks.close();
        Self { engine, at, stop, tasks }
    }

    /// Stops listening, and waits until nothing is left.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        timeout(DEADLINE, self.tasks.wait()).await.expect("no task may stay");
        assert!(self.engine.listening().is_empty(), "nothing may listen any more");
    }
}

fn port_8080() -> ListenSpec {
    ListenSpec::At(Address::Tcp { host: "localhost".to_owned(), port: 8080 })
}

/// F2
#[tokio::test]
async fn a_caller_reaches_the_client_and_stays_when_nobody_listens_any_more() {
    let client = Asked::who(Answer::Takes);
    let house = House::of(port_8080(), &client, Manner::Plain).await;
    let mut caller = house.engine.call(&house.at).unwrap();
    caller.write_all(b"knock").await.unwrap();
    client.was_asked(1).await;
    until(|| client.channels.lock().unwrap().len() == 1, || "no channel".to_owned()).await;
    let channel = client.channel();
    channel.sees("knock").await;

    house.stop.cancel();
    until(|| house.engine.listening().is_empty(), || "still listening".to_owned()).await;
    channel.input.push(b"come in").unwrap();
    channel.input.end();
    let mut heard = String::new();
    caller.read_to_string(&mut heard).await.unwrap();
    caller.shutdown().await.unwrap();

    assert_eq!(heard, "come in");
    assert_eq!(client.noted().await.unwrap().end, End::Complete);
    assert_eq!(*client.from.lock().unwrap(), [("127.0.0.1".to_owned(), 50_000)]);
    house.end().await;
}

/// F2
#[tokio::test]
async fn a_caller_whom_the_client_refuses_is_closed() {
    let client = Asked::who(Answer::Refuses);
    let house = House::of(port_8080(), &client, Manner::Plain).await;

    let mut caller = house.engine.call(&house.at).unwrap();

    assert_eq!(timeout(DEADLINE, caller.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    assert_eq!(client.noted().await, Err(Refused::ByClient));
    house.end().await;
}

/// F2
#[tokio::test(start_paused = true)]
async fn callers_of_a_client_that_never_answers_are_few_and_closed_in_time() {
    let client = Asked::who(Answer::Waits);
    let house = House::of(port_8080(), &client, Manner::Plain).await;
    let mut callers = Vec::new();
    for _ in 0..20 {
        callers.push(house.engine.call(&house.at).unwrap());
        sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(client.from.lock().unwrap().len(), 16, "no more are taken in while so many wait");

    assert_eq!(timeout(DEADLINE * 3, callers[0].read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    assert_eq!(client.noted().await, Err(Refused::Unanswered));
    assert_eq!(client.from.lock().unwrap().len(), 16, "their questions are still open");

    // An answer that comes too late makes a channel, which is closed again, and room for somebody else.
    client.answers_now.notify_one();
    client.was_asked(17).await;
    assert_eq!(client.channel().seen(), "<close>");
    for _ in 0..20 {
        client.answers_now.notify_one();
        sleep(std::time::Duration::from_millis(1)).await;
    }
    drop(callers);
    for channel in client.channels.lock().unwrap().drain(..) {
        channel.close();
    }
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn past_the_bound_callers_wait_for_somebody_to_go() {
    let client = Asked::who(Answer::Takes);
    let house = House::with_places(port_8080(), &client, Manner::Plain, 1).await;
    let first = house.engine.call(&house.at).unwrap();
    let second = house.engine.call(&house.at).unwrap();
    client.was_asked(1).await;
    sleep(DEADLINE).await;
    assert_eq!(client.from.lock().unwrap().len(), 1);

    client.channel().close();

    client.was_asked(2).await;
    client.channel().close();
    drop((first, second));
    house.end().await;
}

/// F6
#[tokio::test]
async fn who_says_a_message_that_no_agent_takes_is_cut() {
    let client = Asked::who(Answer::Takes);
    let house = House::of(ListenSpec::Agent, &client, Manner::Agent).await;
    let mut caller = house.engine.call(&house.at).unwrap();

    caller.write_all(b"\0\0\0\x01\x0b").await.unwrap();
    until(|| client.channels.lock().unwrap().len() == 1, || "no channel".to_owned()).await;
    let channel = client.channel();
    channel.sees("\0\0\0\x01\x0b").await;
    caller.write_all(b"\x7f\0\0\0 and so on").await.unwrap();

    assert_eq!(client.noted().await.unwrap().end, End::Broken);
    assert_eq!(channel.seen(), "\0\0\0\x01\x0b<close>");
    assert_eq!(timeout(DEADLINE, caller.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    house.end().await;
}

/// F10
#[tokio::test]
async fn a_listener_whose_container_goes_is_gone() {
    let client = Asked::who(Answer::Takes);
    let house = House::of(port_8080(), &client, Manner::Plain).await;
    let id = house.engine.calls().into_iter().find_map(|call| match call {
        crate::engine::fake::Call::Listen(id, _) => Some(id),
        _ => None,
    });

    house.engine.kill(&id.unwrap());

    timeout(DEADLINE, house.tasks.wait()).await.expect("no task may stay");
}
