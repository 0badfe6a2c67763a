//! How often a loop has come to rest, and who waits for the next time.
//!
//! Whoever ends a loop's sleep may run on the only processor that the loop can run on. If it needs what the loop brings, it
//! is sooner there by waiting than by going on and being stopped on its way; so it may wait here until the loop rests
//! again. It never waits for longer than `limits::ATTENDANCE`, and the more often that was in vain, the more seldom it
//! tries. Nothing here is locked, so a fork may come at any time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::Timespec;

use crate::clock::Clock;
use crate::limits;

/// How often one did not wait after it was in vain, at first and at most.
const SPARED: std::ops::RangeInclusive<u32> = 64..=4096;

/// The rests of one loop, by their numbers.
#[derive(Debug)]
pub(crate) struct Rests {
    /// The present rest's number, or the last one's; only the loop changes it.
    begun: AtomicU32,
    /// The number of the last one that was made known.
    known: AtomicU32,
    /// How many wait, or are about to.
    waiting: AtomicU32,
    /// How often nobody waits from now on.
    spared: AtomicU32,
    /// How often that will be after the next wait that is in vain.
    span: AtomicU32,
}

impl Rests {
    /// Of a loop that has not rested yet.
    pub(crate) const fn new() -> Self {
        Self {
            begun: AtomicU32::new(0),
            known: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            spared: AtomicU32::new(0),
            span: AtomicU32::new(*SPARED.start()),
        }
    }

    /// The loop comes to rest; the number of this rest. Nobody hears of it yet.
    pub(crate) fn begin(&self) -> u32 {
        let number = self.begun.load(Ordering::Relaxed).wrapping_add(1);
        self.begun.store(number, Ordering::Relaxed);
        number
    }

    /// Makes the rest known that has begun last.
    pub(crate) fn make_known(&self) {
        self.known
            .store(self.begun.load(Ordering::Relaxed), Ordering::SeqCst);
        // Either this sees who waits, or who waits sees the number.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // It fails for no number of threads, and nobody there is an answer, too.
            crate::ignore(futex::wake(
                &self.known,
                futex::Flags::PRIVATE,
                u32::MAX >> 1,
            ));
        }
    }

    /// Waits until a rest after this one is known, unless that was in vain of late.
    pub(crate) fn wait_beyond(&self, number: u32) {
        if self.is_known_beyond(number) {
            return;
        }
        let spared = self.spared.load(Ordering::Relaxed);
        if spared > 0 {
            self.spared.store(spared - 1, Ordering::Relaxed);
            return;
        }
        let clock = Clock::monotonic();
        let began = clock.now();
        // One that comes late was not worth it: the caller has stood still for as long as a callback has run.
        let came = self.wait(number, limits::ATTENDANCE)
            && clock.now().saturating_since(began) <= limits::PROMPT;
        // Threads that do this at once may lose a count, which is no more than a hint.
        let span = self.span.load(Ordering::Relaxed);
        let span = if came {
            // Fast enough for waits among which a few are late only because other programs have the processor.
            span.saturating_sub(span.div_ceil(*SPARED.start()))
        } else {
            self.spared.store(span, Ordering::Relaxed);
            span.saturating_mul(2)
        };
        let span = span.clamp(*SPARED.start(), *SPARED.end());
        self.span.store(span, Ordering::Relaxed);
    }

    /// Whether a rest after this one has come to be known within `limit`.
    fn wait(&self, number: u32, limit: Duration) -> bool {
        let clock = Clock::monotonic();
        let began = clock.now();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            let known = self.known.load(Ordering::SeqCst);
            if is_beyond(known, number) {
                break;
            }
            let left = limit.saturating_sub(clock.now().saturating_since(began));
            let left = Timespec::try_from(left).ok();
            match futex::wait(&self.known, futex::Flags::PRIVATE, known, left.as_ref()) {
                // At most two rests come to be known, that before and that after the one that was found.
                Ok(()) | Err(Errno::AGAIN) => {}
                // A signal's handler must run, or the time is over.
                Err(_) => break,
            }
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.is_known_beyond(number)
    }

    /// Whether a wait was in vain of late.
    #[cfg(test)]
    pub(crate) fn is_in_vain(&self) -> bool {
        self.spared.load(Ordering::Relaxed) > 0
    }

    fn is_known_beyond(&self, number: u32) -> bool {
        is_beyond(self.known.load(Ordering::Acquire), number)
    }
}

/// Whether one number comes after another; they begin again from zero at their end.
const fn is_beyond(later: u32, number: u32) -> bool {
    later.wrapping_sub(number).cast_signed() > 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    /// Longer than any machine stands still.
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn who_waits_hears_of_the_next_rest_and_not_of_the_present_one() {
        let rests = Arc::new(Rests::new());
        let present = rests.begin();
        let waits = {
            let rests = Arc::clone(&rests);
            thread::spawn(move || rests.wait(present, LONG))
        };
        while rests.waiting.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        rests.make_known();
        assert!(!rests.is_known_beyond(present), "that is the present one");
        rests.begin();
        rests.make_known();
        assert!(waits.join().expect("no panic"));
        assert_eq!(rests.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn no_rest_is_missed_however_close_it_comes() {
        let rests = Arc::new(Rests::new());
        for _ in 0..200 {
            let present = rests.begin();
            let waits = {
                let rests = Arc::clone(&rests);
                thread::spawn(move || rests.wait(present, LONG))
            };
            rests.make_known();
            rests.begin();
            rests.make_known();
            assert!(waits.join().expect("no panic"));
        }
    }

    #[test]
    fn a_rest_that_does_not_come_is_waited_for_once_and_then_seldom() {
        let rests = Rests::new();
        let present = rests.begin();
        assert!(!rests.wait(present, Duration::from_nanos(1)));
        rests.wait_beyond(present);
        assert_eq!(rests.spared.load(Ordering::Relaxed), 64);
        for left in (0..64).rev() {
            rests.wait_beyond(present);
            assert_eq!(rests.spared.load(Ordering::Relaxed), left);
        }
        rests.wait_beyond(present);
        assert_eq!(rests.spared.load(Ordering::Relaxed), 128, "twice as often");
    }

    #[test]
    fn a_rest_that_comes_late_was_waited_for_in_vain() {
        let rests = Arc::new(Rests::new());
        let present = rests.begin();
        rests.make_known();
        let is_over = Arc::new(AtomicBool::new(false));
        let comes_late = {
            let (rests, is_over) = (Arc::clone(&rests), Arc::clone(&is_over));
            thread::spawn(move || {
                // On a busy machine the wait may be over before this thread has begun.
                while rests.waiting.load(Ordering::SeqCst) == 0 && !is_over.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                let began = Clock::monotonic().now();
                while Clock::monotonic().now().saturating_since(began) <= limits::PROMPT * 2 {
                    thread::yield_now();
                }
                rests.begin();
                rests.make_known();
            })
        };
        rests.wait_beyond(present);
        is_over.store(true, Ordering::SeqCst);
        assert!(rests.is_in_vain());
        comes_late.join().expect("no panic");
    }

    #[test]
    fn numbers_go_on_after_their_end() {
        let rests = Rests::new();
        rests.begun.store(u32::MAX, Ordering::Relaxed);
        rests.known.store(u32::MAX, Ordering::Relaxed);
        rests.begin();
        rests.make_known();
        assert!(rests.is_known_beyond(u32::MAX));
        assert!(!rests.is_known_beyond(0));
    }
}
