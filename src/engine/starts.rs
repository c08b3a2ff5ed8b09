//! How many containers may be created and started at once: an engine gets no faster by being asked for more, and each
//! of them takes longer then. Places go in the order in which they were asked for; those that nobody waits for come last.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Hands out turns to create and start a container. Clones hand out the same.
#[derive(Clone, Debug)]
pub struct Starts {
    shared: Arc<Shared>,
    rank: Rank,
}

#[derive(Debug)]
struct Shared {
    places: Arc<Semaphore>,
    /// Of the places, what those may take at once that nobody waits for: a launch that hangs must not keep all of them.
    spare: Arc<Semaphore>,
    spare_max: usize,
    /// People who wait for their turn.
    people: watch::Sender<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// Somebody waits for the container.
    Prompt,
    /// Nobody does.
    Patient,
}

/// The right to create and start one container, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _place: Option<OwnedSemaphorePermit>,
    _spare: Option<OwnedSemaphorePermit>,
}

impl Starts {
    /// So many at once, at least one.
    #[must_use]
    pub fn new(parallel: usize) -> Self {
        let parallel = parallel.clamp(1, Semaphore::MAX_PERMITS);
        let spare_max = (parallel / 2).max(1);
        let shared = Shared {
            places: Arc::new(Semaphore::new(parallel)),
            spare: Arc::new(Semaphore::new(spare_max)),
            spare_max,
            people: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared), rank: Rank::Prompt }
    }

    /// The same places, for containers that nobody waits for: at most half of them at once, and only while nobody else
    /// wants one.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), rank: Rank::Patient }
    }

    /// How many patient ones there may be at once.
    #[must_use]
    pub fn patient_max(&self) -> usize {
        self.shared.spare_max
    }

    /// Waits for a turn. Cancel safe: who stops waiting leaves the line.
    pub async fn turn(&self) -> Turn {
        match self.rank {
            Rank::Prompt => {
                let _in_line = InLine::new(&self.shared.people);
                Turn { _place: place(&self.shared.places).await, _spare: None }
            }
            Rank::Patient => self.patient_turn().await,
        }
    }

    /// Waits until nobody waits for a turn. Cancel safe.
    pub async fn quiet(&self) {
        // The sender is our own, so the wait cannot fail.
        drop(self.shared.people.subscribe().wait_for(|people| *people == 0).await);
    }

    async fn patient_turn(&self) -> Turn {
        let spare = place(&self.shared.spare).await;
        loop {
            self.quiet().await;
            let place = place(&self.shared.places).await;
            if *self.shared.people.borrow() == 0 {
                return Turn { _place: place, _spare: spare };
            }
            // Somebody came after us, and goes first: the place is given on to the next in line.
        }
    }
}

impl Default for Starts {
    /// Any number.
    fn default() -> Self {
        Self::new(Semaphore::MAX_PERMITS)
    }
}

/// `None` never: nobody closes these.
async fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).acquire_owned().await.ok()
}

/// Somebody who waits; dropping it ends the wait.
struct InLine<'a>(&'a watch::Sender<usize>);

impl<'a> InLine<'a> {
    fn new(people: &'a watch::Sender<usize>) -> Self {
        people.send_modify(|people| *people += 1);
        Self(people)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|people| *people -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::sync::mpsc;
    use tokio_util::task::TaskTracker;

    use super::*;

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn turns_are_given_in_the_order_in_which_they_were_asked_for() {
        let (starts, tasks) = (Starts::new(2), TaskTracker::new());
        let held = [starts.turn().await, starts.turn().await];
        let (sender, mut order) = mpsc::channel(10);
        for number in 0..10 {
            let (starts, sender) = (starts.clone(), sender.clone());
            tasks.spawn(async move {
                let _turn = starts.turn().await;
                sender.send(number).await.unwrap();
            });
            settle().await;
        }
        assert!(order.try_recv().is_err(), "there are two places");

        drop(held);
        tasks.close();
        tasks.wait().await;

        let order: Vec<i32> = std::iter::from_fn(|| order.try_recv().ok()).collect();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn people_come_before_what_nobody_waits_for() {
        let starts = Starts::new(1);
        let held = starts.turn().await;
        let (sender, mut order) = mpsc::channel(10);
        let tasks = TaskTracker::new();
        for (name, starts) in [("refill", starts.patient()), ("one", starts.clone()), ("two", starts.clone())]
        {
            let sender = sender.clone();
            tasks.spawn(async move {
                let _turn = starts.turn().await;
                sender.send(name).await.unwrap();
            });
            settle().await;
        }

        drop(held);
        tasks.close();
        tasks.wait().await;

        let order: Vec<_> = std::iter::from_fn(|| order.try_recv().ok()).collect();
        assert_eq!(order, ["one", "two", "refill"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_leaves_places_to_people() {
        let starts = Starts::new(4);
        let patient = starts.patient();
        let _held = [patient.turn().await, patient.turn().await];

        let third = tokio::time::timeout(Duration::from_secs(1), patient.turn()).await;

        assert!(third.is_err());
        let _people = [starts.turn().await, starts.turn().await];
        assert!(starts.turn().now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_the_line() {
        let starts = Starts::new(1);
        let held = starts.turn().await;
        let mut waits = Box::pin(starts.turn());
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(starts.quiet().now_or_never().is_none());

        drop(waits);
        drop(held);

        assert!(starts.quiet().now_or_never().is_some());
        assert!(starts.patient().turn().now_or_never().is_some());
    }
}
