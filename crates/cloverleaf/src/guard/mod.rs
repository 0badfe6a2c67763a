//! A thread that does in a loop's place what the loop has put off, while a callback keeps the loop from doing it.
//!
//! A loop that puts a send off to make it together with others must not keep it from a callback that waits, without
//! awaiting, for its effect. So whoever holds something tells the guard. That looks every few milliseconds, sends what
//! has been held for one, and leaves what came of it to the loop. It holds no lock of the loop's and knows nothing
//! of Python, so it needs nobody to let go of anything.
//!
//! There is one thread for all loops of a process, started when something is held for the first time. It sleeps for as
//! long as nobody holds anything, hears no signals, and ends before a fork: what is held is sent first, and neither
//! the child nor whoever counts threads to warn of forks ever sees it.

mod vigil;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{Access, access};

pub use vigil::{Missing, Vigil};

use crate::clock::{Clock, Time};
use crate::error::ignore;
use crate::limits::{GUARD_GONE_LOOKS, GUARD_LOOKS, GUARD_NAP, LONGEST_GUARD_NAP, LONGEST_UNSENT};
use crate::sys::{around_forks, forks, without_signals};

/// What there was to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Nothing is held that could be sent.
    Nothing,
    /// Something is, and may be for a while.
    Held,
    /// Something had been held for too long.
    Overdue,
}

/// Who holds what is to be sent.
pub trait Holder: Send + Sync {
    /// Sends what has been held for so long, without a wait, and without foreign code.
    fn send_overdue(&self, now: Time, held_for: Duration) -> Found;
}

/// A time in which the thread has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch(u32);

impl Watch {
    /// Whether what was held then, and what joins it now, is looked after still.
    #[inline]
    pub fn goes_on(self) -> bool {
        self.0 == GUARD.ends.load(Ordering::Relaxed)
    }
}

/// Somebody who may hold something, and is looked after when he says so.
pub struct Guarded<H> {
    holder: Arc<H>,
    is_known: bool,
    /// The process that this was made in.
    forks: u32,
}

impl<H> fmt::Debug for Guarded<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("is_known", &self.is_known)
            .finish_non_exhaustive()
    }
}

impl<H: Holder + 'static> Guarded<H> {
    /// Nobody looks after it yet.
    pub fn new(holder: H) -> Self {
        Self {
            holder: Arc::new(holder),
            is_known: false,
            forks: forks(),
        }
    }

    /// What is looked after.
    #[inline]
    pub fn holder(&self) -> &H {
        &self.holder
    }

    /// Makes sure that what is held by now is looked after. `None` if it cannot be, and must be sent.
    #[inline]
    pub fn watch(&mut self) -> Option<Watch> {
        if !self.is_known {
            self.introduce()?;
        }
        if let Err(missing) = GUARD.vigil.rouse() {
            GUARD.fetch_thread(missing)?;
        }
        Some(Watch(GUARD.ends.load(Ordering::Relaxed)))
    }

    #[cold]
    fn introduce(&mut self) -> Option<()> {
        // What a forked child shares with its parent is its parent's.
        if self.forks != forks() {
            return None;
        }
        let holder = Arc::downgrade(&self.holder);
        let mut holders = lock(&GUARD.holders);
        holders.retain(|(_, known)| known.strong_count() > 0);
        holders.push((self.forks, holder));
        self.is_known = true;
        Some(())
    }
}

/// The guard of this process.
static GUARD: LazyLock<Guard> = LazyLock::new(|| Guard {
    vigil: Vigil::new(),
    holders: Mutex::new(Vec::new()),
    post: Mutex::new(Post::default()),
    ends: AtomicU32::new(0),
    is_to_end: AtomicBool::new(false),
    number: AtomicI32::new(0),
});

struct Guard {
    vigil: Vigil,
    /// With the process that each belongs to.
    holders: Mutex<Vec<(u32, Weak<dyn Holder>)>>,
    post: Mutex<Post>,
    /// How often the thread has ended.
    ends: AtomicU32,
    is_to_end: AtomicBool,
    /// The number that the kernel has for the thread.
    number: AtomicI32,
}

