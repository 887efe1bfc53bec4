use std::io::Cursor;

use proptest::collection::vec;
use proptest::prelude::*;

use super::arbitrary::input;
use super::*;
use crate::event::{
    Detail, Drop, Event, HookId, Ktime, Netns, Packet, Place, Proto, TcpFlags, TcpHeader, Tuple,
};

const CONFIG: Config = Config {
    no_answer: Span::millis(1500),
};

fn record(inputs: &[Input]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut recorder = Recorder::new(&mut bytes, "test".to_owned(), CONFIG).unwrap();
    for input in inputs {
        recorder.write(input).unwrap();
    }
    recorder.finish().unwrap();
    bytes
}

fn read(bytes: &[u8], limits: Limits) -> Result<Vec<Input>, Error> {
    Reader::new(Cursor::new(bytes), "f.ndjson".to_owned(), limits)?.collect()
}

fn message(bytes: &[u8]) -> String {
    let message = read(
        bytes,
        Limits {
            line: 1000,
            lines: 5,
        },
    )
    .expect_err("a fault")
    .to_string();
    assert!(
        !message.contains('\n') && message.contains("f.ndjson"),
        "{message}"
    );
    message
}

proptest! {
    #[test]
    fn every_input_comes_back_as_it_was(inputs in vec(input(), 0..8)) {
        let bytes = record(&inputs);
        let reader = Reader::new(Cursor::new(&bytes), "test".to_owned(), Limits::default()).unwrap();
        prop_assert_eq!(reader.config(), CONFIG);
        prop_assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), inputs);
    }

    #[test]
    fn a_cut_recording_yields_its_whole_lines_and_then_says_where(inputs in vec(input(), 1..6), cut in any::<u16>()) {
        let bytes = record(&inputs);
        let header = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let cut = header + usize::from(cut) % (bytes.len() - header);
        let whole = bytes[header..cut].split(|byte| *byte == b'\n').count() - 1;
        let reader = Reader::new(Cursor::new(&bytes[..cut]), "test".to_owned(), Limits::default()).unwrap();
        let (read, faults): (Vec<_>, Vec<_>) = reader.partition(Result::is_ok);
        let read: Vec<Input> = read.into_iter().map(Result::unwrap).collect();
        // A line that lacks only its newline is whole.
        prop_assert!(read.len() == whole || (read.len() == whole + 1 && faults.is_empty()));
        prop_assert_eq!(&read[..], &inputs[..read.len()]);
        for fault in faults {
            let expected = format!("line {}: cut off", whole + 2);
            prop_assert!(fault.unwrap_err().to_string().contains(&expected));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..300), line in 1_usize..100) {
        let limits = Limits { line, lines: 10 };
        let _ = read(&bytes, limits);
        let mut behind_header = record(&[]);
        behind_header.extend(bytes);
        let _ = read(&behind_header, Limits { line: 1000, lines: 10 });
    }

    #[test]
    fn damaged_recordings_do_not_make_the_reader_panic(
        inputs in vec(input(), 1..4), damage in vec(any::<(u16, u8)>(), 1..5),
    ) {
        let mut bytes = record(&inputs);
        for (at, byte) in damage {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        let _ = read(&bytes, Limits::default());
    }
}

#[test]
fn faults_are_named() {
    let header = String::from_utf8(record(&[])).unwrap();
    let with = |rest: &str| format!("{header}{rest}").into_bytes();

    assert!(message(b"").contains("not a netdiag recording: it is empty"));
    assert!(message(b"{\"a\":1}\n").contains("not a netdiag recording"));
    assert!(message(&[0x7f; 5000]).contains("not a netdiag recording"));
    let newer = header.replace("recording/v1", "recording/v2");
    assert!(message(newer.as_bytes()).contains("another version (netdiag.recording/v2)"));
    assert_eq!(
        message(&with("{\"tick\":1}\n{\"tick\":")),
        "f.ndjson line 3: cut off: the trace that wrote it did not end in order"
    );
    assert!(message(&with("{\"tock\":1}\n")).contains("line 2: unknown variant `tock`"));
    let hook = "{\"lost\":{\"hook\":\"x\",\"at\":1,\"count\":1}}\n";
    assert!(message(&with(hook)).contains("a hook of this netdiag"));
    assert!(message(&with(&"{\"tick\":1}\n".repeat(5))).contains("line 6: more than 5 lines"));
    let long = format!("{{\"tick\":{}1}}\n", " ".repeat(1000));
    assert!(message(&with(&long)).contains("line 2: longer than 1000 bytes"));
}

