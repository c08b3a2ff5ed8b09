//! Programs without a terminal: output, status, input, environment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::engine::{ExitStatus, Output, ProcessSpec, Program, Signal};
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::harness::{Bench, DEADLINE, args, program, run, shell};

/// E1
pub(crate) async fn a_command_runs_and_its_output_arrives(bench: Arc<Bench>) {
    let ended = bench.run("echo hello").await;

    assert_eq!((ended.stdout().as_str(), ended.code()), ("hello\n", 0));
}

/// E2
pub(crate) async fn the_exit_status_is_the_programs(bench: Arc<Bench>) {
    let container = bench.launch().await;

    for code in [0, 1, 4, 5, 44, 255] {
        let ended = run(&container, &shell(&format!("exit {code}")), b"").await;
        assert_eq!(ended.code(), code);
    }
    container.remove().await.expect("a removal");
}

/// E3
pub(crate) async fn stdout_and_stderr_stay_apart_and_complete(bench: Arc<Bench>) {
    let ended = bench.run("echo o; echo e >&2; echo p").await;

    assert_eq!((ended.stdout().as_str(), ended.stderr().as_str()), ("o\np\n", "e\n"));
}

/// E6
pub(crate) async fn the_end_of_stdin_is_not_the_end_of_the_program(bench: Arc<Bench>) {
    let container = bench.launch().await;

    let ended = run(&container, &shell("cat; sleep 1; echo done"), b"abc").await;

    assert_eq!((ended.stdout().as_str(), ended.code()), ("abcdone\n", 0));
    container.remove().await.expect("a removal");
}

/// E7
pub(crate) async fn a_shell_runs_the_command(bench: Arc<Bench>) {
    let ended = bench.run("/bin/echo a; /bin/echo \"b  $USER\"").await;

    let user = ended.stdout();
    assert!(user.starts_with("a\nb  ") && user.len() > "a\nb  \n".len(), "{user:?}");
}

/// E9
pub(crate) async fn a_missing_program_is_127_with_a_message(bench: Arc<Bench>) {
    let ended = bench.run("nonexistent").await;

    assert_eq!(ended.code(), 127);
    assert!(ended.stderr().contains("nonexistent") && ended.stderr().contains("not found"), "{ended:?}");
}

/// S5
pub(crate) async fn a_missing_file_to_run_is_127_with_a_message(bench: Arc<Bench>) {
    let container = bench.launch().await;

    let ended = run(&container, &args(&["/usr/lib/nowhere/sftp-server", "-e"]), b"").await;
    let bare = run(&container, &args(&["nowhere"]), b"").await;
    let folder = run(&container, &args(&["/proc"]), b"").await;

    assert_eq!((ended.code(), bare.code(), folder.code()), (127, 127, 126));
    assert_eq!(ended.stderr(), "/usr/lib/nowhere/sftp-server: not found in the container\n");
    container.remove().await.expect("a removal");
}

/// E10
pub(crate) async fn a_killed_program_is_told_as_killed(bench: Arc<Bench>) {
    let ended = bench.run("kill -9 $$").await;

    let status = ended.status.expect("a status");
    assert!(matches!(status, ExitStatus::Signaled(Signal::Kill) | ExitStatus::Exited(137)), "{status:?}");
}

/// E11
pub(crate) async fn a_child_in_the_background_does_not_hold_the_session(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let began = Instant::now();

    let ended = run(&container, &shell("sleep 100 & echo hi"), b"").await;

    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!((ended.stdout().as_str(), ended.code()), ("hi\n", 0));
    container.remove().await.expect("a removal");
}

/// E13, scaled
pub(crate) async fn all_output_comes_before_the_exit_status(bench: Arc<Bench>) {
    let container = bench.launch().await;

    for round in 0..20 {
        let ended = run(&container, &shell("head -c 1000000 /dev/zero; exit 7"), b"").await;
        assert_eq!((ended.stdout.len(), ended.code()), (1_000_000, 7), "round {round}");
    }
    container.remove().await.expect("a removal");
}

