//! Calls, timers and other threads: what runs when, and what never runs.

mod support;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloverleaf::driver::FakeKernel;
use cloverleaf::{Clock, Error, EventLoop, Time};

type Log = Rc<RefCell<Vec<u32>>>;

fn steered() -> (EventLoop, FakeKernel) {
    let kernel = FakeKernel::new();
    let clock = Clock::Manual(kernel.clock());
    (EventLoop::with_driver(kernel.driver(), clock), kernel)
}

fn note(log: &Log, number: u32) -> impl FnOnce(&EventLoop) + 'static {
    let log = Rc::clone(log);
    move |_| log.borrow_mut().push(number)
}

#[test]
fn calls_run_in_the_order_in_which_they_were_asked_for() {
    let (event_loop, _kernel) = steered();
    let log = Log::default();
    for number in 0..10 {
        event_loop.call_soon(note(&log, number));
    }
    event_loop.call_soon(EventLoop::stop);
    event_loop.run_forever().unwrap();
    assert_eq!(*log.borrow(), (0..10).collect::<Vec<_>>());
}

#[test]
fn what_a_call_schedules_waits_for_the_next_turn() {
    let (event_loop, _kernel) = steered();
    let log = Log::default();
    let its_log = Rc::clone(&log);
    event_loop.call_soon(move |event_loop| {
        event_loop.call_soon(note(&its_log, 2));
        event_loop.stop();
    });
    event_loop.call_soon(note(&log, 1));
    event_loop.run_forever().unwrap();
    assert_eq!(*log.borrow(), [1]);
    event_loop.stop();
    event_loop.run_forever().unwrap();
    assert_eq!(*log.borrow(), [1, 2]);
}

#[test]
fn a_loop_that_was_stopped_before_it_runs_takes_one_turn() {
    let (event_loop, _kernel) = steered();
    let log = Log::default();
    event_loop.stop();
    event_loop.call_soon(note(&log, 1));
    event_loop.run_forever().unwrap();
    assert_eq!(*log.borrow(), [1]);
}

#[test]
fn a_stop_ends_one_run_and_not_the_next() {
    let (event_loop, _kernel) = steered();
    event_loop.call_soon(EventLoop::stop);
    event_loop.run_forever().unwrap();
    let turns = async {
        for _ in 0..3 {
            cloverleaf::yield_now().await;
        }
    };
    event_loop.run_until_complete(turns).unwrap();
}

#[test]
fn timers_run_by_deadline_and_then_by_age() {
    let (event_loop, _kernel) = steered();
    let log = Log::default();
    for (ms, number) in [(5, 3), (1, 1), (5, 4), (1, 2), (9, 5)] {
        event_loop.call_later(Duration::from_millis(ms), note(&log, number));
    }
    event_loop.call_later(Duration::from_millis(10), EventLoop::stop);
    event_loop.run_forever().unwrap();
    assert_eq!(*log.borrow(), [1, 2, 3, 4, 5]);
    assert_eq!(event_loop.now(), Time::from_nanos(10_000_000));
}

#[test]
fn a_cancelled_call_never_runs_and_is_dropped_at_once() {
    let (event_loop, _kernel) = steered();
    let held = Rc::new(());
    let (soon, late) = (Rc::clone(&held), Rc::clone(&held));
    let soon = event_loop.call_soon(move |_| drop(soon));
    let late = event_loop.call_later(Duration::from_millis(1), move |_| drop(late));
    assert!(soon.is_pending() && late.is_pending());
    assert!(soon.cancel() && late.cancel());
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(!soon.cancel() && !late.cancel() && !late.is_pending());
    event_loop.call_later(Duration::from_millis(2), EventLoop::stop);
    event_loop.run_forever().unwrap();
}

#[test]
fn a_timer_that_is_due_can_still_be_cancelled_before_its_turn() {
    let (event_loop, kernel) = steered();
    let log = Log::default();
    let timer = event_loop.call_later(Duration::from_millis(1), note(&log, 1));
    kernel.clock().advance(Duration::from_millis(1));
    event_loop.call_soon(move |event_loop| {
        assert!(timer.cancel());
        event_loop.stop();
    });
    event_loop.run_forever().unwrap();
    assert!(log.borrow().is_empty());
}

