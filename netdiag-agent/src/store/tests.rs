//! The ring, and what a writer that is killed leaves.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::export::record::{Outcome, Time};

const SMALL: Limits = Limits {
    total: 64 * 1024,
    segment: 8 * 1024,
};

/// Large enough that the kernel copies a line page by page for a while, and a kill can come in between.
const HUGE: Limits = Limits::of_total(512 << 20);

/// Padding of such a line.
const LONG: usize = 256 << 10;

/// Lines one life of the writer may add, so that the ring loses none in all of the kills.
const PER_LIFE: u128 = 100;

/// Names the folder for [`writes_until_it_is_killed`].
const FOLDER: &str = "NETDIAG_TEST_STORE";

/// A line like a verdict's: number `n` is in its uuid.
fn line(n: u128, revision: u32, outcome: &str, padding: usize) -> String {
    let uuid = uuid::Uuid::from_u128(n);
    let time = format!("2026-11-21T00:00:{:02}.{:09}Z", n / 1000 % 60, n % 1000);
    format!(
        r#"{{"time":"{time}","uuid":"{uuid}","revision":{revision},"outcome":"{outcome}","pad":"{}"}}"#,
        "x".repeat(padding)
    )
}

fn selected(folder: &Path, query: &Query) -> (Vec<String>, Read) {
    let mut lines = Vec::new();
    let read = select(folder, query, |line| {
        lines.push(line.to_owned());
        Ok::<(), Error>(())
    });
    (lines, read.unwrap())
}

fn all(folder: &Path) -> Vec<String> {
    selected(folder, &Query::default()).0
}

#[test]
fn the_ring_keeps_the_newest_lines_within_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, recovered) = Writer::open(folder.path(), SMALL).unwrap();
    assert_eq!(recovered, Recovered::default());
    for n in 0..1000 {
        writer
            .append(&line(n, 1, "DROPPED_HERE", 200))
            .expect("append");
        let on_disk: u64 = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(
            on_disk <= SMALL.total,
            "{on_disk} bytes after line {n} are more than {SMALL:?}"
        );
        assert_eq!(on_disk, writer.bytes());
    }
    let kept = all(folder.path());
    let expected: Vec<String> = (1000 - kept.len() as u128..1000)
        .map(|n| line(n, 1, "DROPPED_HERE", 200))
        .collect();
    assert_eq!(kept, expected, "the newest, in order and without a gap");
    let least = (SMALL.total - 2 * SMALL.segment) as usize / (kept[0].len() + 1);
    assert!(kept.len() >= least, "only {} lines are kept", kept.len());
}

#[test]
fn a_restart_goes_on_where_the_store_was() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..40 {
        let (mut writer, recovered) = Writer::open(folder.path(), SMALL).unwrap();
        assert_eq!(recovered.torn, 0);
        writer.append(&line(n, 1, "REFUSED", 100)).unwrap();
    }
    assert_eq!(all(folder.path()).len(), 40);
}

#[test]
fn a_second_writer_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let first = Writer::open(folder.path(), SMALL).unwrap();
    let second = Writer::open(folder.path(), SMALL).unwrap_err();
    assert!(matches!(second, Error::InUse { .. }), "{second}");
    drop(first);
    Writer::open(folder.path(), SMALL).unwrap();
}

#[test]
fn a_verdict_larger_than_a_segment_is_refused_and_the_next_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, _) = Writer::open(folder.path(), SMALL).unwrap();
    let error = writer.append(&line(1, 1, "REFUSED", 9000)).unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
    writer.append(&line(2, 1, "REFUSED", 10)).unwrap();
    assert_eq!(all(folder.path()), [line(2, 1, "REFUSED", 10)]);
}

