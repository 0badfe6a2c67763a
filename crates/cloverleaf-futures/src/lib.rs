//! Rust futures on asyncio's loop: an extension module returns them, and a Python program awaits them.
//!
//! [`future_into_py`] has a Rust future polled on the thread of the loop that runs, and needs no other runtime.
//! [`promise`] gives an awaitable whose answer comes from any thread. [`into_future`] awaits in Rust what Python can
//! await. On Cloverleaf's loop an answer takes no part in Python until the loop's thread has it; on every other loop of
//! asyncio's the same calls go by `call_soon_threadsafe`.
//!
//! Nothing waits for ever: what is dropped without an answer ends its awaitable with a `RuntimeError`, and a panic
//! becomes a `PanicException`. Nothing is told twice, or after the loop has been closed.
//!
//! ```ignore
//! #[pyfunction]
//! fn answer(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
//!     cloverleaf_futures::future_into_py(py, async { Ok(42) })
//! }
//! ```

mod awaited;
mod completer;
mod end;
mod event_loop;
mod offer;
mod outcome;
mod task;

pub use awaited::{Awaited, into_future};
pub use completer::{Completer, promise};
pub use event_loop::Closed;
pub use task::future_into_py;
