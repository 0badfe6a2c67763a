//! Children: each end is learnt, and each child is reaped once.

mod support;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use cloverleaf::{Child, spawn, timeout, wait_child, yield_now};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use support::run;

/// A child that ends when its standard input does.
fn cat() -> (std::process::Child, Option<std::process::ChildStdin>) {
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .spawn()
        .expect("cat can be started");
    let input = child.stdin.take();
    (child, input)
}

fn is_reaped(id: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(id).expect("a process number")).expect("not zero");
    matches!(waitpid(Some(pid), WaitOptions::NOHANG), Err(Errno::CHILD))
}

#[test]
fn the_status_of_a_child_is_what_it_ended_with() {
    run(async {
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let id = child.id();
        assert_eq!(wait_child(child).await.unwrap().code(), Some(7));
        assert!(is_reaped(id));
    });
}

#[test]
fn a_child_can_be_killed_and_waited_for_twice() {
    run(async {
        let (child, input) = cat();
        let mut child = Child::from(child);
        let early = timeout(Duration::from_millis(1), child.wait()).await;
        assert!(early.is_err(), "it runs still");
        child.kill(libc::SIGKILL).unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        assert_eq!(child.wait().await.unwrap(), status);
        let error = child.kill(libc::SIGKILL).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        drop(input);
    });
}

#[test]
fn many_children_end_in_any_order() {
    run(async {
        let waits: Vec<_> = (0..20)
            .map(|number| {
                let script = format!("exit {number}");
                let child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
                spawn(wait_child(child))
            })
            .collect();
        for (number, wait) in (0..).zip(waits) {
            assert_eq!(wait.await.unwrap().unwrap().code(), Some(number));
        }
    });
}

#[test]
fn a_child_that_nobody_waits_for_is_reaped_when_it_ends() {
    run(async {
        let (child, input) = cat();
        let id = child.id();
        drop(Child::from(child));
        assert!(!is_reaped(id), "it runs still");
        drop(input);
        while !is_gone(id) {
            yield_now().await;
        }
        assert!(is_reaped(id));
    });
}

/// Looks without reaping: a child that has ended and was not reaped has an entry still.
fn is_gone(id: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{id}")).exists()
}

#[test]
fn a_child_that_has_ended_when_it_is_dropped_is_reaped_without_a_loop() {
    let child = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let mut child = child;
    let mut output = child.stdout.take().unwrap();
    io::copy(&mut output, &mut io::sink()).unwrap();
    let child = Child::from(child);
    // The end of its output says that it is ending; that it has ended, only its state does.
    let stat = format!("/proc/{id}/stat");
    while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    drop(child);
    assert!(is_reaped(id));
}

#[test]
fn a_child_of_somebody_else_is_an_error() {
    run(async {
        let mut init = Child::from_id(1).unwrap();
        assert!(init.wait().await.is_err());
    });
    assert!(Child::from_id(0).is_err());
}
