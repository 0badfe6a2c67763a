//! Who has written, while an event was served, what the kernel has not been offered yet; see `transport/held.rs`.
//!
//! What is held is looked after by the crate's guard, a thread that sends it where a callback keeps the loop from doing
//! so. It reaches the transports, and nothing else, through a list of its own lock, under which no Python runs.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use cloverleaf::{Clock, Found, Guarded, Holder, Time, Watch, limits};

use crate::ffi::{Owned, Reachable, Visitor};

/// Where a write finds itself in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The number of the event that is being served, or zero if none is, or nothing more can be held.
    pub(crate) event: u64,
    /// The number of the loop's turn, or zero if it is in none, or in another thread.
    pub(crate) turn: u64,
    /// The answers to this event are sent together with those to others.
    pub(crate) together: bool,
    /// Something is held, by this transport or another.
    pub(crate) is_any_held: bool,
    /// The kernel may hold something back, of this transport or another.
    pub(crate) is_any_corked: bool,
    /// From when on what is held counts as held.
    since: Time,
}

impl Moment {
    /// No event is being served, or by another thread.
    pub(crate) const OUTSIDE: Self = Self {
        event: 0,
        turn: 0,
        together: false,
        is_any_held: false,
        is_any_corked: false,
        since: Time::ORIGIN,
    };

    /// The same moment for a write that is to be sent at once.
    pub(crate) const fn at_once(self) -> Self {
        Self {
            event: 0,
            together: false,
            is_any_held: false,
            ..self
        }
    }

    /// Whether what is held has been held long enough.
    pub(crate) fn is_late(self) -> bool {
        is_late(self.since, Clock::monotonic().now())
    }
}

fn is_late(since: Time, now: Time) -> bool {
    now.saturating_since(since) >= Duration::from_micros(limits::LONGEST_HOLD_MICROS)
}

/// A transport, as the guard sees it.
pub(crate) trait Deferred: Send + Sync {
    /// Sends what is held without a wait, unless the loop is at it, and leaves what comes of that to the loop. No Python
    /// object is touched.
    fn send_in_place(&self) -> Found;
}

/// A transport that holds something.
pub(crate) type Sender = Reachable<dyn Deferred>;

/// The transports whose writes are held, and since when, for the loop and the guard.
#[derive(Debug, Default)]
struct List(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    senders: Vec<Sender>,
    since: Time,
}

impl List {
    /// The list, for a few instructions. No Python object is dropped meanwhile.
    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, unless somebody has it.
    fn try_lock(&self) -> Option<MutexGuard<'_, Listed>> {
        match self.0.try_lock() {
            Ok(listed) => Some(listed),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Had by the guard for as long as it is at what a loop holds.
static AT_IT: Mutex<()> = Mutex::new(());

fn keep_others_out() -> MutexGuard<'static, ()> {
    AT_IT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks, for the collector, at what a lock protects; `None` if another thread of Python's has it.
///
/// The collector looks at an object more than once, and takes what it was shown the first time and not the second for
/// garbage. Python's threads wait while it looks, but not the guard, which is let go of the lock first.
pub(crate) fn for_collector<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    look().or_else(|| {
        // The guard does not wait for Python, nor for the kernel.
        let _nobody_else = keep_others_out();
        look()
    })
}

impl Holder for List {
    fn send_overdue(&self, now: Time, held_for: Duration) -> Found {
        let _nobody_else = keep_others_out();
        let listed = self.lock();
        if listed.senders.is_empty() {
            return Found::Nothing;
        }
        if now.saturating_since(listed.since) < held_for {
            return Found::Held;
        }
        let send = |found: Found, sender: &Sender| found.max(sender.get().send_in_place());
        listed.senders.iter().fold(Found::Nothing, send)
    }
}

/// What could not be put on the list, as nobody would look after it: it is to be sent now.
pub(crate) struct Unguarded(
    #[expect(dead_code, reason = "dropped when nothing is borrowed")] Sender,
);

/// The transports whose writes are held.
#[derive(Debug)]
pub(crate) struct Held {
    turns: u64,
    /// The number of the turn that the loop is in, or zero.
    turn: u64,
    events: u64,
    /// The address of the object whose event is being served, or zero.
    served: usize,
    /// The address of the last object whose event was served with nothing held.
    unheld: usize,
    /// In this turn enough events are to be answered for their answers to be sent together.
    together: bool,
    /// Turns in which nothing is sent together, as the protocols are too slow for that.
    rest: u32,
    /// How many they are next time.
    next_rest: u32,
    list: Guarded<List>,
    /// How many are on the list.
    count: usize,
    /// Who has looked after them since the first.
    watch: Option<Watch>,
    /// Bytes that were written since something was held for others; those that were sent at once count, too.
    bytes: usize,
    since: Time,
    /// When the last event had been served, if answers are sent together.
    ended: Time,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            turns: 0,
            turn: 0,
            events: 0,
            served: 0,
            unheld: 0,
            together: false,
            rest: 0,
            next_rest: limits::SHORTEST_REST_TURNS,
            list: Guarded::new(List::default()),
            count: 0,
            watch: None,
            bytes: 0,
            since: Time::ORIGIN,
            ended: Time::ORIGIN,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The guard may be the last to let go of the list, and must find nothing in it to drop.
        drop(self.take());
    }
}

