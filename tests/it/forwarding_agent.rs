//! The client's authentication agent, as programs in the container see it: `-A` (F6).

use std::time::Duration;

use crate::harness::{Agent, Sshd, Target, TestServer, Turn, docker, free_port, poll_until};

/// At a time, each over a connection of its own to the agent.
const AT_ONCE: usize = 16;

on_both!(forwarding
    /// F6
    programs_inside_ask_the_clients_agent_many_at_a_time,
    |target| {
        let agent = Agent::start(target, "of-the-agent").await;
        let script = format!("for i in $(seq {AT_ONCE}); do ssh-add -l & done; wait");

        let output = agent.with(target.ssh(&[&script])).output().await;

        let (stdout, fingerprint) = (output.assert_success().stdout(), agent.fingerprint(target).await);
        assert_eq!(stdout.matches(&fingerprint).count(), AT_ONCE, "{}", output.report());
        assert_eq!(stdout.lines().count(), AT_ONCE, "{}", output.report());
        target.seen("OpenSSH", "-A");
    }
);

/// The socket is the user's alone, also where that is not root; and one serves the whole connection.
async fn the_socket_is_for_the_programs_user_alone(target: &Target, user: &str) {
    let agent = Agent::start(target, &format!("of-{user}")).await;
    let master = target.master_by(agent.with(target.ssh(&[]))).await;
    let asks = |command: &str| agent.with(master.ssh(&[command])).output();

    let first = asks(
        "echo $SSH_AUTH_SOCK; stat -c '%a %F %U' $SSH_AUTH_SOCK; stat -c '%a %U' $(dirname $SSH_AUTH_SOCK)",
    )
    .await;
    let second = asks("echo $SSH_AUTH_SOCK").await;
    let works = asks("ssh-add -l").await;

    let (first, second) = (first.assert_success().stdout(), second.assert_success().stdout());
    let lines: Vec<_> = first.lines().collect();
    let [path, socket, folder] = lines[..] else { panic!("{first}") };
    assert_eq!(path, second.trim());
    // sshd leaves the socket's mode to the umask, which is the folder's owner's to pass.
    let mode = if target.is_oracle { socket.split(' ').next().unwrap() } else { "600" };
    assert_eq!(socket, format!("{mode} socket {user}"));
    assert_eq!(folder, format!("700 {user}"));
    assert!(works.assert_success().stdout().contains(&agent.fingerprint(target).await), "{}", works.report());
    master.close().await;
}

/// F6
#[tokio::test]
async fn the_agents_socket_belongs_to_the_user_of_the_programs() {
    for user in ["root", "coracle"] {
        let server = TestServer::builder().forwarding().container(&format!("user: {user}")).start().await;
        the_socket_is_for_the_programs_user_alone(&server, user).await;
        server.stop().await;
    }
}

/// F6
#[tokio::test]
async fn the_agents_socket_belongs_to_the_user_of_the_programs_at_the_oracle() {
    let sshd = Sshd::start_with(&[], Turn::shared().await).await;
    the_socket_is_for_the_programs_user_alone(&sshd, "root").await;
    the_socket_is_for_the_programs_user_alone(&sshd.unprivileged(), "coracle").await;
    sshd.stop().await;
}

on_both!(forwarding
    /// F6
    without_being_asked_for_there_is_no_agent_and_one_that_ends_is_missed_by_nobody,
    |target| {
        let agent = Agent::start(target, "of-the-agent").await;
        let master = target.master_by(agent.with(target.ssh(&[]))).await;

        master.ssh(&["echo ${SSH_AUTH_SOCK-none}"]).output().await.assert_success().assert_stdout("none\n");
        let lists = agent.with(master.ssh(&["ssh-add -l"]));
        lists.clone().output().await.assert_success();
        drop(agent);

        // It is there and refuses: the client has nobody to pass it on to.
        let without = lists.output().await;
        assert_ne!(without.code(), 0, "{}", without.report());
        master.ssh(&["echo fine"]).output().await.assert_success().assert_stdout("fine\n");
        master.close().await;
    }
);

