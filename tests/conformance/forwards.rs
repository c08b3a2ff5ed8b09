//! Sockets inside a container: dialled, listened on, and who calls there. What is said passes through two of them mostly, so
//! that no image needs tools.

use std::sync::Arc;
use std::time::Duration;

use coracle::engine::docker::Config;
use coracle::engine::{
    Address, Caller, Container, DialSpec, EngineError, ExitStatus, ForwardError, ListenSpec, Listener,
    Output, Process, Signal,
};
use coracle::secret::Secret;
use futures::StreamExt as _;
use futures::future::join;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::harness::{Bench, DEADLINE, bench_forwarding, config, on, run, shell};
use crate::proxy::{Proxy, Spoil};

/// Nobody is there who would have to be waited for.
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.to_owned(), port }
}

fn unix(path: &str) -> Address {
    Address::Unix { path: path.to_owned() }
}

async fn try_dial(container: &Arc<dyn Container>, to: Address) -> Result<Process, ForwardError> {
    let dial = DialSpec { to, spares_neighbours: true };
    timeout(SOON, container.dial(&dial)).await.expect("an answer")
}

pub(crate) async fn dial(container: &Arc<dyn Container>, to: Address) -> Process {
    try_dial(container, to).await.expect("a connection")
}

pub(crate) async fn listen(container: &Arc<dyn Container>, at: Address) -> Box<dyn Listener> {
    timeout(SOON, container.listen(&ListenSpec::At(at))).await.expect("an answer").expect("a listener")
}

pub(crate) async fn accept(listener: &mut Box<dyn Listener>) -> Caller {
    timeout(SOON, listener.accept()).await.expect("somebody in time").expect("a caller")
}

/// Both sides of a connection that begins and ends in the container.
async fn pair(container: &Arc<dyn Container>, at: Address) -> (Process, Process) {
    let mut listener = listen(container, at.clone()).await;
    let to = if let Address::Tcp { host, .. } = at { tcp(&host, listener.port()) } else { at };
    let dialled = dial(container, to).await;
    (dialled, accept(&mut listener).await.process)
}

/// All that comes until the end.
async fn heard(process: &mut Process) -> Vec<u8> {
    let mut heard = Vec::new();
    let all = async {
        while let Some(piece) = process.output.next().await {
            let Ok(Output::Stdout(piece)) = piece else { panic!("{piece:?}") };
            heard.extend(piece);
        }
    };
    timeout(DEADLINE, all).await.expect("an end");
    heard
}

async fn say(process: &mut Process, words: &[u8]) {
    timeout(DEADLINE, process.stdin.write_all(words)).await.expect("room in time").expect("to say it");
}

pub(crate) async fn hang_up(process: &mut Process) {
    timeout(DEADLINE, process.stdin.shutdown()).await.expect("room in time").expect("a half-close");
}

async fn ended(process: &mut Process) -> Option<ExitStatus> {
    timeout(SOON, process.control.wait()).await.expect("an end").ok()
}

pub(crate) async fn each_side_says_all_and_ends_by_itself(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let path = "/tmp/it is a socket";
    let long: Vec<u8> =
        (0..4_u32 << 20).flat_map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    for (at, bytes) in
        [(tcp("127.0.0.1", 0), long.len()), (tcp("localhost", 0), 1 << 20), (unix(path), 1 << 20)]
    {
        let long = long.get(..bytes).unwrap_or(&long);
        let (mut one, mut other) = pair(&container, at).await;

        say(&mut one, b"all that I have").await;
        hang_up(&mut one).await;
        assert_eq!(heard(&mut other).await, b"all that I have");
        let answer = async {
            say(&mut other, long).await;
            hang_up(&mut other).await;
        };
        let (answer, ()) = join(heard(&mut one), answer).await;

        assert!(answer == long, "{} bytes of {}", answer.len(), long.len());
        assert_eq!(ended(&mut one).await, Some(ExitStatus::Exited(0)));
        assert_eq!(ended(&mut other).await, Some(ExitStatus::Exited(0)));
        assert_eq!(run(&container, &shell(&format!("test ! -e '{path}'")), b"").await.code(), 0);
    }
    container.remove().await.expect("a removal");
}

