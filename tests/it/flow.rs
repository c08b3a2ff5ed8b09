//! Data that flows, stalls and stays whole (D).

use std::time::{Duration, Instant};

use crate::harness::{
    MIB, Running, Sshd, Target, Terminal, TestServer, assert_once_within, noise, percentile, resident_bytes,
    scaled, sha256, sha256_of_file,
};

/// For the transfers of the full size on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// What a server may grow by while it holds a stalled transfer, in a build without optimisation.
pub(crate) const GROWTH_MAX: usize = 64 * MIB;

on_both!(
    /// D1
    any_amount_comes_back_whole,
    |target| {
        let master = target.master(&[]).await;
        for length in [0, 1, 2, 100, 5000, 200_000, scaled(64, 1024) * MIB] {
            let (there, back) = (target.path("there"), target.path("back"));
            std::fs::write(&there, noise(length)).unwrap();

            let run = master.ssh(&["cat"]).stdin_file(&there).stdout_file(&back).timeout(PATIENCE).output().await;

            run.assert_success();
            assert_eq!(sha256_of_file(&back), sha256_of_file(&there), "{length} bytes");
        }
        master.close().await;
    }
);

on_both!(
    /// D1
    any_amount_passes_a_raw_terminal_whole,
    |target| {
        let master = target.master(&[]).await;
        for length in [0, 1, 2, 100, 5000, 200_000] {
            let data = noise(length);
            let script = format!("stty raw -echo; echo ready; head -c {length} | sha256sum");
            let mut up = master.ssh(&[&script]).arg("-tt").args(["-e", "none"]).spawn();
            up.wait_for("ready").await;
            up.write(&data).await;
            let text = up.wait_for("-\n").await;
            assert!(text.contains(&sha256(&data)), "{length} bytes up: {text}");
            drop(up);

            let down = master.ssh(&["stty raw; cat /tmp/data"]).arg("-tt");
            master.ssh(&["cat > /tmp/data"]).stdin(data.clone()).output().await.assert_success();
            assert!(down.output().await.assert_success().stdout == data, "{length} bytes down");
        }
        master.close().await;
    }
);

on_both!(
    /// D2
    a_client_that_pauses_gets_everything_in_the_end,
    |target| {
        let there = target.path("there");
        std::fs::write(&there, noise(scaled(64, 1024) * MIB)).unwrap();

        let output = target
            .ssh(&["cat"])
            .stdin_file(&there)
            .timeout(PATIENCE)
            .piped("{} | (sleep 5; sha256sum)")
            .output()
            .await;

        output.assert_success().assert_stdout(&format!("{}  -\n", sha256_of_file(&there)));
    }
);

