//! What a thread does for a file, without Python.

use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cloverleaf::fs::{
    Copied, copy_stretch, known_at_once, length_at_once, may_ask, mode_at_once, read_full,
    write_full,
};
use cloverleaf::limits::{AT_ONCE_BYTES, COPY_BUFFER_BYTES, RING_BYTES, THREAD_WRITE_BYTES};
use cloverleaf::{Note, Op};
use pyo3::prelude::*;
use pyo3::types::PyBool;
use rustix::fs::{CWD, FileType, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use super::base::{self, FileBase};
use super::direct::{
    is_direct, read_direct, read_direct_here, room, write_direct, write_direct_here,
};
use super::operation::answer;
use super::paths::Change;
use super::whole::Whole;
use crate::error::os_error;
use crate::ffi::{Content, Unfilled, bytes_from, int_from, tuple_from, value_of};

/// A file's descriptor and where in the file.
type Place = (Arc<OwnedFd>, u64);

/// Something that may take long; it owns all that it needs.
#[derive(Debug)]
pub(crate) enum Work {
    /// `open(2)`
    Open {
        path: CString,
        flags: i32,
        mode: u32,
    },
    /// A whole file.
    Whole(Whole),
    /// A change of names.
    Change(Change),
    /// Reads so many bytes from the offset on; without one, reads once where the descriptor stands.
    Read {
        fd: Arc<OwnedFd>,
        size: usize,
        offset: Option<u64>,
        is_direct: bool,
        may_ask: bool,
        suits_ring: bool,
    },
    /// The same, with room for the bytes.
    Fill {
        fd: Arc<OwnedFd>,
        room: Unfilled,
        offset: Option<u64>,
    },
    /// The rest of a read that brought only its beginning.
    Rest {
        fd: Arc<OwnedFd>,
        head: Vec<u8>,
        room: Vec<u8>,
        offset: u64,
    },
    /// Brings so many bytes into the page cache.
    Warm {
        fd: Arc<OwnedFd>,
        size: usize,
        offset: u64,
    },
    /// Writes the data from `start` on; without an offset, once, where the descriptor stands.
    Write {
        fd: Arc<OwnedFd>,
        data: Arc<Content>,
        start: usize,
        offset: Option<u64>,
        is_direct: bool,
        suits_ring: bool,
    },
    /// An operation that a driver gave back.
    Operation(Op),
    /// `lseek(2)`
    Seek {
        fd: Arc<OwnedFd>,
        offset: i64,
        whence: i32,
    },
    /// `ftruncate(2)`
    Truncate { fd: Arc<OwnedFd>, size: i64 },
    /// `fsync(2)` or `fdatasync(2)`
    Sync {
        fd: Arc<OwnedFd>,
        only_data: bool,
        may_ask: bool,
    },
    /// Copies bytes within the kernel, if it can, until that is given up.
    Copy {
        from: Place,
        to: Place,
        count: usize,
        is_given_up: Arc<AtomicBool>,
    },
    /// `close(2)`
    Close { fd: Option<Arc<OwnedFd>> },
}

/// What work has brought.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Bytes, and how many of them.
    Bytes(Unfilled, usize),
    /// Bytes that are to be copied, behind so many others.
    Content(Vec<u8>, usize),
    /// A number.
    Count(usize),
    /// How far a copy has come.
    Copied(Copied),
    /// An open file, and whether a server may have to be asked about it.
    File(OwnedFd, bool),
    /// Nothing.
    Nothing,
    /// What stood in the way of a whole file, and whether that was open then.
    Lost(io::Error, bool),
    /// An error, and the room that nothing came into: it is of Python's, which no thread may drop.
    Failed(io::Error, Unfilled),
}

impl Answer {
    /// The answer as Python sees it.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn into_object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(match self {
            Self::Bytes(bytes, filled) => bytes.cut(py, filled)?.into_any(),
            Self::Content(content, start) => {
                bytes_from(py, content.get(start..).unwrap_or_default())?.into_any()
            }
            Self::Count(count) => int_from(py, count as u64)?.into_any(),
            Self::Copied(Copied { count, is_end }) => {
                let count = int_from(py, count as u64)?.into_any();
                let is_end = PyBool::new(py, is_end).to_owned().into_any();
                tuple_from(py, [count, is_end])?.into_any()
            }
            Self::File(fd, may_ask) => Bound::new(py, FileBase::from_fd(fd, may_ask))?.into_any(),
            Self::Nothing => py.None().into_bound(py),
            Self::Lost(error, was_open) => {
                let error = value_of(py, os_error(py, &error));
                let was_open = PyBool::new(py, was_open).to_owned().into_any();
                tuple_from(py, [error, was_open])?.into_any()
            }
            Self::Failed(error, _room) => return Err(os_error(py, &error)),
        })
    }
}