impl Held {
    /// The jobs of a turn are about to run; so many sockets are ready among whose answers some may be sent together.
    #[inline]
    pub(crate) fn begin_turn(&mut self, ready: usize) {
        // A panic may have ended the last turn in the midst of an event.
        self.served = 0;
        self.turns += 1;
        self.turn = self.turns;
        self.together = ready >= limits::READY_FOR_ONE_CALL;
        if self.together {
            self.begin_turn_together();
        }
    }

    fn begin_turn_together(&mut self) {
        if self.rest > 0 {
            self.rest -= 1;
            self.together = false;
            return;
        }
        self.ended = Clock::monotonic().now();
    }

    /// The loop has stopped.
    pub(crate) const fn end_run(&mut self) {
        self.turn = 0;
    }

    /// What comes for the next events has been received: the time of the first of them begins now.
    pub(crate) fn begin_events(&mut self) {
        self.ended = Clock::monotonic().now();
    }

    /// Whether what is held may stay so until the next event has been served, too.
    #[inline]
    pub(crate) const fn goes_together(&self) -> bool {
        self.together
    }

    /// An event is about to be served: what its protocol writes may be held.
    #[inline]
    pub(crate) fn begin_event(&mut self, object: &Owned) {
        self.events += 1;
        self.served = object.address();
    }

    /// The same of an event in which nothing may be held.
    pub(crate) fn begin_unheld_event(&mut self, object: &Owned) {
        self.unheld = object.address();
    }

    /// Whether an object's event may be what is being served, so that a run within it must end it first.
    pub(crate) fn may_serve(&self, object: &Owned) -> bool {
        [self.served, self.unheld].contains(&object.address())
    }

    /// Whether there may be such an object.
    pub(crate) const fn may_serve_any(&self) -> bool {
        self.served != 0 || self.unheld != 0
    }

    /// A run begins or ends within the event that is being served: nothing more is held for that event.
    pub(crate) const fn break_off(&mut self) {
        self.served = 0;
        self.together = false;
    }

    /// The event has been served; whether what is held is to be sent now.
    #[inline]
    pub(crate) fn end_event(&mut self) -> bool {
        self.served = 0;
        if !self.together {
            return self.is_any();
        }
        let now = Clock::monotonic().now();
        self.ended = now;
        if !self.is_any() {
            return false;
        }
        let is_late = is_late(self.since, now);
        if is_late {
            self.learn_of_slowness();
        }
        is_late || self.is_full()
    }

