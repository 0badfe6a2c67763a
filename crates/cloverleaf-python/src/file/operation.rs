//! The end of an operation that a driver has done.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use cloverleaf::fs::read_at_once;
use cloverleaf::limits::DIRECT_ALIGNMENT;
use cloverleaf::{Completion, Op};
use rustix::io::Errno;

use super::direct::{is_direct, room};
use super::work::{Answer, Work};

/// What an operation has brought; or what is to be done for the rest of what it was asked for.
///
/// # Errors
/// The kernel's.
pub(crate) fn answer(completion: Completion) -> io::Result<Result<Answer, Work>> {
    let count = match completion.result {
        Ok(count) => count,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
            let again = aligned(completion.op).ok_or(error)?;
            return Ok(Err(Work::Operation(again)));
        }
        Err(error) => return Err(error),
    };
    Ok(match completion.op {
        Op::Read {
            fd,
            mut buffer,
            start,
            offset,
        } => {
            let room = buffer.split_off((start + count).min(buffer.len()));
            let offset = offset + count as u64;
            // A short read is the end of the file, most of the time.
            if count == 0 || room.is_empty() || start > 0 || is_end(&fd, offset) {
                Ok(Answer::Content(buffer, start))
            } else {
                Err(Work::Rest {
                    fd,
                    head: buffer,
                    room,
                    offset,
                })
            }
        }
        Op::Write { .. } => Ok(Answer::Count(count)),
        Op::Sync { .. } => Ok(Answer::Nothing),
    })
}

/// Whether the file ends there. Behind a part of an aligned piece it does: nothing else could be asked for.
fn is_end(fd: &OwnedFd, offset: u64) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    read_at_once(fd.as_fd(), &mut byte, offset) == Some(0) || is_direct(fd)
}

/// The operation with aligned memory, if it had none: the file was made one that goes past the page cache after it was
/// opened.
fn aligned(op: Op) -> Option<Op> {
    let is_unaligned = |bytes: &[u8]| !bytes.as_ptr().addr().is_multiple_of(DIRECT_ALIGNMENT);
    match op {
        Op::Read {
            fd,
            buffer,
            start,
            offset,
        } if is_unaligned(&buffer[start..]) && is_direct(&fd) => {
            let (buffer, start) = room(buffer.len() - start, true);
            Some(Op::Read {
                fd,
                buffer,
                start,
                offset,
            })
        }
        Op::Write {
            fd,
            buffer,
            start,
            offset,
            note,
        } if is_unaligned(&buffer[start..]) && is_direct(&fd) => {
            let (mut memory, at) = room(buffer.len() - start, true);
            memory[at..].copy_from_slice(&buffer[start..]);
            Some(Op::Write {
                fd,
                buffer: memory,
                start: at,
                offset,
                note,
            })
        }
        _ => None,
    }
}
