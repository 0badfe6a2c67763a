//! `Loop`: the native half of `cloverleaf.EventLoop`.

mod accept;
mod ahead;
mod backend;
mod batch;
mod blocking;
mod close;
mod connect;
mod endpoints;
mod futures;
mod guest;
mod handed;
mod link;
mod meet;
mod metrics;
mod nested;
mod offered;
mod onlookers;
mod pending;
mod perform;
mod piece;
mod queue;
mod registrations;
mod resolve;
mod run;
mod schedule;
mod signature;
mod sleep;
mod sockets;
mod steer;
mod tasks;
mod watch;
mod watchdog;
mod watched;

pub(crate) use endpoints::transport_socket;
pub(crate) use futures::create_future;
pub(crate) use offered::{add_to, final_class};
pub(crate) use piece::Piece;
pub(crate) use resolve::socket_address;
pub(crate) use schedule::{has_own_methods, is_plain, queue_callback};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cloverleaf::{BlockingPool, Injector, Stats, limits};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};

use self::onlookers::Onlookers;
use crate::allocator;
use crate::clients::Clients;
use crate::error::os_error;
use crate::ffi::{Known, Slot, int_from, spared, text_from, traverse_with};
use crate::job::Job;
use crate::owner::OwnerCell;
use crate::source::Direction;
use crate::state::LoopState;
use crate::transport::{Company, Correspondents, make_read_pipe, make_write_pipe};

/// The native half of an event loop; `cloverleaf.EventLoop` is made of it.
#[pyclass(frozen, subclass, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Loop {
    cell: OwnerCell<LoopState>,
    injector: Arc<Injector<Job>>,
    stats: Arc<Stats>,
    /// Threads for files, whose calls end when the disk has answered.
    pool: BlockingPool,
    /// Threads for names, whose servers may take long to answer, or not answer.
    lookups: BlockingPool,
    /// Threads that each wait for somebody else, who may never come: a child, a pipe's other end, a terminal's user.
    waiting: BlockingPool,
    onlookers: Onlookers,
    closed: AtomicBool,
    /// The thread that runs the loop, or zero.
    thread: AtomicU64,
    /// The process that made the loop.
    process: u32,
    /// The handle that runs now, in debug mode only.
    current: Slot,
    /// Which interfaces of the kernel the loop uses, as was last told.
    backend: backend::Known,
    /// What makes the tasks, unless asyncio's class does.
    task_factory: Slot,
    /// While it runs, itself by name; see `futures.rs`.
    itself: Slot,
    handed: handed::Handed,
    nested: nested::Nesting,
    guest: guest::Guest,
}

/// The class whose methods are called without a detour: `cloverleaf.EventLoop`.
static FINAL: Known<Loop> = Known::new();

impl Loop {
    /// The native half of a loop.
    #[inline]
    pub(crate) fn of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        FINAL.get(object)
    }

    /// Whether debug mode is on.
    #[inline]
    pub(crate) fn debug(&self) -> bool {
        self.onlookers.debug()
    }

    #[inline]
    fn is_running_now(&self) -> bool {
        self.thread.load(Ordering::Acquire) != 0
    }

    /// What the loop has done, which its transports add to.
    #[inline]
    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// What the loop owns, for its own thread, or for anybody while it does not run.
    pub(crate) fn state(&self) -> &OwnerCell<LoopState> {
        &self.cell
    }
}

