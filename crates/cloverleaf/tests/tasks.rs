//! Tasks: waking, ending, aborting, and what they leave behind.

mod support;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::task::{Poll, Waker};
use std::time::Duration;

use cloverleaf::driver::FakeKernel;
use cloverleaf::{
    Clock, Elapsed, Error, EventLoop, JoinError, JoinHandle, sleep, sleep_until, spawn,
    spawn_blocking, timeout, yield_now,
};
use support::run;

/// Counts its own polls, and gives its waker away at each.
fn counted(polls: Rc<Cell<u32>>, waker: Rc<RefCell<Option<Waker>>>) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        polls.set(polls.get() + 1);
        waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    })
}

#[test]
fn a_task_gives_its_value_to_whoever_awaits_it() {
    let value = run(async { spawn(async { "value" }).await });
    assert_eq!(value.unwrap(), "value");
}

#[test]
fn a_task_goes_on_when_its_handle_is_dropped() {
    let done = Rc::new(Cell::new(false));
    let its_done = Rc::clone(&done);
    run(async move {
        drop(spawn(async move { its_done.set(true) }));
        yield_now().await;
    });
    assert!(done.get());
}

#[test]
fn a_burst_of_wakes_is_one_poll() {
    let (polls, waker) = (Rc::default(), Rc::default());
    let task = counted(Rc::clone(&polls), Rc::clone(&waker));
    run(async {
        drop(spawn(task));
        yield_now().await;
        let waker = waker.borrow().clone().unwrap();
        for _ in 0..100 {
            waker.wake_by_ref();
        }
        yield_now().await;
        assert_eq!(polls.get(), 2);
        let thread = std::thread::spawn(move || (0..100).for_each(|_| waker.wake_by_ref()));
        thread.join().unwrap();
        yield_now().await;
        assert_eq!(polls.get(), 3);
    });
}

#[test]
fn a_waker_from_another_thread_ends_the_loops_sleep() {
    run(async {
        let (sender, receiver) = channel::<Waker>();
        let thread = std::thread::spawn(move || receiver.recv().unwrap().wake());
        let mut sent = false;
        poll_fn(|cx| {
            if sent {
                return Poll::Ready(());
            }
            sent = true;
            sender.send(cx.waker().clone()).unwrap();
            Poll::Pending
        })
        .await;
        thread.join().unwrap();
    });
}

#[test]
fn an_aborted_task_is_dropped_at_once_and_says_so() {
    run(async {
        let held = Rc::new(());
        let its = Rc::clone(&held);
        let task = spawn(async move {
            pending::<()>().await;
            drop(its);
        });
        yield_now().await;
        task.abort();
        assert_eq!(Rc::strong_count(&held), 1);
        assert!(task.is_finished());
        assert!(matches!(task.await, Err(JoinError::Aborted)));
    });
}

#[test]
fn a_task_that_aborts_itself_ends_at_its_next_pause() {
    run(async {
        let own = Rc::new(RefCell::new(None));
        let (its_own, reached) = (Rc::clone(&own), Rc::new(Cell::new(0)));
        let its_reached = Rc::clone(&reached);
        let task = spawn(async move {
            yield_now().await;
            let handle: JoinHandle<()> = its_own.take().unwrap();
            handle.abort();
            its_reached.set(1);
            yield_now().await;
            its_reached.set(2);
        });
        own.replace(Some(task));
        for _ in 0..5 {
            yield_now().await;
        }
        assert_eq!(reached.get(), 1);
    });
}

#[test]
fn a_panic_ends_only_its_task() {
    run(async {
        let failed: JoinHandle<()> = spawn(async { panic!("on purpose") });
        let fine = spawn(async { 5 });
        let error: JoinError = failed.await.unwrap_err();
        assert_eq!(error.to_string(), "the task panicked: on purpose");
        assert_eq!(fine.await.unwrap(), 5);
    });
}

#[test]
fn a_destructor_that_panics_reaches_whoever_runs_the_loop_and_leaves_it_whole() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let event_loop = EventLoop::new().unwrap();
    let task = event_loop.spawn(poll_fn({
        let bomb = Bomb;
        move |_| {
            let _keep = &bomb;
            Poll::Ready(())
        }
    }));
    let panic = catch_unwind(AssertUnwindSafe(|| {
        event_loop.run_until_complete(pending::<()>())
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"in a destructor"));
    let end = event_loop.run_until_complete(task).unwrap();
    assert!(matches!(end, Err(JoinError::Aborted)));
}

#[test]
fn a_panic_of_the_main_future_reaches_its_caller() {
    let event_loop = EventLoop::new().unwrap();
    let main = async { panic!("on purpose") };
    let panic = catch_unwind(AssertUnwindSafe(|| {
        event_loop.run_until_complete::<_>(main)
    }));
    assert!(
        panic
            .map(|result: Result<(), Error>| result.is_ok())
            .is_err()
    );
    assert_eq!(event_loop.run_until_complete(async { 1 }).unwrap(), 1);
}

#[test]
fn a_stopped_loop_says_that_the_future_has_not_ended() {
    let event_loop = EventLoop::new().unwrap();
    event_loop.call_soon(EventLoop::stop);
    let result = event_loop.run_until_complete(pending::<()>());
    assert!(matches!(result, Err(Error::Stopped)));
}

#[test]
fn tasks_outlive_a_run_and_end_in_the_next() {
    let event_loop = EventLoop::new().unwrap();
    let task = event_loop.spawn(async {
        for _ in 0..5 {
            yield_now().await;
        }
        7
    });
    event_loop.run_until_complete(async {}).unwrap();
    assert!(!task.is_finished());
    assert_eq!(event_loop.run_until_complete(task).unwrap().unwrap(), 7);
}

#[test]
fn a_task_that_is_always_ready_does_not_starve_the_others() {
    run(async {
        let busy = spawn(async {
            loop {
                yield_now().await;
            }
        });
        sleep(Duration::from_millis(1)).await;
        busy.abort();
    });
}

#[test]
fn timeouts_and_sleeps_keep_to_the_clock() {
    let kernel = FakeKernel::new();
    let clock = kernel.clock();
    let event_loop = EventLoop::with_driver(kernel.driver(), Clock::Manual(clock.clone()));
    let second = Duration::from_secs(1);
    let main = async {
        assert_eq!(timeout(second, pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(3 * second, sleep(2 * second)).await, Ok(()));
        assert_eq!(timeout(Duration::ZERO, async { 5 }).await, Ok(5));
        // Its time counts from here, not from when it is awaited.
        let early = sleep(second);
        sleep(second).await;
        early.await;
        sleep_until(clock.now() + second).await;
    };
    event_loop.run_until_complete(main).unwrap();
    assert_eq!(clock.now().as_secs().to_bits(), 5_f64.to_bits());
}

#[test]
fn blocking_calls_overlap_and_bring_their_values() {
    run(async {
        let (sender, receiver) = channel();
        // Each waits for the other, so one thread would not do.
        let waits = spawn_blocking(move || receiver.recv().unwrap());
        let sends = spawn_blocking(move || sender.send(5).unwrap());
        sends.await.unwrap();
        assert_eq!(waits.await.unwrap(), 5);
        let panicked = spawn_blocking(|| panic!("on purpose")).await;
        assert!(matches!(panicked, Err(JoinError::Panicked(_))));
    });
}
