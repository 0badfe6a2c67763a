//! Programs started without a wait.

use std::ffi::{CStr, CString};
use std::io::{Read, pipe};
use std::os::fd::{AsFd, AsRawFd};

use cloverleaf::{Obstacle, Program, Started, Starting};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

fn program(arguments: &[&CStr]) -> Program {
    let arguments: Vec<CString> = arguments.iter().map(|one| (*one).to_owned()).collect();
    Program {
        executables: vec![arguments[0].clone()],
        arguments,
        closes_others: true,
        ..Default::default()
    }
}

fn hear(child: &mut Starting) -> Started {
    loop {
        poll(&mut [PollFd::new(child, PollFlags::IN)], None).expect("poll");
        if let Some(started) = child.try_started().expect("a report") {
            return started;
        }
    }
}

fn reap(child: &Starting) -> Option<i32> {
    let pid = Pid::from_raw(child.id());
    let reaped = waitpid(pid, WaitOptions::empty()).expect("a child");
    let (_, status) = reaped.expect("its end");
    status
        .exit_status()
        .or(status.terminating_signal().map(|signal| -signal))
}

#[test]
fn a_program_is_executed() {
    let (mut reading, writing) = pipe().unwrap();
    let mut wish = program(&[c"/bin/echo", c"hello"]);
    wish.stdio[1] = Some(writing.as_raw_fd());
    wish.environment = Some(Vec::new());
    let mut child = wish.start().unwrap();
    drop(writing);
    assert_eq!(hear(&mut child), Started::Executed);
    let mut said = String::new();
    reading.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello\n");
    assert_eq!(reap(&child), Some(0));
}

#[test]
fn the_environment_is_this_processs_unless_it_is_given() {
    let (mut reading, writing) = pipe().unwrap();
    let mut wish = program(&[c"/usr/bin/env"]);
    wish.stdio[1] = Some(writing.as_raw_fd());
    let mut child = wish.start().unwrap();
    drop(writing);
    assert_eq!(hear(&mut child), Started::Executed);
    let mut said = String::new();
    reading.read_to_string(&mut said).unwrap();
    for (name, value) in std::env::vars() {
        assert!(said.contains(&format!("{name}={value}")), "{name}");
    }
    assert_eq!(reap(&child), Some(0));
}

#[test]
fn what_stands_in_the_way_is_told() {
    for copies_memory in [false, true] {
        let mut missing = program(&[c"/no/such/program"]);
        missing.copies_memory = copies_memory;
        let mut child = missing.start().unwrap();
        let told = hear(&mut child);
        assert_eq!(told, Started::Failed(Errno::NOENT, Obstacle::Execution));
        assert_eq!(reap(&child), Some(255));

        let mut lost = program(&[c"/bin/true"]);
        lost.copies_memory = copies_memory;
        lost.folder = Some(c"/no/such/folder".to_owned());
        let mut child = lost.start().unwrap();
        let told = hear(&mut child);
        assert_eq!(told, Started::Failed(Errno::NOENT, Obstacle::Folder));
        assert_eq!(reap(&child), Some(255));

        let mut without = program(&[c"/bin/true"]);
        without.copies_memory = copies_memory;
        without.kept = vec![12345];
        let mut child = without.start().unwrap();
        let told = hear(&mut child);
        assert_eq!(told, Started::Failed(Errno::BADF, Obstacle::Preparation));
        assert_eq!(reap(&child), Some(255));
    }
}

#[test]
fn a_child_that_is_killed_is_not_heard_of_any_more() {
    // Whether before or after the execution of its program: both end the report.
    let mut child = program(&[c"/bin/sleep", c"1000"]).start().unwrap();
    let pid = Pid::from_raw(child.id()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(hear(&mut child), Started::Executed);
    assert_eq!(reap(&child), Some(-9));
}

#[test]
fn dropping_it_at_once_harms_nobody() {
    let pids: Vec<i32> = (0..200)
        .map(|_| program(&[c"/bin/true"]).start().unwrap().id())
        .collect();
    // Their memory must not have been freed under them: it would be somebody else's by now.
    let rubbish: Vec<Vec<u8>> = (0..2000).map(|size| vec![0xff; size]).collect();
    for pid in pids {
        let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty())
            .unwrap()
            .unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }
    drop(rubbish);
}

#[test]
fn the_report_is_the_childs_own_affair() {
    let mut child = program(&[c"/bin/true"]).start().unwrap();
    let flags = rustix::io::fcntl_getfd(child.as_fd()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    assert!(child.as_fd().as_raw_fd() > 2);
    assert_eq!(hear(&mut child), Started::Executed);
    assert_eq!(reap(&child), Some(0));
}
