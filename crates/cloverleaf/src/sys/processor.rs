//! The processor that a thread runs on.
//!
//! By the C library, which knows without asking the kernel, and which no tool that hides the vDSO can confuse.
#![expect(unsafe_code, reason = "libc declares every function unsafe")]

/// The number of the processor that this thread runs on, at this moment, if that can be told.
#[inline]
pub(crate) fn processor() -> Option<u32> {
    // SAFETY: `sched_getcpu(3)` takes nothing, touches nothing of ours, and fails by returning -1.
    let number = unsafe { libc::sched_getcpu() };
    u32::try_from(number).ok()
}
