//! What a container may do when nobody has said anything about it (Y7), seen from inside.

use std::collections::HashMap;
use std::time::Duration;

use crate::harness::{Fault, FaultProxy, TINY, Terminal, TestServer, call, docker, launcher, poll_until};

async fn server_with(sandbox: &str) -> TestServer {
    TestServer::builder().section(&format!("sandbox: {sandbox}")).start().await
}

/// The fields of `/proc/self/status` of a program in a session.
async fn status(server: &TestServer) -> HashMap<String, String> {
    let output = server.ssh(&["cat /proc/self/status"]).output().await;
    let text = output.assert_success().stdout();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// A limit as the container sees it, under its name in the first or the second version of control groups.
async fn limit(server: &TestServer, first: &str, second: &str) -> String {
    let command = format!("cat /sys/fs/cgroup/{first} 2>/dev/null || cat /sys/fs/cgroup/{second}");
    server.ssh(&[&command]).output().await.assert_success().stdout().trim().to_owned()
}

/// Y7
#[tokio::test]
async fn a_default_container_has_few_powers_and_gains_none() {
    let server = TestServer::start().await;

    let status = status(&server).await;

    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"));
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status[set], "00000000000000fb", "{set}");
    }
    server.stop().await;
}

/// Y7
#[tokio::test]
async fn a_default_container_shares_no_namespace_with_its_host() {
    let server = TestServer::start().await;

    let output = server.ssh(&["readlink /proc/self/ns/*"]).output().await;

    let inside = output.assert_success().stdout();
    for namespace in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert!(inside.contains(&format!("{namespace}:")), "{inside}");
        assert!(!inside.contains(ours.to_str().unwrap()), "{namespace} is the host's: {inside}");
    }
    server.stop().await;
}

/// Y7
#[tokio::test]
async fn a_default_container_sees_its_limits() {
    let server = TestServer::start().await;

    let memory = limit(&server, "memory/memory.limit_in_bytes", "memory.max").await;
    let quota = limit(&server, "cpu/cpu.cfs_quota_us", "cpu.max").await;
    let pids = limit(&server, "pids/pids.max", "pids.max").await;
    let tmp = server.ssh(&["grep ' /tmp ' /proc/mounts; stat -c %a /tmp"]).output().await;

    assert_eq!((memory.as_str(), pids.as_str()), ("1073741824", "512"));
    assert_eq!(quota.split(' ').next(), Some("100000"), "of a period of 100000");
    let tmp = tmp.assert_success().stdout();
    assert!(tmp.starts_with("tmpfs /tmp tmpfs rw,nosuid,nodev") && tmp.ends_with("1777\n"), "{tmp}");
    assert!(tmp.contains("size=524288k"), "{tmp}");
    server.stop().await;
}

/// Y7
#[tokio::test]
async fn a_fork_bomb_stays_in_its_container_and_its_connection_answers() {
    let server = TestServer::start().await;
    let master = server.master(&[]).await;
    let bomb = "my ($ok, $failed) = (0, 0); my @started; \
                for (1..600) { my $pid = fork; if (!defined $pid) { $failed++; next } \
                if (!$pid) { exec 'sleep', '1000' } push @started, $pid; $ok++ } \
                print qq(ok $ok failed $failed end\\n); $| = 1; <STDIN>; kill 'KILL', @started; print qq(freed\\n)";
    let mut client = master.ssh(&[&format!("perl -e '$| = 1; {bomb}'")]).spawn();

    let said = client.wait_for(" end").await;
    let number = |word: &str| {
        let mut words = said.split_whitespace().skip_while(|other| *other != word);
        words.nth(1).and_then(|number| number.parse::<u32>().ok()).unwrap_or_else(|| panic!("{said}"))
    };
    assert!(number("ok") < 512 && number("failed") >= 88, "{said}");
    server.ssh(&["echo another"]).output().await.assert_success().assert_stdout("another\n");
    // Whether the engine's own helper still finds room is a matter of luck; an answer there has to be.
    let full = master.ssh(&["echo answered"]).output().await;
    assert!([0, 126, 255].contains(&full.code()) && full.wall < Duration::from_secs(25), "{}", full.report());
    client.write(b"\n").await;
    client.wait_for("freed").await;
    client.end().await.assert_success();

    poll_until("room for a program", Duration::from_secs(10), async || {
        (master.ssh(&["true"]).output().await.code() == 0).then_some(())
    })
    .await;
    master.close().await;
    server.stop().await;
}

/// Y7
#[tokio::test]
async fn more_memory_than_there_is_ends_the_program_and_not_the_host() {
    // The engine has half a second to say why a program ended.
    let server = TestServer::builder().alone().start().await;

    let output = server.ssh(&["perl -e '$x = \"x\" x (2 << 30); print \"had it\"'"]).output().await;

    output.assert_told("out of memory");
    server.stop().await;
}