impl Work {
    /// What it holds of Python's, for whoever has it done elsewhere to hold until he has Python again: a thread that drops
    /// the last reference takes a lock of PyO3's, which a fork meanwhile leaves locked in the child for good.
    pub(crate) fn held(&self) -> Option<Arc<Content>> {
        match self {
            Self::Write { data, .. } => Some(Arc::clone(data)),
            Self::Whole(whole) => Some(Arc::clone(whole.content())),
            _ => None,
        }
    }

    /// Whether it may wait for somebody else than a disk or a server: for the other end of a pipe, or a terminal.
    pub(crate) fn may_never_end(&self) -> bool {
        match self {
            Self::Open { path, .. } => is_stream_at(path),
            Self::Whole(whole) => is_stream_at(whole.path()),
            Self::Read {
                fd, offset: None, ..
            }
            | Self::Fill {
                fd, offset: None, ..
            }
            | Self::Write {
                fd, offset: None, ..
            } => known_at_once(fd.as_fd()).is_ok_and(|known| is_stream(known.mode)),
            _ => false,
        }
    }

    /// The work with all that only a thread with Python can give it.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn ready(self, py: Python<'_>) -> PyResult<Self> {
        let Self::Read {
            fd,
            size,
            offset,
            may_ask,
            ..
        } = self
        else {
            return Ok(self);
        };
        let size = within_file(&fd, size, offset, may_ask);
        let room = Unfilled::new(py, size)?;
        Ok(Self::Fill { fd, room, offset })
    }

    /// The work as an operation of a driver, if it can be one; else itself.
    ///
    /// # Errors
    /// Gives back what cannot, or what goes better without the copy that an operation costs.
    pub(crate) fn into_op(self, note: &Note) -> Result<Op, Self> {
        match self {
            Self::Read {
                fd,
                size,
                offset: Some(offset),
                is_direct,
                suits_ring: true,
                ..
            } if size <= RING_BYTES => {
                let (buffer, start) = room(size, is_direct);
                Ok(Op::Read {
                    fd,
                    buffer,
                    start,
                    offset,
                })
            }
            Self::Write {
                fd,
                data,
                start: done,
                offset: Some(offset),
                is_direct,
                suits_ring: true,
            } if data.as_bytes().len() - done <= largest_ring_write(is_direct) => {
                let rest = &data.as_bytes()[done..];
                let (mut buffer, start) = room(rest.len(), is_direct);
                buffer[start..].copy_from_slice(rest);
                Ok(Op::Write {
                    fd,
                    buffer,
                    start,
                    offset,
                    note: Some(note.clone()),
                })
            }
            Self::Sync {
                fd,
                only_data: false,
                may_ask: false,
            } => Ok(Op::Sync { fd }),
            other => Err(other),
        }
    }

    /// Does it; may wait.
    pub(crate) fn perform(self) -> io::Result<Answer> {
        match self {
            Self::Open { path, flags, mode } => {
                let fd = open(&path, flags, mode)?;
                let may_ask = may_ask(fd.as_fd());
                Ok(Answer::File(fd, may_ask))
            }
            Self::Whole(whole) => Ok(whole.write()),
            Self::Change(change) => change.make().map(|()| Answer::Nothing),
            Self::Read {
                fd, size, offset, ..
            } => {
                // Without Python there is no room but our own; `ready` has made some where it matters.
                let (fd, room) = (&*fd, vec![0; size]);
                rest(fd, Vec::new(), room, offset.unwrap_or(0))
            }
            Self::Fill { fd, room, offset } => Ok(read(&fd, room, offset)),
            Self::Rest {
                fd,
                head,
                room,
                offset,
            } => rest(&fd, head, room, offset),
            Self::Warm { fd, size, offset } => {
                warm(&fd, size, offset);
                Ok(Answer::Nothing)
            }
            Self::Write {
                fd,
                data,
                start,
                offset,
                ..
            } => {
                let rest = data.as_bytes().get(start..).unwrap_or_default();
                write(&fd, rest, offset).map(Answer::Count)
            }
            Self::Operation(op) => match answer(op.perform())? {
                Ok(answer) => Ok(answer),
                Err(work) => work.perform(),
            },
            Self::Seek { fd, offset, whence } => seek(&fd, offset, whence).map(Answer::Count),
            Self::Truncate { fd, size } => truncate(&fd, size).map(|()| Answer::Nothing),
            Self::Sync { fd, only_data, .. } => sync(&fd, only_data).map(|()| Answer::Nothing),
            Self::Copy {
                from: (from, from_offset),
                to: (to, to_offset),
                count,
                is_given_up,
            } => {
                let places = ((from.as_fd(), from_offset), (to.as_fd(), to_offset));
                copy_stretch(places.0, places.1, count, &is_given_up).map(Answer::Copied)
            }
            Self::Close { fd } => base::close(fd).map(|()| Answer::Nothing),
        }
    }
}