#[test]
fn only_the_last_revision_counts_even_for_an_outcome_it_no_longer_has() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, _) = Writer::open(folder.path(), SMALL).unwrap();
    for (n, revision, outcome) in [
        (1, 1, "DROPPED_HERE"),
        (2, 1, "DROPPED_HERE"),
        (1, 2, "DELIVERED"),
        (3, 1, "REFUSED"),
    ] {
        writer.append(&line(n, revision, outcome, 0)).unwrap();
    }
    let query = Query {
        since: None,
        outcomes: vec![Outcome::DroppedHere, Outcome::Refused],
    };
    let (lines, read) = selected(folder.path(), &query);
    let expected = [line(2, 1, "DROPPED_HERE", 0), line(3, 1, "REFUSED", 0)];
    assert_eq!(lines, expected);
    assert_eq!((read.matched, read.unreadable), (2, 0));
    let later = Query {
        since: Some(Time("2026-11-21T00:00:00.000000003Z".to_owned())),
        outcomes: Vec::new(),
    };
    assert_eq!(
        selected(folder.path(), &later).0,
        [line(3, 1, "REFUSED", 0)]
    );
}

#[test]
fn lines_that_are_no_verdicts_are_counted_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, _) = Writer::open(folder.path(), SMALL).unwrap();
    writer.append("{\"half\":").unwrap();
    writer.append(&line(7, 1, "REFUSED", 0)).unwrap();
    let (lines, read) = selected(folder.path(), &Query::default());
    assert_eq!((lines.len(), read.unreadable), (1, 1));
}

/// Writes numbered lines, each announced by nothing, until somebody ends the process.
#[test]
#[ignore = "the process the next tests kill"]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        eprintln!("skipped: {FOLDER} is not set");
        return;
    };
    let (mut writer, _) = Writer::open(Path::new(&folder), HUGE).unwrap();
    let first = all(Path::new(&folder)).len() as u128;
    for n in first..first + PER_LIFE {
        writer
            .append(&line(n, 1, "DROPPED_HERE", LONG))
            .expect("append");
    }
    std::thread::park();
}

fn writer_process(folder: &Path, largest_file: Option<u64>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "store::tests::writes_until_it_is_killed",
            "--ignored",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(limit) = largest_file {
        let limit = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit,
        };
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(
                move || match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                },
            );
        }
    }
    command.spawn().unwrap()
}

fn bytes(folder: &Path) -> u64 {
    let segments = segment::list(folder).unwrap_or_default();
    segments.iter().map(|segment| segment.len).sum()
}

/// Every line that is there is whole and none is missing between two others; returns how many were torn.
fn check(folder: &Path) -> u64 {
    let (writer, recovered) = Writer::open(folder, HUGE).unwrap();
    drop(writer);
    let (lines, read) = selected(folder, &Query::default());
    assert_eq!(read.unreadable, 0, "a whole line is a verdict");
    for (n, found) in lines.iter().enumerate() {
        let expected = line(n as u128, 1, "DROPPED_HERE", LONG);
        assert!(*found == expected, "line {n} is not what was written");
    }
    recovered.torn
}

/// The kernel shortens the write that would exceed the limit and kills the process at its next one: always mid-line.
#[test]
fn a_writer_killed_inside_a_line_loses_that_line_only() {
    let folder = tempfile::tempdir().unwrap();
    let one = line(0, 1, "DROPPED_HERE", LONG).len() as u64 + 1;
    let limit = 4 * one + one / 3;
    let mut child = writer_process(folder.path(), Some(limit));
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGXFSZ), "{status}");
    let before = fs::metadata(folder.path().join("verdicts-0000000001.ndjson")).unwrap();
    assert_eq!(before.len(), limit, "it died inside a line");
    // Also readable as it is, by one that does not write.
    assert_eq!(all(folder.path()).len(), 4);
    assert_eq!(check(folder.path()), 1);
    assert_eq!(all(folder.path()).len(), 4);
}

#[test]
fn sigkill_at_any_moment_leaves_whole_lines_and_the_next_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut torn, mut lines) = (0, 0);
    for round in 0..12 {
        let mut child = writer_process(folder.path(), None);
        // Until it writes; then a little longer, each time another while.
        let enough = bytes(folder.path()) + 2 * LONG as u64;
        for _ in 0..5000 {
            if bytes(folder.path()) > enough {
                break;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        std::thread::sleep(Duration::from_micros(300 * round));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
        torn += check(folder.path());
        let now = all(folder.path()).len();
        assert!(now > lines, "round {round} added nothing to {lines} lines");
        lines = now;
    }
    eprintln!("12 kills: {lines} whole lines kept, {torn} torn ones cut off");
}
