//! What keeps people from getting a container, looked up once for all who ask at about the same time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::Health;

/// How long an answer counts, from the question on: whoever probes more often costs the engine nothing.
pub(super) const FRESH: Duration = Duration::from_secs(2);

/// An engine that has not answered by then is none to send people to. Probes give up later than that.
pub(super) const LOOK_DEADLINE: Duration = Duration::from_secs(3);

type Answer = watch::Receiver<Option<Vec<String>>>;

pub(super) struct Readiness {
    health: Arc<dyn Health>,
    tasks: TaskTracker,
    last: Mutex<Option<(Instant, Answer)>>,
}

impl Readiness {
    pub(super) fn new(health: Arc<dyn Health>, tasks: TaskTracker) -> Self {
        Self { health, tasks, last: Mutex::default() }
    }

    pub(super) async fn complaints(&self) -> Vec<String> {
        let mut answer = self.answer();
        match answer.wait_for(Option::is_some).await {
            Ok(complaints) => complaints.clone().unwrap_or_default(),
            Err(_) => vec!["nobody could find out; the server has a fault, its log tells more".to_owned()],
        }
    }

    /// The last one, or a new one. It comes whether or not somebody still waits for it: who asks and runs away must not
    /// make us ask the engine each time.
    fn answer(&self) -> Answer {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, answer)) = &*last
            && asked.elapsed() < FRESH.max(if answer.borrow().is_none() { LOOK_DEADLINE } else { FRESH })
        {
            return answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        let health = Arc::clone(&self.health);
        self.tasks.spawn(async move {
            let complaints = timeout(LOOK_DEADLINE, health.complaints()).await.unwrap_or_else(|_| {
                vec![format!("engine: no answer within {}", humantime::format_duration(LOOK_DEADLINE))]
            });
            sender.send_replace(Some(complaints));
        });
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
