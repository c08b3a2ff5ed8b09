//! What may be forwarded: by key, by certificate, by policy and profile, and not at all unless enabled (F8, Y6).

use crate::certificates::{certify, ssh_with};
use crate::harness::{
    Agent, Client, Sshd, TINY, Talker, Target, TestServer, Turn, docker, docker_blocking, exchange_at,
    free_port, keygen,
};

/// Ports that nobody uses: to dial, and to listen on.
struct Ports {
    dialled: u16,
    listened: u16,
}

impl Ports {
    fn find() -> Self {
        Self { dialled: free_port(), listened: free_port() }
    }
}

/// Has `client`, who has yet to get its command, ask for everything at once; gives the letters of what it got, of `LRAX`.
/// Its session goes on in any case.
async fn ask(client: Client, agent: &Agent, ports: &Ports) -> String {
    let here = free_port();
    let Ports { dialled, listened } = ports;
    let mut client = agent
        .with(client)
        .args([
            "-v",
            "-Y",
            "-L",
            &format!("{here}:127.0.0.1:{dialled}"),
            "-R",
            &format!("{listened}:127.0.0.1:1"),
        ])
        .env("DISPLAY", ":99")
        .then(["echo \"started ${SSH_AUTH_SOCK:+agent} ${DISPLAY:+display}.\"; cat"])
        .spawn();
    let said = client.wait_for(".\n").await;
    exchange_at(here, b"words").await;
    client.wait_for_error("open failed: ").await;
    let output = client.end().await;
    output.assert_success();
    let log = output.stderr();
    let prohibited = log.contains("open failed: administratively prohibited: ");
    assert!(prohibited || log.contains("open failed: connect failed: "), "{}", output.report());
    let listens = log.contains("remote forward success");
    assert!(listens || log.contains("remote port forwarding failed"), "{}", output.report());
    let got =
        [('L', !prohibited), ('R', listens), ('A', said.contains("agent")), ('X', said.contains("display"))];
    got.into_iter().filter_map(|(letter, got)| got.then_some(letter)).collect()
}

