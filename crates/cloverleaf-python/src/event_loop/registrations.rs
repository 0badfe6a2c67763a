//! Who hears of descriptors that stay the user's: the loop's record of it, in step with what the driver was told.
//!
//! Nothing is dropped here: what is out of use is given back.

use std::io;
use std::os::fd::RawFd;

use cloverleaf::{Interest, Token};
use pyo3::prelude::*;

use crate::ffi::{Owned, borrow_fd};
use crate::source::{Direction, Party, Source, Watch};
use crate::state::LoopState;

/// Somebody who wants to hear of a descriptor.
pub(super) struct Request<'a> {
    /// The descriptor.
    pub(super) fd: RawFd,
    /// What to hear of.
    pub(super) direction: Direction,
    /// Who wants to; taken once it is in place.
    pub(super) party: &'a mut Option<Party>,
    /// The weak reference of the socket that has the descriptor, where a waiter knows it; exchanged for an older one.
    pub(super) socket: &'a mut Option<Owned>,
}

/// What was taken out of a registration, to be dropped when nothing is borrowed.
pub(super) type Removed = Option<(Party, Leavings)>;

/// What a registration has no more use for: itself as a whole, or the object that it was given as.
pub(super) type Leavings = (Option<Source>, Option<Owned>);

/// Whether the kernel still has the registration; it drops that of a closed descriptor, whose number may name another
/// file by now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// It has.
    Knows,
    /// It has not.
    HasForgotten,
}

/// What a new party has put out of work, to be dropped when nothing is borrowed.
#[derive(Default)]
pub(super) struct Replaced {
    /// Who is no longer heard.
    pub(super) parties: [Option<Party>; 2],
    /// A registration that was found dead.
    pub(super) source: Option<Source>,
}

impl LoopState {
    /// Whether a descriptor has a transport's or a listener's registration.
    pub(super) fn is_served(&self, fd: RawFd) -> bool {
        self.transports.contains_key(&fd) || self.foreign.contains_key(&fd)
    }

    /// Lets a party hear of a descriptor.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`; the party stays with the caller then.
    pub(super) fn put_party(&mut self, mut request: Request<'_>) -> io::Result<Replaced> {
        let Some(token) = self.watches.get(&request.fd).copied() else {
            self.new_watch(request)?;
            return Ok(Replaced::default());
        };
        match self.join_watch(token, &mut request) {
            Ok(replaced) => Ok(Replaced {
                parties: [replaced, None],
                source: None,
            }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                // The number belongs to another file than the one that was registered.
                let dead = self.drop_watch(request.fd, token);
                self.new_watch(request)?;
                Ok(dead)
            }
            Err(error) => Err(error),
        }
    }

    fn new_watch(&mut self, request: Request<'_>) -> io::Result<()> {
        let Request {
            fd,
            direction,
            party,
            socket,
        } = request;
        let mut watch = Watch {
            fd,
            file: None,
            reader: None,
            writer: None,
            told: Interest::NONE,
            socket: socket.take(),
        };
        *watch.slot(direction) = party.take();
        let wanted = watch.wanted();
        watch.told = wanted;
        let token = self.reactor.insert(Source::Watch(Box::new(watch)));
        if let Err(error) = self.set_interest(borrow_fd(fd), token, Interest::NONE, wanted) {
            if let Some(Source::Watch(mut watch)) = self.reactor.remove(token) {
                *party = watch.slot(direction).take();
                *socket = watch.socket.take();
            }
            return Err(error);
        }
        self.watches.insert(fd, token);
        Ok(())
    }

    /// Lets a party have its place though the descriptor was closed before it was registered: all is as if that had happened
    /// afterwards. Gives back who had the place.
    ///
    /// Whatever was registered under this number is dead, too: of a file that has got it since, the loop asks later.
    pub(super) fn put_closed(
        &mut self,
        fd: RawFd,
        direction: Direction,
        party: Party,
    ) -> Option<Party> {
        let token = self.watches.get(&fd).copied().unwrap_or_else(|| {
            let watch = Watch {
                fd,
                file: None,
                reader: None,
                writer: None,
                told: Interest::NONE,
                socket: None,
            };
            let token = self.reactor.insert(Source::Watch(Box::new(watch)));
            self.watches.insert(fd, token);
            // Whoever takes it away notes that it was forgotten.
            self.polling.note_attached();
            token
        });
        let Some(Source::Watch(watch)) = self.reactor.get_mut(token) else {
            return Some(party);
        };
        let before = watch.slot(direction).replace(party);
        watch.told = watch.wanted();
        before
    }