/// D1
pub(crate) async fn bytes_survive_the_way_there_and_back(bench: Arc<Bench>) {
    let container = bench.launch().await;

    for count in [0_u32, 1, 2, 100, 5000, 200_000, 8_000_000] {
        let bytes: Vec<u8> = (0..count).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let ended = run(&container, &shell("cat"), &bytes).await;
        assert!(ended.stdout == bytes, "{count} bytes came back as {}", ended.stdout.len());
        assert_eq!(ended.code(), 0);
    }
    container.remove().await.expect("a removal");
}

pub(crate) async fn a_command_need_not_be_utf8(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let command = b"printf %s '\xff\xc3\\n\xe9'\n\n".to_vec();

    let ended = run(&container, &program(Program::ShellCommand(command)), b"").await;

    assert_eq!(ended.stdout, b"\xff\xc3\\n\xe9");
    container.remove().await.expect("a removal");
}

/// V1
pub(crate) async fn variables_reach_one_program_and_not_the_next(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let env = vec![("FOO".to_owned(), "a  b='\"$x\nä".to_owned()), ("EMPTY".to_owned(), String::new())];

    let with = run(&container, &ProcessSpec { env, ..shell("printenv FOO") }, b"").await;
    let without = run(&container, &shell("printenv FOO"), b"").await;

    assert_eq!(with.stdout(), "a  b='\"$x\nä\n");
    assert_eq!((without.stdout().as_str(), without.code()), ("", 1));
    container.remove().await.expect("a removal");
}

/// V3
pub(crate) async fn user_home_and_shell_are_set(bench: Arc<Bench>) {
    let ended = bench.run("echo $USER; echo $LOGNAME; echo $HOME; echo $SHELL").await;

    let text = ended.stdout();
    let lines: Vec<&str> = text.lines().collect();
    let [user, logname, home, shell] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(user, logname);
    assert!(home.starts_with('/') && shell.starts_with('/'), "{lines:?}");
}

pub(crate) async fn nothing_of_the_login_leaks(bench: Arc<Bench>) {
    let container = bench.launch().await;

    let ended = run(&container, &shell("env"), b"").await;

    let text = ended.stdout();
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert!(names.contains(&"PATH"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("coracle")), "{names:?}");
    assert!(
        !names.contains(&"TERM") && !names.contains(&"SSH_TTY") && !names.contains(&"OLDPWD"),
        "{names:?}"
    );
    container.remove().await.expect("a removal");
}

/// V4
pub(crate) async fn a_login_shell_reads_its_commands(bench: Arc<Bench>) {
    let container = bench.launch().await;

    let ended = run(&container, &program(Program::LoginShell), b"echo one\necho two\nexit 6\n").await;

    assert_eq!((ended.stdout().as_str(), ended.code()), ("one\ntwo\n", 6));
    container.remove().await.expect("a removal");
}

/// S4
pub(crate) async fn arguments_are_passed_as_they_are(bench: Arc<Bench>) {
    let container = bench.launch().await;

    let ended = run(&container, &args(&["echo", "a  b", "$HOME", "*", "", "ä"]), b"").await;

    assert_eq!(ended.stdout(), "a  b $HOME *  ä\n");
    container.remove().await.expect("a removal");
}

pub(crate) async fn many_programs_run_at_once(bench: Arc<Bench>) {
    let container = bench.launch().await;

    let commands: Vec<_> = (0..12).map(|number| shell(&format!("echo {number}; exit {number}"))).collect();
    let runs = commands.iter().map(|command| run(&container, command, b""));
    let ended = futures::future::join_all(runs).await;

    for (number, ended) in ended.iter().enumerate() {
        assert_eq!((ended.stdout(), ended.code() as usize), (format!("{number}\n"), number));
    }
    container.remove().await.expect("a removal");
}

pub(crate) async fn the_end_is_seen_while_output_waits(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let mut process = container.exec(&shell("echo unread; exit 5")).await.expect("a program");

    timeout(DEADLINE / 4, process.control.ended()).await.expect("the end, without the output being read");

    assert_eq!(process.output.next().await.and_then(Result::ok), Some(Output::Stdout("unread\n".into())));
    assert!(process.output.next().await.is_none());
    assert_eq!(process.control.wait().await.ok(), Some(ExitStatus::Exited(5)));
    container.remove().await.expect("a removal");
}
