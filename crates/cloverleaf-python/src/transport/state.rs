//! What a stream's transport knows: how far it has come, what waits, and what there is to hear of.
//!
//! No Python code runs here, so that all of it may be used under the transport's lock.

use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cloverleaf::{Address, Interest, Stats, Token, WriteQueue};
use pyo3::prelude::*;
use rustix::io::Errno;

use super::corked::Pieces;
use super::early::Early;
use super::endpoint::{Endpoint, Peer};
use super::expected::Expected;
use super::flow::Limits;
use super::kind::Kind;
use super::sendfile::Sending;
use super::start::Company;
use super::unpolled::Unpolled;
use crate::ffi::Owned;

/// How far a transport has come; each state can only be left for one below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Connected, and `connection_made` has not been called.
    Starting,
    /// Reading and writing.
    Open,
    /// `close()` was called; what waits is still sent.
    Closing,
    /// `connection_lost` is on its way; nothing is read or sent any more.
    Lost,
    /// `connection_lost` has been called and the descriptor is closed.
    Closed,
}

/// What a transport knows.
///
/// What an event and its answer need comes first, and stays there by `repr(C)`, so that it lies in few lines of the
/// processor's cache.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Stream {
    pub(super) kind: Kind,
    pub(super) phase: Phase,
    /// What the driver reports at present.
    pub(super) registered: Interest,
    /// The protocol is an `asyncio.BufferedProtocol`.
    pub(super) is_buffered: bool,
    /// What is in the queue has not been offered to the kernel, which happens when the event has been served.
    pub(super) is_held: bool,
    pub(super) is_paused: bool,
    /// The peer has sent its end of file and the protocol keeps the connection.
    pub(super) read_ended: bool,
    pub(super) wrote_eof: bool,
    pub(super) protocol_paused: bool,
    /// `extra` is all that `get_extra_info` knows.
    pub(super) extra_is_whole: bool,
    /// `read_context` is that of all callbacks, from Python 3.15 on; before, each kind has its own.
    pub(super) has_own_context: bool,
    /// So many reads more are not made together with others', as one of the last was large.
    pub(super) large_reads: u8,
    /// From which the next receive's room is guessed.
    pub(super) expected: Expected,
    pub(super) protocol: Option<Owned>,
    pub(super) read_context: Option<Owned>,
    pub(super) endpoint: Endpoint,
    /// The event that the last write answered.
    pub(super) wrote_for: u64,
    /// How many writes there are in a turn.
    pub(super) pieces: Pieces,
    /// What was received for it together with others, and the protocol has not been told of yet.
    pub(super) early: Option<Early>,
    /// None before there is anything in it.
    pub(super) rare: Option<Box<Rare>>,
    /// What the loop has done, to which every receive and send adds.
    pub(super) stats: Arc<Stats>,
    /// Begins with what is asked before each write.
    pub(super) queue: WriteQueue,
    pub(super) limits: Limits,
    /// The kernel's answer when the guard has offered what is held, and the loop has not heard of it yet.
    pub(super) refused: Option<Errno>,
    /// Writes after the connection was lost.
    pub(super) lost_writes: u32,
    pub(super) token: Option<Token>,
    pub(super) write_context: Option<Owned>,
    /// The `Clients` of its server, of which it is one.
    pub(super) server: Option<Owned>,
    /// Its place among them.
    pub(super) place: u32,
    pub(super) extra: Option<Owned>,
    pub(super) peer: Peer,
    /// The descriptor of a connection that has ended, for as long as the own address may still have to be asked for.
    pub(super) leaving: Option<OwnedFd>,
}

impl Stream {
    /// How many bytes at the start an event and its answer need.
    pub(super) const NEEDED_BYTES: usize = offset_of!(Self, queue) + size_of::<usize>();
}

/// What an ordinary connection does not have while it lasts, unless somebody has asked for it.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// How reading goes on if the driver cannot report on the descriptor.
    pub(super) unpolled: Option<Unpolled>,
    /// A file that is being sent.
    pub(super) sending: Option<Sending>,
    /// What `get_extra_info('socket')` shows, once somebody has asked.
    pub(super) shown: Option<Owned>,
    /// The own address, kept when the connection ends.
    pub(super) own_address: Option<Address>,
    pub(super) sockname: Option<Owned>,
    pub(super) peername: Option<Owned>,
}

