//! Root in a container, against the first process that the server put there, and through it against the server.

use std::time::{Duration, Instant};

use crate::harness::{TestServer, docker, poll_until};

/// What a program does that nobody is meant to hold up.
const SOON: Duration = Duration::from_secs(10);

async fn serve() -> TestServer {
    TestServer::builder().docker_config("launcher: init").start().await
}

/// One whose containers may look into each other's processes, as a debugger needs it: root can then lead the first process.
async fn serve_debuggers() -> TestServer {
    TestServer::builder()
        .docker_config("launcher: init")
        .docker_config("host: {capAdd: [SYS_PTRACE]}")
        .section("allowDangerous: [SYS_PTRACE]")
        .start()
        .await
}

/// Another connection, with a container of its own, does not notice.
async fn assert_others_are_served(server: &TestServer) {
    let begun = Instant::now();
    server.ssh(&["echo fine"]).output().await.assert_success().assert_stdout("fine\n");
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn root_cannot_look_into_the_first_process() {
    let server = serve().await;

    let output = server
        .ssh(&["for what in mem environ maps fd/0 stack auxv; do cat /proc/1/$what && echo \"read $what\"; done; \
                for link in exe root cwd fd/0 fd/1 fd/2 fd/3 fd/4 fd/5 fd/6 fd/7 ns/pid; do readlink /proc/1/$link; done; \
                cat /proc/1/comm"])
        .output()
        .await;

    output.assert_success().assert_stdout("init\n");
    server.stop().await;
}

#[tokio::test]
async fn root_cannot_change_the_first_process_nor_what_it_is_made_of() {
    let server = serve().await;
    let master = server.master(&[]).await;

    let output = master
        .ssh(&[
            "touch /.coracle/x && echo made; rm -rf /.coracle/* && test ! -e /.coracle/init && echo removed; \
                echo x > /.coracle/init && echo written; mount -o remount,rw /.coracle && echo remounted; \
                umount /.coracle && echo unmounted; mount --bind /tmp /.coracle && echo hidden; \
                mv /.coracle /elsewhere && echo moved; \
                perl -e 'use POSIX; syscall((uname)[4] eq q(aarch64) ? 117 : 101, 16, 1, 0, 0) == 0 and print qq(attached\\n)'; echo done",
        ])
        .output()
        .await;

    // What is there may be gone already: the server takes it away once the two have met.
    assert_eq!(output.assert_success().stdout().replace("removed\n", ""), "done\n");
    master.ssh(&["true"]).output().await.assert_success();
    master.close().await;
    server.stop().await;
}

#[tokio::test]
async fn nobody_else_can_be_the_first_process() {
    let server = serve().await;
    let master = server.master(&[]).await;
    let connect = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); \
                   connect($s, sockaddr_un('/.coracle/socket')) and print qq(connected\\n); print qq(done\\n)";

    let output = master.ssh(&[&format!("perl -e \"{}\"", connect.replace('$', "\\$"))]).output().await;

    output.assert_success().assert_stdout("done\n");
    master.ssh(&["true"]).output().await.assert_success();
    master.close().await;
    server.stop().await;
}

#[tokio::test]
async fn signals_do_not_stop_the_first_process() {
    let server = serve().await;
    let master = server.master(&[]).await;

    let signals = "for i in 1 2 3; do \
                   for signal in KILL STOP TSTP ABRT INT HUP QUIT USR1 USR2 PIPE ALRM CHLD SEGV BUS CONT; do \
                   kill -$signal 1; done; done; sleep 0.5; echo still here";
    let output = master.ssh(&[signals]).output().await;

    output.assert_success().assert_stdout("still here\n");
    master.ssh(&["echo and here"]).output().await.assert_success().assert_stdout("and here\n");
    master.close().await;
    server.stop().await;
}

