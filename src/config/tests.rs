use std::path::Path;

use crate::engine::docker::{Endpoint, ImagePullPolicy};
use crate::value::Pem;

use super::*;

fn read(text: &str) -> Config {
    let parsed = parse(text.as_bytes(), Path::new("c.yaml"));
    parsed.map_or_else(|error| panic!("{error}"), |(config, _)| config)
}

/// The error, which has to begin with its position.
fn error(text: impl AsRef<[u8]>) -> String {
    let error = parse(text.as_ref(), Path::new("c.yaml")).unwrap_err().to_string();
    let position: Vec<_> = error.splitn(4, ':').collect();
    assert_eq!(position[0], "c.yaml", "{error}");
    assert!(position[1].parse::<u64>().is_ok() && position[2].parse::<u64>().is_ok(), "{error}");
    assert!(error.contains("\n      | ") && error.ends_with('^'), "no snippet: {error}");
    error
}

#[test]
fn nothing_is_the_defaults() {
    for text in [
        "",
        "\n",
        "# a comment\n",
        "---\n",
        "{}",
        "ssh:\n",
        "docker:\n  config:\n    container:\n    host:\n",
    ] {
        assert_eq!(read(text), Config::default(), "{text:?}");
    }
}

#[test]
fn an_unknown_key_is_shown_with_the_one_that_was_meant() {
    assert_eq!(
        error("log:\n  level: info\nssh:\n  hostkeys: [a]\n"),
        "c.yaml:4:3: unknown key `hostkeys`; did you mean `hostKeys`? \
         (expected `listen`, `hostKeys`, `banner`, `keepAlive`, `loginGraceTime`, `maxStartups`, `penalties`, `proxyProtocol`)\n    \
         4 |   hostkeys: [a]\n      |   ^^^^^^^^"
    );
    assert!(error("dokcer: {}").contains("did you mean `docker`?"));
    assert!(!error("zebra: {}").contains("did you mean"));
}

#[test]
fn a_typo_deep_in_the_engines_own_fields_is_found() {
    let text =
        "docker:\n  config:\n    host:\n      memory: 1\n      ulimits:\n        - {name: nofile, sotf: 1}\n";
    let error = error(text);
    assert!(error.starts_with("c.yaml:6:26: unknown key `sotf`; did you mean `Soft`?"), "{error}");
}

#[test]
fn a_profile_that_does_not_go_with_what_is_outside_of_it_is_named_with_its_line() {
    let outside = "docker: {config: {platform: {os: linux, architecture: arm}}}";
    let inside = "profiles:\n  a: {docker: {config: {platform: {os: ''}}}}";

    let error = error(format!("{outside}\n{inside}"));

    assert!(error.starts_with("c.yaml:3:6: merged with what is outside of it: "), "{error}");
    assert!(error.contains("needs `os`"), "{error}");
}

