//! What a forwarded connection costs. Tells, and judges nothing:
//! `cargo test --release --test conformance -- --ignored --nocapture measured`.

#![expect(clippy::print_stdout, reason = "it is what this is for")]

use std::sync::Arc;
use std::time::Instant;

use coracle::engine::{Container, Output};
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::forwards::{dial, hang_up, tcp};
use crate::harness::{Bench, Running, on, run, shell, tiny_by_helper, tiny_by_init};

/// Each way. An engine takes its time.
const BYTES: usize = 256 << 20;
const PIECE: usize = 64 << 10;
const PORT: u16 = 4000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it tells what the machine does, and takes a while"]
async fn what_goes_in_and_out() {
    on(tiny_by_init(), |bench| measure("on a socket", bench)).await;
    on(tiny_by_helper(), |bench| measure("in frames", bench)).await;
}

async fn measure(way: &'static str, bench: Arc<Bench>) {
    let container = bench.launch().await;
    // Without us: from one program of the container to another.
    let count = BYTES / PIECE;
    let (source, sink) = (format!("dd if=/dev/zero bs=64k count={count} 2>/dev/null"), "cat >/dev/null");
    let mut there = serve(&container, sink).await;
    let begun = Instant::now();
    run(&container, &shell(&format!("{source} | nc 127.0.0.1 {PORT}")), b"").await;
    tell(way, "between programs", begun, &container);
    there.expect("done").await;

    let mut there = serve(&container, sink).await;
    let mut process = dial(&container, tcp("127.0.0.1", PORT)).await;
    tell(way, "idle", Instant::now(), &container);
    let (begun, piece) = (Instant::now(), vec![0; PIECE]);
    for _ in 0..count {
        process.stdin.write_all(&piece).await.expect("to say it");
    }
    tell(way, "in", begun, &container);
    hang_up(&mut process).await;
    there.expect("done").await;

    let _there = serve(&container, &source).await;
    let mut process = dial(&container, tcp("127.0.0.1", PORT)).await;
    let (begun, mut bytes) = (Instant::now(), 0);
    while let Some(Ok(Output::Stdout(piece))) = process.output.next().await {
        bytes += piece.len();
        if bytes == BYTES {
            tell(way, "out", begun, &container);
            break;
        }
    }
    container.remove().await.expect("a removal");
}

/// A program of the container that serves one caller.
async fn serve(container: &Arc<dyn Container>, command: &str) -> Running {
    let command = format!("nc -l -p {PORT} -e /bin/sh -c '{command}'; echo done");
    let running = Running::start(container, &shell(&command)).await;
    let listens = format!("until grep -q ':{PORT:04X} .* 0A ' /proc/net/tcp6; do :; done");
    run(container, &shell(&listens), b"").await;
    running
}

/// How long it took, and what the inits of a container have used so far.
fn tell(way: &str, what: &str, begun: Instant, container: &Arc<dyn Container>) {
    let seconds = begun.elapsed().as_secs_f64();
    println!("{way}: {what}: {seconds:.2} s");
    let processes = std::fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.path());
    for process in processes {
        let read = |name| std::fs::read_to_string(process.join(name)).unwrap_or_default();
        if !read("cmdline").starts_with("/.coracle/init") || !read("cgroup").contains(container.id().as_str())
        {
            continue;
        }
        let status = read("status");
        let fields = ["PPid:", "VmRSS:", "RssAnon:"];
        let memory = status.lines().filter(|line| fields.iter().any(|field| line.starts_with(field)));
        let stat = read("stat");
        let times: Vec<u64> = stat.split(' ').skip(13).take(2).filter_map(|time| time.parse().ok()).collect();
        let memory = memory.collect::<Vec<_>>().join(" ").replace('\t', " ");
        println!("    {}: {memory}, user and system in 1/100 s: {times:?}", process.display());
    }
}
