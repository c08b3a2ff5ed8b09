//! Recordings with disks that no test has: slow, full, gone.

use std::fs;
use std::io;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};

use super::encode::Encoder;
use super::tap::{EVENTS_PENDING_MAX, line};
use super::writer::Open;
use super::*;
use crate::ids::ConnectionId;
use crate::value::{ByteSize, Span};

const DEADLINE: Duration = Duration::from_mins(1);

fn facts(terminal: Option<TerminalFacts>) -> Facts {
    Facts {
        connection: ConnectionId::random(),
        session: 1,
        user: "../al\"ice".to_owned(),
        groups: Vec::new(),
        methods: "publicKey".to_owned(),
        key_fingerprint: None,
        client: "192.0.2.1:5".parse().unwrap(),
        profile: String::new(),
        image: "image".to_owned(),
        kind: Kind::Exec,
        command: Some("echo".to_owned()),
        terminal,
    }
}

fn terminal() -> TerminalFacts {
    TerminalFacts { term: "xterm".to_owned(), columns: 80, rows: 24 }
}

/// A disk that does what it is told: before each write it waits for a word, which is how the write ends.
struct Disk {
    words: mpsc::Receiver<io::Result<()>>,
    written: mpsc::Sender<String>,
    completed: mpsc::Sender<Sidecar>,
}

impl Sink for Disk {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // Nobody to tell it anything any more: it is a sound disk.
        self.words.recv().unwrap_or(Ok(()))?;
        self.written.send(String::from_utf8(lines.to_vec()).unwrap()).map_err(io::Error::other)
    }

    fn complete(&mut self, sidecar: &Sidecar) -> io::Result<()> {
        self.completed.send(sidecar.clone()).map_err(io::Error::other)
    }
}

/// A session that is recorded to such a disk.
struct Bench {
    recording: Recording,
    words: mpsc::Sender<io::Result<()>>,
    written: mpsc::Receiver<String>,
    completed: mpsc::Receiver<Sidecar>,
    totals: Arc<Totals>,
    tasks: TaskTracker,
}

impl Bench {
    fn new(facts: Facts, bytes_max: u64) -> Self {
        let totals = Arc::<Totals>::default();
        let (recording, drain) = line(true, &totals);
        let (words, words_receiver) = mpsc::channel();
        let (written_sender, written) = mpsc::channel();
        let (completed_sender, completed) = mpsc::channel();
        let disk = Disk { words: words_receiver, written: written_sender, completed: completed_sender };
        let encoder = Encoder::new(&facts, Format::AsciicastV2);
        let started = SystemTime::now();
        let sidecar = Sidecar::begin(&facts, "instance", started);
        let writer = Writer {
            facts,
            started,
            encoder,
            sidecar,
            bytes_max,
            drain,
            totals: Arc::clone(&totals),
            threads: Arc::new(Semaphore::new(1)),
            sink: None,
        };
        let open: Open = Box::new(move |_| Ok(Box::new(disk)));
        let tasks = TaskTracker::new();
        tasks.spawn(writer.run(open));
        Self { recording, words, written, completed, totals, tasks }
    }

    /// Ends the session, lets the disk go on, and gives all that was written.
    async fn finish(self) -> (Vec<Value>, Option<Sidecar>, Snapshot) {
        let Self { recording, words, written, completed, totals, tasks } = self;
        recording.finish(Outcome::Exited(0), Duration::from_secs(9), Left::default());
        drop(words);
        tasks.close();
        timeout(DEADLINE, tasks.wait()).await.unwrap();
        let text: String = written.try_iter().collect();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines, completed.try_recv().ok(), totals.snapshot())
    }
}

#[tokio::test]
async fn a_disk_that_is_stuck_delays_nobody_and_leaves_a_gap_that_is_marked() {
    let bench = Bench::new(facts(Some(terminal())), u64::MAX);
    let tap = bench.recording.tap();

    // Would hang if the tap waited: the disk has not even taken the header.
    for _ in 0..2 * EVENTS_PENDING_MAX {
        tap.output(Stream::Stdout, &Bytes::from_static(b"0123456789"));
    }

    let (lines, sidecar, totals) = bench.finish().await;
    let outputs = lines.iter().filter(|line| line[1] == "o").count() as u64;
    let sidecar = sidecar.unwrap();
    assert_eq!((sidecar.lost.gaps, sidecar.lost.events), (1, 2 * EVENTS_PENDING_MAX as u64 - outputs));
    assert_eq!(sidecar.lost.bytes, 10 * sidecar.lost.events);
    assert_eq!(sidecar.bytes.output, 20 * EVENTS_PENDING_MAX as u64);
    let gap = format!("gap: {} events of {} bytes are missing", sidecar.lost.events, sidecar.lost.bytes);
    assert!(lines.iter().any(|line| line[1] == "m" && line[2] == gap.as_str()), "{:?}", lines.last());
    assert_eq!((totals.gaps, totals.events_lost, totals.completed), (1, sidecar.lost.events, 1));
}

