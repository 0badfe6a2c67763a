//! Whether this process has been forked since something was made.
//!
//! A child shares its parent's epoll: what it registers or deregisters there happens to the parent. So a driver asks,
//! before each change, whether it is still in the process that made it. Asking the kernel for the process number would
//! cost a system call each time; counting forks costs one load.
#![expect(unsafe_code, reason = "rustix has no pthread_atfork")]

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);
static REGISTERED: Once = Once::new();

extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How many forks lie between the first process that asked and this one.
pub(crate) fn forks() -> u32 {
    REGISTERED.call_once(|| {
        // SAFETY: the handler runs in the child, where only what is async-signal-safe may be done; it adds to an
        // atomic number. It stays valid, as the code that it is in is never unloaded (Python unloads no modules).
        let failed = unsafe { libc::pthread_atfork(None, None, Some(count)) };
        assert!(failed == 0, "no memory for a fork handler");
    });
    FORKS.load(Ordering::Relaxed)
}

/// Has `before` called before every fork of this process from now on, in the thread that forks, and `after` in the parent
/// after it. Neither may panic.
pub(crate) fn around_forks(before: extern "C" fn(), after: extern "C" fn()) {
    // SAFETY: both run in a parent, in the thread that has called `fork(3)`, where all that an ordinary function may do is
    // allowed. They stay valid, as their code is never unloaded.
    let failed = unsafe { libc::pthread_atfork(Some(before), Some(after), None) };
    assert!(failed == 0, "no memory for a fork handler");
}