#[test]
fn every_error_names_its_place_and_what_was_expected() {
    assert_errors(&[
        ("ssh: 3", "1:6", "expected a section"),
        ("- ssh", "1:1", "expected a section"),
        ("ssh:\n  hostKeys: key", "2:13", "expected a list"),
        ("ssh:\n  listen: localhost:22", "2:11", "expected an IP address and a port"),
        ("ssh:\n  listen: 22", "2:11", "expected an IP address and a port"),
        ("ssh:\n  banner: [x]", "2:11", "expected a single value"),
        ("ssh:\n  loginGraceTime: soon", "2:19", "expected a span of time such as `60s`"),
        ("ssh:\n  loginGraceTime: 30", "2:19", "expected a span of time such as `60s`"),
        ("ssh:\n  keepAlive: {maxMissed: 0}", "2:26", "expected 1 to 1000"),
        ("ssh:\n  keepAlive: {maxMissed: -1}", "2:26", "expected a whole number from 0 to 65535"),
        ("auth:\n  authorizedKeysFile: keys/%h", "2:23", "only `%u`"),
        ("auth:\n  users:\n    eve: {profile: big}", "3:20", "no profile `big`"),
        ("auth:\n  users:\n    eve:\n      profiles: [big]", "4:18", "no profile `big`"),
        ("auth:\n  users:\n    eve: {groups: [lab]}", "3:20", "no group `lab`"),
        ("auth:\n  groups: {lab: {profile: big}}", "2:27", "no profile `big`"),
        ("auth:\n  methods:\n    groups: {lab: [password]}", "3:19", "no group `lab`"),
        ("auth:\n  methods: {default: [key]}", "2:23", "expected one of"),
        ("auth:\n  certificates: {profiles: {p: big}}", "2:32", "no profile `big`"),
        ("auth:\n  password: {method: webhook}", "2:13", "needs `webhook.url`"),
        ("profiles:\n  a+b: {}", "2:3", "expected the name of a profile"),
        ("profiles:\n  a: {docker: {config: {timeout: 0}}}", "2:34", "over zero"),
        ("env:\n  accept:\n  - LANG\n  - A=B", "4:5", "expected the name of a variable"),
        ("policy:\n  shell: filter", "2:10", "expected `enable`, `disable`"),
        ("policy:\n  command: {allow: [id]}", "2:12", "`allow` needs `mode: filter`"),
        ("policy:\n  command:\n    mode: filter\n    allow: ['glob:']", "4:13", "expected a command"),
        ("policy:\n  command: enable", "2:12", "expected a section"),
        ("policy:\n  subsystem: {deny: ['']}", "2:22", "expected the name of a subsystem"),
        ("policy:\n  env: {mode: filter, allow: [A=B]}", "2:31", "expected the name of a variable"),
        ("policy:\n  signals: {deny: [SIGTERM]}", "2:20", "without `SIG`"),
        ("policy:\n  forceCommand: \"a\\0b\"", "2:17", "NUL"),
        ("policy:\n  maxSessions: -1", "2:16", "expected a whole number from 0 to 65535"),
        ("docker:\n  host: docker.sock", "2:9", "expected `unix:///path/to/socket`"),
        ("docker:\n  host: tcp://there:port", "2:9", "expected `unix:///path/to/socket`"),
        ("docker:\n  host: ssh://me@there", "2:9", "expected `unix:///path/to/socket`"),
        ("docker:\n  cert: /c.pem", "2:3", "`cert` and `key` go together"),
        ("docker:\n  config: {timeout: 0s}", "2:21", "over zero"),
        ("docker:\n  config: {disableShell: maybe}", "2:26", "expected `true` or `false`"),
        ("docker:\n  config: {imagePullPolicy: never}", "2:29", "did you mean `Never`?"),
        ("docker:\n  config: {idleCommand: []}", "2:25", "a program that lasts"),
        ("docker:\n  config: {subsystems: {sftp: []}}", "2:31", "expected a program"),
        ("docker:\n  config: {subsystems: {sftp: {}}}", "2:31", "a program, or a list"),
        ("docker:\n  config: {containerName: \"a b\"}", "2:27", "expected a container's name"),
        ("docker:\n  config:\n    container:\n      Cmd: [sh]", "4:7", "`idleCommand` says how"),
        (
            "docker:\n  config:\n    container:\n      hostconfig: {}",
            "4:7",
            "its place is `docker.config.host`",
        ),
        ("docker:\n  config:\n    container: {image: ''}", "3:16", "must name an image"),
        ("docker:\n  config:\n    container: {tty: 7}", "3:22", "expected `true` or `false`"),
        ("docker:\n  config:\n    host: {memory: 1GiB}", "3:20", "expected a whole number"),
        ("docker:\n  config:\n    platform: {architecture: arm64}", "3:15", "needs `os`"),
        ("limits:\n  stdin: {memory: 4M}", "2:19", "expected a size"),
        ("limits:\n  stdin:\n    spill: 9GiB", "3:5", "`spill` (9GiB) must not be over `cap` (8GiB)"),
        ("limits:\n  sessionsPerConnection: 70000", "2:26", "expected a whole number from 0 to 65535"),
        ("stateDir: ~", "1:11", "not nothing"),
        ("log:\n  level: verbose", "2:10", "unknown value `verbose`"),
        ("log: {level: info\n", "1:6", "unclosed"),
        ("log: {}\nlog: {}", "2:1", "set twice"),
        ("log: {}\n---\nlog: {}", "3:1", "a second document"),
        ("log: *unknown", "1:6", ""),
    ]);
    assert!(error(b"log: {}\n# \xff").starts_with("c.yaml:2:3: expected UTF-8"));
}