#[tokio::test]
async fn an_event_log_marks_its_gaps_too() {
    let bench = Bench::new(facts(None), u64::MAX);
    for _ in 0..=EVENTS_PENDING_MAX {
        bench.recording.tap().signal("INT");
    }

    let (lines, sidecar, _) = bench.finish().await;

    let lost = sidecar.unwrap().lost;
    assert!(lost.events <= 1);
    let gaps: Vec<_> = lines.iter().filter_map(|line| line.get("gap")).collect();
    assert_eq!(gaps.len() as u64, lost.gaps);
}

#[tokio::test]
async fn a_disk_that_is_full_is_asked_once_and_what_is_whole_is_completed() {
    let bench = Bench::new(facts(Some(terminal())), u64::MAX);
    bench.words.send(Ok(())).unwrap();
    bench.words.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    let tap = bench.recording.tap();
    tap.output(Stream::Stdout, &Bytes::from_static(b"first"));
    tap.output(Stream::Stdout, &Bytes::from_static(b"second"));

    let (lines, sidecar, totals) = bench.finish().await;

    assert_eq!(lines.len(), 1, "the header alone: {lines:?}");
    let sidecar = sidecar.unwrap();
    assert!(sidecar.failed.is_some_and(|reason| !reason.is_empty()));
    assert_eq!(sidecar.exit.unwrap().status, Some(0));
    assert_eq!((totals.failed, totals.completed), (1, 0));
}

#[tokio::test]
async fn a_recording_is_never_larger_than_it_may_be() {
    for terminal in [Some(terminal()), None] {
        let bench = Bench::new(facts(terminal), 20_000);
        for _ in 0..1000 {
            bench.recording.tap().output(Stream::Stdout, &Bytes::from_static(&[b'x'; 100]));
        }

        let (lines, sidecar, totals) = bench.finish().await;

        let sidecar = sidecar.unwrap();
        assert!(sidecar.truncated && sidecar.bytes.recorded <= 20_000, "{}", sidecar.bytes.recorded);
        let last = lines.last().unwrap();
        assert!(last["truncated"] == true || last[1] == "m", "{last}");
        assert_eq!(totals.truncated, 1);
    }
}

