//! Transports: what a protocol talks to.

mod buffered;
mod close;
mod corked;
mod datagram;
mod early;
mod endpoint;
mod expected;
mod extra;
mod failure;
mod flow;
mod held;
mod info;
mod kind;
mod pieces;
mod pipe;
mod read;
mod send;
mod sendfile;
mod shown_socket;
mod start;
mod state;
mod stream;
mod unpolled;
mod write;

pub(crate) use buffered::is_buffered;
pub(crate) use corked::push_all;
pub(crate) use datagram::{Correspondents, start as start_datagrams};
pub(crate) use early::receive_together;
pub(crate) use endpoint::{Endpoint, Peer, send_without_delay};
pub(crate) use flow::{Turn, marks_of, tell};
pub(crate) use held::{end_event, flush_all};
pub(crate) use info::{boolean, name_and_default, none, shown};
pub(crate) use pipe::{make_read_pipe, make_write_pipe};
pub(crate) use start::Company;
pub(crate) use stream::{add_to, fetch, fetch_company, is_stream, start};
pub(crate) use write::write_pieces;
