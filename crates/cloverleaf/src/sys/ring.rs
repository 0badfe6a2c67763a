//! A ring of `io_uring(7)` whose requests own what the kernel works on.
//!
//! The kernel reads and writes the memory of a request until it completes it. So a ring takes the value that the memory
//! belongs to, keeps it where nobody can reach it, and hands it back with the answer. A ring that is dropped cancels
//! what is in flight and waits until the kernel has let go of it.
//!
//! In a forked child a ring is its parent's, and is not touched: nothing is started, and nothing ends.
//!
//! The kernel may refuse to be entered later on, as when the program has it filter its calls (`seccomp(2)`). Such a ring
//! takes nothing more, and hands back unanswered what the kernel has not taken; what it has taken it still answers.
#![expect(
    unsafe_code,
    reason = "the queue takes addresses, and trusts that what lies there stays until the kernel is done with it"
)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::ask::{Ask, Request};
use super::fork::forks;
use crate::limits::{RING_ENTRIES, RING_IN_FLIGHT};

/// The name of what nobody waits for: cancellations, whose targets give the answer.
const NOBODY: u64 = u64::MAX;

/// Milliseconds for which a ring that ends sleeps at most before it looks around.
const FINISH_NAP_MS: u64 = 10;

/// The most that the kernel moves in one call (`MAX_RW_COUNT`).
const LONGEST: usize = 0x7fff_f000;

/// The kernel codes of what a ring must be able to do.
const NEEDED: [u8; 5] = [
    opcode::Nop::CODE,
    opcode::Read::CODE,
    opcode::Write::CODE,
    opcode::Fsync::CODE,
    opcode::AsyncCancel::CODE,
];

struct Slot<T> {
    /// Which of the slot's occupants this is, so that a late cancellation does not reach the next one.
    generation: u32,
    tag: u64,
    cancelled: bool,
    /// How many entries were queued before its own.
    place: u64,
    /// In a box of its own, as requests may point into the value itself and slots move.
    value: Option<Box<T>>,
}

/// Requests, and the ring that they go through.
pub(crate) struct Ring<T: Ask> {
    uring: ManuallyDrop<IoUring>,
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    /// Cancellations that the kernel has not been told of.
    cancellations: Vec<u64>,
    /// How many entries were ever queued.
    queued: u64,
    /// Why the kernel is not to be entered any more.
    refused: Option<Errno>,
    /// The places of what it has not taken by then.
    left: Vec<usize>,
    /// How often the process had forked when the ring was made.
    forks: u32,
}

impl<T: Ask> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("fd", &self.uring.as_raw_fd())
            .field("in_flight", &(self.slots.len() - self.free.len()))
            .finish_non_exhaustive()
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Enough of a length for one call, as `pread(2)` takes it.
fn length(buffer: &[u8]) -> u32 {
    u32::try_from(buffer.len().min(LONGEST)).unwrap_or(u32::MAX)
}

fn entry(request: Request<'_>) -> squeue::Entry {
    match request {
        Request::Read { fd, buffer, offset } => opcode::Read::new(
            types::Fd(fd.as_raw_fd()),
            buffer.as_mut_ptr(),
            length(buffer),
        )
        .offset(offset)
        .build(),
        Request::Write { fd, buffer, offset } => {
            opcode::Write::new(types::Fd(fd.as_raw_fd()), buffer.as_ptr(), length(buffer))
                .offset(offset)
                .build()
        }
        Request::Sync { fd } => opcode::Fsync::new(types::Fd(fd.as_raw_fd())).build(),
    }
}

