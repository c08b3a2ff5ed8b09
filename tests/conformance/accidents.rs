//! What happens to a container from outside, and who its programs run as.

use coracle::engine::{EngineError, ExitStatus, Output, Signal};
use futures::StreamExt as _;

use crate::harness::{Running, bench, bench_by_exec, config, on, shell};

fn docker() -> bollard::Docker {
    let host = config("").host;
    bollard::Docker::connect_with_unix(&host.to_string(), 60, bollard::API_DEFAULT_VERSION).expect("a client")
}

/// L9
#[tokio::test]
async fn a_container_that_was_stopped_is_told_from_a_program_that_was_killed() {
    on(bench(&config("coracle/guest:latest")), |bench| async move {
        let container = bench.launch().await;
        let mut running = Running::start(&container, &shell("echo ready; sleep 100")).await;
        running.expect("ready\n").await;

        docker().kill_container(container.id().as_str(), None).await.expect("a kill");

        let ended = running.finish().await;
        assert!(
            matches!(&ended.status, Err(EngineError::Gone { reason }) if reason.contains("stopped")),
            "{ended:?}"
        );
        let next = container.exec(&shell("true")).await;
        assert!(matches!(next, Err(EngineError::Gone { .. })), "{next:?}");
        container.remove().await.expect("a removal");
    })
    .await;
}

/// L9
#[tokio::test]
async fn a_paused_container_takes_no_programs_and_can_be_removed() {
    on(bench(&config("coracle/tiny:latest")), |bench| async move {
        let container = bench.launch().await;
        docker().pause_container(container.id().as_str()).await.expect("a pause");

        let refused = container.exec(&shell("true")).await;

        assert!(
            matches!(&refused, Err(EngineError::Gone { reason }) if reason.contains("paused")),
            "{refused:?}"
        );
        container.remove().await.expect("a removal");
    })
    .await;
}

/// V3
#[tokio::test]
async fn the_user_is_the_images_else_the_one_who_logged_in() {
    for (image, user, expected) in [
        ("coracle/guest:latest", "1000", "coracle coracle /home/coracle /bin/bash"),
        ("coracle/guest:latest", "", "root root /root /bin/bash"),
        ("coracle/tiny:latest", "4242", "joe joe / /bin/sh"),
        ("coracle/tiny:latest", "0", "root root / /bin/sh"),
    ] {
        let mut config = config(image);
        config.config.container.user = Some(user.to_owned());
        on(bench(&config), move |bench| async move {
            let ended = bench.run("echo $USER $LOGNAME $HOME $SHELL").await;
            assert_eq!(ended.stdout().trim(), expected, "{image} {user}");
        })
        .await;
    }
}

/// V3
#[tokio::test]
async fn environment_and_working_directory_of_the_container_are_kept() {
    let mut config = config("coracle/guest:latest");
    config.config.container.env = Some(vec!["HOME=/srv".to_owned(), "OWN=a b".to_owned()]);
    config.config.container.working_dir = Some("/usr".to_owned());
    on(bench(&config), |bench| async move {
        let ended = bench.run("pwd; echo $HOME; echo \"$OWN\"").await;
        assert_eq!(ended.stdout(), "/usr\n/srv\na b\n");
    })
    .await;
}

/// V4
#[tokio::test]
async fn without_a_working_directory_a_login_begins_at_home() {
    let mut config = config("coracle/guest:latest");
    config.config.container.working_dir = Some("/".to_owned());
    config.config.container.user = Some("1000".to_owned());
    on(bench(&config), |bench| async move {
        let ended = bench.run("pwd").await;
        assert_eq!(ended.stdout(), "/home/coracle\n");
    })
    .await;
}

/// G1
#[tokio::test]
async fn an_unprivileged_program_is_signalled_by_its_own_user() {
    let mut config = config("coracle/guest:latest");
    config.config.container.user = Some("1000".to_owned());
    on(bench_by_exec(&config), |bench| async move {
        let container = bench.launch().await;
        let command = "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.02; done";
        let mut running = Running::start(&container, &shell(command)).await;
        running.expect("ready").await;

        running.process.control.signal(Signal::Usr1).await.expect("a signal");

        assert_eq!(running.finish().await.code(), 3);
        container.remove().await.expect("a removal");
    })
    .await;
}

/// D4, scaled: what nobody reads is not read from the engine either, and nothing of it is lost.
#[tokio::test]
async fn output_waits_for_its_reader() {
    on(bench(&config("coracle/guest:latest")), |bench| async move {
        let container = bench.launch().await;
        let spec = shell("head -c 64000000 /dev/zero; exit 4");
        let mut process = container.exec(&spec).await.expect("a program");

        let mut bytes = 0;
        while let Some(Ok(Output::Stdout(piece))) = process.output.next().await {
            if bytes == 0 {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            bytes += piece.len();
        }

        assert_eq!(bytes, 64_000_000);
        assert_eq!(process.control.wait().await.ok(), Some(ExitStatus::Exited(4)));
        container.remove().await.expect("a removal");
    })
    .await;
}
