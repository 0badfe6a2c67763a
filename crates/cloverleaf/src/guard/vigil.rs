//! Whether the guard's thread is there and awake: what it and those who hold something must agree on.
//!
//! Who holds something makes that known first and asks then; the thread says that it sleeps first and looks then. So one
//! of the two sees the other, and nothing is held while nobody is awake; `tests/loom_guard.rs` tries every order.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, Ordering};

const NOBODY: u8 = 0;
const ASLEEP: u8 = 1;
const AWAKE: u8 = 2;

/// Who is not there to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The thread slept, counts as awake from now on, and must be woken by whoever gets this.
    Asleep,
    /// There is no thread.
    Nobody,
}

/// The state of one thread that looks after others.
#[derive(Debug)]
pub struct Vigil(AtomicU8);

impl Default for Vigil {
    fn default() -> Self {
        Self::new()
    }
}

impl Vigil {
    /// There is no thread.
    pub fn new() -> Self {
        Self(AtomicU8::new(NOBODY))
    }

    /// A thread is about to be started; it counts as awake.
    pub fn begin(&self) {
        self.0.store(AWAKE, Ordering::SeqCst);
    }

    /// The thread has ended.
    pub fn end(&self) {
        self.0.store(NOBODY, Ordering::SeqCst);
    }

    /// Asks for the thread's attention, when others can see why.
    ///
    /// # Errors
    /// Says who is missing.
    #[inline]
    pub fn rouse(&self) -> Result<(), Missing> {
        match self.0.load(Ordering::SeqCst) {
            AWAKE => Ok(()),
            NOBODY => Err(Missing::Nobody),
            _ => self.wake(),
        }
    }

    #[cold]
    fn wake(&self) -> Result<(), Missing> {
        let changed = self
            .0
            .compare_exchange(ASLEEP, AWAKE, Ordering::SeqCst, Ordering::SeqCst);
        match changed {
            Ok(_) => Err(Missing::Asleep),
            Err(NOBODY) => Err(Missing::Nobody),
            Err(_) => Ok(()),
        }
    }

    /// The thread is about to sleep, if `look` finds nothing to do; whether it may.
    pub fn fall_asleep(&self, look: impl FnOnce() -> bool) -> bool {
        self.0.store(ASLEEP, Ordering::SeqCst);
        if look() {
            self.0.store(AWAKE, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Whether nobody has asked for the thread since it fell asleep.
    pub fn is_asleep(&self) -> bool {
        self.0.load(Ordering::SeqCst) == ASLEEP
    }
}
