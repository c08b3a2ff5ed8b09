//! What the warm pool needs of an engine: new names, the image of now, and turns.

use std::sync::Arc;
use std::time::Duration;

use coracle::engine::{EngineError, LaunchStage, LaunchWatch, Starts};
use tokio::time::timeout;

use crate::harness::{Bench, DEADLINE, run, shell};

pub(crate) async fn a_container_takes_a_new_name_and_runs_on(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let other = bench.launch().await;
    let name = format!("{}-alice", bench.spec().name);

    container.rename(&name).await.expect("a new name");

    let ended = run(&container, &shell("echo on"), b"").await;
    assert_eq!((ended.code(), ended.stdout().as_str()), (0, "on\n"));
    assert!(other.rename(&name).await.is_err(), "a name is one container's");
    container.remove().await.expect("a removal");
    other.rename(&name).await.expect("the name is free again");
    other.remove().await.expect("a removal");
    let renamed = other.rename(&name).await;
    assert!(matches!(renamed, Err(EngineError::Gone { .. })), "{renamed:?}");
}

pub(crate) async fn an_image_has_one_id_until_it_is_updated(bench: Arc<Bench>) {
    let first = bench.engine.image_id().await.expect("an answer");

    let container = bench.launch().await;

    assert!(first.as_ref().is_some_and(|id| id.starts_with("sha256:")), "{first:?}");
    assert_eq!(bench.engine.image_id().await.expect("an answer"), first);
    container.remove().await.expect("a removal");
}

pub(crate) async fn an_image_that_is_not_there_has_no_id(bench: Arc<Bench>) {
    assert_eq!(bench.engine.image_id().await.expect("an answer"), None);
}

pub(crate) async fn a_launch_waits_for_its_turn_and_can_be_called_off_meanwhile(bench: Arc<Bench>) {
    let starts = Starts::new(1);
    let held = starts.turn().await;
    let watches = [(); 2].map(|()| LaunchWatch { starts: starts.clone(), ..LaunchWatch::default() });
    let [waits, leaves] = watches;
    let specs = [bench.spec(), bench.spec()];
    let [mut first, second] =
        [(&specs[0], &waits), (&specs[1], &leaves)].map(|(spec, watch)| bench.engine.launch(spec, watch));

    assert!(timeout(Duration::from_millis(300), &mut first).await.is_err(), "there is no place");
    assert_eq!((bench.containers().await, waits.stage.borrow().clone()), (0, LaunchStage::Starting));
    leaves.abandoned.cancel();
    let failure = timeout(DEADLINE, second).await.expect("an end").expect_err("nobody wants it");
    assert!(matches!(failure.error, EngineError::Abandoned) && !failure.maybe_left, "{failure:?}");
    drop(held);

    let container = timeout(DEADLINE, first).await.expect("an end").expect("a container");
    assert!(timeout(DEADLINE, starts.turn()).await.is_ok(), "the place is free once the container runs");
    container.remove().await.expect("a removal");
}
