//! Operations on files: by the driver if it takes them, by the pool otherwise.

use std::io;

use super::current::current;
use super::spawn::spawn_blocking_on;
use crate::driver::{Completion, Op};

/// Does an operation while the loop goes on, and hands it back with how many bytes went through.
///
/// A future that is dropped leaves the operation to itself: it owns its buffer and its descriptor to its end. The
/// operation does not come back if the loop was closed first.
///
/// # Panics
/// If no loop runs in this thread.
pub(crate) async fn operate(op: Op) -> (Option<Op>, io::Result<usize>) {
    let performed = spawn_blocking_on(&current(), move || op.perform());
    match performed.await {
        Ok(Completion { op, result }) => (Some(op), result),
        Err(error) => (None, Err(error.into())),
    }
}