#[pymethods]
impl Loop {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        allocator::prime();
        let state = LoopState::new().map_err(|error| os_error(py, &error))?;
        let injector = Arc::clone(state.scheduler.injector());
        let stats = Arc::clone(state.scheduler.stats());
        Ok(Self {
            cell: OwnerCell::new(state),
            injector,
            stats,
            pool: BlockingPool::new(),
            lookups: BlockingPool::with_limits(limits::LOOKUP_THREADS, limits::BLOCKING_IDLE),
            waiting: BlockingPool::with_limits(limits::WAITING_THREADS, limits::BLOCKING_IDLE),
            onlookers: Onlookers::default(),
            closed: AtomicBool::new(false),
            thread: AtomicU64::new(0),
            process: std::process::id(),
            current: Slot::default(),
            backend: backend::Known::default(),
            task_factory: Slot::default(),
            itself: Slot::default(),
            handed: handed::Handed::default(),
            nested: nested::Nesting::default(),
            guest: guest::Guest::default(),
        })
    }

    /// The kernel's interfaces in use, and why not more: `epoll+io_uring`, `epoll`, `epoll (io_uring refused: EPERM)`.
    #[getter]
    fn backend<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        spared(py, || text_from(py, &backend::in_use(self)?))
    }

    /// What the loop has done so far, by name.
    fn _metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        spared(py, || metrics::by_name(self, py))
    }

    fn _choose_backend(&self, backend: Option<&Bound<'_, PyAny>>, py: Python<'_>) -> PyResult<()> {
        spared(py, || backend::choose(self, py, backend))
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        spared(slf.py(), || {
            onlookers::set_attribute(slf, name, Some(value))
        })
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        spared(slf.py(), || onlookers::set_attribute(slf, name, None))
    }

    fn _set_debug(&self, enabled: bool) {
        self.onlookers.set_debug(enabled);
    }

    /// The identifier of the thread that runs the loop, as `threading.get_ident()` gives it, or None.
    #[getter]
    fn _thread_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyInt>>> {
        let thread = self.thread.load(Ordering::Acquire);
        (thread != 0).then(|| int_from(py, thread)).transpose()
    }

    fn _is_owner_thread(&self) -> bool {
        self.thread.load(Ordering::Acquire) == crate::ffi::thread_ident()
    }

    #[getter]
    fn _task_factory<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        slf.get()
            .task_factory
            .get(slf.as_any())
            .map(|factory| factory.into_bound(slf.py()))
    }

    #[setter(_task_factory)]
    fn replace_task_factory(slf: &Bound<'_, Self>, factory: Option<Bound<'_, PyAny>>) {
        let new = factory.map(Into::into);
        drop(slf.get().task_factory.replace(slf.as_any(), new));
    }

    /// The handle whose callback runs now, while debug mode is on; else None.
    fn _current_handle<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        slf.get()
            .current
            .get(slf.as_any())
            .map(|handle| handle.into_bound(slf.py()))
    }

    /// Runs until `stop()` is called or a callback raises what no handler may have.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        spared(slf.py(), || run::run(slf))
    }

    /// Drops everything that is scheduled or registered and gives back what the kernel lent; more than once is fine.
    ///
    /// # Errors
    /// `RuntimeError` while the loop runs.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        close::close(self, py)
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        spared(slf.py(), || {
            watch::add_public(slf, fd, Direction::Read, callback, args)
        })
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        spared(slf.py(), || {
            watch::add_public(slf, fd, Direction::Write, callback, args)
        })
    }

    fn remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        spared(slf.py(), || watch::remove_public(slf, fd, Direction::Read))
    }

    fn remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        spared(slf.py(), || watch::remove_public(slf, fd, Direction::Write))
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_internal_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: i32,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        spared(slf.py(), || {
            watch::add(slf, fd, Direction::Read, callback, args)
        })
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_internal_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: i32,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        spared(slf.py(), || {
            watch::add(slf, fd, Direction::Write, callback, args)
        })
    }

    fn _remove_internal_reader(slf: &Bound<'_, Self>, fd: i32) -> PyResult<bool> {
        spared(slf.py(), || watch::remove(slf, fd, Direction::Read))
    }

    fn _remove_internal_writer(slf: &Bound<'_, Self>, fd: i32) -> PyResult<bool> {
        spared(slf.py(), || watch::remove(slf, fd, Direction::Write))
    }

    #[expect(clippy::too_many_arguments, reason = "the parameters of getaddrinfo")]
    fn _getaddrinfo<'py>(
        slf: &Bound<'py, Self>,
        host: &Bound<'py, PyAny>,
        port: &Bound<'py, PyAny>,
        family: i32,
        kind: i32,
        proto: i32,
        flags: i32,
    ) -> PyResult<Bound<'py, PyAny>> {
        spared(slf.py(), || {
            resolve::getaddrinfo(slf, host, port, [family, kind, proto, flags])
        })
    }

    /// Begins to connect to an address of this family, type and protocol; None if only Python's socket can.
    fn _connect<'py>(
        slf: &Bound<'py, Self>,
        family: i32,
        kind: i32,
        proto: i32,
        address: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, connect::Connecting>>> {
        spared(slf.py(), || {
            connect::begin(slf, [family, kind, proto], address)
        })
    }

    /// Begins to connect to a host that is given by its number; None if it is not.
    #[expect(clippy::too_many_arguments, reason = "those of create_connection")]
    fn _connect_literal<'py>(
        slf: &Bound<'py, Self>,
        host: &Bound<'py, PyAny>,
        port: &Bound<'py, PyAny>,
        family: &Bound<'py, PyAny>,
        proto: &Bound<'py, PyAny>,
        flags: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, connect::Connecting>>> {
        spared(slf.py(), || {
            connect::begin_literal(slf, host, port, [family, proto, flags])
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parameters of asyncio's own constructor"
    )]
    fn _make_stream_transport<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyAny>>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let company = Company {
            context: context.map(Into::into),
            ..endpoints::alone(waiter, extra)
        };
        spared(slf.py(), || {
            endpoints::make_stream_transport(slf, sock, protocol, company)
        })
    }

    fn _make_datagram_transport<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        address: Option<Bound<'py, PyAny>>,
        waiter: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let correspondents = Correspondents { address, waiter };
        spared(slf.py(), || {
            endpoints::make_datagram_transport(slf, sock, protocol, correspondents)
        })
    }

    #[pyo3(signature = (pipe, protocol, waiter=None, extra=None))]
    fn _make_read_pipe_transport<'py>(
        slf: &Bound<'py, Self>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().check_open()?;
        let company = endpoints::alone(waiter, extra);
        spared(slf.py(), || {
            make_read_pipe(slf.as_any(), pipe, protocol, company)
        })
    }

    #[pyo3(signature = (pipe, protocol, waiter=None, extra=None))]
    fn _make_write_pipe_transport<'py>(
        slf: &Bound<'py, Self>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().check_open()?;
        let company = endpoints::alone(waiter, extra);
        spared(slf.py(), || {
            make_write_pipe(slf.as_any(), pipe, protocol, company)
        })
    }

    fn _perform<'py>(
        slf: &Bound<'py, Self>,
        request: &Bound<'py, crate::file::Request>,
    ) -> PyResult<Bound<'py, PyAny>> {
        spared(slf.py(), || perform::perform(slf, request))
    }

    fn _perform_for(
        slf: &Bound<'_, Self>,
        request: &Bound<'_, crate::file::Request>,
        waiter: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        spared(slf.py(), || perform::perform_for(slf, request, waiter))
    }

    fn _watch_child(slf: &Bound<'_, Self>, pid: i32, callback: Py<PyAny>) -> PyResult<()> {
        slf.get().check_open()?;
        spared(slf.py(), || crate::child::watch(slf, pid, callback))
    }

    fn _watch_start(
        slf: &Bound<'_, Self>,
        starting: Py<crate::start::Starting>,
        told: Py<PyAny>,
    ) -> PyResult<()> {
        slf.get().check_open()?;
        spared(slf.py(), || crate::start::watch(slf, starting, told))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parameters of asyncio's own constructor"
    )]
    fn _make_tls_transport<'py>(
        slf: &Bound<'py, Self>,
        protocol: &Bound<'py, PyAny>,
        sslcontext: Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        server_side: bool,
        server_hostname: Option<Bound<'py, PyAny>>,
        ssl_handshake_timeout: Option<Bound<'py, PyAny>>,
        ssl_shutdown_timeout: Option<Bound<'py, PyAny>>,
        call_connection_made: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = crate::tls::Options {
            context: sslcontext,
            server_hostname,
            server_side,
            is_new: call_connection_made,
            handshake_timeout: ssl_handshake_timeout,
            shutdown_timeout: ssl_shutdown_timeout,
            waiter: waiter.map_or(crate::tls::Waiter::Accepted, crate::tls::Waiter::Future),
        };
        spared(slf.py(), || {
            crate::tls::new_transport(slf.as_any(), protocol, options)
        })
    }

    fn _start_serving<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: &Bound<'py, PyAny>,
        sock: &Bound<'py, PyAny>,
        server: &Bound<'py, Clients>,
        backlog: i64,
    ) -> PyResult<Bound<'py, PyInt>> {
        spared(slf.py(), || {
            endpoints::start_serving(slf, protocol_factory, sock, server, backlog)
        })
    }

    fn _stop_serving(slf: &Bound<'_, Self>, fd: i32, server: &Bound<'_, Clients>) -> PyResult<()> {
        spared(slf.py(), || endpoints::stop_serving(slf, fd, server))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        traverse_with(&visit, |visitor| visitor.slot(&self.task_factory))?;
        // A loop that is running, or in the middle of a change, is not garbage, and neither is what it holds.
        match self
            .cell
            .with(|state| traverse_with(&visit, |visitor| state.traverse(visitor)))
        {
            Ok(result) => result,
            Err(_) => Ok(()),
        }
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().task_factory.take(slf.as_any()));
        // Only a loop that nobody runs is cleared; what it holds goes with nothing borrowed.
        if let Ok(held) = slf.get().cell.with(LoopState::take_all) {
            drop(held);
        }
    }
}
