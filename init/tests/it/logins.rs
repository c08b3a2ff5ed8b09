//! What a program finds around it, and what becomes of one that cannot be run.

use std::path::Path;
use std::process::Command;

use coracle_init::{Exit, FromInit, Start};
use rustix::process::getuid;

use crate::peer::{args, shell};
use crate::server::Init;

/// By another process: a file that we had open for writing might be found busy.
fn write_script(path: &Path, text: &str) {
    let write = "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\"";
    assert!(Command::new("sh").args(["-c", write]).arg(path).arg(text).status().unwrap().success());
}

#[test]
fn what_cannot_be_run_is_told_by_its_status_and_on_standard_error() {
    let init = Init::start();
    let mut peer = init.serve();
    let script = init.folder.path().join("orphaned");
    write_script(&script, "#!/nowhere/sh\n");
    let script = script.to_str().unwrap();

    for (process, (name, status, why)) in [
        ("/usr/lib/nowhere/sftp-server", 127, "not found"),
        ("nowhere", 127, "not found"),
        ("", 127, "not found"),
        ("/proc", 126, "not executable"),
        ("/etc/passwd", 126, "not executable"),
        (script, 127, "not found"),
    ]
    .into_iter()
    .enumerate()
    {
        let (exit, stdout, stderr) = peer.run(u32::try_from(process).unwrap(), args(&[name, "-e"]));
        assert_eq!((exit, stdout.as_str()), (Exit::Status(status), ""), "{name}");
        assert_eq!(stderr, format!("{name}: {why} in the container\n"));
    }
}

#[test]
fn a_script_that_names_no_shell_is_run_by_one() {
    let init = Init::start();
    let mut peer = init.serve();
    let script = init.folder.path().join("script");
    write_script(&script, "echo \"$1\" $#; exit 7\n");

    let (exit, stdout, _) = peer.run(1, args(&[script.to_str().unwrap(), "a  b", "c"]));

    assert_eq!((exit, stdout.as_str()), (Exit::Status(7), "a  b 2\n"));
}

#[test]
fn too_many_arguments_are_the_programs_failure() {
    let init = Init::start();
    let mut peer = init.serve();
    let long = "x".repeat(200_000);

    let (exit, _, stderr) = peer.run(1, args(&["/bin/echo", &long]));

    assert_eq!(exit, Exit::Status(126));
    assert!(stderr.starts_with("/bin/echo: Argument list too long"), "{stderr}");
}

/// V1
#[test]
fn variables_are_the_inits_and_the_programs() {
    let init = Init::start_with(|command| {
        command.env_clear().envs([("PATH", "/usr/bin:/bin"), ("HOME", "/"), ("A", "1"), ("B", "1")]);
    });
    let mut peer = init.serve();
    let env = vec![b"A=2".to_vec(), b"USER=eve".to_vec(), b"X=a  b\n\xff".to_vec()];

    let (_, stdout, _) = peer.run(
        1,
        Start { env, ..shell("echo $A$B $USER $LOGNAME $HOME $SHELL; printf %s \"$X\" | od -An -c") },
    );
    let (_, next, _) = peer.run(2, shell("echo $A$B $X"));

    let mut lines = stdout.lines();
    let words: Vec<_> = lines.next().unwrap().split(' ').collect();
    assert_eq!(words[0], "21");
    assert!(
        words[1] == words[2] && words[1] != "eve" && words[3] != "/" && words[4].starts_with("/bin/"),
        "{words:?}"
    );
    assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["a", "b", "\\n", "377"]);
    assert_eq!(next, "11\n");
}

#[test]
fn a_program_starts_where_it_is_told_to() {
    let init = Init::start_with(|command| {
        command.current_dir("/usr").env("HOME", "/etc");
    });
    let mut peer = init.serve();

    assert_eq!(peer.run(1, shell("pwd")).1, "/usr\n");
    assert_eq!(peer.run(2, Start { cwd: b"/tmp".to_vec(), ..shell("pwd") }).1, "/tmp\n");
    let (exit, _, stderr) = peer.run(3, Start { cwd: b"/nowhere".to_vec(), ..shell("pwd") });
    assert_eq!((exit, stderr.as_str()), (Exit::Status(126), "/nowhere: no such folder in the container\n"));

    let init = Init::start_with(|command| {
        command.current_dir("/").env("HOME", "/etc");
    });
    assert_eq!(init.serve().run(1, shell("pwd; env | grep -c OLDPWD")).1, "/etc\n0\n");
}

#[test]
fn another_user_is_for_root_to_give() {
    let init = Init::start_with(|command| {
        command.env("HOME", "/root");
    });
    let mut peer = init.serve();
    let look = "id -u; id -g; id -G; echo $USER; echo $HOME";

    if getuid().is_root() {
        let (exit, stdout, _) = peer.run(1, Start { user: b"nobody:daemon".to_vec(), ..shell(look) });
        assert_eq!((exit, stdout.as_str()), (Exit::Status(0), "65534\n1\n1\nann\n/\n"));
        let (_, stdout, _) = peer.run(2, Start { user: b"4711".to_vec(), ..shell(look) });
        assert_eq!(stdout, "4711\n0\n0\nann\n/\n");
    }
    let _refused = peer.start(3, Start { user: b"no-such-user".to_vec(), ..shell("true") });
    let Some(FromInit::Refused { process: 3, reason }) = peer.next() else { panic!("not refused") };
    assert_eq!(reason, b"`no-such-user`: the image knows no such user");
}
