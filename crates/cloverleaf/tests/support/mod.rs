//! What the tests of several areas share.

use std::time::Duration;

use cloverleaf::{EventLoop, timeout};

/// Long enough for the slowest machine; a test that needs it has failed.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs a future on a new loop, within the deadline.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    EventLoop::new()
        .expect("a loop can be made")
        .run_until_complete(timeout(DEADLINE, future))
        .expect("the loop runs")
        .expect("the future ends in time")
}