/// F8
#[test]
fn errors_about_forwarding_do_so_too() {
    assert_errors(&[
        ("policy:\n  forwarding: {local: {permitOpen: []}}", "2:36", "an empty list permits nothing"),
        ("policy:\n  forwarding: {local: {permitOpen: ['db:0']}}", "2:37", "from 1 to 65535"),
        ("policy:\n  forwarding: {local: {permitOpen: ['::1:80']}}", "2:37", "stands in brackets"),
        ("policy:\n  forwarding: {local: {permitopen: [db:1]}}", "2:24", "did you mean `permitOpen`?"),
        ("policy:\n  forwarding: {local: enabled}", "2:23", "did you mean `enable`?"),
        ("policy:\n  forwarding:\n    remote: {permitListen: [70000]}", "3:29", "from 0 to 65535"),
        ("policy:\n  forwarding: {remote: [8080]}", "2:24", "expected a single value"),
        ("policy:\n  forwarding: {socket: {permitPaths: [tmp]}}", "2:39", "it is not absolute"),
        ("policy:\n  forwarding: {agent: true}", "2:23", "expected `enable`, `disable`"),
        ("policy:\n  forwarding: {x12: enable}", "2:16", "did you mean `x11`?"),
        (
            "profiles:\n  a: {policy: {forwarding: {local: {permitOpen: [x]}}}}",
            "2:50",
            "expected `host:port`",
        ),
    ]);
}

/// Texts, the places of what is wrong with them, and words of what was expected there.
fn assert_errors(cases: &[(&str, &str, &str)]) {
    for (text, place, expected) in cases {
        let error = error(text);
        assert!(error.starts_with(&format!("c.yaml:{place}: ")), "{text:?} wanted {place}: {error}");
        assert!(error.contains(expected), "{text:?} wanted {expected:?}: {error}");
    }
}

/// Y7
#[test]
fn a_setting_that_opens_the_host_is_refused_where_it_stands_unless_it_is_allowed() {
    let host = |line: &str| format!("docker:\n  config:\n    host:\n      {line}\n");
    for (line, place, name) in [
        ("binds: [data:/d, /var/run/docker.sock:/s]", "4:24", "engineSocket"),
        ("Mounts: [{type: bind, source: /run, target: /r}]", "4:16", "engineSocket"),
        ("networkmode: host", "4:20", "hostNetwork"),
        ("privileged: true", "4:19", "privileged"),
        ("capAdd:\n      - NET_RAW\n      - sys_admin", "6:9", "SYS_ADMIN"),
        ("devices: [{pathOnHost: /dev/kvm}]", "4:16", "devices"),
        ("securityOpt: [seccomp=unconfined]", "4:21", "seccompUnconfined"),
    ] {
        let text = host(line);
        let error = error(&text);
        assert!(error.starts_with(&format!("c.yaml:{place}: `")), "{text} wanted {place}: {error}");
        assert!(error.contains(&format!("`allowDangerous: [{name}]`")), "{text}: {error}");

        read(&format!("allowDangerous: [{name}]\n{text}"));
        read(&format!("{text}allowDangerous: [{name}]\n"));
    }
    let merged = "docker: {config: {host: {<<: {privileged: true}}}}";
    assert!(error(merged).starts_with("c.yaml:1:43: "), "{}", error(merged));
    assert!(error("dockerrun: {config: {host: {pidMode: host}}}").starts_with("c.yaml:1:38: "));
    let error = error("allowDangerous: [engineSockets]");
    assert!(error.starts_with("c.yaml:1:18: ") && error.contains("did you mean `engineSocket`?"), "{error}");
}

#[test]
fn texts_that_look_like_something_else_are_texts_where_texts_are_wanted() {
    let config = read(
        "log: {level: off}\ndocker:\n  config:\n    container: {user: 1000, labels: {on: true, 1: 2.50}}\n    \
         host: {restartPolicy: {name: no}}\n",
    );

    assert_eq!(config.log.level, telemetry::Level::Off);
    let container = &config.docker.config.container;
    assert_eq!(container.user.as_deref(), Some("1000"));
    let labels = container.labels.as_ref().unwrap();
    assert_eq!((labels["on"].as_str(), labels["1"].as_str()), ("true", "2.50"));
}

#[test]
fn a_section_may_have_its_former_name_but_not_both() {
    assert_eq!(read("dockerrun: {host: 'unix:///x'}").docker.host, Endpoint::Unix("/x".into()));
    let error = error("docker: {}\ndockerrun: {}");
    assert!(error.starts_with("c.yaml:2:1: `dockerrun` repeats `docker`"), "{error}");
    assert_eq!(
        read("docker: {config: {containername: box}}").docker.config.container_name.get(),
        Some("box")
    );
}