pub(crate) async fn nobody_there_is_told_as_that(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let taken = listen(&container, tcp("127.0.0.1", 0)).await;

    for nobody in
        [tcp("127.0.0.1", 1), tcp("::1", 1), tcp("nobody.invalid", 80), unix("/tmp/nobody"), unix("a")]
    {
        let refused = try_dial(&container, nobody.clone()).await;
        assert!(
            matches!(&refused, Err(ForwardError::Unreachable(why)) if !why.is_empty()),
            "{nobody}: {refused:?}"
        );
    }
    let again = ListenSpec::At(tcp("127.0.0.1", taken.port()));
    let refused = container.listen(&again).await;
    assert!(matches!(refused, Err(ForwardError::Unreachable(_))), "{refused:?}");
    let odd = container.dial(&DialSpec { to: tcp("a\0b", 1), spares_neighbours: false }).await;
    assert!(matches!(odd, Err(ForwardError::Unreachable(_))), "{odd:?}");

    assert_eq!(run(&container, &shell("echo fine"), b"").await.stdout(), "fine\n");
    container.remove().await.expect("a removal");
}

pub(crate) async fn what_is_killed_or_dropped_ends_on_the_other_side(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let at = || tcp("127.0.0.1", 0);
    let (mut killed, mut other) = pair(&container, at()).await;
    let (dropped, mut another) = pair(&container, at()).await;

    killed.control.signal(Signal::Kill).await.expect("a signal");
    drop(dropped);

    assert_eq!(heard(&mut other).await, b"");
    assert_eq!(heard(&mut another).await, b"");
    assert_eq!(ended(&mut killed).await, Some(ExitStatus::Signaled(Signal::Kill)));
    drop((other, another));
    // Nothing of them is left there.
    let connections = "while grep -q ' 01 ' /proc/net/tcp; do :; done";
    assert_eq!(run(&container, &shell(connections), b"").await.code(), 0);
    container.remove().await.expect("a removal");
}

pub(crate) async fn a_program_inside_is_taken_in_until_nothing_listens(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let mut listener = listen(&container, tcp("", 0)).await;
    let (port, path) = (listener.port(), listener.path().to_owned());
    assert!(port > 0 && path.is_empty(), "{port} {path:?}");
    let call = format!(
        "if command -v nc >/dev/null; then echo hello | nc 127.0.0.1 {port}; \
         else exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; echo hello >&3; cat <&3'; fi"
    );
    let (calling, answer) = (shell(&call), async {
        let mut caller = accept(&mut listener).await;
        let first = caller.process.output.next().await;
        assert!(matches!(&first, Some(Ok(Output::Stdout(said))) if said == "hello\n"), "{first:?}");
        say(&mut caller.process, b"who is it?\n").await;
        hang_up(&mut caller.process).await;
        caller
    });

    let (ended, caller) = join(run(&container, &calling, b""), answer).await;

    assert_eq!(ended.stdout(), "who is it?\n", "{}", ended.stderr());
    assert_eq!(caller.host, "127.0.0.1");
    assert!(caller.port > 0);
    drop((listener, caller));
    let refused =
        timeout(DEADLINE, async { while try_dial(&container, tcp("127.0.0.1", port)).await.is_ok() {} });
    refused.await.expect("nobody to listen any more");
    listen(&container, tcp("127.0.0.1", port)).await;
    container.remove().await.expect("a removal");
}

pub(crate) async fn an_agents_socket_and_a_displays_cookie_are_the_users_alone(bench: Arc<Bench>) {
    let container = bench.launch().await;
    users_alone(&container).await;
    container.remove().await.expect("a removal");
}

