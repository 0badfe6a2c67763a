//! The injector under every interleaving of its threads; build with `RUSTFLAGS="--cfg loom"` and run in release mode.
#![cfg(loom)]

use std::sync::Arc;
use std::task::Wake;

use cloverleaf::Injector;
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// A driver's sleep: like an eventfd, it counts the wakes until they are slept for.
struct Sleep {
    wakes: Mutex<usize>,
    woken: Condvar,
}

impl Sleep {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            wakes: Mutex::new(0),
            woken: Condvar::new(),
        })
    }

    /// Sleeps until woken, for ever if nobody wakes: loom reports that as a deadlock.
    fn wait(&self) -> usize {
        let mut wakes = self.wakes.lock().unwrap();
        while *wakes == 0 {
            wakes = self.woken.wait(wakes).unwrap();
        }
        std::mem::take(&mut *wakes)
    }
}

impl Wake for Sleep {
    fn wake(self: Arc<Self>) {
        *self.wakes.lock().unwrap() += 1;
        self.woken.notify_one();
    }
}

/// Runs the loop's side until it has `expected` jobs; answers the jobs and how often it slept and was woken.
fn consume(injector: &Injector<u32>, sleep: &Sleep, expected: usize) -> (Vec<u32>, usize, usize) {
    let (mut jobs, mut sleeps, mut wakes) = (Vec::new(), 0, 0);
    while jobs.len() < expected {
        if injector.before_sleep() {
            sleeps += 1;
            wakes += sleep.wait();
        }
        injector.after_sleep();
        injector.drain_into(&mut jobs);
    }
    (jobs, sleeps, wakes)
}

#[test]
fn no_wake_up_is_lost_between_two_producers_and_a_sleeping_loop() {
    loom::model(|| {
        let sleep = Sleep::new();
        let injector = Arc::new(Injector::new(Arc::clone(&sleep).into()));
        let producers: Vec<_> = (0..2)
            .map(|number| {
                let injector = Arc::clone(&injector);
                thread::spawn(move || injector.inject(number).unwrap())
            })
            .collect();
        let (mut jobs, sleeps, wakes) = consume(&injector, &sleep, 2);
        jobs.sort_unstable();
        assert_eq!(jobs, [0, 1]);
        assert!(wakes <= sleeps, "{wakes} wakes for {sleeps} sleeps");
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

#[test]
fn a_burst_wakes_once_and_keeps_its_order() {
    loom::model(|| {
        let sleep = Sleep::new();
        let injector = Arc::new(Injector::new(Arc::clone(&sleep).into()));
        let producer = {
            let injector = Arc::clone(&injector);
            thread::spawn(move || (0..3).for_each(|number| injector.inject(number).unwrap()))
        };
        let (jobs, sleeps, wakes) = consume(&injector, &sleep, 3);
        assert_eq!(jobs, [0, 1, 2]);
        assert!(wakes <= sleeps, "{wakes} wakes for {sleeps} sleeps");
        producer.join().unwrap();
    });
}

#[test]
fn a_job_is_either_taken_or_given_back_when_the_loop_closes() {
    loom::model(|| {
        let sleep = Sleep::new();
        let injector = Arc::new(Injector::new(Arc::clone(&sleep).into()));
        let producer = {
            let injector = Arc::clone(&injector);
            thread::spawn(move || {
                (0..2)
                    .filter(|number| injector.inject(*number).is_ok())
                    .count()
            })
        };
        let mut jobs = Vec::new();
        injector.drain_into(&mut jobs);
        jobs.extend(injector.close());
        let accepted = producer.join().unwrap();
        assert_eq!(jobs.len(), accepted);
        assert!(injector.is_closed() && !injector.has_pending());
    });
}

#[test]
fn a_wake_without_a_job_ends_a_sleep() {
    loom::model(|| {
        let sleep = Sleep::new();
        let injector = Arc::new(Injector::<u32>::new(Arc::clone(&sleep).into()));
        let other = {
            let injector = Arc::clone(&injector);
            thread::spawn(move || injector.wake())
        };
        if injector.before_sleep() {
            assert_eq!(sleep.wait(), 1);
        }
        injector.after_sleep();
        other.join().unwrap();
    });
}
