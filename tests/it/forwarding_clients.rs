//! Other people's clients, and what they forward (D6, F).

use crate::clients::{Putty, dropbear};
use crate::harness::{
    Agent, Client, Display, Sshd, Target, TestServer, echo, exchange_at, free_port, inside, noise, python,
    x_client,
};

/// One connection's worth of forwarding, by a client whose options are OpenSSH's.
struct Plan {
    here: u16,
    listened: u16,
    there: u16,
    inside: u16,
}

impl Plan {
    async fn make() -> Self {
        let (here, listened, inside) = (free_port(), free_port(), free_port());
        Self { here, listened, inside, there: echo().await }
    }

    fn options(&self) -> [String; 4] {
        let local = format!("{}:127.0.0.1:{}", self.here, self.inside);
        let remote = format!("{}:127.0.0.1:{}", self.listened, self.there);
        ["-L".to_owned(), local, "-R".to_owned(), remote]
    }

    /// Says something by `-R`, and then listens for what comes by `-L`.
    fn command(&self) -> String {
        let dial = inside(&["dial", &format!("127.0.0.1:{}", self.listened)]);
        let listen = inside(&["listen", &format!("127.0.0.1:{}", self.inside), "echo"]);
        format!("echo words | ({dial}); {listen}")
    }

    /// `client` has these options and this command.
    async fn carry_out(&self, client: Client) {
        let mut client = client.spawn();
        client.wait_for("words\n").await;
        client.wait_for("listening ").await;
        let words = noise(1_000_000);
        assert!(exchange_at(self.here, &words).await == words, "other bytes came back");
    }
}

on_both!(forwarding
    /// D6
    dropbear_forwards_ports_and_an_agent,
    |target| {
        let (plan, agent) = (Plan::make().await, Agent::start(target, "of-the-agent").await);
        let client = dropbear(target).await;

        plan.carry_out(client.clone().args(plan.options()).then([plan.command()])).await;
        let lists = agent.with(client.then(["ssh-add -l"])).output().await;

        assert!(lists.assert_success().stdout().contains(&agent.fingerprint(target).await), "{}", lists.report());
        target.seen("Dropbear", "-L");
        target.seen("Dropbear", "-R");
        target.seen("Dropbear", "-A");
    }
);

on_both!(forwarding
    /// D6
    putty_forwards_ports_an_agent_and_x11,
    |target| {
        let (plan, agent) = (Plan::make().await, Agent::start(target, "of-the-agent").await);
        let display = Display::start(target, "display").await;
        let putty = Putty::of(target).await;
        let client = || putty.client(target, "plink");
        let run = |client: Client, command: &str| client.then([target.destination().as_str(), command]);

        plan.carry_out(run(client().args(plan.options()), &plan.command())).await;
        let lists = run(agent.with(client()), "ssh-add -l").output().await;
        let x11 = run(display.before(client().arg("-X")), &format!("{} < /dev/null", x_client("right"))).output().await;

        assert!(lists.assert_success().stdout().contains(&agent.fingerprint(target).await), "{}", lists.report());
        assert!(x11.assert_success().stdout().contains("connected to "), "{}", x11.report());
        target.seen("PuTTY", "-L");
        target.seen("PuTTY", "-R");
        target.seen("PuTTY", "-A");
        target.seen("PuTTY", "-X");
    }
);

on_both!(forwarding
    /// D6
    asyncssh_forwards_ports_and_sockets,
    |target| {
        let listen = inside(&["listen", "127.0.0.1:0", "echo"]);
        let output = python(target, "asyncssh_forwards.py", &[&listen, &echo().await.to_string()]).output().await;

        output.assert_success().assert_stdout("local equal\ndirect equal\nremote equal\nsockets equal\n");
        target.seen("asyncssh", "-L");
        target.seen("asyncssh", "-R");
        target.seen("asyncssh", "sockets");
    }
);

on_both!(forwarding
    /// D6
    paramiko_forwards_ports,
    |target| {
        let listen = inside(&["listen", "127.0.0.1:0", "echo"]);
        let output = python(target, "paramiko_forwards.py", &[&listen, &echo().await.to_string()]).output().await;

        output.assert_success().assert_stdout("local equal\nremote equal\n");
        target.seen("paramiko", "-L");
        target.seen("paramiko", "-R");
    }
);