/// Whether the path is known to lead to what may wait for its other end when it is opened. One that the kernel has not at
/// hand most likely leads to a file.
fn is_stream_at(path: &CString) -> bool {
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    mode_at_once(path).is_some_and(is_stream)
}

fn is_stream(mode: u32) -> bool {
    !matches!(
        FileType::from_raw_mode(mode),
        FileType::RegularFile | FileType::Directory | FileType::BlockDevice
    )
}

/// Opens a file, for this program alone.
pub(super) fn open(path: &CString, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::from_bits_retain(u32::try_from(flags).unwrap_or(0)) | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    Ok(retry_on_intr(|| {
        rustix::fs::openat(CWD, path, flags, mode)
    })?)
}

fn read(fd: &OwnedFd, mut room: Unfilled, offset: Option<u64>) -> Answer {
    match fill(fd, room.room(), offset) {
        Ok(filled) => Answer::Bytes(room, filled),
        Err(error) => Answer::Failed(error, room),
    }
}

fn fill(fd: &OwnedFd, target: &mut [MaybeUninit<u8>], offset: Option<u64>) -> io::Result<usize> {
    match offset {
        Some(offset) if is_direct(fd) && !target.is_empty() => read_direct(fd, target, offset),
        Some(offset) => read_full(fd.as_fd(), target, offset),
        None if is_direct(fd) => read_direct_here(fd, target),
        None => Ok(retry_on_intr(|| {
            rustix::io::read(fd, &mut *target).map(|(init, _)| init.len())
        })?),
    }
}

fn rest(fd: &OwnedFd, mut head: Vec<u8>, mut room: Vec<u8>, offset: u64) -> io::Result<Answer> {
    let mut filled = 0;
    while filled < room.len() {
        let at = offset + filled as u64;
        match retry_on_intr(|| rustix::io::pread(fd, &mut room[filled..], at))? {
            0 => break,
            count => filled += count,
        }
    }
    head.extend_from_slice(&room[..filled]);
    Ok(Answer::Content(head, 0))
}

fn write(fd: &OwnedFd, bytes: &[u8], offset: Option<u64>) -> io::Result<usize> {
    match offset {
        Some(offset) if is_direct(fd) => write_direct(fd, bytes, offset),
        Some(offset) => write_full(fd.as_fd(), bytes, offset),
        None if is_direct(fd) => write_direct_here(fd, bytes),
        None => Ok(retry_on_intr(|| rustix::io::write(fd, bytes))?),
    }
}

fn warm(fd: &OwnedFd, size: usize, offset: u64) {
    let mut scratch: Vec<u8> = Vec::with_capacity(size.min(COPY_BUFFER_BYTES));
    let room = scratch.spare_capacity_mut();
    let mut seen = 0;
    while seen < size {
        let len = room.len().min(size - seen);
        match read_full(fd.as_fd(), &mut room[..len], offset + seen as u64) {
            Ok(count) if count > 0 => seen += count,
            // What cannot be read, the read itself says, if it comes that far.
            Ok(_) | Err(_) => break,
        }
    }
}

const fn largest_ring_write(is_direct: bool) -> usize {
    if is_direct {
        RING_BYTES
    } else {
        THREAD_WRITE_BYTES - 1
    }
}

fn seek(fd: &OwnedFd, offset: i64, whence: i32) -> io::Result<usize> {
    let to = match whence {
        libc::SEEK_END => SeekFrom::End(offset),
        libc::SEEK_DATA => SeekFrom::Data(u64::try_from(offset).map_err(|_| Errno::NXIO)?),
        libc::SEEK_HOLE => SeekFrom::Hole(u64::try_from(offset).map_err(|_| Errno::NXIO)?),
        _ => return Err(Errno::INVAL.into()),
    };
    let place = rustix::fs::seek(fd, to)?;
    usize::try_from(place).map_err(|_| Errno::OVERFLOW.into())
}

fn truncate(fd: &OwnedFd, size: i64) -> io::Result<()> {
    let size = u64::try_from(size).map_err(|_| rustix::io::Errno::INVAL)?;
    Ok(retry_on_intr(|| rustix::fs::ftruncate(fd, size))?)
}

fn sync(fd: &OwnedFd, only_data: bool) -> io::Result<()> {
    Ok(retry_on_intr(|| {
        if only_data {
            rustix::fs::fdatasync(fd)
        } else {
            rustix::fs::fsync(fd)
        }
    })?)
}

/// Asks for no more of a large read than the file has; of one that may be longer than is known, for all.
fn within_file(fd: &OwnedFd, size: usize, offset: Option<u64>, may_ask: bool) -> usize {
    let (true, Some(offset)) = (size > AT_ONCE_BYTES && !may_ask, offset) else {
        return size;
    };
    match length_at_once(fd.as_fd()) {
        Ok(length) if length > 0 => {
            usize::try_from(length.saturating_sub(offset)).map_or(size, |rest| rest.min(size))
        }
        _ => size,
    }
}
