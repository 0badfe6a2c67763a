//! Nothing is lost: one test, or several, for each line of the list in the architecture's section 6.

mod borrows;
mod endings;
#[path = "../support/mod.rs"]
mod support;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;

use cloverleaf::driver::FakeKernel;
use cloverleaf::{
    Child, Clock, Driver, Epoll, Event, EventLoop, Interest, JoinError, JoinHandle, Op, Reactor,
    UnixStream, sleep, spawn, spawn_blocking, yield_now,
};
use support::run;

mod wakeups {
    use super::*;

    #[test]
    fn a_job_injected_before_the_loop_sleeps_is_seen() {
        let event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle();
        std::thread::spawn(move || handle.call_soon_threadsafe(EventLoop::stop).unwrap())
            .join()
            .unwrap();
        event_loop.run_forever().unwrap();
    }

    #[test]
    fn a_job_injected_while_the_loop_sleeps_wakes_it() {
        let event_loop = EventLoop::new().unwrap();
        let (handle, (go, gone)) = (event_loop.handle(), channel());
        let thread = std::thread::spawn(move || {
            // Sent in the turn before the loop sleeps with nothing else to wait for.
            gone.recv().unwrap();
            handle.call_soon_threadsafe(EventLoop::stop).unwrap();
        });
        event_loop.call_soon(move |_| go.send(()).unwrap());
        event_loop.run_forever().unwrap();
        thread.join().unwrap();
    }
}

mod completions {
    use super::*;

    #[test]
    fn a_cancelled_operation_ends_once() {
        let kernel = FakeKernel::new();
        let mut reactor = Reactor::new(kernel.driver());
        let token = reactor.insert(());
        let fd: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        reactor.submit(Op::Sync { fd: fd.into() }, token).unwrap();
        reactor.cancel(token);
        reactor.cancel(token);
        assert!(!kernel.complete(token, Ok(0)), "it has ended");
        reactor.wait(Some(Duration::ZERO)).unwrap();
        let events: Vec<Event> = reactor.take_events().collect();
        assert!(matches!(events.as_slice(), [Event::Done(done, _)] if *done == token));
    }

    #[test]
    fn every_blocking_call_ends_once_even_when_the_loop_closes() {
        let event_loop = EventLoop::new().unwrap();
        let (hold, release) = channel::<()>();
        let mut calls: Vec<JoinHandle<()>> = vec![event_loop.spawn_blocking(move || {
            assert!(release.recv().is_err());
        })];
        // More than there are threads, so that some have not begun.
        calls.extend((0..50).map(|_| event_loop.spawn_blocking(|| ())));
        drop(event_loop);
        drop(hold);
        run(async {
            for call in calls {
                assert!(matches!(call.await, Ok(()) | Err(JoinError::Aborted)));
            }
        });
    }
}

mod identity {
    use super::*;

    #[test]
    fn an_event_of_a_closed_descriptor_never_reaches_the_one_that_reuses_its_number() {
        let mut reactor = Reactor::new(Epoll::new().unwrap());
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let old = reactor
            .register(ours.as_fd(), "old", Interest::WRITE)
            .unwrap();
        reactor.wait(Some(Duration::ZERO)).unwrap();
        // The event is here, and before it is looked at, its descriptor gives way to another.
        reactor.detach(ours.as_fd()).unwrap();
        reactor.remove(old);
        let new = reactor
            .register(ours.as_fd(), "new", Interest::READ)
            .unwrap();
        assert_eq!(reactor.take_events().count(), 0);
        assert_eq!(new.slot(), old.slot());
        assert!(reactor.driver().waker().will_wake(&reactor.waker()));
        drop(theirs);
        reactor.wait(Some(Duration::ZERO)).unwrap();
        let heard: Vec<Event> = reactor.take_events().collect();
        assert!(matches!(heard.as_slice(), [Event::Ready(token, _)] if *token == new));
    }

    #[test]
    fn a_stream_that_reuses_a_number_hears_only_of_itself() {
        run(async {
            for round in 0..50_u8 {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let reader = spawn(async move {
                    let mut byte = [0];
                    assert_eq!(ours.read(&mut byte).await.unwrap(), 1);
                    byte[0]
                });
                yield_now().await;
                theirs.write_all(&[round]).await.unwrap();
                drop(theirs);
                assert_eq!(reader.await.unwrap(), round);
            }
        });
    }
}

