//! What changes in the life of a TLS connection.

use std::sync::Arc;

use pyo3::prelude::*;

use super::backlog::Backlog;
use super::records::{DEFERRED_BYTES, Records};
use super::state::{INCOMING_MARKS, Marks, OUTGOING_MARKS, State, Told};
use crate::ffi::Owned;
use crate::transport::is_buffered;

/// Who waits for the handshake.
#[derive(Debug)]
pub(crate) enum Waiter<'py> {
    /// Whoever made the connection.
    Future(Bound<'py, PyAny>),
    /// Nobody: a server accepted it.
    Accepted,
}

/// What changes in the life of a TLS connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent answers, each to a question of asyncio's contract"
)]
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) told: Told,
    /// Makes and reads the records, until the connection is lost.
    pub(super) records: Option<Arc<Records>>,
    /// Carries the records, from `connection_made` to `connection_lost`.
    pub(super) inner: Option<Owned>,
    /// The program's protocol, until the connection is lost.
    pub(super) protocol: Option<Owned>,
    /// The protocol is an `asyncio.BufferedProtocol`.
    pub(super) is_buffered: bool,
    /// A future that is done when the handshake is.
    pub(super) waiter: Option<Owned>,
    /// Nobody waits, because a server accepted the connection.
    pub(super) is_accepted: bool,
    /// The program has closed the transport more than once, and wants nothing more of it.
    pub(super) is_forsaken: bool,
    /// What `is_closing` says.
    pub(super) is_closed: bool,
    /// The program has closed the transport and heard of what had come by then; it hears of no more data.
    pub(super) discards: bool,
    /// The peer has said goodbye, or has ended and all was read: there is nothing more to read.
    pub(super) has_goodbye: bool,
    /// The inner transport has told its end of file.
    pub(super) has_eof: bool,
    /// The end had begun before that, and our goodbye waits until all is sent.
    pub(super) owes_goodbye: bool,
    /// The program has paused reading.
    pub(super) reading_paused: bool,
    /// We have paused the inner transport's reading.
    pub(super) inner_reading_paused: bool,
    /// The program's protocol was told to pause writing.
    pub(super) writing_paused: bool,
    /// The inner transport has told us to pause writing.
    pub(super) inner_writing_paused: bool,
    /// The peer's bytes are being looked at: what is written meanwhile goes out together.
    pub(super) in_event: bool,
    /// Records wait for the end of that.
    pub(super) is_deferred: bool,
    pub(super) backlog: Backlog,
    /// A thread makes records of the backlog, or of a write that takes several: what is written meanwhile waits behind.
    pub(super) is_draining: bool,
    pub(super) outgoing_marks: Marks,
    pub(super) incoming_marks: Marks,
    /// Writes after the end, and one for the end itself.
    pub(super) lost_writes: u32,
    pub(super) handshake_timer: Option<Owned>,
    pub(super) shutdown_timer: Option<Owned>,
    /// When the handshake began, in debug mode.
    pub(super) began: Option<f64>,
}

impl Connection {
    /// A connection before its first record.
    pub(super) fn new<'py>(
        protocol: &Bound<'py, PyAny>,
        waiter: Waiter<'py>,
        is_new: bool,
    ) -> PyResult<Self> {
        let (waiter, is_accepted) = match waiter {
            Waiter::Future(future) => (Some(Owned::from(future)), false),
            Waiter::Accepted => (None, true),
        };
        Ok(Self {
            state: State::Unwrapped,
            told: if is_new { Told::Nothing } else { Told::Made },
            records: None,
            inner: None,
            protocol: Some(protocol.clone().into()),
            is_buffered: is_buffered(protocol)?,
            waiter,
            is_accepted,
            is_forsaken: false,
            is_closed: false,
            discards: false,
            has_goodbye: false,
            has_eof: false,
            owes_goodbye: false,
            reading_paused: false,
            inner_reading_paused: false,
            writing_paused: false,
            inner_writing_paused: false,
            in_event: false,
            is_deferred: false,
            is_draining: false,
            backlog: Backlog::default(),
            outgoing_marks: OUTGOING_MARKS,
            incoming_marks: INCOMING_MARKS,
            lost_writes: 0,
            handshake_timer: None,
            shutdown_timer: None,
            began: None,
        })
    }

    /// Whether bytes may become records now.
    pub(super) fn is_free(&self) -> bool {
        !self.inner_writing_paused
            && match self.state {
                State::Wrapped | State::Flushing => true,
                State::Unwrapped | State::Handshake | State::Shutdown => false,
            }
    }

    /// Leaves it to the end of the event to send what reading has made, which need not be data: an answer to new keys,
    /// for one. `false`, with nothing done, if there is more to see to than that: bytes that wait to be records, records
    /// that are too many to wait, or bytes of the peer's that are unread, or are not received for that reason.
    pub(super) fn is_settled_by_its_event(&mut self) -> bool {
        let Some(records) = &self.records else {
            return false;
        };
        let is_settled = self.in_event
            && !self.is_draining
            && self.backlog.is_empty()
            && !self.inner_reading_paused
            && records.has_drained()
            && records.made() < DEFERRED_BYTES;
        self.is_deferred |= is_settled;
        is_settled
    }
}