#[test]
fn timers_are_never_early_on_the_kernel_clock() {
    let event_loop = EventLoop::new().unwrap();
    let left = Rc::new(Cell::new(0));
    for micros in (0..3_000).step_by(37) {
        left.set(left.get() + 1);
        let left = Rc::clone(&left);
        let deadline = event_loop.now() + Duration::from_micros(micros);
        let timer = event_loop.call_at(deadline, move |event_loop| {
            assert!(event_loop.now() >= deadline);
            left.set(left.get() - 1);
            if left.get() == 0 {
                event_loop.stop();
            }
        });
        assert_eq!(timer.when(), deadline);
    }
    event_loop.run_forever().unwrap();
    assert_eq!(left.get(), 0);
}

#[test]
fn a_hundred_thousand_timers_fire_once_each() {
    let (event_loop, _kernel) = steered();
    let fired = Rc::new(Cell::new(0_u32));
    let mut cancelled = 0;
    for number in 0..100_000_u64 {
        let fired = Rc::clone(&fired);
        let delay = Duration::from_micros(number * 7919 % 1_000_003);
        let timer = event_loop.call_later(delay, move |_| fired.set(fired.get() + 1));
        if number % 3 == 0 {
            assert!(timer.cancel());
            cancelled += 1;
        }
    }
    event_loop.call_later(Duration::from_secs(2), EventLoop::stop);
    event_loop.run_forever().unwrap();
    assert_eq!(fired.get(), 100_000 - cancelled);
}

#[test]
fn a_storm_from_four_threads_loses_no_call_and_keeps_each_threads_order() {
    const CALLS: usize = 20_000;
    let event_loop = EventLoop::new().unwrap();
    let last = Arc::new([const { AtomicUsize::new(0) }; 4]);
    let ended = Arc::new(AtomicUsize::new(0));
    let call = |thread: usize, number: usize| {
        let (last, ended) = (Arc::clone(&last), Arc::clone(&ended));
        move |event_loop: &EventLoop| {
            assert_eq!(last[thread].swap(number, Ordering::Relaxed), number - 1);
            if number == CALLS && ended.fetch_add(1, Ordering::Relaxed) == 3 {
                event_loop.stop();
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (handle, call) = (event_loop.handle(), &call);
            scope.spawn(move || {
                for number in 1..=CALLS {
                    handle
                        .call_soon_threadsafe(call(thread, number))
                        .expect("open");
                }
            });
        }
        event_loop.run_forever().unwrap();
    });
    assert!(
        last.iter()
            .all(|last| last.load(Ordering::Relaxed) == CALLS)
    );
}

#[test]
fn a_handle_outlives_its_loop_and_says_so() {
    let event_loop = EventLoop::new().unwrap();
    let (handle, call) = (event_loop.handle(), event_loop.call_soon(|_| ()));
    drop(event_loop);
    assert!(handle.is_closed() && !call.is_pending() && !call.cancel());
    assert!(matches!(
        handle.call_soon_threadsafe(|_| ()),
        Err(Error::Closed)
    ));
}

#[test]
fn a_loop_does_not_run_inside_a_loop() {
    let (event_loop, _kernel) = steered();
    event_loop.call_soon(|event_loop| {
        assert!(event_loop.is_running());
        assert!(matches!(event_loop.run_forever(), Err(Error::Running)));
        let other = EventLoop::new().unwrap();
        assert!(matches!(
            other.run_until_complete(async {}),
            Err(Error::Running)
        ));
        assert!(!other.is_running());
        event_loop.stop();
    });
    event_loop.run_forever().unwrap();
    assert!(!event_loop.is_running());
}

#[test]
fn a_panic_in_a_call_reaches_whoever_runs_the_loop_and_leaves_it_whole() {
    let (event_loop, _kernel) = steered();
    let log = Log::default();
    event_loop.call_soon(|_| panic!("on purpose"));
    event_loop.call_soon(note(&log, 1));
    let panic = catch_unwind(AssertUnwindSafe(|| event_loop.run_forever())).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    assert!(!event_loop.is_running());
    event_loop.call_soon(EventLoop::stop);
    event_loop.run_forever().unwrap();
    assert_eq!(*log.borrow(), [1], "the calls behind it are not lost");
}

#[test]
fn a_timer_wakes_a_loop_that_sleeps_in_the_kernel() {
    let (clock, delay) = (Clock::monotonic(), Duration::from_micros(1_500));
    let before = clock.now();
    support::run(cloverleaf::sleep(delay));
    assert!(clock.now() >= before + delay);
}
