//! X clients in the container, in front of the client's X server: `-X` and `-Y` (F7).

use std::time::Duration;

use crate::harness::{Display, Sshd, Target, TestServer, docker, poll_until, python, x_client};

on_both!(forwarding
    /// F7
    an_x_client_inside_comes_to_the_clients_display_with_the_cookie_and_not_without,
    |target| {
        let display = Display::start(target, "display").await;
        let script = ["right", "wrong", "none", "right"].map(|cookie| format!("{} < /dev/null", x_client(cookie))).join("; ");

        for (how, option) in [("-X", "ForwardX11Trusted=no"), ("-Y", "ForwardX11Timeout=0")] {
            let output = display.before(target.ssh(&[&script]).arg(how).option(option)).output().await;

            let stdout = output.assert_success().stdout();
            let lines: Vec<_> = stdout.lines().map(|line| line.split(" to ").next().unwrap()).collect();
            assert_eq!(lines, ["connected", "refused", "refused", "connected"], "{how}: {}", output.report());
        }
        target.seen("OpenSSH", "-X");
    }
);

on_both!(forwarding
    /// F7
    programs_find_their_display_and_a_file_that_is_theirs_alone,
    |target| {
        let display = Display::start(target, "display").await;
        let script = "echo $DISPLAY; stat -c '%a %U' ${XAUTHORITY:-~/.Xauthority}";

        let with = display.before(target.ssh(&[script]).arg("-Y")).output().await;
        let without = display.before(target.ssh(&["echo ${DISPLAY-none}"])).output().await;

        let stdout = with.assert_success().stdout();
        let lines: Vec<_> = stdout.lines().collect();
        let [name, file] = lines[..] else { panic!("{}", with.report()) };
        let number = name.strip_suffix(".0").unwrap_or(name).rsplit(':').next().unwrap();
        assert!(number.parse::<u16>().unwrap() >= 10, "{name}");
        assert_eq!(file, "600 root");
        without.assert_success().assert_stdout("none\n");
    }
);

on_both!(forwarding
    /// F7
    two_x_clients_of_two_sessions_are_there_at_once,
    |target| {
        let display = Display::start(target, "display").await;
        let master = target.master_by(display.before(target.ssh(&[]).arg("-Y"))).await;
        let mut clients = Vec::new();
        for _ in 0..2 {
            let mut client = display.before(master.ssh(&[&x_client("right")]).arg("-Y")).spawn();
            client.wait_for("connected to ").await;
            clients.push(client);
        }

        for mut client in clients {
            assert!(!client.has_ended());
            client.end().await.assert_success();
        }
        master.close().await;
    }
);

on_both!(forwarding
    /// F7
    who_asks_for_one_connection_gets_one,
    |target| {
        let display = Display::start(target, "display").await;
        let script = format!("{0} 2>&1 < /dev/null; {0} 2>&1 < /dev/null; true", x_client("right"));

        let output = python(target, "x11_once.py", &[&display.name(), display.cookies(), &script]).output().await;

        let stdout = output.assert_success().stdout();
        assert_eq!(stdout.matches("connected to ").count(), 1, "{}", output.report());
        assert!(stdout.starts_with("connected to "), "{}", output.report());
        target.seen("asyncssh", "-X");
    }
);

on_both!(forwarding
    /// F7
    a_client_without_a_display_has_a_session_all_the_same,
    |target| {
        let output = target.ssh(&["echo ${DISPLAY-none}"]).arg("-X").output().await;

        output.assert_success().assert_stdout("none\n");
    }
);

/// With the programs that people have: one of the two owns what the other one asks for.
async fn real_x_clients_work(target: &Target) {
    let display = Display::start(target, "display").await;
    let script = "xauth list $DISPLAY | wc -l; echo words | xclip -i -loops 1 > /dev/null 2>&1; until xclip -o 2>/dev/null; do sleep 0.1; done";

    let output = display.before(target.ssh(&[script]).arg("-Y")).output().await;

    output.assert_success().assert_stdout("1\nwords\n");
    target.seen("xclip", "through -X");
}

/// F7
#[tokio::test]
async fn x_clients_of_the_image_work() {
    let server = TestServer::builder().forwarding().image("coracle/guest-sshd:latest").start().await;
    real_x_clients_work(&server).await;
    server.stop().await;
}

/// F7
#[tokio::test]
async fn x_clients_of_the_image_work_at_the_oracle() {
    let sshd = Sshd::start_forwarding().await;
    real_x_clients_work(&sshd).await;
    sshd.stop().await;
}

/// F7: in a container that stays.
#[tokio::test]
async fn a_display_and_its_cookie_go_with_their_connection() {
    let server = TestServer::builder().forwarding().docker_config("mode: persistent");
    let server = server.docker_config("persistent: {idleTimeout: 1h}").start().await;
    let display = Display::start(&server, "display").await;
    let script =
        format!("echo ${{XAUTHORITY:-~/.Xauthority}} ${{DISPLAY}}; echo started; {}", x_client("right"));
    let mut client = display.before(server.ssh(&[&script]).arg("-Y")).spawn();
    let said = client.wait_for("connected to ").await;
    let (file, name) = said.lines().next().unwrap().split_once(' ').unwrap();

    client.kill();

    let connects = format!("DISPLAY={name} XAUTHORITY={file} {} < /dev/null 2>&1", x_client("right"));
    let left = format!("test -e {file}; echo $?; {connects} | grep -c connected");
    poll_until("its end", Duration::from_mins(1), async || {
        (server.ssh(&[&left]).output().await.stdout() == "1\n0\n").then_some(())
    })
    .await;
    for container in server.containers().await {
        docker(&["rm", "-fv", &container]).await;
    }
    server.stop().await;
}