    /// Takes a place in a registration that is there; gives back who had it.
    fn join_watch(&mut self, token: Token, request: &mut Request<'_>) -> io::Result<Option<Party>> {
        self.expect_events();
        let Some(Source::Watch(watch)) = self.reactor.get_mut(token) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        let is_same_socket = match (&watch.socket, &request.socket) {
            (Some(known), Some(given)) => known.is(given),
            (Some(_) | None, _) => false,
        };
        let before = std::mem::replace(watch.slot(request.direction), request.party.take());
        let wanted = watch.wanted();
        if is_same_socket && wanted == watch.told && wanted.contains(Interest::EDGES) {
            return Ok(before);
        }
        // Asked for even if nothing changes: this is how a dead registration is noticed.
        let told = self.reactor.modify(borrow_fd(request.fd), token, wanted);
        let Some(Source::Watch(watch)) = self.reactor.get_mut(token) else {
            return Ok(before);
        };
        if let Err(error) = told {
            *request.party = std::mem::replace(watch.slot(request.direction), before);
            return Err(error);
        }
        watch.told = wanted;
        if request.socket.is_some() {
            std::mem::swap(&mut watch.socket, request.socket);
        }
        Ok(before)
    }

    /// Forgets a registration whose descriptor was closed and whose number is in use again.
    fn drop_watch(&mut self, fd: RawFd, token: Token) -> Replaced {
        self.watches.remove(&fd);
        self.note_forgotten(fd);
        let mut source = self.reactor.remove(token);
        let parties = match &mut source {
            Some(Source::Watch(watch)) => [watch.reader.take(), watch.writer.take()],
            Some(Source::Served(..)) | None => [None, None],
        };
        Replaced { parties, source }
    }

    /// Takes away who hears of a direction of a descriptor.
    pub(super) fn remove_party(
        &mut self,
        fd: RawFd,
        direction: Direction,
        kernel: Kernel,
    ) -> Removed {
        let token = self.watches.get(&fd).copied()?;
        let Some(Source::Watch(watch)) = self.reactor.get_mut(token) else {
            return None;
        };
        let party = watch.slot(direction).take()?;
        Some((party, self.narrow_watch(token, kernel)))
    }

    /// Takes the futures of those whose wait is over.
    pub(super) fn take_waiters(&mut self, token: Token) -> ([Option<Owned>; 2], Leavings) {
        let Some(Source::Watch(watch)) = self.reactor.get_mut(token) else {
            return ([None, None], Leavings::default());
        };
        let waiters = [&mut watch.reader, &mut watch.writer].map(|slot| match slot.take() {
            Some(Party::Waiter(waiter, true)) => Some(waiter),
            other => {
                *slot = other;
                None
            }
        });
        (waiters, self.narrow_watch(token, Kernel::Knows))
    }

    /// Tells the driver what is left to hear of.
    fn narrow_watch(&mut self, token: Token, kernel: Kernel) -> Leavings {
        let Some(Source::Watch(watch)) = self.reactor.get_mut(token) else {
            return Leavings::default();
        };
        let (fd, told, left) = (watch.fd, watch.told, watch.wanted());
        watch.told = left;
        let file = if watch.has_handle() {
            None
        } else {
            watch.file.take()
        };
        let mut source = None;
        match (left.is_none(), kernel) {
            _ if left == told => {}
            (true, _) => {
                self.watches.remove(&fd);
                match kernel {
                    Kernel::Knows => self.forget(borrow_fd(fd)),
                    Kernel::HasForgotten => self.note_forgotten(fd),
                }
                source = self.reactor.remove(token);
            }
            // If the descriptor was closed, nothing is reported of it any more, which is what was asked for.
            (false, Kernel::Knows) => {
                cloverleaf::ignore(self.reactor.modify(borrow_fd(fd), token, left));
            }
            (false, Kernel::HasForgotten) => {}
        }
        (source, file)
    }

    /// Remembers the object that a descriptor was given as; gives back the one before it.
    pub(super) fn name_watch(&mut self, fd: RawFd, file: Option<Owned>) -> Option<Owned> {
        let token = self.watches.get(&fd).copied();
        match token.and_then(|token| self.reactor.get_mut(token)) {
            Some(Source::Watch(watch)) => std::mem::replace(&mut watch.file, file),
            Some(Source::Served(..)) | None => file,
        }
    }

    /// The number under which this very object was registered.
    pub(super) fn watch_of(&self, file: &Bound<'_, PyAny>) -> Option<RawFd> {
        let py = file.py();
        self.reactor.sources().find_map(|(_, source)| match source {
            Source::Watch(watch) => {
                let named = watch.file.as_ref()?.bind(py).is(file);
                named.then_some(watch.fd)
            }
            Source::Served(..) => None,
        })
    }
}
