//! The stack of a child that shares this process's memory: mapped apart, with a gap below, and kept for the next child.
//!
//! Whoever keeps one answers for it that no child runs on it any more.
#![expect(unsafe_code, reason = "rustix has no stacks")]

use std::io;
use std::ptr::NonNull;
use std::sync::Mutex;

/// A child's stack, with a gap below it that nobody may touch.
#[derive(Debug)]
pub(super) struct Stack(NonNull<u8>);

/// Ample: the child needs a few hundred bytes in a release build, and a page is not there before it is touched.
const STACK_BYTES: usize = 64 * 1024;
/// At least a page, of whatever size.
const GAP_BYTES: usize = 64 * 1024;

// SAFETY: memory like any other, of whatever thread has the value.
unsafe impl Send for Stack {}

/// One that no child runs on. Mapping and unmapping one for each child takes three system calls, and the other processors
/// must hear of it on which children have run.
static KEPT: Mutex<Option<Stack>> = Mutex::new(None);

impl Stack {
    /// The one that is kept, or a new one.
    ///
    /// # Errors
    /// Those of `mmap(2)` and `mprotect(2)`.
    pub(super) fn take() -> io::Result<Self> {
        // In use by another thread, if not by one of the process that this one was forked from: it is not waited for.
        let kept = KEPT.try_lock().ok().and_then(|mut kept| kept.take());
        kept.map_or_else(Self::new, Ok)
    }

    /// Keeps it for the next child, in place of one that may be kept already. No child may run on it any more.
    pub(super) fn keep(self) {
        let old = match KEPT.try_lock() {
            Ok(mut kept) => kept.replace(self),
            Err(_) => Some(self),
        };
        drop(old);
    }

    fn new() -> io::Result<Self> {
        // SAFETY: new memory at an address of the kernel's choice, which nobody uses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                GAP_BYTES + STACK_BYTES,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("invariant: nothing is mapped at zero");
        let stack = Self(start);
        let usable = stack.end().wrapping_sub(STACK_BYTES).cast();
        // SAFETY: the upper half of what has just been mapped, which nobody uses yet.
        let allowed =
            unsafe { libc::mprotect(usable, STACK_BYTES, libc::PROT_READ | libc::PROT_WRITE) };
        if allowed != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// Where it begins to grow down; a multiple of 16, as mappings begin with a page.
    pub(super) const fn end(&self) -> *mut u8 {
        self.0.as_ptr().wrapping_add(GAP_BYTES + STACK_BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` has mapped; its owner, `Memory`, is dropped only when no child runs on it.
        let unmapped = unsafe { libc::munmap(self.0.as_ptr().cast(), GAP_BYTES + STACK_BYTES) };
        debug_assert_eq!(unmapped, 0, "what was mapped can be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_taken_once() {
        let first = Stack::take().unwrap();
        let end = first.end();
        first.keep();
        let again = Stack::take().unwrap();
        let other = Stack::take().unwrap();
        assert_eq!(again.end(), end);
        assert_ne!(other.end(), end);
        other.keep();
        again.keep();
        assert_eq!(
            Stack::take().unwrap().end(),
            end,
            "the other one is unmapped"
        );
    }
}