/// Y7: what the login does not see, but leaves behind.
#[tokio::test]
async fn orphans_are_reaped() {
    let server = TestServer::builder().image(TINY).start().await;
    let master = server.master(&[]).await;
    master.ssh(&["for i in 1 2 3 4 5; do (sleep 0.1 &); done"]).output().await.assert_success();

    let zombies = "sleep 0.3; cat /proc/[0-9]*/stat | grep -c ' Z '";
    master.ssh(&[zombies]).output().await.assert_stdout("0\n");

    let first = master.ssh(&["cat /proc/1/comm"]).output().await;
    let ours = if launcher() == "init" { "init\n" } else { "docker-init\n" };
    first.assert_success().assert_stdout(ours);
    master.close().await;
    server.stop().await;
}

/// Y7
#[tokio::test]
async fn root_in_a_default_container_can_do_what_root_is_for() {
    let server = TestServer::start().await;

    for command in [
        "su coracle -c 'id -un' && runuser -u coracle -- true",
        "touch /srv/f && chown coracle:coracle /srv/f && chmod 600 /srv/f && echo x >> /srv/f",
        "mkdir /srv/d && chown root:tty /srv/d && chmod 2755 /srv/d && test -g /srv/d",
        "useradd -m bob && su - bob -c 'echo hi > ~/f && cat ~/f'",
        "mkdir -p /srv/t && tar -C / -cf - etc | tar -C /srv/t -xpf - && rsync -a /srv/t/ /srv/u/",
        "setsid su coracle -c 'sleep 50' & for i in $(seq 100); do pkill -u coracle sleep && exit 0; sleep 0.1; done; exit 1",
    ] {
        server.ssh(&[command]).output().await.assert_success();
    }
    server.stop().await;
}

/// Y7: from a repository of its own, since no test reaches the outer world.
#[tokio::test]
async fn root_in_a_default_container_can_install_packages() {
    let server = TestServer::start().await;
    let repository = "set -e; mkdir -p /srv/r/p/DEBIAN /srv/r/p/srv/shared; cd /srv/r; chmod 2775 p/srv/shared; \
        chown root:mail p/srv/shared; chmod g+s p/srv/shared; \
        printf 'Package: hi\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: x\\n' > p/DEBIAN/control; \
        dpkg-deb -b p hi.deb >/dev/null; \
        { cat p/DEBIAN/control; echo 'Filename: ./hi.deb'; stat -c 'Size: %s' hi.deb; \
          echo \"SHA256: $(sha256sum hi.deb | cut -d' ' -f1)\"; } > Packages; \
        rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; \
        echo 'deb [trusted=yes] file:/srv/r ./' > /etc/apt/sources.list; \
        apt-get -q update; apt-get -qy install hi; test -g /srv/shared; apt-get -qy remove hi";

    server.ssh(&[repository]).timeout(Duration::from_mins(3)).output().await.assert_success();

    server.stop().await;
}

/// Y7
#[tokio::test]
async fn a_strict_container_has_no_powers_no_network_and_nothing_to_write_to() {
    let server = server_with("strict").await;

    let status = status(&server).await;
    let seen = server
        .ssh(&["id -u; id -g; ls /sys/class/net; touch /f 2>&1; echo x > ~/f && cat ~/f; pwd; echo $HOME ~ $USER $SHELL"])
        .output()
        .await;

    for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"));
    let seen = seen.assert_success().stdout();
    let expected = "65534\n65534\nlo\ntouch: cannot touch '/f': Read-only file system\nx\n\
                    /home/user\n/home/user /home/user root /bin/sh\n";
    assert_eq!(seen, expected);
    for place in ["/tmp", "/var/tmp"] {
        server.ssh(&[&format!("echo x > {place}/f")]).output().await.assert_success();
    }
    server.stop().await;
}

/// Y7: in the image with next to nothing in it, too.
#[tokio::test]
async fn a_strict_container_needs_no_more_of_an_image_than_any_other() {
    let server = TestServer::builder().image(TINY).section("sandbox: strict").start().await;

    let output = server.ssh(&["id -u; echo x > ~/f && cat ~/f; pwd"]).output().await;

    output.assert_success().assert_stdout("65534\nx\n/home/user\n");
    server.stop().await;
}

/// Y7
#[tokio::test]
async fn copies_and_terminals_work_in_a_strict_container() {
    let server = server_with("strict").await;
    let master = server.master(&[]).await;
    let here = server.path("here");
    std::fs::write(&here, "travels").unwrap();

    let batch = format!("put {} there\nls -l\n", here.display());
    server.sftp().stdin(batch).output().await.assert_success();
    let up = [here.display().to_string(), server.remote("/tmp/copy")];
    let control_path = master.control_path();
    let scp = server.scp(&["-o", &control_path, &up[0], &up[1]]).output().await;
    let rsync = server.rsync_over(&master, &[&up[0], &server.remote("synced")]).output().await;
    let read = master.ssh(&["cat /tmp/copy ~/synced"]).output().await;

    scp.assert_success();
    rsync.assert_success();
    read.assert_success().assert_stdout("travelstravels");
    let terminal = Terminal::open(&server.ssh(&[])).await;
    terminal.enter("stty size; tty; id -u").await;
    terminal.wait_for("40 100").await;
    terminal.wait_for("65534").await;
    terminal.enter("exit").await;
    master.close().await;
    server.stop().await;
}

