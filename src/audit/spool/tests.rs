use super::*;

const SOON: Duration = Duration::from_secs(10);

fn lines(texts: &[&str]) -> Vec<Line> {
    texts.iter().map(|text| Line { seq: 1, text: text.as_bytes().into() }).collect()
}

fn open(folder: &Path, bytes_max: u64) -> Arc<Spool> {
    Arc::new(Spool::open(folder, bytes_max, Arc::default()).unwrap())
}

fn add(spool: &Arc<Spool>, texts: &[&str]) -> (usize, bool) {
    let (count, outcome) = Arc::clone(spool).append(&lines(texts));
    (count, outcome.is_ok())
}

/// All that is left, sent.
fn drain(spool: &Spool) -> String {
    spool.close();
    let mut text = String::new();
    while let Some(segment) = spool.oldest(SOON) {
        text += std::str::from_utf8(&spool.read(segment).unwrap()).unwrap();
        spool.sent(segment);
    }
    text
}

#[test]
fn what_a_killed_run_left_comes_first_without_its_half_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 1000);
    assert_eq!(add(&first, &["one\n", "two\n"]), (2, true));
    drop(first);
    let segment = path(folder.path(), 0);
    let torn = [fs::read(&segment).unwrap(), b"thr".to_vec()].concat();
    fs::write(&segment, torn).unwrap();
    fs::write(path(folder.path(), 1), "nothing whole").unwrap();

    let second = open(folder.path(), 1000);
    assert_eq!(add(&second, &["four\n"]), (1, true));

    assert_eq!(drain(&second), "one\ntwo\nfour\n");
    let left: Vec<_> = files(folder.path()).unwrap();
    assert_eq!((left, second.bytes()), (vec![], 0));
}

#[test]
fn a_segment_that_is_being_sent_gets_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), 1000);
    add(&spool, &["one\n"]);

    let segment = spool.oldest(SOON).unwrap();
    add(&spool, &["two\n"]);
    assert_eq!(spool.read(segment).unwrap(), b"one\n");
    spool.sent(segment);

    assert_eq!(drain(&spool), "two\n");
}

#[test]
fn a_full_spool_takes_nothing_until_something_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), 10);

    assert_eq!(add(&spool, &["12345\n", "123\n", "1\n"]), (2, true));
    assert_eq!(add(&spool, &["1\n"]), (0, false));
    let segment = spool.oldest(SOON).unwrap();
    spool.sent(segment);

    assert_eq!(add(&spool, &["1\n"]), (1, true));
    assert_eq!(drain(&spool), "1\n");
}

#[test]
fn what_was_refused_is_put_aside_up_to_a_bound_and_never_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), 100 << 20);
    let long = "x".repeat(6 << 20) + "\n";
    for _ in 0..4 {
        add(&spool, &[&long]);
        let segment = spool.oldest(SOON).unwrap();
        spool.rejected(segment);
    }
    drop(spool);

    let again = open(folder.path(), 100);
    let left = files(folder.path()).unwrap();

    assert_eq!(left, [(2, true), (3, true)]);
    assert_eq!(drain(&again), "");
}

#[test]
fn one_server_at_a_time_uses_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path(), 100);

    let error = Spool::open(folder.path(), 100, Arc::default()).unwrap_err();

    assert!(error.to_string().contains("another server"), "{error}");
}
