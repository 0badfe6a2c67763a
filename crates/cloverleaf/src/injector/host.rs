//! A loop that rests while somebody else's loop, its host, has the thread: whatever it is given wakes the host.
//!
//! It counts as a loop that sleeps, so the lock that lets no wake-up slip between a job and a sleep does so here, too. What
//! is missing is the processor: nobody who hands over a job waits for a thread that does other things.

use super::Injector;

impl<J> Injector<J> {
    /// Declares that the loop's thread turns to other things, and that the next job wakes it, as one that waits already
    /// does now. [`resume`](Self::resume) ends that.
    pub fn rest_with_host(&self) {
        let Some(mut inbox) = self.lock() else {
            return;
        };
        inbox.asleep = inbox.jobs.is_empty();
        inbox.processor = None;
        let is_needed = !inbox.asleep;
        drop(inbox);
        if is_needed {
            self.rouse();
        }
    }

    /// Wakes the host of a loop that was given something to do by another way than [`inject`](Self::inject), unless it has
    /// been woken since it rests.
    pub fn call_host(&self) {
        let Some(mut inbox) = self.lock() else {
            return;
        };
        let is_needed = std::mem::take(&mut inbox.asleep);
        drop(inbox);
        if is_needed {
            self.rouse();
        }
    }

    /// Declares that the loop goes on, so that nobody needs to wake it.
    pub fn resume(&self) {
        if let Some(mut inbox) = self.lock() {
            inbox.asleep = false;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::Ordering;

    use crate::injector::tests::counted;

    #[test]
    fn a_burst_wakes_the_host_once_whichever_way_it_comes() {
        let (injector, wakes) = counted();
        injector.rest_with_host();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        injector.call_host();
        injector.inject(1).expect("open");
        injector.call_host();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_job_that_came_before_the_rest_wakes_the_host() {
        let (injector, wakes) = counted();
        injector.inject(1).expect("open");
        injector.rest_with_host();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        injector.inject(2).expect("open");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "it has been woken");
    }

    #[test]
    fn a_loop_that_goes_on_is_not_woken() {
        let (injector, wakes) = counted();
        injector.rest_with_host();
        injector.resume();
        injector.inject(1).expect("open");
        injector.call_host();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    }
}