#[test]
fn a_hook_of_a_newer_netdiag_reads_as_no_hook() {
    let mut bytes = record(&[]);
    bytes.extend(
        b"{\"event\":{\"at\":1,\"cpu\":0,\"hook\":\"kprobe:new\",\"detail\":\"unknown\"}}\n",
    );
    let inputs = read(&bytes, Limits::default()).unwrap();
    let [Input::Event(event)] = inputs.as_slice() else {
        panic!("{inputs:?}")
    };
    assert_eq!(event.hook, None);
}

#[test]
fn lines_are_readable() {
    let tuple = Tuple {
        proto: Proto::TCP,
        src: "10.244.0.2:41822".parse().unwrap(),
        dst: "198.51.100.10:443".parse().unwrap(),
    };
    let packet = Packet {
        tuple,
        inner: None,
        outer: None,
        tcp: Some(TcpHeader {
            flags: TcpFlags(TcpFlags::SYN),
            seq: 7,
            ack: 0,
        }),
        icmp: None,
        ttl: 63,
        ip_id: 1,
        len: 60,
        dont_fragment: true,
        fragment: false,
        mark: 0,
        skb: Some(0xffff_8880_0000_1000),
        snap: None,
    };
    let event = Event {
        at: Ktime(5),
        cpu: 1,
        hook: Some(HookId::KfreeSkb),
        place: Place {
            netns: Some(Netns(4_026_531_840)),
            ..Place::default()
        },
        packet: Some(packet),
        conntrack: None,
        detail: Detail::Dropped(Drop {
            reason: Some("NETFILTER_DROP".into()),
            location: Some("nf_hook_slow".into()),
            stack: Vec::new(),
            route: None,
            refusal: None,
        }),
    };
    let bytes = record(&[Input::Event(event)]);
    let line = str::from_utf8(&bytes).unwrap().lines().nth(1).unwrap();
    assert_eq!(
        line,
        "{\"event\":{\"at\":5,\"cpu\":1,\"hook\":\"tp_btf:kfree_skb\",\"netns\":4026531840,\
         \"detail\":{\"dropped\":{\"reason\":\"NETFILTER_DROP\",\"location\":\"nf_hook_slow\"}},\
         \"packet\":{\"tuple\":\"tcp 10.244.0.2:41822 > 198.51.100.10:443\",\
         \"tcp\":{\"flags\":\"SYN\",\"seq\":7,\"ack\":0},\"ttl\":63,\"ip_id\":1,\"len\":60,\
         \"dont_fragment\":true,\"skb\":\"0xffff888000001000\"}}}"
    );
}

#[test]
fn a_recording_is_for_its_owner_only_and_survives_a_kill() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.ndjson");
    let mut recorder = Recorder::create(&path, CONFIG).unwrap();
    recorder.write(&Input::Tick(Ktime(1))).unwrap();
    recorder
        .write(&Input::Lost {
            hook: HookId::TcIngress,
            at: Ktime(2),
            count: 3,
        })
        .unwrap();
    recorder.write(&Input::Tick(Ktime(4))).unwrap();
    // As SIGKILL does: no destructor runs.
    std::mem::forget(recorder);
    let reader = Reader::open(&path, Limits::default()).unwrap();
    assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap().len(), 3);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn an_absent_file_is_named() {
    let error = Reader::open(Path::new("/nonexistent/x"), Limits::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("open recording /nonexistent/x"), "{error}");
}
