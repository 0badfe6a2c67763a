//! What a loop says that it has done is what it has done.

use std::time::Duration;

use cloverleaf::driver::FakeKernel;
use cloverleaf::{Clock, EventLoop, Metrics, spawn, yield_now};

/// A loop whose clock goes on only while it sleeps.
fn steered() -> EventLoop {
    let kernel = FakeKernel::new();
    EventLoop::with_driver(kernel.driver(), Clock::Manual(kernel.clock()))
}

fn counts(metrics: &Metrics) -> [u64; 4] {
    [
        metrics.turns,
        metrics.jobs,
        metrics.ready,
        metrics.most_ready,
    ]
}

#[test]
fn jobs_and_turns_are_counted_as_they_come() {
    let event_loop = steered();
    assert_eq!(counts(&event_loop.metrics()), [0, 0, 0, 0]);
    for _ in 0..10 {
        event_loop.call_soon(|event_loop| {
            event_loop.call_soon(|_| ());
        });
    }
    event_loop.call_soon(|event_loop| {
        event_loop.call_soon(|event_loop| {
            assert_eq!(counts(&event_loop.metrics()), [2, 22, 11, 11]);
            event_loop.stop();
        });
    });
    event_loop.run_forever().expect("runs");
    let metrics = event_loop.metrics();
    assert_eq!(counts(&metrics), [2, 22, 11, 11]);
    assert_eq!((metrics.polls, metrics.sleeps), (2, 0));
}

#[test]
fn sleep_is_no_work_and_a_timer_that_ends_it_is_not_late() {
    let event_loop = steered();
    event_loop.call_later(Duration::from_secs(7), EventLoop::stop);
    let other = event_loop.call_later(Duration::from_secs(9), |_| ());
    assert_eq!(event_loop.metrics().timers_pending, 2);
    event_loop.run_forever().expect("runs");
    let metrics = event_loop.metrics();
    assert_eq!(metrics.asleep, Duration::from_secs(7));
    assert_eq!(metrics.busy, Duration::ZERO);
    assert_eq!(metrics.sleeps, 1);
    assert_eq!((metrics.timers_fired, metrics.timers_pending), (1, 1));
    assert_eq!(metrics.timer_lag.longest(), Duration::ZERO);
    other.cancel();
    assert_eq!(event_loop.metrics().timers_pending, 0);
}

#[test]
fn a_late_timer_is_as_late_as_its_loop_was_busy() {
    let kernel = FakeKernel::new();
    let clock = kernel.clock();
    let event_loop = EventLoop::with_driver(kernel.driver(), Clock::Manual(kernel.clock()));
    event_loop.call_later(Duration::from_secs(1), EventLoop::stop);
    event_loop.call_soon(move |_| clock.advance(Duration::from_secs(3)));
    event_loop.run_forever().expect("runs");
    let metrics = event_loop.metrics();
    assert_eq!(metrics.timer_lag.longest(), Duration::from_secs(2));
    assert_eq!(metrics.timer_lag.total(), Duration::from_secs(2));
    assert_eq!(metrics.busy, Duration::from_secs(3));
    let late: Vec<_> = metrics
        .timer_lag
        .counts()
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(late, [(Duration::from_nanos(1 << 31), 1)]);
}

#[test]
fn what_other_threads_bring_is_counted_as_theirs() {
    let event_loop = EventLoop::new().expect("the kernel has epoll");
    let handle = event_loop.handle();
    let thread = std::thread::spawn({
        let handle = handle.clone();
        move || {
            // The loop is asleep, and stays so until something comes from here.
            while handle.metrics().sleeps == 0 {
                std::thread::yield_now();
            }
            for _ in 0..5 {
                handle.call_soon_threadsafe(|_| ()).expect("is open");
            }
            handle.call_soon_threadsafe(EventLoop::stop)
        }
    });
    event_loop.run_forever().expect("runs");
    thread.join().expect("no panic").expect("is open");
    drop(event_loop);
    let metrics = handle.metrics();
    assert_eq!(metrics.injected, 6);
    assert!((1..=6).contains(&metrics.wakeups), "{}", metrics.wakeups);
    assert_eq!(metrics.jobs, 6);
}

#[test]
fn every_poll_of_a_task_is_a_job() {
    let event_loop = steered();
    event_loop
        .run_until_complete(async {
            spawn(async {
                for _ in 0..10 {
                    yield_now().await;
                }
            })
            .await
        })
        .expect("runs")
        .expect("does not panic");
    // Eleven of the task, and two of who waits for it.
    assert_eq!(event_loop.metrics().jobs, 13);
}

#[test]
fn a_run_that_ends_by_a_panic_has_ended() {
    let event_loop = steered();
    event_loop.call_soon(|_| panic!("of the call"));
    let run = std::panic::AssertUnwindSafe(|| event_loop.run_forever());
    assert!(std::panic::catch_unwind(run).is_err());
    assert_eq!(event_loop.stats().doing(), cloverleaf::Doing::Stopped);
}
