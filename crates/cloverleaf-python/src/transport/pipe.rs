//! `ReadPipeTransportBase` and `WritePipeTransportBase`: one end of a pipe, a socket or a terminal under a protocol.
//!
//! Both are a [`StreamTransport`] of another [`Kind`] in a class of their own, since asyncio's have bases of their own.
//! Here is what only pipes do: which files are taken, and how the other side's going shows.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::{PyBrokenPipeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::endpoint::Endpoint;
use super::kind::Kind;
use super::start::{Company, begin};
use super::state::Phase;
use super::stream::StreamTransport;
use super::{close, flow, info, read, write};
use crate::error::errno_error;
use crate::event_loop::Loop;
use crate::ffi::{
    Native, NativeClass, Socket, Visitor, attach_attribute, attach_methods, borrow_fd, new_dict,
};
use crate::handle;
use crate::job::Job;
use crate::report;

/// The number of the standard input.
const STANDARD_INPUT: RawFd = 0;

/// The end of a pipe that is read.
#[derive(Debug)]
pub(super) struct ReadPipe(StreamTransport);

/// The end of a pipe that is written.
#[derive(Debug)]
pub(super) struct WritePipe(StreamTransport);

static READ_CLASS: NativeClass = NativeClass::new();
static WRITE_CLASS: NativeClass = NativeClass::new();

impl Native for ReadPipe {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.ReadPipeTransportBase";
    const SUBCLASSABLE: bool = true;
    const ALWAYS_HELD: Option<usize> = Some(std::mem::offset_of!(Self, 0.event_loop));
    const KEPT: usize = 0;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = Some(close::finalize);

    fn class() -> &'static NativeClass {
        &READ_CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.0.traverse(visitor);
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        self.0.clear(holder);
    }
}

impl Native for WritePipe {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.WritePipeTransportBase";
    const SUBCLASSABLE: bool = true;
    const ALWAYS_HELD: Option<usize> = Some(std::mem::offset_of!(Self, 0.event_loop));
    const KEPT: usize = 0;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = Some(close::finalize);

    fn class() -> &'static NativeClass {
        &WRITE_CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.0.traverse(visitor);
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        self.0.clear(holder);
    }
}

/// The transport in an object, if it is a pipe's.
pub(super) fn of<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a StreamTransport> {
    match READ_CLASS.get::<ReadPipe>(object) {
        Some(pipe) => Some(&pipe.0),
        None => WRITE_CLASS.get::<WritePipe>(object).map(|pipe| &pipe.0),
    }
}

/// A transport that reads a file, which it owns from now on.
///
/// # Errors
/// `ValueError` for a file of another sort, which stays the caller's; what the file, the protocol or the loop raise.
pub(crate) fn make_read_pipe<'py>(
    event_loop: &Bound<'py, PyAny>,
    pipe: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    company: Company<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let file = Socket::of(pipe)?;
    let status = status_of(pipe.py(), &file)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice => {
            make_nonblocking(pipe.py(), &file)?;
        }
        // Threads of ours read it, for whom it may block.
        FileType::RegularFile if is_standard_input(&status) => {}
        _ => {
            return Err(PyValueError::new_err(
                "Pipe transport is for pipes/sockets only.",
            ));
        }
    }
    let file = as_registered(event_loop, file, &status)?;
    start(event_loop, (Kind::ReadPipe, file), protocol, company)
}

/// A transport that writes a file, which it owns from now on.
///
/// # Errors
/// As for [`make_read_pipe`].
pub(crate) fn make_write_pipe<'py>(
    event_loop: &Bound<'py, PyAny>,
    pipe: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    company: Company<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let file = Socket::of(pipe)?;
    let status = status_of(pipe.py(), &file)?;
    let hears_reader = match FileType::from_raw_mode(status.st_mode) {
        FileType::Fifo | FileType::Socket => true,
        FileType::CharacterDevice => false,
        _ => {
            return Err(PyValueError::new_err(
                "Pipe transport is only for pipes, sockets and character devices",
            ));
        }
    };
    make_nonblocking(pipe.py(), &file)?;
    let kind = Kind::WritePipe { hears_reader };
    let file = as_registered(event_loop, file, &status)?;
    start(event_loop, (kind, file), protocol, company)
}

fn status_of(py: Python<'_>, file: &Socket) -> PyResult<Stat> {
    let status = file.fd().map_or(Err(Errno::BADF), rustix::fs::fstat);
    status.map_err(|errno| errno_error(py, errno))
}

/// Whether a file is the one that the process has as its standard input, by this descriptor or another.
fn is_standard_input(status: &Stat) -> bool {
    rustix::fs::fstat(borrow_fd(STANDARD_INPUT))
        .is_ok_and(|input| (input.st_dev, input.st_ino) == (status.st_dev, status.st_ino))
}

fn make_nonblocking(py: Python<'_>, file: &Socket) -> PyResult<()> {
    let set = |fd: BorrowedFd<'_>| {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
    };
    let set = file.fd().map_or(Err(Errno::BADF), set);
    set.map_err(|errno| errno_error(py, errno))
}