#[test]
fn the_engines_fields_may_be_written_in_any_case_and_what_is_data_stays_as_it_is() {
    let config = read(
        "docker:\n  config:\n    container:\n      Image: a\n      workingdir: /w\n      labels: {Mixed: Case, Image: x}\n      \
         ExposedPorts: {80/tcp: {}}\n      healthCheck: {test: [NONE], INTERVAL: 5}\n    \
         host:\n      NANOCPUS: 5\n      portbindings: {80/tcp: [{hostport: '81'}]}\n      \
         mounts: [{type: tmpfs, target: /t, tmpfsoptions: {sizebytes: 9}}]\n      logConfig: {type: none}\n      \
         restartpolicy: {name: 'no'}\n    \
         network:\n      endpointsConfig: {Net: {aliases: [A]}}\n",
    );
    let launch = serde_json::to_value(&config.docker.config).unwrap();

    assert_eq!(launch["container"]["Image"], "a");
    assert_eq!(launch["container"]["WorkingDir"], "/w");
    assert_eq!(launch["container"]["Labels"], serde_json::json!({"Mixed": "Case", "Image": "x"}));
    assert_eq!(launch["container"]["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
    assert_eq!(launch["container"]["Healthcheck"]["Interval"], 5);
    assert_eq!(launch["host"]["NanoCpus"], 5);
    assert_eq!(launch["host"]["PortBindings"]["80/tcp"][0]["HostPort"], "81");
    assert_eq!(launch["host"]["Mounts"][0]["TmpfsOptions"]["SizeBytes"], 9);
    assert_eq!(launch["network"]["EndpointsConfig"]["Net"]["Aliases"][0], "A");

    let error = error("docker: {config: {container: {Image: a, image: b}}}");
    assert!(error.starts_with("c.yaml:1:41: `image` repeats `Image`"), "{error}");
}

#[test]
fn false_and_zero_and_nothing_can_be_said_everywhere() {
    let config = read(
        "ssh: {keepAlive: {interval: 0}, loginGraceTime: 0s, banner: '', hostKeys: []}\nenv: {accept: []}\n\
         limits: {sessionsPerConnection: 0, stdin: {memory: 0, spill: 0}}\n\
         docker:\n  config:\n    subsystems: {}\n    shellCommand: []\n    disableShell: false\n    \
         container: {tty: false, openStdin: false}\n    host: {memory: 0, init: false, privileged: false}\n",
    );

    assert_eq!(config.ssh.keep_alive.interval.unless_zero(), None);
    assert_eq!(config.limits.sessions_per_connection, 0);
    assert!(config.env.accept.is_empty() && config.docker.config.subsystems.is_empty());
    assert_eq!(config.docker.config.container.tty, Some(false));
    assert_eq!(config.docker.config.host.memory, Some(0));
    assert_eq!(config.docker.config.host.privileged, Some(false));
}

#[test]
fn keys_of_the_docker_section_have_the_meaning_that_containerssh_gives_them() {
    let config = read(
        "docker:\n  host: tcp://10.0.0.1:2376\n  cacert: ca.pem\n  cert: |\n    -----BEGIN CERTIFICATE-----\n    x\n  \
         key: |\n    -----BEGIN PRIVATE KEY-----\n    SECRET\n    -----END PRIVATE KEY-----\n  \
         config:\n    imagePullPolicy: Always\n    timeout: 1m30s\n    shellCommand: [/bin/bash]\n    \
         platform: {os: linux, architecture: arm, variant: v7}\n    \
         subsystems: {sftp: /a, echo: [/bin/echo, hi]}\n",
    );
    let docker = &config.docker;

    assert!(docker.uses_tls());
    assert_eq!(docker.cacert, Pem::File("ca.pem".into()));
    assert!(matches!(docker.cert, Pem::Text(_)));
    assert_eq!(docker.config.image_pull_policy, ImagePullPolicy::Always);
    assert_eq!(docker.config.timeout.get().as_secs(), 90);
    assert_eq!(docker.config.platform.query(), "linux/arm/v7");
    assert_eq!(docker.config.subsystems["sftp"].args(), ["/a"]);
    assert_eq!(docker.config.subsystems["echo"].args(), ["/bin/echo", "hi"]);
    assert!(!serde_json::to_string(&config).unwrap().contains("SECRET"));
    assert!(!format!("{docker:?}").contains("SECRET"));
}

#[test]
fn passwords_in_the_environment_are_not_shown() {
    let config = read("docker: {config: {container: {env: [PASSWORD=hunter2, EMPTY]}}}");
    let shown = serde_json::to_value(&config).unwrap();

    assert_eq!(shown["docker"]["config"]["container"]["Env"], serde_json::json!(["PASSWORD=***", "EMPTY"]));
}

#[test]
fn an_error_near_a_password_does_not_show_it() {
    for login in [
        "{username: joe, pasword: SECRET}",
        "{password: SECRET}",
        "{username: joe, password: [SECRET]}",
        "\n      username: joe\n      password: SECRET\n      identityToken: SECRET\n",
        "\n      password: SECRET\n",
        "\n      identityTokn: SECRET\n",
    ] {
        let error = error(format!("docker:\n  registries:\n    registry.example:5000: {login}"));
        assert!(error.starts_with("c.yaml:") && !error.contains("SECRET"), "{error}");
    }
}

#[test]
fn an_error_near_a_private_key_does_not_show_it() {
    let text = "docker:\n  key: |\n    -----BEGIN PRIVATE KEY-----\n   SECRET\n";
    let error = error(text);
    assert!(!error.contains("SECRET"), "{error}");
}

#[test]
fn an_alias_bomb_is_refused_and_honest_anchors_work() {
    let levels = ('b'..='k').zip('a'..).map(|(this, last)| {
        let aliases = vec![format!("*{last}"); 9].join(", ");
        format!("  - &{this} [{aliases}]\n")
    });
    error(format!("env:\n  accept:\n  - &a [A, A, A, A, A, A, A, A, A]\n{}", levels.collect::<String>()));

    let mut bomb = "docker: {config: {container: {labels: {a: &a A}, env: [".to_owned();
    bomb.push_str(&"*a, ".repeat(5000));
    bomb.push_str("]}}}");
    assert!(error(bomb).contains("larger or deeper"));

    error("[".repeat(100_000));

    let config = read("env: {accept: &names [A, B]}\ndocker: {config: {shellCommand: *names}}");
    assert_eq!(config.docker.config.shell_command, ["A", "B"]);

    let config = read("ssh: {keepAlive: {<<: {interval: 5s, maxMissed: 9}, interval: 1s}}");
    assert_eq!(
        (config.ssh.keep_alive.interval.get().as_secs(), config.ssh.keep_alive.max_missed.get()),
        (1, 9)
    );
}

#[test]
fn what_is_shown_can_be_read_back() {
    for text in [
        "",
        "ssh: {banner: 'a: b', hostKeys: [x]}\nlimits: {stdin: {directory: /d}}\nauth: {authorizedKeysFile: k}",
    ] {
        let config = read(text);
        let shown = serde_saphyr::to_string(&config).unwrap();

        assert_eq!(read(&shown), config, "{shown}");
    }
}

#[test]
fn relative_paths_are_seen_from_the_folder_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yaml");
    std::fs::write(
        &file,
        "stateDir: state\nssh: {hostKeys: [key, /abs]}\ndocker: {cacert: ca.pem, registries: {r: {username: u, passwordFile: p}}}\nauth: {authorizedKeysFile: k/%u}",
    )
    .unwrap();

    let config = load(&file).unwrap();

    assert_eq!(config.state_dir, folder.path().join("state"));
    assert_eq!(config.ssh.host_keys, [folder.path().join("key"), "/abs".into()]);
    assert_eq!(config.docker.cacert, Pem::File(folder.path().join("ca.pem")));
    let login = config.docker.registries.values().next().unwrap();
    assert_eq!(login.proof, engine::docker::Proof::PasswordFile(folder.path().join("p")));
    let user = crate::ids::Username::parse("bob").unwrap();
    assert_eq!(config.auth.authorized_keys_file.unwrap().of(&user), Some(folder.path().join("k/bob")));
}

#[test]
fn a_file_that_cannot_be_a_configuration_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(&folder.path().join("none.yaml")).unwrap_err().to_string();
    assert!(missing.contains("none.yaml: the configuration cannot be read"), "{missing}");

    let large = folder.path().join("large.yaml");
    std::fs::write(&large, " ".repeat(2 << 20)).unwrap();
    assert!(matches!(load(&large), Err(ConfigError::TooLarge { .. })));
}

#[test]
fn what_a_profile_enables_in_vain_is_pointed_at() {
    let warnings = |outside: &str| {
        let profile = "profiles: {lab: {policy: {forwarding: {local: enable, agent: disable}}}}";
        read(&format!("policy: {{forwarding: {{{outside}}}}}\n{profile}")).warnings()
    };
    let in_vain = |warning: &String| warning.contains("`policy.forwarding.local` of the profile `lab`");

    assert_eq!(warnings("").iter().filter(|warning| in_vain(warning)).count(), 1);
    assert!(!warnings("").iter().any(|warning| warning.contains("agent")));
    assert!(!warnings("local: {permitOpen: ['db:1']}").iter().any(in_vain));
}
