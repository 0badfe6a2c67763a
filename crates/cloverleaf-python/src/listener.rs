//! Accepting: from a listening socket to transports, several a turn.
//!
//! When descriptors run out the listener pauses for a second and reports it; whoever waits to be accepted goes on
//! waiting in the kernel's queue and is served when there is room again.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloverleaf::{Accepted, Address, Interest, Token, accept, limits, may_accept};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::PyInt;

use crate::clients::Clients;
use crate::error::os_error;
use crate::event_loop::{Loop, transport_socket};
use crate::ffi::{Owned, Reach, SINCE_3_15, Socket, copy_context, signed_from, with_context};
use crate::report;
use crate::transport::{self, Company, Endpoint, Peer};

/// Seconds until the next attempt when descriptors have run out, as in asyncio.
const RETRY_DELAY_SECS: f64 = 1.0;

/// Up to which attempt of a turn the kernel is asked before whether anybody waits.
///
/// So often, it costs as much as the one attempt that finds nobody, 3 µs.
const ASKED_BEFORE: usize = 8;

/// A listening socket and what becomes of its clients.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Listener {
    event_loop: Py<PyAny>,
    factory: Py<PyAny>,
    sock: Socket,
    server: Py<Clients>,
    context: Py<PyAny>,
    /// How many asyncio would accept in one turn.
    most_at_once: usize,
    registration: Mutex<Registration>,
}

#[derive(Debug)]
struct Registration {
    token: Option<Token>,
    interest: Interest,
}