#[tokio::test]
async fn whoever_asks_the_first_process_to_end_is_told_that_it_has() {
    let server = serve().await;

    let output = server.ssh(&["trap '' TERM; kill -TERM 1; sleep 60"]).output().await;

    output.assert_told("");
    assert!(output.wall < Duration::from_secs(20), "{}", output.report());
    assert_others_are_served(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn programs_that_leave_their_pipes_full_or_open_hold_nobody_up() {
    let server = serve().await;
    let master = server.master(&[]).await;
    let mut deaf = master.ssh(&["echo started; sleep 600"]).piped("head -c 8388608 /dev/zero | {}").spawn();
    deaf.wait_for("started").await;

    let begun = Instant::now();
    let left_behind = master.ssh(&["(sleep 600; echo late) & echo now"]).output().await;
    left_behind.assert_success().assert_stdout("now\n");
    let endless = master.ssh(&["(while :; do echo y; done) & sleep 0.1; exit 3"]).output().await;
    endless.assert_code(3);
    let closed = master.ssh(&["exec <&- >&- 2>&-; sleep 0.2; exit 4"]).output().await;
    closed.assert_code(4);

    assert!(begun.elapsed() < 2 * SOON, "it took {:?}", begun.elapsed());
    assert_others_are_served(&server).await;
    deaf.kill();
    drop(deaf);
    master.close().await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_forged_in_the_first_processes_name_ends_its_own_sessions_and_no_others() {
    let server = serve_debuggers().await;
    let mut other = server.ssh(&["echo started; cat"]).spawn();
    other.wait_for("started").await;

    // One of its descriptors is what the server listens to.
    let forge = "for file in /proc/1/fd/*; do case $(readlink $file) in pipe:*) \
                 timeout 1 sh -c \"printf 'GET / HTTP/1.1 and more of that' > $file\";; esac; done; sleep 60";
    let output = server.ssh(&[forge]).output().await;

    output.assert_told("");
    assert!(output.wall < Duration::from_secs(20), "{}", output.report());
    other.write(b"still here\n").await;
    other.wait_for("still here").await;
    other.end().await.assert_success();
    assert_others_are_served(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_flood_in_the_first_processes_name_ends_its_own_sessions_and_no_others() {
    let server = serve_debuggers().await;

    // Ends of a program that was never asked for would be noticed at once; these are beginnings of frames.
    let flood = "for file in /proc/1/fd/*; do case $(readlink $file) in pipe:*) \
                 timeout 2 sh -c \"cat /dev/zero > $file\" & esac; done; sleep 60";
    let output = server.ssh(&[flood]).output().await;

    output.assert_told("");
    assert_others_are_served(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_first_process_that_is_stopped_holds_up_its_own_container_and_no_other() {
    let server = serve_debuggers().await;
    let master = server.master(&[]).await;
    // PTRACE_ATTACH stops it, and its tracer never lets it go on.
    let attach = "perl -e 'use POSIX; $| = 1; syscall((uname)[4] eq q(aarch64) ? 117 : 101, 16, 1, 0, 0) == 0 or die; print qq(attached\\n); sleep 600'";
    let mut tracer = master.ssh(&[attach]).spawn();
    tracer.wait_for("attached").await;

    let begun = Instant::now();
    let late = master.ssh(&["true"]).timeout(Duration::from_mins(1)).spawn();
    for _ in 0..3 {
        assert_others_are_served(&server).await;
    }
    let late = late.end().await;

    late.assert_told("start the program");
    assert!(begun.elapsed() < Duration::from_secs(45), "{}", late.report());
    tracer.kill();
    drop(tracer);
    master.close().await;
    server.stop().await;
}

#[tokio::test]
async fn strangers_in_a_container_that_stays_do_not_keep_its_first_process_away() {
    let mut server = TestServer::builder()
        .docker_config("launcher: init")
        .docker_config("mode: persistent")
        .docker_config("persistent: {idleTimeout: 1h}")
        .start()
        .await;
    let strangers = "use Socket; my @held; while (1) { socket(my $s, AF_UNIX, SOCK_STREAM, 0); \
                     if (connect($s, sockaddr_un(q(/.coracle/socket)))) { push @held, $s; shift @held if @held > 200 } \
                     else { select undef, undef, undef, 0.002 } }";
    let plant = "cat > /tmp/strangers; setsid perl /tmp/strangers < /dev/null > /dev/null 2>&1 & \
         echo kept > /tmp/file; until pgrep -f '^perl /tmp/strangers' > /dev/null; do sleep 0.1; done; echo planted";
    let planted = server.ssh(&[plant]).stdin(strangers).output().await;
    planted.assert_success().assert_stdout("planted\n");

    server.kill_and_start_again().await;

    let begun = Instant::now();
    let output = server.ssh(&["cat /tmp/file"]).output().await;
    output.assert_success().assert_stdout("kept\n");
    assert!(begun.elapsed() < 2 * SOON, "it took {:?}", begun.elapsed());
    for container in server.containers().await {
        docker(&["rm", "-fv", &container]).await;
    }
    poll_until("the container's removal", SOON, async || server.containers().await.is_empty().then_some(()))
        .await;
    server.stop().await;
}
