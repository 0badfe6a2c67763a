//! The end of an operation that a driver has done.

use std::io;
use std::os::fd::AsFd;

use cloverleaf::fs::read_at_once;
use cloverleaf::{Completion, Op};

use super::work::{Answer, Work};

/// What an operation has brought; or what is to be done for the rest of what it was asked for.
///
/// # Errors
/// The kernel's.
pub(crate) fn answer(completion: Completion) -> io::Result<Result<Answer, Work>> {
    let count = completion.result?;
    Ok(match completion.op {
        Op::Read {
            fd,
            mut buffer,
            offset,
        } => {
            let room = buffer.split_off(count.min(buffer.len()));
            let offset = offset + count as u64;
            // A short read is the end of the file, most of the time.
            if count == 0 || room.is_empty() || is_end(&fd, offset) {
                Ok(Answer::Content(buffer))
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

fn is_end(fd: &impl AsFd, offset: u64) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    read_at_once(fd.as_fd(), &mut byte, offset) == Some(0)
}