impl Listener {
    /// Begins to accept. Says under which number [`Loop`] knows it, which is not the socket's where that is within an
    /// object of another class.
    ///
    /// # Errors
    /// `OSError` if the kernel cannot report on the socket.
    pub(crate) fn start<'py>(
        event_loop: &Bound<'py, Loop>,
        factory: &Bound<'py, PyAny>,
        sock: &Bound<'py, PyAny>,
        server: &Bound<'py, Clients>,
        backlog: i64,
    ) -> PyResult<Bound<'py, PyInt>> {
        let py = event_loop.py();
        let socket = Socket::of(sock)?;
        let fd = socket.number();
        // First, so that nothing is begun that nobody can end.
        let number = signed_from(py, fd.into())?;
        if let Some(fd) = socket.fd() {
            transport::send_without_delay(fd);
        }
        let listener = Self {
            event_loop: event_loop.clone().into_any().unbind(),
            factory: factory.clone().unbind(),
            sock: socket,
            server: server.clone().unbind(),
            context: copy_context(py)?.into_bound(py).unbind(),
            most_at_once: usize::try_from(backlog).unwrap_or(0).saturating_add(1),
            registration: Mutex::new(Registration {
                token: None,
                interest: Interest::NONE,
            }),
        };
        let object = Bound::new(py, listener)?.into_any();
        let owned = Owned::from(object.clone());
        let state = event_loop.get().state();
        let (served, token) = state.with(|state| {
            let served = state.transports.get(&fd).copied();
            (served, state.add_source(fd, owned, serve))
        })?;
        let this = object.cast::<Self>()?.get();
        this.registration().token = Some(token);
        if let Err(error) = this.begin(event_loop) {
            Self::stop(&object, None)?;
            if let Some(served) = served {
                // Another server accepts from this socket, and is to be found when it closes.
                state.with(|state| state.transports.insert(fd, served))?;
            }
            return Err(error);
        }
        Ok(number)
    }

    /// Hears of clients from now on, in place of a program's callbacks.
    fn begin(&self, event_loop: &Bound<'_, Loop>) -> PyResult<()> {
        let py = event_loop.py();
        match self.ask_for(py, Interest::READ)? {
            Err(error) if Loop::take_refused_away(event_loop, self.sock.number(), &error)? => {
                self.set_interest(py, Interest::READ)
            }
            told => told.map_err(|error| os_error(py, &error)),
        }
    }

    /// Accepts no more, if it is of this server where one is given; the socket stays open.
    ///
    /// # Errors
    /// `RuntimeError` from a thread that is not the loop's.
    pub(crate) fn stop(
        object: &Bound<'_, PyAny>,
        server: Option<&Bound<'_, Clients>>,
    ) -> PyResult<()> {
        let py = object.py();
        let Ok(listener) = object.cast::<Self>() else {
            return Ok(());
        };
        let this = listener.get();
        if server.is_some_and(|server| !this.server.is(server)) {
            return Ok(());
        }
        this.set_interest(py, Interest::NONE)?;
        let token = this.registration().token.take();
        if let Some(token) = token {
            let event_loop = this.event_loop.bind(py);
            let source = Loop::of(event_loop)?
                .state()
                .with(|state| state.remove_source(this.sock.number(), token))?;
            drop(source);
        }
        Ok(())
    }

    /// Ends a listener whose socket the program has closed: nobody can come to it, and its number is free for another file.
    /// `false` for any other object.
    ///
    /// # Errors
    /// `RuntimeError` from a thread that is not the loop's.
    pub(crate) fn end_if_closed(object: &Bound<'_, PyAny>) -> PyResult<bool> {
        let is_closed = object
            .cast::<Self>()
            .is_ok_and(|listener| listener.get().sock.fd().is_none());
        if is_closed {
            Self::stop(object, None)?;
        }
        Ok(is_closed)
    }

    /// Accepts all who wait, up to the backlog, whether the kernel has reported them or not.
    ///
    /// # Errors
    /// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
    pub(crate) fn accept_waiting(object: &Bound<'_, PyAny>) -> PyResult<()> {
        if object.is_exact_instance_of::<Self>() {
            let listener = object.cast::<Self>()?;
            Self::accept_up_to(listener, listener.get().most_at_once)
        } else {
            Ok(())
        }
    }

    /// In the context in which the server began to listen.
    fn accept_up_to(slf: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        let context = slf.get().context.bind(slf.py()).as_borrowed();
        with_context(slf.py(), context, || Self::accept_some(slf, count))
    }

    fn registration(&self) -> MutexGuard<'_, Registration> {
        self.registration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_interest(&self, py: Python<'_>, interest: Interest) -> PyResult<()> {
        self.ask_for(py, interest)?
            .map_err(|error| os_error(py, &error))
    }

    /// Tells the driver what to report; within, what the kernel says if it refuses, and nothing has changed then.
    fn ask_for(&self, py: Python<'_>, interest: Interest) -> PyResult<io::Result<()>> {
        let event_loop = self.event_loop.bind(py);
        let told = Loop::of(event_loop)?.state().with(|state| {
            let mut registration = self.registration();
            let Some(token) = registration.token else {
                return Ok(());
            };
            if let Some(fd) = self.sock.fd() {
                state.set_interest(fd, token, registration.interest, interest)?;
            }
            // Where the program has closed it, the kernel has forgotten it by itself.
            registration.interest = interest;
            Ok(())
        })?;
        Ok(told)
    }

    fn accept_some(slf: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.registration().interest.is_none() {
            // It has paused, or was stopped.
            return Ok(());
        }
        for attempt in 0..count {
            let Some(listener) = this.sock.fd() else {
                return Ok(());
            };
            // The event says that somebody waits for the first.
            if (1..ASKED_BEFORE).contains(&attempt) && !may_accept(listener) {
                return Ok(());
            }
            match accept(listener) {
                Accepted::Connection(fd, peer) => {
                    this.count_one(py)?;
                    Self::connect_soon(slf, fd, peer)?;
                }
                Accepted::WouldBlock => return Ok(()),
                // Who waited has gone again; the next one may be there.
                Accepted::Transient(_) => {}
                Accepted::OutOfResources(error) => return this.pause(py, &error),
                Accepted::Failed(error) => {
                    return Err(os_error(py, &error));
                }
            }
        }
        Ok(())
    }

    fn count_one(&self, py: Python<'_>) -> PyResult<()> {
        let event_loop = Loop::of(self.event_loop.bind(py))?;
        event_loop.stats().traffic.accepted.add(1);
        Ok(())
    }

    /// Makes a client's protocol and transport in the next turn, as asyncio does in a task.
    ///
    /// A program that closes its server closes those that it knows, too, and has not heard yet. A turn earlier, it would
    /// know those that were accepted in the turn before, and lose what they ask.
    ///
    /// Only a closed loop refuses the call, which would leave the client expected for ever; this one runs, and no loop that
    /// runs can be closed.
    fn connect_soon(slf: &Bound<'_, Self>, fd: OwnedFd, peer: Address) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // A copy of the context: what the client changes is nobody else's.
        let context = copy_context(py)?;
        let expected = this.server.get().expect();
        let listener = slf.clone().unbind();
        Loop::of(this.event_loop.bind(py))?.push_call(
            (listener, context),
            move |py, (listener, context)| {
                let this = listener.get();
                let clients = this.server.get();
                let connected = if clients.are_wanted(expected) {
                    let own = SINCE_3_15.then(|| context.clone_ref(py));
                    with_context(py, context.bind(py), || {
                        let connect = || this.connect_in(py, own, fd, peer);
                        Loop::timed(this.event_loop.bind(py), listener.bind(py), connect)
                    })
                } else {
                    drop(fd);
                    Ok(())
                };
                connected.and(clients.settle(py))
            },
        )
    }

    fn connect_in(
        &self,
        py: Python<'_>,
        context: Option<Owned>,
        fd: OwnedFd,
        peer: Address,
    ) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        let company = Company {
            waiter: None,
            extra: None,
            server: Some(self.server.bind(py).clone()),
            context,
        };
        let made = self.factory.bind(py).invoke0().and_then(|protocol| {
            transport::start(
                event_loop,
                (Endpoint::Native(fd), None),
                &protocol,
                Peer::from(peer),
                company,
            )
        });
        match made {
            Ok(_) => Ok(()),
            // The connection was closed when its transport was given up: a peer must not wait for nobody.
            Err(error) => report::failed(
                event_loop,
                "Error on transport creation for incoming connection",
                error,
                &[],
            ),
        }
    }

    /// Out of descriptors or memory: says so, and tries again later.
    #[cold]
    fn pause(&self, py: Python<'_>, error: &std::io::Error) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        let fd = self.sock.number();
        let retry = Bound::new(
            py,
            Retry {
                event_loop: self.event_loop.clone_ref(py),
                fd,
            },
        )?;
        event_loop.reach(intern!(py, "call_later"), (RETRY_DELAY_SECS, retry))?;
        // Only now that something ends it.
        self.set_interest(py, Interest::NONE)?;
        let sock = transport_socket(&self.sock.object().bind(py))?;
        let error = os_error(py, error);
        report::failed(
            event_loop,
            "socket.accept() out of system resource",
            error,
            &[("socket", &sock)],
        )
    }
}

