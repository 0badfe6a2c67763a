//! Threads that no signal interrupts.
#![expect(unsafe_code, reason = "rustix has no pthread_sigmask")]

use std::mem::MaybeUninit;
use std::ptr;

/// Runs `start` with every signal blocked in this thread, and so in the threads that it starts, for as long as they live.
/// A signal that comes meanwhile is another thread's, or waits.
pub(crate) fn without_signals<R>(start: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is ours to write, and this call fills it.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the first set was filled above; the second is ours to write.
    let blocked =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) } == 0;
    let _restore = Restore(blocked.then_some(before));
    start()
}

/// Lets this thread hear what it heard before, whether by return or by a panic.
struct Restore(Option<MaybeUninit<libc::sigset_t>>);

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // SAFETY: the set was filled when the signals were blocked.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
        }
    }
}
