//! What `tests/parity/test_rust_futures.py` and `test_rust_answers.py` try.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use cloverleaf_futures::{Completer, future_into_py, into_future, promise};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends at once, with this object.
#[pyfunction]
fn value(py: Python<'_>, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move { Ok(value) })
}

/// Ends at once, with nothing.
#[pyfunction]
fn nothing(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async { Ok(()) })
}

/// Ends with this exception.
#[pyfunction]
fn raises<'py>(py: Python<'py>, error: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let error = PyErr::from_value(error);
    future_into_py(py, async move { Err::<(), _>(error) })
}

/// Panics when it is polled.
#[pyfunction]
fn panics(py: Python<'_>, message: String) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        assert!(message.is_empty(), "{message}");
        Ok(())
    })
}

/// Wakes itself so many times, and calls `each` whenever it is polled.
#[pyfunction]
fn wakes_itself(py: Python<'_>, times: usize, each: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let mut left = times;
    let polled = poll_fn(move |context| {
        if let Err(error) = Python::attach(|py| each.call0(py)) {
            return Poll::Ready(Err(error));
        }
        if left == 0 {
            return Poll::Ready(Ok(times));
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    });
    future_into_py(py, polled)
}

/// Calls a function of Python's when it is polled.
#[pyfunction]
fn calls(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move { Python::attach(|py| function.call0(py)) })
}

/// Awaits what Python can await.
#[pyfunction]
fn awaits<'py>(py: Python<'py>, awaitable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let awaited = into_future(awaitable)?;
    future_into_py(py, awaited)
}

/// Awaits what a function of Python's gives when it is polled.
#[pyfunction]
fn awaits_call(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        let awaited = Python::attach(|py| into_future(function.call0(py)?.bind(py)))?;
        awaited.await
    })
}

/// Never wakes anybody, and keeps no waker.
#[pyfunction]
fn pending(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, std::future::pending::<PyResult<()>>())
}

#[derive(Default)]
struct Inside {
    is_open: bool,
    wakers: Vec<Waker>,
}

/// What futures wait for until it is opened.
#[pyclass(frozen)]
#[derive(Default)]
struct Gate {
    inside: Arc<Mutex<Inside>>,
    polled: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

struct Wait {
    inside: Arc<Mutex<Inside>>,
    polled: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    /// Called when it is dropped.
    at_drop: Option<Py<PyAny>>,
}

impl Future for Wait {
    type Output = PyResult<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.polled.fetch_add(1, Ordering::SeqCst);
        let mut inside = locked(&self.inside);
        if inside.is_open {
            return Poll::Ready(Ok(()));
        }
        inside.wakers.push(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        if let Some(function) = self.at_drop.take() {
            Python::attach(|py| function.call0(py)).expect("it raises nothing");
        }
    }
}

#[pymethods]
impl Gate {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[pyo3(signature = (at_drop=None))]
    fn wait<'py>(
        &self,
        py: Python<'py>,
        at_drop: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wait = Wait {
            inside: Arc::clone(&self.inside),
            polled: Arc::clone(&self.polled),
            dropped: Arc::clone(&self.dropped),
            at_drop,
        };
        future_into_py(py, wait)
    }

    /// Opens it, and wakes all who wait: by so many threads, each of which wakes all.
    fn open(&self, py: Python<'_>, threads: usize) {
        let wakers = {
            let mut inside = locked(&self.inside);
            inside.is_open = true;
            std::mem::take(&mut inside.wakers)
        };
        let wakers = Arc::new(wakers);
        py.detach(|| {
            let threads: Vec<_> = (0..threads)
                .map(|_| {
                    let wakers = Arc::clone(&wakers);
                    thread::spawn(move || wakers.iter().for_each(Waker::wake_by_ref))
                })
                .collect();
            for thread in threads {
                thread.join().expect("it does not panic");
            }
            // The last share may be this one.
            drop(wakers);
        });
    }

    /// Forgets who waits, on a thread of its own.
    fn forget(&self, py: Python<'_>) {
        let wakers = std::mem::take(&mut locked(&self.inside).wakers);
        py.detach(|| thread::spawn(move || drop(wakers)).join())
            .expect("it does not panic");
    }

    #[getter]
    fn waiting(&self) -> usize {
        locked(&self.inside).wakers.len()
    }

    #[getter]
    fn polled(&self) -> usize {
        self.polled.load(Ordering::SeqCst)
    }

