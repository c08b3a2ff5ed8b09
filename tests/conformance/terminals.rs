//! Programs with a terminal.

use std::sync::Arc;

use coracle::engine::{ProcessSpec, Program, Terminal, TerminalMode, TerminalSize};
use tokio::io::AsyncWriteExt as _;

use crate::harness::{Bench, Running, on_terminal, program, run, shell};

/// P1, V3
pub(crate) async fn a_terminal_is_one(bench: Arc<Bench>) {
    let container = bench.launch().await;

    let ended =
        run(&container, &on_terminal(shell("tty; echo $SSH_TTY; test -t 0 && echo $TERM")), b"").await;

    let text = ended.stdout();
    let lines: Vec<&str> = text.lines().collect();
    let [tty, ssh_tty, term] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(tty.starts_with("/dev/pts/"), "{lines:?}");
    assert_eq!((*tty, *term), (*ssh_tty, "xterm-256color"));
    container.remove().await.expect("a removal");
}

/// P2
pub(crate) async fn the_first_size_is_there_at_once(bench: Arc<Bench>) {
    let container = bench.launch().await;

    for round in 0..15 {
        let ended = run(&container, &on_terminal(shell("stty size")), b"").await;
        assert_eq!(ended.stdout(), "40 100\r\n", "round {round}");
    }
    container.remove().await.expect("a removal");
}

/// P3
pub(crate) async fn a_new_size_is_seen(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let mut running = Running::start(&container, &on_terminal(program(Program::LoginShell))).await;
    running.say("echo rea''dy\n").await;
    running.expect("ready").await;

    running.process.control.resize(TerminalSize::from_client(132, 50)).await.expect("a resize");

    running.say("stty size\n").await;
    running.expect("50 132").await;
    container.remove().await.expect("a removal");
}

/// P4
pub(crate) async fn terminal_modes_reach_the_program(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let modes = [(53, 0), (3, 8), (129, 38_400), (200, 7)]
        .map(|(opcode, argument)| TerminalMode { opcode, argument })
        .to_vec();
    let size = TerminalSize::from_client(100, 40);
    let terminal = Terminal { term: "vt100".to_owned(), size, modes };

    let spec = ProcessSpec { terminal: Some(terminal), ..shell("stty -a") };
    let ended = run(&container, &spec, b"").await;

    let text = ended.stdout();
    assert!(text.contains("erase = ^H") && text.contains("-echo "), "{text}");
    container.remove().await.expect("a removal");
}

/// P8
pub(crate) async fn output_of_a_terminal_is_unchanged(bench: Arc<Bench>) {
    let container = bench.launch().await;

    for (command, expected) in [
        ("printf '\\001prompt$ '", "\u{1}prompt$ "),
        ("printf '\\002a'", "\u{2}a"),
        ("printf '\\000b'", "\0b"),
    ] {
        let ended = run(&container, &on_terminal(shell(command)), b"").await;
        assert_eq!(ended.stdout(), expected);
    }
    container.remove().await.expect("a removal");
}

/// P7
pub(crate) async fn no_key_detaches_and_none_is_held_back(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let spec = on_terminal(shell("stty raw -echo; echo ready; cat -v"));
    let mut running = Running::start(&container, &spec).await;
    running.expect("ready").await;

    // Ctrl-P alone arrives at once, and Ctrl-P Ctrl-Q ends nothing.
    running.say("\u{10}").await;
    running.expect("^P").await;
    running.say("\u{10}\u{11}x").await;
    running.expect("^P^Qx").await;
    // Nor do the keys that we chose, a few times.
    running.say("\u{1e}\0\u{1e}\0\u{1e}\0y").await;
    running.expect("y").await;
    container.remove().await.expect("a removal");
}

/// P6
pub(crate) async fn the_end_of_stdin_does_not_end_a_terminal(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let mut running = Running::start(&container, &on_terminal(shell("sleep 1; echo done; exit 3"))).await;

    running.process.stdin.shutdown().await.expect("a shutdown");
    // Not even when nobody holds it any more.
    running.process.stdin = Box::pin(tokio::io::sink());

    let ended = running.finish().await;
    assert_eq!((ended.stdout().as_str(), ended.code()), ("done\r\n", 3));
    container.remove().await.expect("a removal");
}

/// P5
pub(crate) async fn a_control_character_interrupts(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let mut running = Running::start(&container, &on_terminal(program(Program::LoginShell))).await;
    // The program itself tells that it runs: a shell between two commands would get the interrupt instead.
    running.say("sh -c 'echo sle\"\"eping; exec sleep 100'\n").await;
    running.expect("sleeping").await;

    running.say("\u{3}").await;

    running.say("echo status=$?\n").await;
    running.expect("status=130").await;
    running.say("exit 7\n").await;
    assert_eq!(running.finish().await.code(), 7);
    container.remove().await.expect("a removal");
}