/// Y7: by a second program inside, as it is done where the engine is not ours to look into.
#[tokio::test]
async fn a_signal_reaches_a_program_in_a_strict_container() {
    let server = server_with("strict").await;
    let master = server.master(&[]).await;
    let mut client = master
        .ssh(&["trap 'echo hup >> /tmp/log; exit' HUP; echo started; while :; do sleep 0.1; done"])
        .spawn();
    client.wait_for("started").await;

    client.kill();

    poll_until("the hang-up", Duration::from_secs(10), async || {
        (master.ssh(&["cat /tmp/log"]).output().await.stdout() == "hup\n").then_some(())
    })
    .await;
    master.close().await;
    server.stop().await;
}

/// Y7
#[tokio::test]
async fn off_leaves_the_engines_defaults() {
    let server = server_with("off").await;

    let status = status(&server).await;

    assert_eq!((status["NoNewPrivs"].as_str(), status["CapEff"].as_str()), ("0", "00000000a80425fb"));
    let tmp = server.ssh(&["grep -c ' /tmp ' /proc/mounts"]).output().await;
    tmp.assert_stdout("0\n");
    server.stop().await;
}

/// Y7
#[tokio::test]
async fn every_value_can_be_set_by_itself() {
    let host = "host: {pidsLimit: 64, memory: 134217728, nanoCpus: 500000000, capAdd: [NET_RAW], tmpfs: {}}";
    let server = TestServer::builder().docker_config(host).start().await;

    let pids = limit(&server, "pids/pids.max", "pids.max").await;
    let memory = limit(&server, "memory/memory.limit_in_bytes", "memory.max").await;
    let quota = limit(&server, "cpu/cpu.cfs_quota_us", "cpu.max").await;
    let tmp = server.ssh(&["grep -c ' /tmp ' /proc/mounts"]).output().await;

    assert_eq!((pids.as_str(), memory.as_str()), ("64", "134217728"));
    assert_eq!(quota.split(' ').next(), Some("50000"));
    assert_eq!(status(&server).await["CapEff"], "00000000000020fb");
    tmp.assert_stdout("0\n");
    server.stop().await;
}

/// Y7
#[tokio::test]
async fn a_mount_at_tmp_is_the_configured_one() {
    let volume = format!("coracle-it-{:08x}", rand::random::<u32>());
    let mount = format!("host: {{mounts: [{{type: volume, source: {volume}, target: /tmp}}]}}");
    let server = TestServer::builder().docker_config(&mount).start().await;

    server.ssh(&["echo kept > /tmp/file"]).output().await.assert_success();
    let output = server.ssh(&["cat /tmp/file"]).output().await;

    output.assert_success().assert_stdout("kept\n");
    server.assert_all_given_back().await;
    docker(&["volume", "rm", &volume]).await;
    server.stop().await;
}

/// Y7: a limit that the engine does not have must not keep people out.
#[tokio::test]
async fn what_the_engine_cannot_do_is_left_out_and_said_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let engine = FaultProxy::listen(folder.path());
    let server = TestServer::builder().docker_host(&engine.url()).start().await;
    engine.spoil_nth(
        1,
        call::START,
        Fault::Fail(500, "exec: docker-init: executable file not found in $PATH"),
    );
    engine.spoil_nth(
        1,
        call::CREATE,
        Fault::Fail(400, "NanoCPUs can not be set, as your kernel does not support it"),
    );

    let first = server.ssh(&["echo here"]).output().await;
    let mut second = server.ssh(&["echo there; cat"]).spawn();
    second.wait_for("there").await;
    let container = server.the_container().await;
    let made = docker(&["inspect", "-f", "{{json .HostConfig}}", &container]).await;
    second.end().await.assert_success();

    first.assert_success().assert_stdout("here\n");
    assert!(made.contains(r#""NanoCpus":0"#) && made.contains(r#""PidsLimit":512"#), "{made}");
    assert!(!made.contains(r#""Init":true"#), "{made}");
    let told = |words: &str| server.log.lines().iter().filter(|line| line.contains(words)).count();
    assert_eq!((told("is not reaped"), told("may use every CPU")), (1, 1));
    // Three creations for the first login, as one was refused and one in vain, and one for the second.
    let requests = engine.take();
    assert_eq!(requests.iter().filter(|request| *request == call::CREATE).count(), 4, "{requests:?}");
    server.stop().await;
}

/// Y7: an init that can start cannot know that its child cannot.
#[tokio::test]
async fn an_idle_command_that_the_image_lacks_is_told_under_an_init_too() {
    let server = TestServer::builder().docker_config("launcher: exec").docker_config("host: {init: true}");
    let mut server = server.docker_config("idleCommand: [/nonexistent/idle]").start().await;
    server.expect_errors();

    let output = server.ssh(&["true"]).output().await;

    // A program that the engine took up in the moment before gets the engine's own words.
    let words = output.stderr() + &output.stdout();
    assert!([126, 255].contains(&output.code()), "{}", output.report());
    assert!(words.contains("idleCommand") || words.contains("stopped"), "{}", output.report());

    server.stop().await;
}