mod order {
    use super::*;

    #[test]
    fn jobs_run_first_in_first_out_whoever_asks() {
        let event_loop = EventLoop::new().unwrap();
        let log = Rc::new(RefCell::new(Vec::new()));
        let note = |number: u32| {
            let log = Rc::clone(&log);
            move |_: &EventLoop| log.borrow_mut().push(number)
        };
        let later = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        event_loop.call_soon(note(1));
        let its_later = std::sync::Arc::clone(&later);
        let remote = move |_: &EventLoop| its_later.lock().unwrap().push(2);
        event_loop.handle().call_soon_threadsafe(remote).unwrap();
        let (its_log, seen) = (Rc::clone(&log), std::sync::Arc::clone(&later));
        event_loop.call_soon(move |event_loop| {
            assert_eq!(
                *seen.lock().unwrap(),
                [2],
                "asked for before, so run before"
            );
            its_log.borrow_mut().push(3);
            event_loop.stop();
        });
        event_loop.run_forever().unwrap();
        assert_eq!(*log.borrow(), [1, 3]);
    }

    #[test]
    fn equal_deadlines_run_in_order_of_age() {
        let kernel = FakeKernel::new();
        let event_loop = EventLoop::with_driver(kernel.driver(), Clock::Manual(kernel.clock()));
        let log = Rc::new(RefCell::new(Vec::new()));
        for number in 0..100 {
            let log = Rc::clone(&log);
            event_loop.call_later(Duration::from_secs(1), move |_| {
                log.borrow_mut().push(number);
            });
        }
        event_loop.call_later(Duration::from_secs(1), EventLoop::stop);
        event_loop.run_forever().unwrap();
        assert!(log.borrow().is_sorted() && log.borrow().len() == 100);
    }
}

mod edges {
    use super::*;

    #[test]
    fn a_descriptor_ready_both_ways_is_served_both_ways() {
        run(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (ours, theirs) = (Rc::new(ours), Rc::new(theirs));
            // Fill the way out, so that both directions have to be waited for.
            let full = vec![0; 1 << 20];
            let (reader, writer) = (Rc::clone(&ours), Rc::clone(&ours));
            let writing = spawn(async move { writer.write_all(&full).await });
            let reading = spawn(async move { reader.read(&mut [0; 1]).await });
            yield_now().await;
            theirs.write_all(b"x").await.unwrap();
            assert_eq!(reading.await.unwrap().unwrap(), 1);
            let mut left = 1 << 20;
            let mut buffer = vec![0; 1 << 16];
            while left > 0 {
                left -= theirs.read(&mut buffer).await.unwrap();
            }
            writing.await.unwrap().unwrap();
        });
    }

    #[test]
    fn readiness_is_spent_only_by_would_block() {
        run(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let reading = spawn(async move {
                let mut count = 0;
                while ours.read(&mut [0; 1]).await? > 0 {
                    count += 1;
                }
                std::io::Result::Ok(count)
            });
            yield_now().await;
            // One arrival; a reader that trusted one event for one byte would wait for ever for the next.
            theirs.write_all(&[0; 1000]).await.unwrap();
            drop(theirs);
            assert_eq!(reading.await.unwrap().unwrap(), 1000);
        });
    }
}

mod exceptions {
    use super::*;

    #[test]
    fn each_reaches_its_caller_or_its_future() {
        let event_loop = EventLoop::new().unwrap();
        event_loop.call_soon(|_| panic!("a call"));
        let panic = catch_unwind(AssertUnwindSafe(|| event_loop.run_forever())).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"a call"));
        let ends = event_loop.run_until_complete(async {
            let task: JoinHandle<()> = spawn(async { panic!("a task") });
            let call: JoinHandle<()> = spawn_blocking(|| panic!("a blocking call"));
            (task.await, call.await)
        });
        let (task, call) = ends.unwrap();
        assert_eq!(task.unwrap_err().to_string(), "the task panicked: a task");
        assert_eq!(
            call.unwrap_err().to_string(),
            "the task panicked: a blocking call"
        );
    }
}
