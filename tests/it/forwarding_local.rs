//! What clients reach inside the container: `-L`, `-D`, `-W`, `-J`, and sockets of the file system (F1, F3, F4).

use std::time::Duration;

use crate::harness::{
    Sshd, TINY, Talker, Target, TestServer, Turn, exchange_at, exchange_by, free_port, noise, poll_until,
};

/// More than any window that a client gives at once.
const LENGTH: usize = 3_000_000;
on_both!(forwarding
    /// F1
    a_port_of_the_clients_leads_to_a_server_inside,
    |target| {
        let master = target.master(&[]).await;
        let (server, inside) = master.listen_inside("127.0.0.1:0", "echo").await;
        let (here, words) = (free_port(), noise(LENGTH));

        master.forward("-L", &format!("{here}:127.0.0.1:{inside}")).await.assert_success();

        // The second of them dials anew.
        for _ in 0..2 {
            assert!(exchange_at(here, &words).await == words, "other bytes came back");
        }
        target.seen("OpenSSH", "-L");
        drop(server);
        master.close().await;
    }
);

on_both!(forwarding
    /// F1
    standard_input_and_output_lead_to_a_server_inside,
    |target| {
        let master = target.master(&[]).await;
        let (server, inside) = master.listen_inside("127.0.0.1:0", "echo").await;
        let words = noise(LENGTH);

        let output = master.ssh(&[]).arg("-W").arg(format!("127.0.0.1:{inside}")).stdin(words.clone()).output().await;

        assert!(output.assert_success().stdout == words, "other bytes came back");
        target.seen("OpenSSH", "-W");
        drop(server);
        master.close().await;
    }
);

on_both!(forwarding
    /// F1
    a_proxy_of_the_clients_leads_inside_and_names_are_looked_up_there,
    |target| {
        let master = target.master(&[]).await;
        let (server, inside) = master.listen_inside("127.0.0.1:0", "http").await;
        let proxy = free_port();

        master.forward("-D", &proxy.to_string()).await.assert_success();

        for (scheme, host) in [("socks5h", "localhost"), ("socks5h", "127.0.0.1"), ("socks4a", "localhost")] {
            let curl = target.program("curl").args(["-sS", "--noproxy", "", "--max-time", "20"]);
            let curl = curl.arg("--proxy").arg(format!("{scheme}://127.0.0.1:{proxy}"));
            let output = curl.then([format!("http://{host}:{inside}/")]).output().await;
            output.assert_success().assert_stdout("an answer\n");
        }
        target.seen("OpenSSH", "-D");
        target.seen("curl", "through -D");
        drop(server);
        master.close().await;
    }
);

/// sshd inside, for `-J`, by the user who logs in.
const SSHD: &str = "set -e; umask 077; cd $(mktemp -d); cat > keys; ssh-keygen -q -t ed25519 -N '' -f host; \
                    mkdir -p /run/sshd 2>/dev/null || true; echo ready; \
                    exec /usr/sbin/sshd -D -e -f /dev/null -h $PWD/host -p PORT -o ListenAddress=127.0.0.1 \
                    -o AuthorizedKeysFile=$PWD/keys -o StrictModes=no -o UsePAM=no -o PidFile=none -o PrintLastLog=no";

async fn a_jump_leads_to_an_sshd_inside(target: &Target) {
    let inside = free_port();
    let master = target.master(&[]).await;
    let mut server = master.ssh(&[&SSHD.replace("PORT", &inside.to_string())]).spawn();
    server.write(&std::fs::read(target.path("client.pub")).unwrap()).await;
    server.close_stdin();
    server.wait_for("ready").await;
    // What `-J` starts knows of the first client's configuration file, and of no other option.
    let config = target.path("config");
    let options = target.ssh_options();
    let options: Vec<_> = options
        .iter()
        .filter(|option| option.contains('='))
        .map(|option| option.replacen('=', " ", 1))
        .collect();
    let text = format!(
        "Host first\n  HostName {}\n  Port {}\n  {}\nHost *\n  User {}\n  IdentityFile {}\n  {}\n",
        target.address.ip(),
        target.address.port(),
        master.control_path(),
        target.user,
        target.keys.client().display(),
        options.join("\n  ")
    );
    std::fs::write(&config, text).unwrap();

    let jump = || {
        let ssh =
            target.program("ssh").arg("-F").arg(&config).args(["-J", "first", "-p", &inside.to_string()]);
        ssh.then(["127.0.0.1", "echo $SSH_CONNECTION; cat"]).stdin("words\n").output()
    };
    let output = poll_until("sshd inside", Duration::from_secs(10), async || {
        let output = jump().await;
        (output.code() != 255).then_some(output)
    })
    .await;

    let stdout = output.assert_success().stdout();
    assert!(
        stdout.starts_with("127.0.0.1 ") && stdout.ends_with(&format!(" 127.0.0.1 {inside}\nwords\n")),
        "{stdout}"
    );
    target.seen("OpenSSH", "-J");
    drop(server);
    master.close().await;
}