/// Types into a `cat` on a terminal and takes the time until each key comes back.
pub(crate) async fn keystrokes(typist: &mut Running, count: usize) -> Vec<Duration> {
    let mut echoes = Vec::new();
    for _ in 0..count {
        typist.forget();
        let start = Instant::now();
        typist.write(b"k").await;
        typist.wait_for("k").await;
        echoes.push(start.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    echoes
}

/// D3 for either server; gives the most that `memory` showed meanwhile.
async fn a_stalled_upload_beside_a_typist(target: &Target, memory: impl Fn() -> usize) -> usize {
    let length = scaled(128, 1024) * MIB;
    let there = target.path("there");
    std::fs::write(&there, noise(length)).unwrap();
    let master = target.master(&[]).await;
    let mut typist = master.ssh(&["echo ready; cat"]).arg("-tt").args(["-e", "none"]).spawn();
    typist.wait_for("ready").await;
    let stall = format!("sleep {}; wc -c", scaled(6, 20));
    let upload = async { master.ssh(&[&stall]).stdin_file(&there).timeout(PATIENCE).output().await };
    let typing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let echoes = keystrokes(&mut typist, 100).await;
        (echoes, memory())
    };

    let (output, (echoes, most)) = tokio::join!(upload, typing);

    output.assert_success().assert_stdout(&format!("{length}\n"));
    // A connection that stalls does so for the whole of the other program's sleep. Milliseconds are for the full size,
    // on a machine that has nothing else to do.
    let (median, p99, worst) = (percentile(&echoes, 50), percentile(&echoes, 99), percentile(&echoes, 100));
    assert!(median < Duration::from_millis(50), "keystroke echo median {median:?} of {echoes:?}");
    assert!(worst < Duration::from_secs(2), "keystroke echo at worst {worst:?} of {echoes:?}");
    assert!(
        !scaled(false, true) || p99 < Duration::from_millis(50),
        "keystroke echo p99 {p99:?} of {echoes:?}"
    );
    drop(typist);
    master.close().await;
    most
}

/// D3
#[tokio::test]
async fn a_program_that_does_not_read_stalls_nobody_else() {
    let server = TestServer::builder().alone().start().await;
    let before = resident_bytes(server.pid());

    let most = a_stalled_upload_beside_a_typist(&server, || resident_bytes(server.pid())).await;

    assert!(most.saturating_sub(before) < GROWTH_MAX, "from {before} to {most} bytes");
    server.stop().await;
}

/// D3
#[tokio::test]
async fn a_program_that_does_not_read_stalls_nobody_else_at_the_oracle() {
    let sshd = Sshd::start_with(&[], crate::harness::Turn::alone().await).await;

    a_stalled_upload_beside_a_typist(&sshd, || 0).await;
    sshd.stop().await;
}

/// D4
#[tokio::test]
async fn a_reader_that_pauses_does_not_fill_the_servers_memory() {
    let server = TestServer::start().await;
    server.ssh(&["true"]).output().await.assert_success();
    let before = resident_bytes(server.pid());
    let length = scaled(256, 1024) * MIB;
    let pause = scaled(5, 60);
    let pipeline = format!("{{}} | (head -c 1000000 | wc -c; sleep {pause}; wc -c)");
    let script = format!("head -c {length} /dev/zero");
    let download = server.ssh(&[&script]).timeout(PATIENCE).piped(&pipeline).output();
    let watch = async {
        let mut most = before;
        for _ in 0..pause * 10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            most = most.max(resident_bytes(server.pid()));
        }
        most
    };

    let (output, most) = tokio::join!(download, watch);

    let counts = output.assert_success().stdout();
    let rest: usize = counts.lines().last().unwrap().trim().parse().unwrap();
    // `head` may take more from the pipe than it passes on.
    assert!((length - 2 * MIB..=length - 1_000_000).contains(&rest), "{counts}");
    assert!(most - before < GROWTH_MAX, "from {before} to {most} bytes");
    server.stop().await;
}

on_both!(
    alone
    /// D5
    control_c_stops_a_flood_at_once,
    |target| {
        let terminal = Terminal::open(&target.ssh(&[]).arg("-tt").args(["-e", "none"])).await;
        terminal.wait_until("any prompt", |screen| screen.contains('$') || screen.contains('#')).await;
        assert_once_within(Duration::from_secs(1), async || {
            terminal.enter("PS1='PROMPT> '; clear; cat /dev/zero | base64").await;
            terminal.wait_until("the flood", |screen| screen.matches("AAAAAAAAAA").count() > 100).await;
            tokio::time::sleep(Duration::from_secs(1)).await;

            let start = Instant::now();
            terminal.keys(&["C-c"]).await;
            terminal.wait_until("the prompt", |screen| screen.trim_end().ends_with("PROMPT>")).await;
            start.elapsed()
        })
        .await;
        terminal.enter("exit 0").await;
        terminal.wait_for("[status 0]").await;
    }
);
on_both!(
    /// D4: the engine keeps what an ended program wrote for two seconds only.
    a_program_that_ends_before_its_reader_reads_loses_nothing,
    |target| {
        let late = target.ssh(&["head -c 2500000 /dev/zero; exit 7"]).piped("{} | (sleep 4; wc -c)").output().await;

        late.assert_stdout("2500000\n");
    }
);

/// D3: as docs/flow-control.md shows it.
#[tokio::test]
async fn who_sends_more_than_can_be_kept_is_told_so() {
    let bounds = "memory: 64KiB, spill: 1MiB, cap: 1MiB, total: 1MiB, trickle: 64KiB";
    let server = TestServer::builder().section(&format!("limits: {{stdin: {{{bounds}}}}}")).start().await;

    let output = server.ssh(&["sleep 20; wc -c"]).stdin(noise(8 * MIB)).output().await;

    output.assert_told("the program does not read its input, and no more of it can be kept");
    server.stop().await;
}