impl<T: Ask> Ring<T> {
    /// A ring, tried with a request that does nothing: a filter may allow that one is made, and nothing else.
    ///
    /// # Errors
    /// `EPERM` or `ENOSYS` where io_uring is not allowed or unknown, `EOPNOTSUPP` if this kernel's lacks something,
    /// `ENOMEM` beyond `RLIMIT_MEMLOCK` on old kernels, `EMFILE`, `ENFILE`.
    pub(crate) fn new() -> Result<Self, Errno> {
        let answers = u32::try_from(2 * RING_IN_FLIGHT).unwrap_or(u32::MAX);
        let mut uring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(answers)
            .build(RING_ENTRIES)
            .map_err(|error| errno(&error))?;
        let mut probe = Probe::new();
        uring
            .submitter()
            .register_probe(&mut probe)
            .map_err(|error| match errno(&error) {
                // Kernels before 5.6 cannot be asked, and lack what would be asked for.
                Errno::INVAL => Errno::OPNOTSUPP,
                other => other,
            })?;
        if !NEEDED.iter().all(|code| probe.is_supported(*code))
            || !uring.params().is_feature_nodrop()
        {
            return Err(Errno::OPNOTSUPP);
        }
        let nothing = opcode::Nop::new().build().user_data(NOBODY);
        push(&mut uring, &nothing);
        while let Err(error) = uring.submit_and_wait(1) {
            if errno(&error) != Errno::INTR {
                return Err(errno(&error));
            }
        }
        match uring.completion().next() {
            Some(answer) if answer.result() == 0 => {}
            Some(_) | None => return Err(Errno::OPNOTSUPP),
        }
        Ok(Self {
            uring: ManuallyDrop::new(uring),
            slots: Vec::new(),
            free: Vec::new(),
            cancellations: Vec::new(),
            queued: 0,
            refused: None,
            left: Vec::new(),
            forks: forks(),
        })
    }