fn start<'py>(
    event_loop: &Bound<'py, PyAny>,
    (kind, file): (Kind, Socket),
    protocol: &Bound<'py, PyAny>,
    mut company: Company<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let pipe = file.object().clone_ref(py).into_bound(py);
    company.extra = Some(with_pipe(company.extra.as_ref(), &pipe)?);
    let endpoint = Endpoint::Socket(file);
    let transport = StreamTransport::new(event_loop, kind, endpoint, protocol, &company)?;
    let slf = match kind {
        Kind::ReadPipe => READ_CLASS.instantiate(py, ReadPipe(transport)),
        Kind::Socket | Kind::WritePipe { .. } => WRITE_CLASS.instantiate(py, WritePipe(transport)),
    }?;
    begin(event_loop, &slf, protocol, company)?;
    Ok(slf)
}

/// The file under the number by which the loop is to know it: its own, but for one that the loop knows already, and for
/// a terminal, which one transport may read while another one, or a callback of the program's, writes.
fn as_registered(event_loop: &Bound<'_, PyAny>, file: Socket, status: &Stat) -> PyResult<Socket> {
    let number = file.number();
    let is_known = Loop::of(event_loop)?.state().with(|state| {
        state.transports.contains_key(&number) || state.watches.contains_key(&number)
    })?;
    if is_known || FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice {
        return Socket::sharing(&file.object().bind(event_loop.py()));
    }
    Ok(file)
}

/// What `get_extra_info` answers from.
fn with_pipe<'py>(
    extra: Option<&Bound<'py, PyAny>>,
    pipe: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = pipe.py();
    let all = new_dict(py)?;
    if let Some(extra) = extra {
        all.update(extra.cast()?)?;
    }
    all.set_item(intern!(py, "pipe"), pipe)?;
    Ok(all.into_any())
}

/// The writer has gone: tells the protocol so, and lets go of the connection, whatever the protocol says to that.
///
/// # Errors
/// What the protocol's attributes raise; `RuntimeError` if the loop is closed.
pub(super) fn ended(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    let py = slf.py();
    let event_loop = this.event_loop(py);
    report::note(&event_loop, slf, "info", "%r was closed by peer")?;
    this.with(|stream| stream.phase = Phase::Lost);
    // The protocol is told whatever comes of that.
    let updated = this.update_interest(slf);
    let told = this.protocol(py).map_or(Ok(()), |protocol| {
        let ended = protocol.getattr(intern!(py, "eof_received"))?;
        let handle = handle::new_bound_handle(&event_loop, &ended, &PyTuple::empty(py))?;
        Loop::of(&event_loop)?.push(Job::Callback(handle.into()))
    });
    close::schedule_connection_lost(slf, None)?;
    told.and(updated)
}

/// The reader has gone, so nothing can be written any more.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
pub(super) fn reader_gone(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let lost_bytes = this.with(|stream| {
        let is_watched = (Phase::Open..Phase::Lost).contains(&stream.phase);
        is_watched.then(|| !stream.queue.is_empty())
    });
    let Some(lost_bytes) = lost_bytes else {
        return Ok(());
    };
    report::note(&this.event_loop(py), slf, "info", "%r was closed by peer")?;
    let error = lost_bytes.then(|| PyBrokenPipeError::new_err(()));
    close::force_close(slf, error)
}

/// Makes both types and adds them to the module.
///
/// # Errors
/// What importing asyncio or making a type raises.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let asyncio = py.import(intern!(py, "asyncio"))?;
    let base = asyncio.getattr(intern!(py, "ReadTransport"))?;
    let class = READ_CLASS.create::<ReadPipe>(&base.cast_into()?)?;
    attach_attribute(&class, c"_extra", (info::extra, info::set_extra))?;
    attach_reading(&class)?;
    module.add("ReadPipeTransportBase", class)?;
    // As on asyncio, where it is one for the sake of its flow control.
    let base = asyncio.getattr(intern!(py, "Transport"))?;
    let class = WRITE_CLASS.create::<WritePipe>(&base.cast_into()?)?;
    attach_attribute(&class, c"_extra", (info::extra, info::set_extra))?;
    attach_writing(&class)?;
    module.add("WritePipeTransportBase", class)
}

fn attach_reading(class: &Bound<'_, PyType>) -> PyResult<()> {
    attach_methods(class, &read::METHODS)?;
    attach_methods(class, &read::READY)?;
    attach_methods(class, &close::METHODS)?;
    attach_methods(class, &info::METHODS)
}

fn attach_writing(class: &Bound<'_, PyType>) -> PyResult<()> {
    attach_methods(class, &write::METHODS)?;
    attach_methods(class, &flow::METHODS)?;
    attach_methods(class, &read::READY)?;
    attach_methods(class, &close::METHODS)?;
    attach_methods(class, &[close::ABORT])?;
    attach_methods(class, &info::METHODS)
}

/// Makes this class, derived in Python, the one of all its kind of transports; `false` if it is no pipe's class.
///
/// # Errors
/// `TypeError` if it changes the layout of its base.
pub(super) fn set_class(class: &Bound<'_, PyType>) -> PyResult<bool> {
    if READ_CLASS.is_base_of(class) {
        READ_CLASS.set_instance_class(class)?;
        attach_reading(class)?;
        return Ok(true);
    }
    if WRITE_CLASS.is_base_of(class) {
        WRITE_CLASS.set_instance_class(class)?;
        attach_writing(class)?;
        return Ok(true);
    }
    Ok(false)
}