    /// What is held must be sent already. If it is too little for one call, it was held in vain, and the same is to be
    /// expected of the next turns.
    fn learn_of_slowness(&mut self) {
        if self.count >= limits::READY_FOR_ONE_CALL {
            self.next_rest = limits::SHORTEST_REST_TURNS;
            return;
        }
        self.together = false;
        self.rest = self.next_rest;
        self.next_rest = (2 * self.next_rest).min(limits::LONGEST_REST_TURNS);
    }

    /// The address of the object whose event is being served, or zero.
    pub(crate) const fn served(&self) -> usize {
        self.served
    }

    /// Whether something is held.
    #[inline]
    pub(crate) const fn is_any(&self) -> bool {
        self.count > 0
    }

    /// Whether as much is held as goes in one call.
    const fn is_full(&self) -> bool {
        self.count >= limits::SOCKETS_PER_CALL || self.bytes >= limits::BATCH_BYTES
    }

    /// The moment of a write of so many bytes.
    #[inline]
    pub(crate) fn moment(&mut self, len: usize) -> Moment {
        let outside = Moment {
            turn: self.turn,
            is_any_held: self.is_any(),
            ..Moment::OUTSIDE
        };
        if self.served == 0 || !self.is_guarded() {
            return outside;
        }
        if self.together {
            self.bytes = self.bytes.saturating_add(len);
            if self.bytes > limits::BATCH_BYTES {
                return outside;
            }
        }
        Moment {
            turn: self.turn,
            event: self.events,
            together: self.together && !self.is_full(),
            is_any_held: self.is_any(),
            is_any_corked: false,
            since: self.since,
        }
    }

    /// Whether what is held, if anything is, is looked after. After a fork it is not, and has been sent.
    #[inline]
    fn is_guarded(&self) -> bool {
        self.count == 0 || self.watch.is_some_and(Watch::goes_on)
    }

    /// Keeps a transport until what it holds has been offered; whether it answers an event of its own.
    ///
    /// # Errors
    /// If nobody would offer it while a callback runs.
    pub(crate) fn add(&mut self, sender: Sender) -> Result<bool, Unguarded> {
        let is_its_own = sender.object().address() == self.served;
        if self.count == 0 {
            // From when its event began: what a slow protocol has written does not wait for others.
            self.since = if self.together {
                self.ended
            } else {
                Clock::monotonic().now()
            };
        }
        {
            let mut listed = self.list.holder().lock();
            listed.since = self.since;
            listed.senders.push(sender);
        }
        let watch = self.list.watch();
        if watch.is_none() || self.count > 0 && self.watch != watch {
            let last = self.list.holder().lock().senders.pop();
            return last.map_or(Ok(is_its_own), |sender| Err(Unguarded(sender)));
        }
        if self.count == 0 && !self.together {
            // To wake the guard took its time, which is not the protocol's.
            self.since = Clock::monotonic().now();
        }
        self.watch = watch;
        self.count += 1;
        Ok(is_its_own)
    }

    /// Takes them all.
    #[must_use = "Python objects must be dropped when nothing is borrowed"]
    pub(crate) fn take(&mut self) -> Vec<Sender> {
        self.bytes = 0;
        if std::mem::take(&mut self.count) == 0 {
            return Vec::new();
        }
        std::mem::take(&mut self.list.holder().lock().senders)
    }

    /// Gives the room of a list back that has become empty.
    pub(crate) fn reuse(&mut self, room: Vec<Sender>) {
        let mut listed = self.list.holder().lock();
        if listed.senders.capacity() == 0 && room.is_empty() {
            listed.senders = room;
        }
    }

    /// Shows the collector every object that is held.
    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        let Some(listed) = for_collector(|| self.list.holder().try_lock()) else {
            // In use, so not garbage; what is not shown is kept.
            return;
        };
        for sender in &listed.senders {
            visitor.object(sender.object());
        }
    }
}