/// Options in front of a key, and what is left of everything.
const KEYS: [(&str, &str); 12] = [
    ("", "LRAX"),
    ("no-port-forwarding ", "AX"),
    ("no-agent-forwarding,no-X11-forwarding ", "LR"),
    ("restrict ", ""),
    ("restrict,port-forwarding,X11-forwarding ", "LRX"),
    (r#"permitopen="127.0.0.1:OPEN" "#, "LRAX"),
    (r#"permitopen="localhost:OPEN",permitopen="127.0.0.1:*" "#, "LRAX"),
    (r#"permitopen="localhost:OPEN" "#, "RAX"),
    (r#"permitopen="127.0.0.1:1",permitlisten="1" "#, "AX"),
    (r#"permitlisten="LISTEN" "#, "LRAX"),
    (r#"permitlisten="localhost:LISTEN" "#, "LRAX"),
    (r#"restrict,port-forwarding,permitlisten="localhost:1",permitopen="127.0.0.1:OPEN" "#, "L"),
];

on_both!(forwarding
    /// F8
    a_key_permits_what_its_options_say,
    |target| {
        let agent = Agent::start(target, "of-the-agent").await;
        let key = std::fs::read_to_string(target.path("client.pub")).unwrap();
        for (options, expected) in KEYS {
            // sshd may still hold the last client's port when the next one asks.
            let ports = Ports::find();
            let options = options.replace("OPEN", &ports.dialled.to_string()).replace("LISTEN", &ports.listened.to_string());
            std::fs::write(target.path("authorized_keys"), format!("{options}{key}")).unwrap();

            assert_eq!(ask(target.ssh(&[]), &agent, &ports).await, expected, "{options}");
        }
    }
);

async fn a_certificate_permits_what_its_extensions_say(target: &Target) {
    keygen(&target.path("ca"));
    let agent = Agent::start(target, "of-the-agent").await;
    for (name, options, expected) in [
        ("all", &["-n", "root"] as &[&str], "LRAX"),
        ("none", &["-n", "root", "-O", "clear", "-O", "permit-pty"], ""),
        ("ports", &["-n", "root", "-O", "clear", "-O", "permit-port-forwarding"], "LR"),
        ("rest", &["-n", "root", "-O", "no-port-forwarding"], "AX"),
    ] {
        let key = certify(target, name, "ca", options);
        // sshd may still hold the last client's port when the next one asks.
        let ports = Ports::find();

        let granted = ask(ssh_with(target, "root", &key, &[]), &agent, &ports).await;

        assert_eq!(granted, expected, "{name}");
    }
}

/// F8
#[tokio::test]
async fn certificates_permit_what_their_extensions_say() {
    let auth = "  certificates: {trustedCAs: [FOLDER/ca.pub]}";
    let server = TestServer::builder().forwarding().authorized_keys("no-keys").auth(auth).start().await;
    a_certificate_permits_what_its_extensions_say(&server).await;
    server.stop().await;
}

/// F8
#[tokio::test]
async fn certificates_permit_what_their_extensions_say_at_the_oracle() {
    let options = ["X11Forwarding=yes", "TrustedUserCAKeys=/oracle/ca.pub"];
    let sshd = Sshd::start_with(&options, Turn::shared().await).await;
    a_certificate_permits_what_its_extensions_say(&sshd).await;
    sshd.stop().await;
}

/// Y6, Y7
#[tokio::test]
async fn nothing_is_forwarded_unless_it_is_enabled() {
    let server = TestServer::builder().image(TINY).start().await;
    let agent = Agent::start(&server, "of-the-agent").await;

    let granted = ask(server.ssh(&[]), &agent, &Ports::find()).await;
    let talker = Talker::start(server.ssh(&[])).await;

    assert_eq!(granted, "");
    assert!(talker.dial("/tmp/x.sock").await.starts_with("administratively prohibited"));
    assert!(!talker.listens("/tmp/x.sock:127.0.0.1:1").await);
    assert!(!talker.listens("0:127.0.0.1:1").await);
    talker.end().await;
    server.stop().await;
}

/// F8: each kind by itself.
#[tokio::test]
async fn each_kind_is_enabled_by_itself() {
    for (kind, expected) in [("local", "L"), ("remote", "R"), ("agent", "A"), ("x11", "X"), ("socket", "")] {
        let policy = format!("policy: {{forwarding: {{{kind}: enable}}}}");
        let server = TestServer::builder().image(TINY).section(&policy).start().await;
        let agent = Agent::start(&server, "of-the-agent").await;

        let granted = ask(server.ssh(&[]), &agent, &Ports::find()).await;

        assert_eq!(granted, expected, "{kind}");
        server.stop().await;
    }
}

const PATTERNS: &str = r#"policy:
  forwarding:
    local: {permitOpen: ["127.0.0.1:1", "*.invalid:443", "localhost:*"]}
    remote: {permitListen: ["7001", "localhost:7002"]}
    socket: {permitPaths: [/tmp/one.sock, "/tmp/many/*"]}
profiles:
  narrow: {policy: {forwarding: {local: {permitOpen: ["127.0.0.1:*"]}, remote: disable, socket: {permitPaths: [/tmp/one.sock]}}}}
  wide: {policy: {forwarding: {local: enable, remote: enable, socket: enable, agent: enable, x11: enable}}}"#;

const USERS: &str = "  users:
    narrow: {profiles: [narrow], profile: narrow}
    wide: {profiles: [wide], profile: wide}";

/// Whether it may be dialled by everybody, and by who has a narrower profile.
const DIALLED: [(&str, bool, bool); 10] = [
    ("127.0.0.1:1", true, true),
    ("127.0.0.1:2", false, false),
    ("db.invalid:443", true, false),
    ("db.invalid:80", false, false),
    ("invalid:443", false, false),
    ("localhost:5", true, false),
    ("/tmp/one.sock", true, true),
    ("/tmp/many/x.sock", true, false),
    ("/tmp/many/../x.sock", false, false),
    ("/run/docker.sock", false, false),
];

/// Whether it may be listened on.
const LISTENED: [(&str, bool, bool); 7] = [
    ("7001:127.0.0.1:1", true, false),
    ("7002:127.0.0.1:1", true, false),
    ("7003:127.0.0.1:1", false, false),
    ("0:127.0.0.1:1", false, false),
    ("/tmp/one.sock:127.0.0.1:1", true, true),
    ("/tmp/many/../two.sock:127.0.0.1:1", false, false),
    ("/tmp/two.sock:127.0.0.1:1", false, false),
];

/// F3, F8
#[tokio::test]
async fn a_policy_names_what_is_permitted_and_a_profile_narrows_it() {
    let server = TestServer::builder()
        .image(TINY)
        .container("user: '1234'")
        .auth(USERS)
        .section(PATTERNS)
        .start()
        .await;
    for (user, narrow) in [("alice", false), ("wide", false), ("narrow", true)] {
        let talker = Talker::start(server.ssh_to(user, &[])).await;
        for (to, all, few) in DIALLED {
            let told = talker.dial(to).await;
            let expected = if narrow { few } else { all };
            assert_eq!(told.starts_with("connect failed"), expected, "{user} to {to}: {told}");
            assert_eq!(told.starts_with("administratively prohibited"), !expected, "{user} to {to}: {told}");
        }
        for (at, all, few) in LISTENED {
            assert_eq!(talker.listens(at).await, if narrow { few } else { all }, "{user} at {at}");
        }
        talker.end().await;
    }
    server.stop().await;
}

/// Another container on the engine's network, with a web server on port 80.
struct Neighbour {
    container: String,
    address: String,
    gateway: String,
}

impl Neighbour {
    async fn start() -> Self {
        let label = "coracle.oracle=1";
        let serve = "echo words > /tmp/file; exec httpd -f -p 80 -h /tmp";
        let container =
            docker(&["run", "-d", "--init", "--label", label, TINY, "/bin/sh", "-c", serve]).await;
        let mut neighbour = Self { container, address: String::new(), gateway: String::new() };
        let format = "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}}";
        let addresses = docker(&["inspect", "-f", format, &neighbour.container]).await;
        let (address, gateway) = addresses.split_once(' ').unwrap();
        address.clone_into(&mut neighbour.address);
        gateway.clone_into(&mut neighbour.gateway);
        neighbour
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(docker_blocking(&["rm", "-fv", &self.container]));
    }
}

/// F8
#[tokio::test]
async fn neighbours_are_out_of_reach_unless_they_are_named() {
    let host = Neighbour::start().await;
    let (neighbour, gateway) = (&host.address, &host.gateway);
    let all = "policy: {forwarding: {local: enable}}";
    let server = TestServer::builder().image(TINY).section(all).start().await;
    let talker = Talker::start(server.ssh(&[])).await;
    let entries =
        format!("echo '{neighbour} friend' >> /etc/hosts; echo '169.254.169.254 sneaky' >> /etc/hosts");
    talker.ssh(&[&entries]).output().await.assert_success();
    let own = talker.ssh(&["hostname -i"]).output().await.stdout().trim().to_owned();

    for to in ["169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1]:80", "sneaky:80", "friend:80"]
    {
        let told = talker.dial(to).await;
        assert!(told.starts_with("administratively prohibited"), "{to}: {told}");
    }
    for to in [neighbour, gateway] {
        let told = talker.dial(&format!("{to}:80")).await;
        assert!(told.starts_with("administratively prohibited"), "{to}: {told}");
    }
    let told = talker.dial(&format!("{own}:81")).await;
    assert!(told.starts_with("connect failed"), "its own address {own}: {told}");
    talker.end().await;
    server.stop().await;

    let named = format!(
        "policy: {{forwarding: {{local: {{permitOpen: [\"{neighbour}:80\", \"169.254.169.254:80\"]}}}}}}"
    );
    let server = TestServer::builder().image(TINY).section(&named).start().await;
    let web = server.ssh(&[]).arg("-W").arg(format!("{neighbour}:80")).stdin("GET /file HTTP/1.0\r\n\r\n");
    let web = web.output().await;

    assert!(web.assert_success().stdout().ends_with("words\n"), "{}", web.report());
    server.stop().await;
}
