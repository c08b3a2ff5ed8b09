//! From nothing to a login: `coracle init`, and `coracle serve --image`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Home, TINY, assert_succeeds, containers_of, text};

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn fingerprint_in(text: &str) -> String {
    let word = text.split_whitespace().find(|word| word.starts_with("SHA256:"));
    word.unwrap_or_else(|| panic!("no fingerprint in\n{text}")).to_owned()
}

#[test]
fn a_folder_that_init_made_serves_whoever_made_it() {
    let home = Home::new();

    let made = home.run(&["init", "ours", "--image", TINY, "--listen", "127.0.0.1:0"]);

    assert_succeeds(&made);
    let told = text(&made.stdout);
    let next = told.lines().find_map(|line| line.strip_prefix("Next:     coracle ")).unwrap();
    assert_succeeds(&home.run(&["config", "check", "ours/config.yaml"]));
    for name in ["config.yaml", "authorized_keys", "ssh_host_ed25519_key"] {
        assert!(told.contains(&format!("made ours/{name}: ")), "{told}");
        assert_eq!(mode(&home.path("ours").join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&home.path("ours")), 0o700);

    let args: Vec<&str> = next.split_whitespace().skip(1).collect();
    let mut server = home.serve(&args);
    let address = server.address();
    let output = home.ssh(address, &fingerprint_in(&told), "echo in");
    assert_eq!(text(&output.stdout), "in\n", "{}\n{}", text(&output.stderr), server.stderr());
    server.stop();
    assert_eq!(containers_of(&home.path("ours/state")), "");
}

#[test]
fn a_server_without_any_configuration_says_where_to_connect_and_serves_there() {
    let home = Home::new();
    let keys = [".ssh/id_ed25519.pub"];

    let mut server = home.serve(&["--image", TINY, "--keys", keys[0], "--listen", "127.0.0.1:0"]);

    let address = server.address();
    let greeting = crate::harness::poll("a greeting", || {
        let said = server.stdout();
        said.contains("Ctrl-C").then_some(said)
    });
    assert!(greeting.contains(&format!("  ssh -p {} you@127.0.0.1\n", address.port())), "{greeting}");
    let output = home.ssh(address, &fingerprint_in(&greeting), "echo in");
    assert_eq!(text(&output.stdout), "in\n", "{}\n{}", text(&output.stderr), server.stderr());
    let state = home.path(".local/state/coracle");
    assert_eq!((mode(&state), mode(&state.join("ssh_host_ed25519_key"))), (0o700, 0o600));
    server.stop();
    assert_eq!(containers_of(&state), "");
}

#[test]
fn a_second_server_finds_the_same_host_key_and_not_the_same_state_at_once() {
    let home = Home::new();
    let args = ["--image", TINY, "--keys", ".ssh/id_ed25519.pub", "--listen", "127.0.0.1:0"];
    let mut first = home.serve(&args);
    first.address();

    let meanwhile = home.run(&[&["serve"], &args[..]].concat());

    assert_eq!(meanwhile.status.code(), Some(1));
    let told = text(&meanwhile.stderr);
    assert!(told.contains("another server uses it") && told.contains("coracle"), "{told}");
    let known = fingerprint_in(&crate::harness::poll("a greeting", || {
        Some(first.stdout()).filter(|said| said.contains("Ctrl-C"))
    }));
    first.stop();
    let mut second = home.serve(&args);
    second.address();
    assert!(second.stderr().contains(&known), "{}", second.stderr());
    second.stop();
}

#[test]
fn nothing_is_overwritten_and_nothing_half_made() {
    let home = Home::new();
    let engine = ["--engine", "unix:///nonexistent/docker.sock"];
    let init = |args: &[&str]| home.run(&[&["init", "ours"], args, &engine[..]].concat());
    let is_made = || home.path("ours").exists();

    for (args, told) in [
        (&["--keys", "none"][..], "the keys in `none` cannot be read"),
        (&["--keys", ".ssh/id_ed25519"], "is a private key"),
    ] {
        let output = init(args);
        assert_eq!((output.status.code(), is_made()), (Some(1), false), "{args:?}");
        assert!(text(&output.stderr).contains(told), "{}", text(&output.stderr));
    }

    let made = init(&[]);
    assert_succeeds(&made);
    let told = text(&made.stdout);
    assert!(
        told.contains("note: no container engine at `unix:///nonexistent/docker.sock`; start one"),
        "{told}"
    );
    assert!(told.contains("1 key that may log in"), "{told}");
    let key = std::fs::read(home.path("ours/ssh_host_ed25519_key")).unwrap();
    let again = init(&[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("`ours/config.yaml` exists"), "{}", text(&again.stderr));

    std::fs::remove_file(home.path("ours/config.yaml")).unwrap();
    let other = init(&["--keys", ".ssh/id_ed25519.pub"]);
    assert!(text(&other.stderr).contains("`ours/authorized_keys` exists"), "{}", text(&other.stderr));
    let kept = init(&[]);
    assert!(text(&kept.stdout).contains("kept ours/ssh_host_ed25519_key"), "{}", text(&kept.stdout));
    assert_eq!(std::fs::read(home.path("ours/ssh_host_ed25519_key")).unwrap(), key);
}

#[test]
fn who_has_no_key_or_no_engine_is_told_what_to_do() {
    let home = Home::new();
    let error = |args: &[&str]| {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        text(&output.stderr)
    };
    std::fs::write(home.path("junk"), "# nothing\nssh-ed25519 junk\n").unwrap();
    let serve = ["serve", "--image", TINY, "--listen", "127.0.0.1:0", "--keys"];

    assert!(
        error(&[&serve[..], &["junk"]].concat()).contains("no key in `junk` can be used: `junk`, line 2")
    );
    assert!(error(&[&serve[..], &["none"]].concat()).contains("`none` cannot be read"));
    let away = ["--engine", "unix:///nonexistent/docker.sock"];
    let told = error(&[&serve[..], &[".ssh/id_ed25519.pub"], &away].concat());
    assert!(told.contains("no container engine at") && told.contains("start one"), "{told}");
    std::fs::rename(home.path(".ssh"), home.path("elsewhere")).unwrap();
    let told = error(&["init"]);
    assert!(told.contains("there is no public key in") && told.contains("ssh-keygen -t ed25519"), "{told}");

    for bad in [
        &["serve", "--image", TINY][..],
        &["init", "--image", ""],
        &["serve", "--keys", "junk"],
        &["init", "--keys", "a", "--github-keys", "b"],
    ] {
        assert_eq!(home.run(bad).status.code(), Some(64), "{bad:?}");
    }
}

#[test]
fn keys_as_a_code_host_gives_them_let_in_and_their_options_do_not() {
    let home = Home::new();
    let key = std::fs::read_to_string(home.path(".ssh/id_ed25519.pub")).unwrap();
    let bare = key.rsplit_once(' ').unwrap().0;
    std::fs::write(home.path("alice.keys"), format!("{bare}\ncert-authority {bare}\n")).unwrap();

    let made = home.run(&["init", "--github-keys", "alice.keys", "--engine", "unix:///nonexistent/x.sock"]);

    assert_succeeds(&made);
    let told = text(&made.stdout);
    assert!(told.contains("warning: passed over: `alice.keys`, line 2: options"), "{told}");
    let keys = std::fs::read_to_string(home.path("authorized_keys")).unwrap();
    assert!(keys.ends_with(&format!("\n{bare}\n")) && !keys.contains("cert-authority"), "{keys}");
    assert!(told.contains("Next:     coracle serve --config ./config.yaml\n"), "{told}");
}
