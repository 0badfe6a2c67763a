//! Whether a turn that has jobs ready asks the kernel as well, which costs a call.
//!
//! It does not if no event could come at all, nor for a moment after the last time when the kernel had nothing to report
//! for many turns in a row. Whoever asks for something new calls [`Polling::expect_events`], and is heard in the next
//! turn. A loop that sleeps asks the kernel anyway.

use std::os::fd::RawFd;

use cloverleaf::{Scheduler, Time, limits};

use crate::job::Job;

/// What is known of the kernel's silence.
#[derive(Debug)]
pub(crate) struct Polling {
    /// How many descriptors the driver has been told of, but for the one that only ends sleeps.
    attached: usize,
    /// A descriptor that only ends sleeps: the driver knows it, and a loop that is awake need not ask for it.
    ends_sleeps: Option<RawFd>,
    /// How often in a row the kernel had nothing to report although the loop did not sleep, and nothing more was asked
    /// for since.
    quiet: u32,
    /// When the kernel was asked last, once it has been quiet for long.
    asked: Time,
    /// When the clock was read last for that.
    read: Time,
    /// How many turns of few jobs do without reading it.
    unread: u32,
}

impl Polling {
    /// Of a driver that knows no descriptor.
    pub(crate) const fn new() -> Self {
        Self {
            attached: 0,
            ends_sleeps: None,
            quiet: 0,
            asked: Time::ORIGIN,
            read: Time::ORIGIN,
            unread: 0,
        }
    }

    /// Makes the next turns ask the kernel, however long it was quiet.
    #[inline]
    pub(crate) const fn expect_events(&mut self) {
        self.quiet = 0;
    }

    /// Whether the driver has been told of a descriptor that brings news.
    pub(crate) const fn expects_any(&self) -> bool {
        self.attached > 0
    }

    /// Whether a turn can do without asking the kernel for what is ready.
    #[inline]
    pub(crate) fn is_needless(&mut self, scheduler: &Scheduler<Job>) -> bool {
        self.attached == 0 || self.kernel_may_be_left_alone(scheduler)
    }

    /// Notes whether the kernel had something to report.
    #[inline]
    pub(crate) const fn note_answer(&mut self, has_events: bool) {
        self.quiet = if has_events {
            0
        } else {
            self.quiet.saturating_add(1)
        };
    }

    #[inline]
    fn kernel_may_be_left_alone(&mut self, scheduler: &Scheduler<Job>) -> bool {
        if self.quiet < limits::QUIET_POLLS || scheduler.is_stopping() {
            return false;
        }
        if self.unread > 0 && scheduler.ready_len() <= limits::FEW_JOBS {
            self.unread -= 1;
            return true;
        }
        self.may_be_left_alone_now(scheduler.now())
    }

    fn may_be_left_alone_now(&mut self, now: Time) -> bool {
        let are_short = now.saturating_since(self.read) < limits::SHORT_TURNS;
        self.unread = if are_short { limits::UNREAD_TURNS } else { 0 };
        self.read = now;
        let may = now.saturating_since(self.asked) < limits::QUIET;
        if !may {
            self.asked = now;
        }
        may
    }

    /// Notes that the driver has been told of a descriptor.
    pub(crate) const fn note_attached(&mut self) {
        self.attached += 1;
    }

    /// Notes that the driver, or the kernel by itself, has forgotten a descriptor.
    pub(crate) fn note_forgotten(&mut self, fd: RawFd) {
        if self.ends_sleeps == Some(fd) {
            self.ends_sleeps = None;
        } else {
            self.attached = self.attached.saturating_sub(1);
        }
    }

    /// Notes that the driver has forgotten everything.
    pub(crate) const fn forget_all(&mut self) {
        self.attached = 0;
        self.ends_sleeps = None;
    }

    /// Says of a descriptor that the driver knows that it only ends sleeps, if there is none that does.
    pub(crate) const fn let_only_end_sleeps(&mut self, fd: RawFd) {
        if self.ends_sleeps.is_none() {
            self.ends_sleeps = Some(fd);
            self.attached = self.attached.saturating_sub(1);
        }
    }

    /// Says of a descriptor that a loop which is awake must ask for it, too.
    pub(crate) fn let_bring_news(&mut self, fd: RawFd) {
        if self.ends_sleeps == Some(fd) {
            self.ends_sleeps = None;
            self.attached += 1;
            self.expect_events();
        }
    }
}