impl Stream {
    /// What a transport knows when it has not begun.
    pub(super) fn new(
        kind: Kind,
        endpoint: Endpoint,
        (protocol, is_buffered): (&Bound<'_, PyAny>, bool),
        company: &Company<'_>,
        stats: Arc<Stats>,
    ) -> Self {
        let py = protocol.py();
        let held = |object: &Option<Bound<'_, PyAny>>| object.clone().map(Owned::from);
        Self {
            kind,
            phase: Phase::Starting,
            endpoint,
            token: None,
            registered: Interest::NONE,
            stats,
            queue: WriteQueue::new(),
            is_held: false,
            large_reads: 0,
            refused: None,
            wrote_for: 0,
            pieces: Pieces::default(),
            limits: Limits::default(),
            protocol: Some(protocol.clone().into()),
            is_buffered,
            is_paused: false,
            read_ended: false,
            wrote_eof: false,
            protocol_paused: false,
            lost_writes: 0,
            early: None,
            expected: Expected::default(),
            has_own_context: company.context.is_some(),
            read_context: company
                .context
                .as_ref()
                .map(|context| context.clone_ref(py)),
            write_context: None,
            server: None,
            extra: held(&company.extra),
            extra_is_whole: false,
            place: 0,
            peer: Peer::Ask,
            leaving: None,
            rare: None,
        }
    }

    /// What is rare, to be looked at or changed.
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// What the kernel says to be the own address, while there is a descriptor to ask.
    pub(super) fn ask_own_address(&self) -> Option<Address> {
        let leaving = || self.leaving.as_ref().map(AsFd::as_fd);
        let asked = self.endpoint.fd().or_else(leaving);
        asked
            .and_then(|fd| rustix::net::getsockname(fd).ok())
            .map(Address::from)
    }

    /// Whether nobody has asked about this connection, and all that could be asked when it has ended can be shown without a
    /// Python socket.
    pub(super) fn is_unasked(&self) -> bool {
        self.rare.is_none() && self.peer.is_ip() && matches!(self.endpoint, Endpoint::Native(_))
    }

    /// The file that is being sent.
    pub(super) fn sending(&mut self) -> Option<&mut Sending> {
        self.rare.as_mut()?.sending.as_mut()
    }

    /// Whether a file is being sent.
    pub(super) fn is_sending(&self) -> bool {
        self.rare
            .as_ref()
            .is_some_and(|rare| rare.sending.is_some())
    }

    /// Whether the driver cannot report on the descriptor.
    pub(super) fn is_unpolled(&self) -> bool {
        self.rare
            .as_ref()
            .is_some_and(|rare| rare.unpolled.is_some())
    }

    /// How reading goes on without the driver.
    pub(super) fn unpolled(&mut self) -> Option<&mut Unpolled> {
        self.rare.as_mut()?.unpolled.as_mut()
    }

    /// The object that `what` finds in what is rare.
    pub(super) fn told(
        &self,
        py: Python<'_>,
        what: impl FnOnce(&Rare) -> Option<&Owned>,
    ) -> Option<Owned> {
        self.rare
            .as_deref()
            .and_then(what)
            .map(|object| object.clone_ref(py))
    }

    /// What there is to hear of in this state.
    pub(super) fn wanted(&self) -> Interest {
        let read = match self.kind {
            Kind::Socket | Kind::ReadPipe => {
                self.phase == Phase::Open && !self.is_paused && !self.read_ended
            }
            Kind::WritePipe { hears_reader } => {
                hears_reader && (Phase::Open..Phase::Lost).contains(&self.phase)
            }
        };
        let sending = self.rare.as_ref().and_then(|rare| rare.sending.as_ref());
        let needs_room = sending.is_some_and(|sending| sending.needs_room);
        let write = self.phase < Phase::Lost && (needs_room || self.waits());
        let read = if read { Interest::READ } else { Interest::NONE };
        let write = if write {
            Interest::WRITE
        } else {
            Interest::NONE
        };
        read.with(write)
    }

    /// Whether bytes wait for the kernel to have room.
    pub(super) fn waits(&self) -> bool {
        !self.is_held && !self.queue.is_empty()
    }

    /// Whether writing and reading have been given up by either side.
    pub(super) fn is_closing(&self) -> bool {
        self.phase >= Phase::Closing
    }
}
