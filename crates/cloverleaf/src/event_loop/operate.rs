//! Operations on files: by the driver if it takes them, by the pool otherwise.

use std::io;

use super::core::Core;
use super::current::current;
use super::spawn::spawn_blocking_on;
use super::waiters::Source;
use crate::driver::{Completion, Op, Token};
use crate::task::{Listener, end};

/// Does an operation while the loop goes on, and hands it back with how many bytes went through: if `by_driver`, by the
/// driver, if that takes it.
///
/// A future that is dropped leaves the operation to itself: it owns its buffer and its descriptor to its end. The
/// operation does not come back if the loop was closed first.
///
/// # Panics
/// If no loop runs in this thread.
pub(crate) async fn operate(op: Op, by_driver: bool) -> (Option<Op>, io::Result<usize>) {
    let core = current();
    let submitted = if by_driver { core.submit(op) } else { Err(op) };
    let outcome = match submitted {
        Ok(listener) => {
            let outcome = std::future::poll_fn(|cx| listener.poll(cx)).await;
            match outcome.map(Completion::undone) {
                // Nobody cancels it, so the driver has found that it cannot do it.
                Ok(Ok(op)) => spawn_blocking_on(&core, move || op.perform()).await,
                Ok(Err(ended)) => Ok(ended),
                Err(error) => Err(error),
            }
        }
        Err(op) => spawn_blocking_on(&core, move || op.perform()).await,
    };
    match outcome {
        Ok(Completion { op, result }) => (Some(op), result),
        Err(error) => (None, Err(error.into())),
    }
}

impl Core {
    /// Gives an operation to the driver, or back.
    fn submit(&self, op: Op) -> Result<Listener<Completion>, Op> {
        let (teller, listener) = end();
        let mut state = self.state.borrow_mut();
        let token = state.reactor.insert(Source::Operation(teller));
        match state.reactor.submit(op, token) {
            Ok(()) => Ok(listener),
            Err(op) => {
                let untold = state.reactor.remove(token);
                drop(state);
                // Nobody listens yet.
                drop(untold);
                Err(op)
            }
        }
    }

    /// Hears that an operation has ended, and tells who waits for it, which runs foreign code.
    pub(super) fn on_done(&self, token: Token, completion: Completion) {
        let source = self.state.borrow_mut().reactor.remove(token);
        match source {
            Some(Source::Operation(teller)) => teller.tell(Ok(completion)),
            // Descriptors that are watched have other tokens.
            Some(Source::Watched(_)) | None => {}
        }
    }
}
