use std::process::{Child, Command, Stdio};

use super::*;
use crate::identity::testing::Lab;

/// A process that has entered its namespace once it has written a line.
struct Process(Child);

impl Process {
    fn start(words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(["sh", "-c", "echo; exec sleep 60"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_namespace_is_the_same_by_name_path_and_pid() {
    let Some(mut lab) = Lab::new() else { return };
    let name = lab.netns("one");
    let process = Process::start(&["ip", "netns", "exec", &name]);
    let by_name = NetnsHandle::find(&name).unwrap();
    let by_path = NetnsHandle::find(&format!("/run/netns/{name}")).unwrap();
    let by_pid = NetnsHandle::by_pid(process.0.id()).unwrap();
    for handle in [&by_path, &by_pid] {
        assert_eq!(
            (handle.netns(), handle.name()),
            (by_name.netns(), Some(name.as_str()))
        );
    }
    let listed: Vec<NetnsHandle> = all()
        .unwrap()
        .into_iter()
        .filter(|h| h.netns() == by_name.netns())
        .collect();
    assert_eq!(listed, [by_name], "listed once, by its name");
}

#[test]
fn an_unnamed_namespace_goes_by_its_pid_and_ends_with_it() {
    if Lab::new().is_none() {
        return;
    }
    let process = Process::start(&["unshare", "-n"]);
    let pid = process.0.id();
    let handle = NetnsHandle::by_pid(pid).unwrap();
    assert_eq!(handle.name(), Some(format!("pid {pid}").as_str()));
    assert_ne!(handle.netns(), NetnsHandle::own().unwrap().netns());
    let inside = run_in(&handle, || NetnsHandle::own().map(|own| own.netns()))
        .unwrap()
        .unwrap();
    assert_eq!(inside, handle.netns());
    drop(process);
    let message = run_in(&handle, || ()).unwrap_err().to_string();
    assert_eq!(message, format!("network namespace pid {pid} has gone"));
    assert!(matches!(
        NetnsHandle::by_pid(pid),
        Err(IdentityError::NoSuchPid { .. })
    ));
}

#[test]
fn a_namespace_is_found_again_when_its_first_process_ends() {
    if Lab::new().is_none() {
        return;
    }
    let first = Process::start(&["unshare", "-n"]);
    let target = first.0.id().to_string();
    let _second = Process::start(&["nsenter", "-t", &target, "-n"]);
    let handle = NetnsHandle::by_pid(first.0.id()).unwrap();
    drop(first);
    run_in(&handle, || ()).unwrap();
}

#[test]
fn the_callers_thread_stays_where_it_is() {
    let Some(mut lab) = Lab::new() else { return };
    let name = lab.netns("stay");
    let before = NetnsHandle::own().unwrap();
    run_in(&Lab::handle(&name), || ()).unwrap();
    assert_eq!(NetnsHandle::own().unwrap(), before);
}

#[test]
fn a_panic_inside_comes_back_as_an_error() {
    let own = NetnsHandle::own().unwrap();
    let result: Result<(), IdentityError> = run_in(&own, || panic!("on purpose"));
    assert!(
        matches!(result, Err(IdentityError::Panicked { .. })),
        "{result:?}"
    );
}