#[tokio::test]
async fn a_character_in_two_chunks_is_one_and_order_and_time_are_kept() {
    let bench = Bench::new(facts(Some(terminal())), u64::MAX);
    let tap = bench.recording.tap();
    for chunk in [&b"a\xe2\x82"[..], b"\xac", b"\xff\xc3"] {
        tap.output(Stream::Stdout, &Bytes::copy_from_slice(chunk));
    }
    tap.input(b"\x03");
    tap.resize(100, 40);
    tap.signal("INT");

    let (lines, ..) = bench.finish().await;

    let told: Vec<_> =
        lines[1..].iter().map(|line| (line[1].as_str().unwrap(), line[2].as_str().unwrap())).collect();
    let expected = [
        ("o", "a"),
        ("o", "€"),
        ("o", "\u{fffd}"),
        ("i", "\u{3}"),
        ("r", "100x40"),
        ("m", "signal INT"),
        ("o", "\u{fffd}"),
        ("m", "exit status 0"),
    ];
    assert_eq!(told, expected);
    let times: Vec<_> = lines[1..].iter().map(|line| line[0].as_f64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

fn config(dir: &std::path::Path) -> Config {
    Config { dir: Some(dir.to_owned()), ..Config::default() }
}

/// Records a session that says a word, to its end.
async fn record(recorder: &Recorder, config: &Config, facts: Facts) {
    let archive = recorder.open(config).unwrap().unwrap();
    let recording = archive.begin(facts);
    recording.tap().output(Stream::Stdout, &Bytes::from_static(b"word"));
    recording.finish(Outcome::Exited(0), Duration::from_secs(1), Left::default());
    let done = recorder.totals.snapshot().completed + 1;
    let complete = async {
        while recorder.totals.snapshot().completed < done {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, complete).await.unwrap();
}

#[tokio::test]
async fn what_users_are_called_is_in_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(InstanceId::random());
    let facts = facts(Some(terminal()));
    let connection = facts.connection.to_string();

    record(&recorder, &config(folder.path()), facts).await;

    let listed = list(folder.path()).unwrap();
    let [only] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(only.user(), "../al\"ice");
    let file = only.file().unwrap();
    assert!(file.to_str().unwrap().ends_with(&format!("-{connection}-1.cast")));
    let mut reader = Reader::open(&file).unwrap();
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!(entry.what, What::Output(Stream::Stdout, b"word".to_vec()));
    assert!(recorder.finish(DEADLINE).await);
}

/// Whatever a crash leaves, the next start makes something of it, and nothing that is hidden stays.
#[tokio::test]
async fn all_that_a_crash_can_leave_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let instance = InstanceId::random();
    let store = Folder::open(folder.path(), &instance).unwrap();
    let name = |session| Name::new(SystemTime::now(), &ConnectionId::random(), session);
    let draft = |name: &Name, lines: &[u8]| {
        let facts = facts(Some(terminal()));
        let sidecar = Sidecar {
            user: "alice".to_owned(),
            ..Sidecar::begin(&facts, instance.as_str(), SystemTime::now())
        };
        let mut draft = store.begin(name, "cast", &sidecar).unwrap();
        draft.append(lines).unwrap();
    };
    let (torn, empty, bare, garbled, renamed) = (name(1), name(2), name(3), name(4), name(5));
    draft(&torn, b"{}\n[1,\"o\",\"a\"]\n[2,\"o\",\"to");
    draft(&empty, b"{\"vers");
    draft(&bare, b"{}\n");
    fs::remove_file(store.partial(&bare, "json")).unwrap();
    draft(&garbled, b"{}\n");
    fs::write(store.partial(&garbled, "json"), "{\"user\":").unwrap();
    draft(&renamed, b"{}\n");
    fs::rename(store.partial(&renamed, "cast"), store.file(&renamed, "cast")).unwrap();
    let foreign = folder.path().join(Name::partial(&name(6), &InstanceId::random(), "json"));
    fs::write(&foreign, "theirs").unwrap();
    let recorder = Recorder::new(instance.clone());

    recorder.open(&config(folder.path())).unwrap();

    let hidden = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let hidden: Vec<_> = hidden.filter(|path| path.to_str().unwrap().ends_with(".partial")).collect();
    assert_eq!(hidden, [foreign]);
    let sidecar = |name: &Name| -> Value {
        serde_json::from_slice(&fs::read(store.file(name, "json")).unwrap()).unwrap()
    };
    assert_eq!(fs::read_to_string(store.file(&torn, "cast")).unwrap(), "{}\n[1,\"o\",\"a\"]\n");
    assert_eq!((&sidecar(&torn)["interrupted"], &sidecar(&torn)["user"]), (&json!(true), &json!("alice")));
    assert_eq!((&sidecar(&empty)["recording"], store.file(&empty, "cast").exists()), (&Value::Null, false));
    for name in [&bare, &garbled, &renamed] {
        assert_eq!(
            (&sidecar(name)["interrupted"], &sidecar(name)["instance"]),
            (&json!(true), &json!(store.instance().as_str()))
        );
        assert_eq!(sidecar(name)["recording"], name.file("cast"));
    }
    assert_eq!(recorder.totals().snapshot().repaired, 5);
    // What is unfinished from here on is this run's own.
    draft(&Name::new(SystemTime::now(), &ConnectionId::random(), 7), b"{}\n");
    recorder.open(&config(folder.path())).unwrap();
    assert_eq!(recorder.totals().snapshot().repaired, 5);
}

#[tokio::test]
async fn the_oldest_go_when_there_are_too_many_and_other_servers_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Recorder::new(InstanceId::random()), Recorder::new(InstanceId::random()));
    record(&theirs, &config(folder.path()), facts(None)).await;
    for session in 1..=5 {
        record(&ours, &config(folder.path()), Facts { session, ..facts(None) }).await;
    }
    let size = |listed: &Listed| {
        let file = listed.file().unwrap();
        fs::metadata(&file).unwrap().len() + fs::metadata(file.with_extension("json")).unwrap().len()
    };
    let largest = list(folder.path()).unwrap().iter().map(size).max().unwrap();
    // For two and a half.
    let limit: ByteSize = (largest * 5 / 2).to_string().parse().unwrap();

    let archive = ours.open(&Config { max_total_bytes: limit, ..config(folder.path()) }).unwrap();
    ours.keep(archive.as_ref());

    let swept = async {
        while ours.totals().snapshot().removed < 3 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, swept).await.unwrap();
    assert_eq!((ours.totals().snapshot().removed, theirs.totals().snapshot().removed), (3, 0));
    let kept = Config { retention: Span::from_seconds(3600), ..config(folder.path()) };
    ours.keep(ours.open(&kept).unwrap().as_ref());
    assert!(ours.finish(DEADLINE).await);
    assert_eq!(list(folder.path()).unwrap().len(), 3);
}