/// Serves an event of a listener.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
fn serve(object: &Bound<'_, PyAny>, _heard: Interest) -> PyResult<()> {
    let listener = object.cast::<Listener>()?;
    let count = listener.get().most_at_once.min(limits::ACCEPTS_PER_TURN);
    Listener::accept_up_to(listener, count)
}

/// What `call_later` calls when a paused listener may try again.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
struct Retry {
    event_loop: Py<PyAny>,
    fd: RawFd,
}

#[pymethods]
impl Retry {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        let listener = Loop::of(event_loop)?
            .state()
            .with(|state| state.served(py, self.fd))?;
        let Some(listener) = listener.map(|hold| hold.object(py)).transpose()?.flatten() else {
            return Ok(());
        };
        match listener.cast::<Listener>() {
            Ok(listener) => listener.get().set_interest(py, Interest::READ),
            // The number belongs to a transport now: the server was closed.
            Err(_) => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)
    }
}

#[pymethods]
impl Listener {
    /// The socket that listens.
    #[getter]
    fn sock<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.sock.object().clone_ref(py).into_bound(py)
    }

    /// The connections of its server.
    #[getter]
    fn clients(&self, py: Python<'_>) -> Py<Clients> {
        self.server.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for object in [&self.event_loop, &self.factory, &self.context] {
            visit.call(object)?;
        }
        visit.call(&self.server)
    }
}

/// Makes the classes of this file, for which there may be no memory when they are first needed.
pub(crate) fn prepare(py: Python<'_>) {
    drop(py.get_type::<Listener>());
    drop(py.get_type::<Retry>());
}