/// Also as somebody else, where nothing can be written but `/tmp`, and without a network.
pub(crate) async fn sockets_need_no_network_and_no_root(bench: Arc<Bench>) {
    let container = bench.launch().await;
    assert_eq!(run(&container, &shell("id -u"), b"").await.stdout().trim(), "1234");
    assert_ne!(run(&container, &shell("touch /file"), b"").await.code(), 0);

    users_alone(&container).await;
    let (mut one, mut other) = pair(&container, tcp("127.0.0.1", 0)).await;
    say(&mut one, b"hello").await;
    hang_up(&mut one).await;

    assert_eq!(heard(&mut other).await, b"hello");
    container.remove().await.expect("a removal");
}

/// Nobody else's user, a root without powers, a file system that stays as it is, no network.
pub(crate) fn narrow(config: &mut Config) {
    config.config.container.user = Some("1234:1234".to_owned());
    config.config.host.readonly_rootfs = Some(true);
    config.config.host.tmpfs = Some([("/tmp".to_owned(), "mode=1777".to_owned())].into());
    config.config.host.network_mode = Some("none".to_owned());
}

async fn users_alone(container: &Arc<dyn Container>) {
    let user = run(container, &shell("id -u"), b"").await.stdout().trim().to_owned();
    let cookie = Secret::new(vec![7; 16]);
    let display = ListenSpec::Display { protocol: "MIT-MAGIC-COOKIE-1".to_owned(), cookie };
    for (listen, kind) in [(ListenSpec::Agent, "S"), (display, "f")] {
        let mut listener =
            timeout(SOON, container.listen(&listen)).await.expect("an answer").expect("a listener");
        let path = listener.path().to_owned();

        let look = format!("test -{kind} {path} && stat -c '%a %u' {path} \"$(dirname {path})\"");
        let looked = run(container, &shell(&look), b"").await;

        assert_eq!(looked.stdout(), format!("600 {user}\n700 {user}\n"), "{path}: {}", looked.stderr());
        let to = if listener.port() == 0 { unix(&path) } else { tcp("localhost", listener.port()) };
        let mut one = dial(container, to).await;
        let mut other = accept(&mut listener).await.process;
        say(&mut one, b"hello").await;
        hang_up(&mut one).await;
        assert_eq!(heard(&mut other).await, b"hello");
        drop(listener);
        let gone = format!("while test -e \"$(dirname {path})\"; do :; done");
        assert_eq!(run(container, &shell(&gone), b"").await.code(), 0);
    }
}

pub(crate) async fn neighbours_are_spared(bench: Arc<Bench>) {
    let (container, neighbour) = join(bench.launch(), bench.launch()).await;
    let addresses = "hostname -i; tr '\\n' ' ' < /proc/net/route";
    let told = run(&neighbour, &shell(addresses), b"").await.stdout();
    let own = run(&container, &shell("hostname -i"), b"").await.stdout();
    let (near, routes) = told.split_once('\n').expect("two lines");
    let mut listener = listen(&neighbour, tcp("", 0)).await;
    let mut own_listener = listen(&container, tcp("", 0)).await;

    for somebody in [near.trim(), &router(routes), "169.254.169.254", "::ffff:169.254.169.254"] {
        let spared = try_dial(&container, tcp(somebody, listener.port())).await;
        assert!(matches!(spared, Err(ForwardError::Forbidden(_))), "{somebody}: {spared:?}");
    }

    dial(&container, tcp(own.trim(), own_listener.port())).await;
    accept(&mut own_listener).await;
    let to = tcp(near.trim(), listener.port());
    container.dial(&DialSpec { to, spares_neighbours: false }).await.expect("a connection");
    assert_eq!(accept(&mut listener).await.host, own.trim());
    for container in [container, neighbour] {
        container.remove().await.expect("a removal");
    }
}