/// F1
#[tokio::test]
async fn a_jump_through_the_container_reaches_an_sshd_inside() {
    // Its separation of privileges takes one more than programs are given.
    let chroot = "host: {capAdd: [SYS_CHROOT]}";
    let image = "coracle/guest-sshd:latest";
    let server = TestServer::builder().forwarding().image(image).docker_config(chroot).start().await;
    a_jump_leads_to_an_sshd_inside(&server).await;
    server.stop().await;
}

/// F1
#[tokio::test]
async fn a_jump_through_the_container_reaches_an_sshd_inside_at_the_oracle() {
    let sshd = Sshd::start_with(&[], Turn::shared().await).await;
    a_jump_leads_to_an_sshd_inside(&sshd).await;
    sshd.stop().await;
}

/// F1
#[tokio::test]
async fn no_network_no_writable_root_and_next_to_no_image_are_enough() {
    let server = TestServer::builder()
        .forwarding()
        .image(TINY)
        .docker_config("host: {networkMode: none, readonlyRootfs: true, tmpfs: {/tmp: ''}}")
        .start()
        .await;
    let master = server.master(&[]).await;
    // A port of its own: nobody else is in this network.
    let serve = "echo words > /tmp/file; httpd -p 127.0.0.1:80 -h /tmp; echo ready; cat";
    let mut httpd = master.ssh(&[serve]).spawn();
    httpd.wait_for("ready").await;
    let here = free_port();

    master.forward("-L", &format!("{here}:127.0.0.1:80")).await.assert_success();

    let answer = exchange_at(here, b"GET /file HTTP/1.0\r\n\r\n").await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.") && answer.ends_with("words\n"), "{answer}");
    // The other way it needs no more: `nc` comes with busybox.
    let there = crate::harness::echo().await;
    let told = master.forward("-R", &format!("0:127.0.0.1:{there}")).await;
    let port = told.assert_success().stdout().trim().to_owned();
    let said = master.ssh(&[&format!("echo words | nc 127.0.0.1 {port}")]).output().await;
    said.assert_success().assert_stdout("words\n");
    drop(httpd);
    master.close().await;
    server.stop().await;
}

on_both!(forwarding
    /// F3
    sockets_of_the_file_system_stand_at_either_end,
    |target| {
        let master = target.master(&[]).await;
        let (unix, _) = master.listen_inside("/tmp/it-local.sock", "echo").await;
        let (tcp, inside) = master.listen_inside("127.0.0.1:0", "echo").await;
        let (here, words) = (free_port(), noise(LENGTH));
        let (first, second) = (target.path("first.sock"), target.path("second.sock"));

        master.forward("-L", &format!("{here}:/tmp/it-local.sock")).await.assert_success();
        master.forward("-L", &format!("{}:/tmp/it-local.sock", first.display())).await.assert_success();
        master.forward("-L", &format!("{}:127.0.0.1:{inside}", second.display())).await.assert_success();

        assert!(exchange_at(here, &words).await == words, "other bytes came back to the port");
        assert!(exchange_by(&first, &words).await == words, "other bytes came back by a socket from a socket");
        assert!(exchange_by(&second, &words).await == words, "other bytes came back by a socket from a port");
        target.seen("OpenSSH", "sockets");
        drop((unix, tcp));
        master.close().await;
    }
);

on_both!(forwarding
    /// F4
    who_cannot_be_reached_is_told_so_at_once_and_nobody_else_minds,
    |target| {
        let talker = Talker::start(target.ssh(&[])).await;
        let mut typist = talker.ssh(&["echo started; cat"]).spawn();
        typist.wait_for("started").await;
        let nobody = format!("127.0.0.1:{}", free_port());

        for to in [&nobody, "nosuch.invalid:80", "/tmp/nosuch.sock"] {
            let told = talker.dial(to).await;
            assert!(told.starts_with("connect failed: "), "{to}: {told}");
        }

        typist.write(b"still here\n").await;
        typist.wait_for("still here").await;
        typist.end().await.assert_success();
        talker.end().await;
    }
);
