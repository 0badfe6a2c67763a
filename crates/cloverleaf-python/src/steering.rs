//! What a loop for tests knows beside what every loop does: its clock, its seed, and what it waits for in real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloverleaf::{Clock, ManualClock, Shuffle, Time};

/// For how long a loop sleeps at most before it looks again whether work outside of it goes on, at first and later on.
const FIRST_LOOK: Duration = Duration::from_micros(50);
const LAST_LOOK: Duration = Duration::from_millis(5);

/// For how long bytes are waited for that have left a socket of the loop's, and that no peer has acknowledged. The kernel
/// delivers within a machine before the call that sends them returns; under load it may leave that to a thread of its
/// own, which was seen to take up to 26 ms on two processors that four programs wanted.
const ON_THE_WAY: Duration = Duration::from_millis(100);

/// What a loop that has nothing to do waits for in real time, before its clock jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// Work of its own that goes on outside of it.
    Work,
    /// Bytes on their way.
    Bytes,
    /// What others may do.
    Others,
}

/// How a loop for tests is steered.
#[derive(Debug)]
pub(crate) struct Steering {
    /// The loop's time.
    pub(crate) clock: ManualClock,
    /// How much work outside of the loop Python code knows of.
    held: Arc<AtomicUsize>,
    /// For how long it waits for what others may do, before the clock jumps.
    patience: Duration,
    /// What gives ready tasks another order.
    pub(crate) shuffle: Option<Shuffle>,
    /// Whether it may sleep although nothing that it knows of can end the sleep.
    pub(crate) may_sleep: bool,
    /// Which timer has been the next one, by its age, and since when in real time.
    next: Option<(u64, Time)>,
    /// Since when nothing has come, in real time.
    quiet: Option<Time>,
    look: Duration,
}

impl Steering {
    /// Of a loop whose clock this is.
    pub(crate) const fn new(
        clock: ManualClock,
        held: Arc<AtomicUsize>,
        patience: Duration,
        shuffle: Option<Shuffle>,
    ) -> Self {
        Self {
            clock,
            held,
            patience,
            shuffle,
            may_sleep: false,
            next: None,
            quiet: None,
            look: FIRST_LOOK,
        }
    }

    /// Whether Python code knows of work outside of the loop.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire) > 0
    }

    /// Whether it waits for others before its clock jumps.
    pub(crate) const fn is_patient(&self) -> bool {
        !self.patience.is_zero()
    }

    /// Notes that there is something to do.
    pub(crate) const fn note_busy(&mut self) {
        self.quiet = None;
        self.look = FIRST_LOOK;
        self.may_sleep = false;
    }

    /// For how long it may sleep once it has nothing to do until the next timer, given by its deadline and its age: as long
    /// as if the loop's clock had run since that timer became the next one; and unless it waits for work, no longer than
    /// its patience, counted from when nothing came any more. `None` is for ever, and zero says that the clock may jump.
    pub(crate) fn real_limit(
        &mut self,
        next: Option<(Time, u64)>,
        waits_for: WaitsFor,
    ) -> Option<Duration> {
        let now = Clock::monotonic().now();
        let quiet = now.saturating_since(*self.quiet.get_or_insert(now));
        let until_then = next.map(|(deadline, age)| {
            // One that has become the next just now may have been made just now.
            let since = match self.next {
                Some((of, since)) if of == age => since,
                _ => now,
            };
            self.next = Some((age, since));
            let whole = deadline.saturating_since(self.clock.now());
            whole.saturating_sub(now.saturating_since(since))
        });
        let patience = match waits_for {
            WaitsFor::Work => None,
            WaitsFor::Bytes => Some(self.patience.max(ON_THE_WAY)),
            // Without a deadline there is nothing to be patient for.
            WaitsFor::Others => next.map(|_| self.patience),
        };
        let left = patience.map(|patience| patience.saturating_sub(quiet));
        // What it waits for may end without a word.
        let look = (waits_for != WaitsFor::Others).then(|| self.next_look());
        [until_then, left, look].into_iter().flatten().min()
    }

    fn next_look(&mut self) -> Duration {
        let look = self.look;
        self.look = (look * 2).min(LAST_LOOK);
        look
    }

    /// Moves the clock.
    pub(crate) fn jump(&mut self, deadline: Time) {
        self.clock.advance_to(deadline);
        self.next = None;
        self.quiet = None;
    }
}
