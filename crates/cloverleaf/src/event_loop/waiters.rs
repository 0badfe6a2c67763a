//! Who waits for which descriptor: the sources of a Rust program's reactor.
//!
//! Interest grows when somebody waits, and shrinks when an event arrives that nobody waits for. A descriptor in error
//! or hung up is reported whatever was asked for, so when nobody waits for one, it is taken from the driver.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::Waker;

use super::core::Core;
use super::watch::Direction;
use crate::driver::{Completion, Interest, Token};
use crate::error::ignore;
use crate::task::Teller;

/// A source of the reactor.
#[derive(Debug)]
pub(super) enum Source {
    /// A descriptor and who waits for it.
    Watched(Waiters),
    /// An operation, and the half that tells its end.
    Operation(Teller<Completion>),
}

impl Source {
    const fn waiters(&self) -> Option<&Waiters> {
        match self {
            Self::Watched(waiters) => Some(waiters),
            Self::Operation(_) => None,
        }
    }

    const fn waiters_mut(&mut self) -> Option<&mut Waiters> {
        match self {
            Self::Watched(waiters) => Some(waiters),
            Self::Operation(_) => None,
        }
    }
}

/// Who waits for one descriptor.
#[derive(Debug)]
pub(super) struct Waiters {
    fd: Rc<OwnedFd>,
    /// What the driver was asked to report; `None` while it does not know the descriptor.
    attached: Option<Interest>,
    waiting: Vec<Waiter>,
    next_id: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    direction: Direction,
    waker: Waker,
}

impl Waiters {
    fn wanted(&self) -> Interest {
        self.waiting.iter().fold(Interest::NONE, |all, waiter| {
            all.with(waiter.direction.interest())
        })
    }
}

impl Core {
    pub(super) fn watch(&self, fd: Rc<OwnedFd>) -> Token {
        self.state
            .borrow_mut()
            .reactor
            .insert(Source::Watched(Waiters {
                fd,
                attached: None,
                waiting: Vec::new(),
                next_id: 0,
            }))
    }

    pub(super) fn unwatch(&self, token: Token) {
        let mut state = self.state.borrow_mut();
        let Some(Source::Watched(waiters)) = state.reactor.remove(token) else {
            return;
        };
        if waiters.attached.is_some() {
            // It is closed next in most cases, and then the kernel forgets it anyway; a closed driver, and one in a
            // forked child, refuse.
            ignore(state.reactor.detach(waiters.fd.as_fd()));
        }
        drop(state);
        drop(waiters);
    }

    /// Adds a waiter and sees to it that the driver reports what it waits for.
    pub(super) fn wait_for(
        &self,
        token: Token,
        direction: Direction,
        waker: Waker,
    ) -> io::Result<u64> {
        let mut state = self.state.borrow_mut();
        let reactor = &mut state.reactor;
        let Some(waiters) = reactor.get(token).and_then(Source::waiters) else {
            return Err(io::Error::other("the event loop was closed"));
        };
        let fd = Rc::clone(&waiters.fd);
        let wanted = direction.interest();
        let interest = match waiters.attached {
            Some(interest) if interest.contains(wanted) => interest,
            Some(interest) => {
                let interest = interest.with(wanted);
                reactor.modify(fd.as_fd(), token, interest)?;
                interest
            }
            None => {
                reactor.attach(fd.as_fd(), token, wanted)?;
                wanted
            }
        };
        let waiters = reactor
            .get_mut(token)
            .and_then(Source::waiters_mut)
            .expect("invariant: the token named a source above");
        waiters.attached = Some(interest);
        let id = waiters.next_id;
        waiters.next_id += 1;
        waiters.waiting.push(Waiter {
            id,
            direction,
            waker,
        });
        Ok(id)
    }

    /// Changes whom a waiter wakes; `false` if it was woken, or its descriptor is watched no more.
    pub(super) fn rewait(&self, token: Token, id: u64, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut state = self.state.borrow_mut();
        let waiters = state.reactor.get_mut(token).and_then(Source::waiters_mut);
        let waiter = waiters.and_then(|all| all.waiting.iter_mut().find(|one| one.id == id));
        let former = waiter.map(|waiter| std::mem::replace(&mut waiter.waker, waker));
        drop(state);
        former.is_some()
    }

    pub(super) fn stop_waiting(&self, token: Token, id: u64) -> Option<Waker> {
        let mut state = self.state.borrow_mut();
        let waiting = &mut state.reactor.get_mut(token)?.waiters_mut()?.waiting;
        let place = waiting.iter().position(|waiter| waiter.id == id)?;
        Some(waiting.swap_remove(place).waker)
    }

    /// Hears that a descriptor is ready: takes the wakers of those who wait for it.
    ///
    /// # Errors
    /// Those of the driver, which is broken then.
    pub(super) fn on_ready(
        &self,
        token: Token,
        readiness: Interest,
        wakers: &mut Vec<Waker>,
    ) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let reactor = &mut state.reactor;
        let Some(waiters) = reactor.get_mut(token).and_then(Source::waiters_mut) else {
            return Ok(());
        };
        let unwanted = readiness.without(waiters.wanted());
        wakers.extend(
            waiters
                .waiting
                .extract_if(.., |waiter| readiness.contains(waiter.direction.interest()))
                .map(|waiter| waiter.waker),
        );
        let Some(attached) = waiters.attached else {
            return Ok(());
        };
        let fd = Rc::clone(&waiters.fd);
        let kept = attached.without(unwanted);
        if kept == attached {
            return Ok(());
        }
        // An error or a hang-up is reported whatever was asked for, so nothing short of detaching silences it.
        waiters.attached = (!kept.is_none()).then_some(kept);
        match waiters.attached {
            Some(kept) => reactor.modify(fd.as_fd(), token, kept),
            None => reactor.detach(fd.as_fd()),
        }
    }
}