    #[getter]
    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

/// A completer, for Python.
#[pyclass(frozen)]
struct Answer {
    completer: Mutex<Option<Completer>>,
    hooked: Arc<AtomicUsize>,
}

impl Answer {
    fn take(&self) -> PyResult<Completer> {
        let completer = locked(&self.completer).take();
        completer.ok_or_else(|| PyRuntimeError::new_err("it has answered"))
    }
}

#[pymethods]
impl Answer {
    /// Completes it in this thread; whether the loop was open.
    fn complete(&self, value: Py<PyAny>) -> PyResult<bool> {
        Ok(self.take()?.complete(Ok(value)).is_ok())
    }

    /// Completes it with an exception.
    fn fail(&self, error: Bound<'_, PyAny>) -> PyResult<bool> {
        let error = PyErr::from_value(error);
        Ok(self.take()?.complete(Err::<(), _>(error)).is_ok())
    }

    /// Completes it by a thread, for which this one waits attached to Python.
    fn complete_without_python(&self, value: u64) -> PyResult<bool> {
        let completer = self.take()?;
        let thread = thread::spawn(move || completer.complete(Ok(value)).is_ok());
        Ok(thread.join().expect("it does not panic"))
    }

    fn cancel(&self) -> PyResult<bool> {
        Ok(self.take()?.cancel().is_ok())
    }

    /// Drops it, by a thread of its own.
    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        let completer = self.take()?;
        py.detach(|| thread::spawn(move || drop(completer)).join())
            .expect("it does not panic");
        Ok(())
    }

    fn hook(&self) -> PyResult<()> {
        let hooked = Arc::clone(&self.hooked);
        let completer = locked(&self.completer);
        let completer = completer.as_ref();
        let completer = completer.ok_or_else(|| PyRuntimeError::new_err("it has answered"))?;
        completer.on_cancel(move || {
            hooked.fetch_add(1, Ordering::SeqCst);
        });
        Ok(())
    }

    #[getter]
    fn hooked(&self) -> usize {
        self.hooked.load(Ordering::SeqCst)
    }

    #[getter]
    fn is_cancelled(&self) -> bool {
        let completer = locked(&self.completer);
        completer.as_ref().is_some_and(Completer::is_cancelled)
    }
}

/// A completer and its awaitable.
#[pyfunction]
fn make_promise(py: Python<'_>) -> PyResult<(Answer, Bound<'_, PyAny>)> {
    let (completer, awaitable) = promise(py)?;
    let answer = Answer {
        completer: Mutex::new(Some(completer)),
        hooked: Arc::default(),
    };
    Ok((answer, awaitable))
}

/// So many awaitables, which as many threads as are asked for complete with their numbers, all at once; and does not wait
/// for it.
#[pyfunction]
fn burst(py: Python<'_>, count: usize, threads: usize) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let mut shares: Vec<Vec<(usize, Completer)>> = (0..threads).map(|_| Vec::new()).collect();
    let mut awaitables = Vec::with_capacity(count);
    for number in 0..count {
        let (completer, awaitable) = promise(py)?;
        shares[number % threads].push((number, completer));
        awaitables.push(awaitable);
    }
    for share in shares {
        thread::spawn(move || {
            for (number, completer) in share {
                completer.complete(Ok(number)).unwrap_or_default();
            }
        });
    }
    Ok(awaitables)
}

/// Threads that complete promises of this loop, one after the other, until they hear that it is closed.
#[pyfunction]
fn complete_until_closed(py: Python<'_>, answers: Vec<Py<Answer>>) -> PyResult<usize> {
    let completers: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.bind(py).get().take())
        .collect::<PyResult<_>>()?;
    let closed = py.detach(|| {
        let threads: Vec<_> = completers
            .into_iter()
            .map(|completer| thread::spawn(move || completer.complete(Ok(1)).is_err()))
            .collect();
        let ended = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        ended.filter(|is_closed| *is_closed).count()
    });
    Ok(closed)
}

#[pymodule]
fn probe(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Gate>()?;
    module.add_class::<Answer>()?;
    module.add_function(wrap_pyfunction!(value, module)?)?;
    module.add_function(wrap_pyfunction!(nothing, module)?)?;
    module.add_function(wrap_pyfunction!(raises, module)?)?;
    module.add_function(wrap_pyfunction!(panics, module)?)?;
    module.add_function(wrap_pyfunction!(wakes_itself, module)?)?;
    module.add_function(wrap_pyfunction!(calls, module)?)?;
    module.add_function(wrap_pyfunction!(awaits, module)?)?;
    module.add_function(wrap_pyfunction!(awaits_call, module)?)?;
    module.add_function(wrap_pyfunction!(pending, module)?)?;
    module.add_function(wrap_pyfunction!(make_promise, module)?)?;
    module.add_function(wrap_pyfunction!(burst, module)?)?;
    module.add_function(wrap_pyfunction!(complete_until_closed, module)?)
}