#[derive(Default)]
struct Post {
    thread: Option<JoinHandle<()>>,
    /// How many threads are about to fork, and of which process.
    forking: (u32, u32),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No foreign code runs under these locks, and no change under them can stop half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// Wakes the thread, or starts one.
    #[cold]
    fn fetch_thread(&'static self, missing: Missing) -> Option<()> {
        static HEARS_OF_FORKS: Once = Once::new();
        HEARS_OF_FORKS.call_once(|| around_forks(before_fork, after_fork));
        let mut post = lock(&self.post);
        if post.forking.0 == forks() && post.forking.1 > 0 {
            return None;
        }
        if let Some(thread) = &post.thread {
            if missing == Missing::Asleep {
                thread.thread().unpark();
            }
            return Some(());
        }
        self.vigil.begin();
        let thread = thread::Builder::new().name("cloverleaf-guard".into());
        let started = without_signals(|| thread.spawn(|| self.stand()));
        if started.is_err() {
            self.vigil.end();
        }
        post.thread = started.ok();
        post.thread.is_some().then_some(())
    }

    /// The life of the thread.
    fn stand(&self) {
        let number = rustix::thread::gettid().as_raw_nonzero().get();
        self.number.store(number, Ordering::Relaxed);
        let (mut in_vain, mut nap) = (0, GUARD_NAP);
        while !self.is_to_end.load(Ordering::Acquire) {
            let found = self.look(LONGEST_UNSENT);
            in_vain = if found == Found::Nothing {
                in_vain + 1
            } else {
                0
            };
            nap = if found == Found::Overdue {
                GUARD_NAP
            } else {
                (nap * 2).min(LONGEST_GUARD_NAP)
            };
            if in_vain < GUARD_LOOKS {
                thread::park_timeout(nap);
                continue;
            }
            let is_any = || self.look(LONGEST_UNSENT) > Found::Nothing;
            if self.vigil.fall_asleep(is_any) {
                while self.vigil.is_asleep() && !self.is_to_end.load(Ordering::Acquire) {
                    thread::park();
                }
            }
            in_vain = 0;
        }
    }

    /// Has everybody of this process send what is overdue.
    fn look(&self, held_for: Duration) -> Found {
        let now = Clock::monotonic().now();
        let process = forks();
        let mut found = Found::Nothing;
        for (_, holder) in lock(&self.holders).iter().filter(|(of, _)| *of == process) {
            if let Some(holder) = holder.upgrade() {
                found = found.max(holder.send_overdue(now, held_for));
            }
        }
        found
    }

    /// Sends what is held, and ends the thread: no child must send it again, and nobody looks after it meanwhile.
    fn clear_for_fork(&self) {
        let mut post = lock(&self.post);
        let others = if post.forking.0 == forks() {
            post.forking.1
        } else {
            0
        };
        post.forking = (forks(), others + 1);
        let Some(thread) = post.thread.take() else {
            return;
        };
        self.is_to_end.store(true, Ordering::Release);
        thread.thread().unpark();
        // It cannot panic.
        ignore(thread.join());
        self.is_to_end.store(false, Ordering::Release);
        self.vigil.end();
        self.ends.fetch_add(1, Ordering::Relaxed);
        self.look(Duration::ZERO);
        // Who counts threads after the fork asks the kernel, which forgets one a moment after it could be joined.
        let place = format!("/proc/self/task/{}", self.number.load(Ordering::Relaxed));
        for _ in 0..GUARD_GONE_LOOKS {
            if access(&place, Access::EXISTS).is_err() {
                break;
            }
            thread::yield_now();
        }
    }

    fn go_on_after_fork(&self) {
        let mut post = lock(&self.post);
        post.forking.1 = post.forking.1.saturating_sub(1);
    }
}

extern "C" fn before_fork() {
    GUARD.clear_for_fork();
}

/// In the parent. In the child nobody is about to fork, as it counts one fork more.
extern "C" fn after_fork() {
    GUARD.go_on_after_fork();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Nothing;

    impl Holder for Nothing {
        fn send_overdue(&self, _now: Time, _held_for: Duration) -> Found {
            Found::Nothing
        }
    }

    #[test]
    fn what_is_held_since_before_a_fork_is_looked_after_no_more() {
        let mut guarded = Guarded::new(Nothing);
        let before = guarded.watch().expect("a thread");
        assert!(before.goes_on());
        GUARD.clear_for_fork();
        assert!(!before.goes_on());
        assert_eq!(guarded.watch(), None, "somebody is about to fork");
        GUARD.go_on_after_fork();
        let after = guarded.watch().expect("a thread");
        assert!(after.goes_on() && !before.goes_on());
    }
}
