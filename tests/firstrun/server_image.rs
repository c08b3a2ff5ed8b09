//! The server's own image and the compose file, with this machine's engine and no registry. A static build takes minutes, so
//! that the image gets the libraries of the program under test instead; `CORACLE_TEST_STATIC=build` makes the real one, and
//! `CORACLE_TEST_STATIC=FILE` takes one that is there.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::harness::{Home, assert_succeeds, poll, text, top_level};
use crate::ports::free_port;

/// What is removed in the end, whatever became of the test.
struct Traces {
    containers: Vec<String>,
    volumes: Vec<String>,
}

impl Drop for Traces {
    fn drop(&mut self) {
        for container in &self.containers {
            docker(&["rm", "--force", "--volumes", container]);
        }
        for volume in &self.volumes {
            docker(&["volume", "rm", "--force", volume]);
        }
    }
}

/// The image, made once for all tests here. It keeps its usual name: it is what somebody here may be using.
fn image() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut script = Command::new(top_level("script/build-server-image"));
        script.args(["--tag", "coracle/server-test"]);
        match std::env::var_os("CORACLE_TEST_STATIC") {
            None => script.args(["--binary", env!("CARGO_BIN_EXE_coracle"), "--libraries"]),
            Some(wish) if wish == "build" => &mut script,
            Some(binary) => script.arg("--binary").arg(binary),
        };
        assert_succeeds(&script.output().unwrap());
    });
    "coracle/server-test"
}

fn docker(args: &[&str]) -> Output {
    Command::new("docker").args(args).output().unwrap()
}

fn bash(line: &str) -> Output {
    Command::new("bash").args(["-c", line]).output().unwrap()
}

/// The containers of the server in this container.
fn guests_of(container: &str, file: &str) -> String {
    let line =
        format!("docker ps -aq --filter label=coracle.instance=$(docker cp {container}:{file} - | tar -xO)");
    text(&bash(&line).stdout)
}

#[test]
fn the_image_serves_as_a_user_of_its_own_by_the_line_on_the_page() {
    let home = Home::new();
    let name = home.folder.path().file_name().unwrap().to_str().unwrap().to_owned();
    let volume = format!("{name}-state");
    let _traces = Traces { containers: vec![name.clone()], volumes: vec![volume.clone()] };
    let page = std::fs::read_to_string(top_level("docs/quickstart.md")).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix("$ docker run ")).unwrap();
    let line = line
        .replace("127.0.0.1:2222:2222", "127.0.0.1::2222")
        .replace("--name coracle ", &format!("--name {name} "))
        .replace("coracle-state:", &format!("{volume}:"))
        .replace("~/", &format!("{}/", home.folder.path().display()))
        .replace(" coracle/server ", &format!(" {} ", image()));

    assert_succeeds(&bash(&format!("docker run {line}")));

    let said = || docker(&["logs", &name]);
    let greeting = poll("a greeting", || Some(text(&said().stdout)).filter(|said| said.contains("Ctrl-C")));
    let fingerprint = greeting.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap();
    let published = text(&docker(&["port", &name, "2222/tcp"]).stdout);
    let address: SocketAddr = published.lines().next().unwrap().parse().unwrap();
    let output = home.ssh(address, fingerprint, "echo in");
    assert_eq!(text(&output.stdout), "in\n", "{}\n{}", text(&output.stderr), text(&said().stderr));
    let process = text(&docker(&["top", &name, "-o", "pid,uid,args"]).stdout);
    assert!(process.contains(" 10022 "), "{process}");
    assert_succeeds(&docker(&["stop", "--time", "60", &name]));
    let ended = text(&docker(&["inspect", "--format", "{{.State.ExitCode}}", &name]).stdout);
    assert_eq!(ended.trim(), "0", "{}", text(&said().stderr));
    assert_eq!(guests_of(&name, "/var/lib/coracle/coracle/instance-id"), "");
}

#[test]
fn compose_brings_a_development_server_up_and_takes_it_down() {
    let home = Home::new();
    let project = home.folder.path().file_name().unwrap().to_str().unwrap().to_lowercase();
    let port = free_port();
    // The image of this test, and nothing else, is not what the file says.
    let changed = home.path("override.yml");
    std::fs::write(&changed, format!("services: {{server: {{image: {}}}}}\n", image())).unwrap();
    let compose = |args: &[&str]| {
        let has_plugin = docker(&["compose", "version"]).status.success();
        let mut command = Command::new(if has_plugin { "docker" } else { "docker-compose" });
        command.args(has_plugin.then_some("compose")).args(["-p", &project, "-f"]);
        command.arg(top_level("docker-compose.yml")).arg("-f").arg(&changed);
        command.args(args).env("CORACLE_PORT", port.to_string()).env("CORACLE_METRICS_PORT", "0");
        command.output().expect("docker compose, or docker-compose as script/bootstrap --test installs it")
    };
    let listed = |args: &[&str]| text(&compose(args).stdout).split_whitespace().map(str::to_owned).collect();

    let up = compose(&["up", "--detach", "--no-build"]);
    let mut traces = Traces { containers: Vec::new(), volumes: vec![format!("{project}_state")] };
    traces.containers = listed(&["ps", "--quiet", "--all"]);

    assert_succeeds(&up);
    let key = home.path("key");
    std::fs::copy(top_level("keys-dev/id_ed25519"), &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let login = || {
        let known = format!("UserKnownHostsFile={}", top_level("keys-dev/known_hosts").display());
        let output = Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", &known, "-p", &port.to_string(), "-i"])
            .arg(&key)
            .args(["demo@127.0.0.1", "echo in"])
            .output();
        Some(text(&output.unwrap().stdout)).filter(|said| said == "in\n")
    };
    poll("a login", login);
    let server: Vec<String> = listed(&["ps", "--quiet", "server"]);
    poll("the guest's end", || {
        guests_of(&server[0], "/var/lib/coracle/state/instance-id").is_empty().then_some(())
    });
    assert_succeeds(&compose(&["down", "--volumes", "--timeout", "60"]));
    let left: Vec<String> = listed(&["ps", "--quiet", "--all"]);
    assert!(left.is_empty(), "{left:?}");
}
