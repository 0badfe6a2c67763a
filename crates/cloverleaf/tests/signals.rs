//! Signals, sent by this process to itself.

mod support;

use std::io;
use std::time::Duration;

use cloverleaf::{signal, timeout};
use rustix::process::{Signal, getpid, kill_process};
use support::run;

fn raise(signal: Signal) {
    kill_process(getpid(), signal).expect("a process may signal itself");
}

#[test]
fn a_signal_that_arrives_before_anyone_waits_is_not_lost() {
    run(async {
        let mut usr1 = signal(libc::SIGUSR1).unwrap();
        raise(Signal::USR1);
        usr1.recv().await.unwrap();
    });
}

#[test]
fn a_signal_ends_the_loops_sleep() {
    run(async {
        let mut usr2 = signal(libc::SIGUSR2).unwrap();
        let waiting = cloverleaf::spawn(async move { usr2.recv().await });
        cloverleaf::yield_now().await;
        let thread = std::thread::spawn(|| raise(Signal::USR2));
        waiting.await.unwrap().unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn several_arrivals_are_one_and_every_stream_sees_them() {
    run(async {
        let mut streams = [signal(libc::SIGHUP).unwrap(), signal(libc::SIGHUP).unwrap()];
        // Told last of each arrival, so the others have been told.
        let mut witness = signal(libc::SIGHUP).unwrap();
        for _ in 0..5 {
            raise(Signal::HUP);
            witness.recv().await.unwrap();
        }
        for stream in &mut streams {
            stream.recv().await.unwrap();
            let more = timeout(Duration::from_millis(1), stream.recv()).await;
            assert!(more.is_err(), "the arrivals were one");
        }
    });
}

#[test]
fn after_its_stream_a_signal_does_nothing() {
    run(async {
        let mut seen = signal(libc::SIGWINCH).unwrap();
        drop(signal(libc::SIGWINCH).unwrap());
        raise(Signal::WINCH);
        seen.recv().await.unwrap();
        drop(seen);
        raise(Signal::WINCH);
    });
}

#[test]
fn what_cannot_be_caught_is_refused() {
    for number in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV] {
        let error = signal(number).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    assert!(signal(10_000).is_err());
}