    /// The ring's descriptor, which can be read when an answer is there.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.uring.as_fd()
    }

    /// Why the kernel takes nothing more, if that is so.
    pub(crate) const fn refused(&self) -> Option<Errno> {
        self.refused
    }

    /// How many requests have not been answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn is_ours(&self) -> bool {
        self.forks == forks()
    }

    /// Takes a request, which the next [`flush`](Self::flush) hands to the kernel.
    ///
    /// # Errors
    /// Gives back what finds no room.
    pub(crate) fn start(&mut self, value: T, tag: u64) -> Result<(), T> {
        let is_full = !self.is_ours() || self.in_flight() >= RING_IN_FLIGHT || !self.has_room();
        if is_full || self.refused.is_some() {
            return Err(value);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                tag,
                cancelled: false,
                place: 0,
                value: None,
            });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.tag = tag;
        slot.cancelled = false;
        slot.value = Some(Box::new(value));
        self.queue(index);
        Ok(())
    }

    /// Whether the submission queue can take a request, if need be after the kernel has taken those in it.
    fn has_room(&mut self) -> bool {
        if self.uring.submission().is_full() {
            self.flush();
        }
        !self.uring.submission().is_full()
    }

    /// Writes the request of a slot to the submission queue, which has room.
    fn queue(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if let Some(value) = &mut slot.value {
            let entry = entry(value.request()).user_data(name(index, slot.generation));
            slot.place = self.queued;
            self.queued += 1;
            push(&mut self.uring, &entry);
        }
    }

    /// Asks for the end of every request with this tag. Each is still answered.
    pub(crate) fn cancel(&mut self, tag: u64) {
        self.cancel_where(|slot| slot.tag == tag);
    }

    fn cancel_where(&mut self, whether: impl Fn(&Slot<T>) -> bool) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.value.is_some() && !slot.cancelled && whether(slot) {
                slot.cancelled = true;
                self.cancellations.push(name(index, slot.generation));
            }
        }
    }

    /// Hands what was started and cancelled to the kernel; `false` if it has no room and must be asked again, or is not to
    /// be asked any more, and there are requests to be handed back.
    pub(crate) fn flush(&mut self) -> bool {
        if !self.is_ours() || self.refused.is_some() {
            return self.left.is_empty();
        }
        loop {
            while !self.uring.submission().is_full()
                && let Some(target) = self.cancellations.pop()
            {
                let entry = opcode::AsyncCancel::new(target).build().user_data(NOBODY);
                self.queued += 1;
                push(&mut self.uring, &entry);
            }
            if self.uring.submission().is_empty() {
                return true;
            }
            match self.uring.submit() {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => match errno(&error) {
                    Errno::INTR => {}
                    Errno::AGAIN | Errno::BUSY => return false,
                    why => {
                        self.refuse(why);
                        return false;
                    }
                },
            }
        }
    }

    /// Enters the kernel no more, so that what it has not taken it never will.
    fn refuse(&mut self, why: Errno) {
        self.refused = Some(why);
        let taken = self.queued - self.uring.submission().len() as u64;
        let slots = self.slots.iter().enumerate();
        let left = slots.filter(|(_, slot)| slot.value.is_some() && slot.place >= taken);
        self.left = left.map(|(index, _)| index).collect();
    }

    /// Hands back every request that has been answered, with the answer: how many bytes went through. `ECANCELED` says that
    /// nothing has come of it, and nothing will: it was cancelled, or not taken.
    pub(crate) fn reap(&mut self, mut ended: impl FnMut(T, Result<usize, Errno>)) {
        if !self.is_ours() {
            return;
        }
        while let Some(answer) = self.next_answer() {
            if let Some((value, result)) = self.end(&answer) {
                ended(value, result);
            }
        }
        for index in std::mem::take(&mut self.left) {
            if let Some(value) = self.vacate(index) {
                ended(*value, Err(Errno::CANCELED));
            }
        }
    }

    /// Takes the request from a slot, if there is one.
    fn vacate(&mut self, index: usize) -> Option<Box<T>> {
        let slot = &mut self.slots[index];
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    /// Takes the request of an answer, unless it is nobody's or is started anew.
    fn end(&mut self, answer: &cqueue::Entry) -> Option<(T, Result<usize, Errno>)> {
        let (index, generation) = place(answer.user_data())?;
        let slot = self.slots.get(index)?;
        if slot.generation != generation {
            return None;
        }
        let mut result = result(answer.result());
        if matches!(result, Err(Errno::CANCELED | Errno::INTR)) {
            let was_cancelled = slot.cancelled;
            // To find room may end in a refusal.
            if !was_cancelled && self.has_room() && self.refused.is_none() {
                // The thread that started it has ended, and the kernel ended with it what the thread had started.
                self.queue(index);
                return None;
            }
            // A thread of the kernel that a cancellation interrupts says only that.
            result = Err(Errno::CANCELED);
        }
        let value = self.vacate(index)?;
        value.note(&result);
        Some((*value, result))
    }

    fn next_answer(&mut self) -> Option<cqueue::Entry> {
        if let Some(answer) = self.uring.completion().next() {
            return Some(answer);
        }
        if self.refused.is_some() || !self.uring.submission().cq_overflow() {
            return None;
        }
        // Answers that found no room wait in the kernel, which brings them when it is entered.
        self.uring.submit().ok()?;
        self.uring.completion().next()
    }

    /// Cancels everything and waits until all of it has been answered, or for about `limit`; whether it has been.
    ///
    /// # Errors
    /// Why the kernel takes nothing more, if there is no limit.
    pub(crate) fn finish(&mut self, limit: Option<Duration>) -> Result<bool, Errno> {
        if !self.is_ours() {
            return Ok(true);
        }
        let mut rest = limit.unwrap_or(Duration::MAX);
        loop {
            self.cancel_where(|_| true);
            self.flush();
            self.reap(|value, _| drop(value));
            if self.in_flight() == 0 {
                return Ok(true);
            }
            if let (Some(why), None) = (self.refused(), limit) {
                return Err(why);
            }
            if rest.is_zero() {
                return Ok(false);
            }
            // What found no room in the kernel is tried again after this time.
            let nap = rest.min(Duration::from_millis(FINISH_NAP_MS));
            let timeout = Timespec::try_from(nap).map_err(|_| Errno::INVAL)?;
            // The descriptor of a ring that is not to be entered may be somebody else's by now.
            let ring = (self.refused.is_none()).then(|| PollFd::new(&*self.uring, PollFlags::IN));
            match poll(&mut Vec::from_iter(ring), Some(&timeout)) {
                Ok(0) => rest -= nap,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<T: Ask> Drop for Ring<T> {
    fn drop(&mut self) {
        if self.in_flight() > 0 && self.finish(None).is_err() {
            // Nobody can tell when the kernel will be done with them, so they stay for good.
            std::mem::forget(std::mem::take(&mut self.slots));
        }
        // A descriptor that is no ring any more has been closed by the program, and may be another file's by now.
        if !matches!(self.refused, Some(Errno::BADF | Errno::OPNOTSUPP)) {
            // SAFETY: this is the end of the ring, which nobody uses after it.
            unsafe { ManuallyDrop::drop(&mut self.uring) };
        }
    }
}

/// Queues an entry, for which the caller has seen that there is room.
///
/// Every entry that comes here points at nothing, or at what a slot keeps until its answer has come.
fn push(uring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: the memory of the entry belongs to a value in a slot, which is neither moved nor used before the kernel's
    // answer to just this entry, not even when the ring is dropped, or before the kernel is entered for the last time without
    // having taken it; see `reap`, `refuse` and `drop`.
    let pushed = unsafe { uring.submission().push(entry) };
    assert!(pushed.is_ok(), "invariant: the submission queue has room");
}

/// The kernel's name of a request.
fn name(index: usize, generation: u32) -> u64 {
    u64::from(generation) << 32 | index as u64
}

/// The slot and the generation of a name.
fn place(name: u64) -> Option<(usize, u32)> {
    if name == NOBODY {
        return None;
    }
    let index = usize::try_from(name & u64::from(u32::MAX)).ok()?;
    Some((index, u32::try_from(name >> 32).ok()?))
}

/// What an answer says.
fn result(answer: i32) -> Result<usize, Errno> {
    usize::try_from(answer).map_err(|_| Errno::from_raw_os_error(answer.wrapping_neg()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::*;

    struct Read(OwnedFd, [u8; 8]);

    impl Ask for Read {
        fn request(&mut self) -> Request<'_> {
            Request::Read {
                fd: self.0.as_fd(),
                buffer: &mut self.1,
                offset: 0,
            }
        }
    }

    #[test]
    fn a_forked_child_leaves_the_ring_of_its_parent_alone() {
        let Ok(mut ring) = Ring::new() else { return };
        let (reader, mut writer) = std::io::pipe().expect("descriptors are left");
        let spare = reader.try_clone().expect("descriptors are left");
        ring.start(Read(reader.into(), [0; 8]), 1)
            .unwrap_or_else(|_| panic!("is taken"));
        assert!(ring.flush(), "is handed over");
        // SAFETY: the child does nothing but what is below, which takes no lock that another thread may hold but those
        // of the allocator, which glibc and musl keep usable; and it ends without returning.
        let child = unsafe { libc::fork() };
        if child == 0 {
            ring.cancel(1);
            let untouched = ring.flush()
                && ring.start(Read(spare.into(), [0; 8]), 2).is_err()
                && ring.in_flight() == 1;
            ring.reap(|_, _| std::process::abort());
            drop(ring);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(i32::from(!untouched)) };
        }
        let mut status = -1;
        // SAFETY: `status` lives through the call.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, status), (child, 0), "the child did as it should");
        writer.write_all(b"ours").expect("there is a reader");
        let mut end = None;
        while end.is_none() {
            poll(&mut [PollFd::new(&*ring.uring, PollFlags::IN)], None).expect("can be watched");
            ring.reap(|read, result| end = Some((read.1, result)));
        }
        assert_eq!(end, Some((*b"ours\0\0\0\0", Ok(4))));
    }
}