/// The first router in `/proc/net/route`, whose numbers are those of a machine that counts from the other end.
fn router(routes: &str) -> String {
    let mut words = routes.split_whitespace().skip_while(|word| *word != "00000000");
    let hexadecimal = words.nth(1).expect("a default route");
    let number = u32::from_str_radix(hexadecimal, 16).expect("an address");
    std::net::Ipv4Addr::from(number.to_le_bytes()).to_string()
}

pub(crate) async fn connections_end_with_their_container(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let mut listener = listen(&container, tcp("127.0.0.1", 0)).await;
    let mut one = dial(&container, tcp("127.0.0.1", listener.port())).await;
    accept(&mut listener).await;

    container.remove().await.expect("a removal");

    timeout(SOON, async { while one.output.next().await.is_some() {} }).await.expect("an end");
    assert_eq!(ended(&mut one).await, None);
    assert!(timeout(SOON, listener.accept()).await.expect("an answer").is_err());
    assert!(try_dial(&container, tcp("127.0.0.1", 1)).await.is_err());
}

/// Where the engine starts programs: what looks after sockets is one program more, and may end without anything else.
pub(crate) async fn the_end_of_the_helper_ends_its_connections_alone(bench: Arc<Bench>) {
    let container = bench.launch().await;
    let (mut one, _other) = pair(&container, tcp("127.0.0.1", 0)).await;

    let kill = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^/.coracle/init' \
                && kill -9 ${p#/proc/}; done; true";
    assert_eq!(run(&container, &shell(kill), b"").await.code(), 0);

    timeout(SOON, async { while one.output.next().await.is_some() {} }).await.expect("an end");
    assert!(futures::poll!(container.lost()).is_pending(), "the container lives on");
    let again = timeout(DEADLINE, async {
        loop {
            // Its end may not be known yet.
            if let Ok(listener) = container.listen(&ListenSpec::At(tcp("127.0.0.1", 0))).await {
                return listener;
            }
        }
    });
    let port = again.await.expect("another helper").port();
    assert!(port > 0);
    container.remove().await.expect("a removal");
}

/// Made before anybody wanted to forward, and taken up by a server that does.
pub(crate) async fn a_container_without_a_helper_says_so(bench: Arc<Bench>) {
    let container = bench.launch().await;

    let dialled = try_dial(&container, tcp("127.0.0.1", 1)).await.expect_err("no connection").to_string();

    assert!(dialled.contains("made before forwarding was switched on"), "{dialled}");
    container.remove().await.expect("a removal");
}

/// One that was taken up again.
pub(crate) async fn a_container_that_is_taken_up_again_has_its_helper(bench: Arc<Bench>) {
    let launched = bench.launch().await;
    let container = bench.engine.adopt(launched.id());

    let (mut one, mut other) = pair(&container, tcp("127.0.0.1", 0)).await;
    say(&mut one, b"hello").await;
    hang_up(&mut one).await;

    assert_eq!(heard(&mut other).await, b"hello");
    container.remove().await.expect("a removal");
}

/// What cannot be brought along is no reason to have no container.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_without_room_for_the_helper_has_containers_that_say_so() {
    let mut config = config("coracle/tiny:latest");
    let proxy = Proxy::before(&mut config);
    proxy.spoil("/volumes/create", Spoil::Fail);
    on(bench_forwarding(&config), |bench| async move {
        let container = bench.launch().await;
        assert_eq!(run(&container, &shell("echo fine"), b"").await.stdout(), "fine\n");

        let dialled = try_dial(&container, tcp("127.0.0.1", 1)).await.expect_err("no connection").to_string();

        assert!(dialled.contains("the disk is full"), "{dialled}");
        container.remove().await.expect("a removal");
    })
    .await;
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_missing_is_told_as_that_where_sockets_are_forwarded() {
    on(bench_forwarding(&config("coracle/missing:latest")), |bench| async move {
        let failure = bench.try_launch().await.expect_err("no container");

        assert!(matches!(failure.error, EngineError::NoSuchImage { .. }), "{failure}");
    })
    .await;
}