/// F6: in a container that stays.
#[tokio::test]
async fn the_agents_socket_goes_with_its_connection_and_others_do_not_share_it() {
    let server = TestServer::builder().forwarding().docker_config("mode: persistent");
    let server = server.docker_config("persistent: {idleTimeout: 1h}").start().await;
    let agents = [Agent::start(&server, "first-key").await, Agent::start(&server, "second-key").await];
    let mut paths = Vec::new();
    let mut clients = Vec::new();
    for agent in &agents {
        let command = "echo $SSH_AUTH_SOCK; ssh-add -l; echo started; cat";
        let mut client = agent.with(server.ssh(&[command])).spawn();
        let said = client.wait_for("started").await;
        assert!(said.contains(&agent.fingerprint(&server).await), "{said}");
        paths.push(said.lines().next().unwrap().to_owned());
        clients.push(client);
    }
    assert_ne!(paths[0], paths[1]);

    clients.remove(0).kill();

    let is_there = async |path: &str| server.ssh(&[&format!("test -e {path}")]).output().await.code() == 0;
    poll_until("the first one's end", Duration::from_mins(1), async || {
        (!is_there(&paths[0]).await).then_some(())
    })
    .await;
    assert!(is_there(&paths[1]).await, "the other one stays");
    let folder = paths[0].rsplit_once('/').unwrap().0;
    assert!(!is_there(folder).await, "and so has its folder");
    clients.remove(0).end().await.assert_success();
    poll_until("the second one's end", Duration::from_mins(1), async || {
        (!is_there(&paths[1]).await).then_some(())
    })
    .await;
    for container in server.containers().await {
        docker(&["rm", "-fv", &container]).await;
    }
    server.stop().await;
}

/// A repository, and sshd that only takes the agent's key.
const SERVE: &str = "set -e; umask 077; cd $(mktemp -d); cat > keys; ssh-keygen -q -t ed25519 -N '' -f host; \
                     git init -q --bare -b main /tmp/there.git; mkdir -p /run/sshd 2>/dev/null || true; echo ready; \
                     exec /usr/sbin/sshd -D -e -f /dev/null -h $PWD/host -p PORT -o ListenAddress=127.0.0.1 \
                     -o AuthorizedKeysFile=$PWD/keys -o StrictModes=no -o UsePAM=no -o PidFile=none";

async fn git_goes_on_with_the_clients_key(target: &Target) {
    let agent = Agent::start(target, "of-the-agent").await;
    let master = target.master_by(agent.with(target.ssh(&[]))).await;
    let port = free_port().to_string();
    let mut sshd = master.ssh(&[&SERVE.replace("PORT", &port)]).spawn();
    sshd.write(agent.public_key().as_bytes()).await;
    sshd.close_stdin();
    sshd.wait_for("ready").await;
    let script = format!(
        "cd $(mktemp -d) && export GIT_SSH_COMMAND='ssh -o StrictHostKeyChecking=no -o LogLevel=ERROR -p {port}' && \
         i=0; until git ls-remote -q root@127.0.0.1:/tmp/there.git; do i=$((i+1)); test $i -lt 200 || exit 9; sleep 0.1; done; \
         git clone -q root@127.0.0.1:/tmp/there.git work 2>/dev/null && cd work && git checkout -q -b main && echo words > file && \
         git add file && git -c user.name=x -c user.email=x@y commit -qm one && git push -q origin main && \
         git clone -q root@127.0.0.1:/tmp/there.git ../again && cat ../again/file"
    );

    let alone = master.ssh(&[&format!(
        "until bash -c ': < /dev/tcp/127.0.0.1/{port}' 2>/dev/null; do sleep 0.1; done; \
         ssh -o BatchMode=yes -o StrictHostKeyChecking=no -p {port} root@127.0.0.1 true"
    )]);
    let alone = alone.output().await;
    let output = agent.with(master.ssh(&[&script])).timeout(Duration::from_mins(1)).output().await;

    alone.assert_code(255);
    assert!(alone.stderr().contains("Permission denied"), "{}", alone.report());
    output.assert_success().assert_stdout("words\n");
    target.seen("git", "with the client's agent");
    drop(sshd);
    master.close().await;
}

/// F6
#[tokio::test]
async fn git_inside_goes_elsewhere_with_the_clients_key() {
    // sshd's separation of privileges takes one more than programs are given.
    let chroot = "host: {capAdd: [SYS_CHROOT]}";
    let image = "coracle/guest-sshd:latest";
    let server = TestServer::builder().forwarding().image(image).docker_config(chroot).start().await;
    git_goes_on_with_the_clients_key(&server).await;
    server.stop().await;
}

/// F6
#[tokio::test]
async fn git_inside_goes_elsewhere_with_the_clients_key_at_the_oracle() {
    let sshd = Sshd::start_with(&[], Turn::shared().await).await;
    git_goes_on_with_the_clients_key(&sshd).await;
    sshd.stop().await;
}
