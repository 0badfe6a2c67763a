//! `create_connection` to a host that is given by its number: from the attempt to the protocol that knows of it.
//!
//! What asyncio does in several coroutines, with a future for each wait, is one coroutine here, without a frame of
//! Python. What it waits for, in which turn it goes on, and what is left when it is given up, are asyncio's.

use std::ffi::CStr;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyModule, PyType};

use super::connect::{self, Begun, Connected, Connecting};
use super::sockets::missing;
use super::{FINAL, Loop, endpoints, has_own_methods, is_plain, offered};
use crate::coroutine::{Coroutine, Progress, Turn, dropped};
use crate::ffi::{
    Access, Arguments, AttachedCell, Method, Native, NativeClass, Once, Owned, Reach, SINCE_3_15,
    Step, TypeSlot, Visitor, attach_methods, awaitable_slots, copy_context, library_socket,
    raw_fastcall, raw_noargs_attached, tuple_from,
};
use crate::original::Original;
use crate::streams;
use crate::transport::{Company, none};

/// What must be as it was, for a connection to be made without Python's sockets.
struct Untouched {
    /// The class of loops, and its `sock_connect`.
    class: Original,
    /// The module `socket`, and its class of that name.
    module: Py<PyModule>,
    socket: Py<PyType>,
}

static UNTOUCHED: Once<Untouched> = Once::new();

impl Untouched {
    fn find(py: Python<'_>) -> PyResult<Self> {
        let names = PyList::new(py, ["sock_connect"])?;
        Ok(Self {
            class: Original::new(&offered::final_class(py)?, &names)?,
            module: py.import(intern!(py, "socket"))?.unbind(),
            socket: library_socket(py)?.clone().unbind(),
        })
    }

    #[inline]
    fn is_so(&self, py: Python<'_>) -> PyResult<bool> {
        let found = self.module.bind(py).getattr(intern!(py, "socket"))?;
        Ok(found.is(&self.socket) && self.class.is_intact(py)?)
    }
}

/// Whether the program leaves `socket.socket` and `sock_connect` to themselves, and debug mode is off.
#[inline]
fn connects_natively(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    if is_plain(event_loop) && !has_own_methods(event_loop) {
        return UNTOUCHED
            .get_or_try_init(py, || Untouched::find(py))?
            .is_so(py);
    }
    event_loop
        .reach0(intern!(py, "_connects_natively"))?
        .is_truthy()
}

/// A transport and its protocol, which is about to be told.
#[derive(Debug)]
pub(super) struct Met {
    transport: Owned,
    protocol: Owned,
    /// What is done when it has been told.
    waiter: Owned,
}

/// How far it has come.
#[derive(Debug)]
enum Phase {
    /// Nobody has awaited it, but the attempt has begun.
    Created(Begun),
    /// It waits for the connection, by this future.
    Connecting(Owned, Owned),
    /// It waits until the protocol knows of its transport.
    Meeting(Met),
    /// It is being resumed.
    Running,
    /// It has its result, which nobody has fetched.
    Met(Owned),
    /// It has its exception, or its result was fetched.
    Finished,
}

impl Phase {
    const fn progress(&self) -> Progress {
        match self {
            Self::Created(_) => Progress::Created,
            Self::Connecting(..) | Self::Meeting(_) => Progress::Suspended,
            Self::Running => Progress::Running,
            Self::Met(_) | Self::Finished => Progress::Finished,
        }
    }
}

/// From where it goes on.
#[derive(Debug)]
pub(super) enum Stage {
    Begun(Begun),
    /// A connection that was waited for, and the future by which.
    Connecting(Owned, Owned),
    /// What was made of the connection.
    Met(Met),
}

#[derive(Debug)]
pub(super) struct Meeting {
    event_loop: Owned,
    factory: Owned,
    /// As they were given, for debug mode.
    host: Owned,
    port: Owned,
    phase: AttachedCell<Phase>,
}

static CLASS: NativeClass = NativeClass::new();

impl Native for Meeting {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.Meeting";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = 64;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;
    const SLOTS: fn() -> Vec<TypeSlot> = awaitable_slots::<Self>;

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        for object in [&self.event_loop, &self.factory, &self.host, &self.port] {
            visitor.object(object);
        }
        let Some(phase) = self.phase.seen_by(visitor) else {
            // In use, so not garbage; what is not shown is kept.
            return;
        };
        match &*phase {
            Phase::Created(Begun::Pending(object)) | Phase::Met(object) => visitor.object(object),
            Phase::Connecting(connection, future) => {
                visitor.object(connection);
                visitor.object(future);
            }
            Phase::Meeting(met) => {
                for object in [&met.transport, &met.protocol, &met.waiter] {
                    visitor.object(object);
                }
            }
            Phase::Created(Begun::There(..)) | Phase::Running | Phase::Finished => {}
        }
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        let py = holder.py();
        // One that nobody has awaited still has that to say.
        if matches!(*self.phase(py), Phase::Created(_)) {
            return;
        }
        drop(self.replace(py, Phase::Finished));
    }
}

impl Meeting {
    /// No Python code may run, and no object be dropped, while this is held.
    #[inline]
    fn phase<'a>(&'a self, py: Python<'a>) -> Access<'a, Phase> {
        self.phase.get(py)
    }

    #[must_use = "what it holds must be dropped when the phase is not borrowed"]
    #[inline]
    fn replace(&self, py: Python<'_>, phase: Phase) -> Phase {
        std::mem::replace(&mut *self.phase(py), phase)
    }

    /// A connection within the machine is mostly there at once.
    #[inline]
    fn begin(&self, py: Python<'_>, begun: Begun) -> PyResult<Step> {
        let connection = match begun {
            Begun::There(socket, remote) => {
                let made = self.make(py, || {
                    Ok(Connected {
                        socket,
                        remote,
                        place: None,
                    })
                });
                return made.map(|met| self.wait_for_both(py, met));
            }
            Begun::Pending(connection) => connection,
        };
        match yielded(py, &connection) {
            Ok(future) => Ok(self.wait(py, connection, future)),
            Err(error) => {
                close(py, &connection)?;
                Err(error)
            }
        }
    }

    /// Waits for the connection.
    #[cold]
    fn wait(&self, py: Python<'_>, connection: Owned, future: Owned) -> Step {
        let awaited = future.clone_ref(py);
        drop(self.replace(py, Phase::Connecting(connection, future)));
        Step::Waits(awaited)
    }

    /// Goes on with a connection that was waited for.
    #[cold]
    fn go_on(&self, py: Python<'_>, connection: Owned, future: Owned) -> PyResult<Step> {
        let met = match streams::is_over(&future.bind(py)) {
            Ok(false) => return Ok(self.wait(py, connection, future)),
            Ok(true) => self.make(py, || {
                connection.bind(py).cast::<Connecting>()?.get().connected()
            }),
            Err(error) => Err(error),
        };
        match met {
            Ok(met) => Ok(self.wait_for_both(py, met)),
            Err(error) => {
                close(py, &connection)?;
                Err(error)
            }
        }
    }

    /// Makes protocol and transport of what is connected.
    fn make(
        &self,
        py: Python<'_>,
        connected: impl FnOnce() -> PyResult<Connected>,
    ) -> PyResult<Met> {
        let event_loop = self.event_loop.bind(py);
        // From Python 3.15 on, the connection's callbacks share a context.
        let context = SINCE_3_15.then(|| copy_context(py)).transpose()?;
        let protocol = self.factory.bind(py).invoke0()?;
        let waiter = streams::yielded(&event_loop)?;
        let company = Company {
            context,
            ..endpoints::alone(Some(waiter.clone_ref(py).into_bound(py)), None)
        };
        let event_loop = FINAL.cast(&event_loop)?;
        event_loop.get().check_open()?;
        let transport = endpoints::start_connected(event_loop, connected()?, &protocol, company)?;
        Ok(Met {
            transport: transport.into(),
            protocol: protocol.into(),
            waiter,
        })
    }

    #[inline]
    fn wait_for_both(&self, py: Python<'_>, met: Met) -> Step {
        let waiter = met.waiter.clone_ref(py);
        drop(self.replace(py, Phase::Meeting(met)));
        Step::Waits(waiter)
    }

    /// They have met.
    fn finish(&self, py: Python<'_>, met: Met) -> PyResult<Step> {
        let event_loop = self.event_loop.bind(py);
        let (transport, protocol) = (met.transport.into_bound(py), met.protocol.into_bound(py));
        if Loop::of(&event_loop)?.debug() {
            let (host, port) = (&*self.host.bind(py), &*self.port.bind(py));
            let name = intern!(py, "_log_connected");
            event_loop.reach(name, (host, port, &transport, &protocol))?;
        }
        let both = tuple_from(py, [transport, protocol])?;
        drop(self.replace(py, Phase::Met(both.into())));
        Ok(Step::Done(none(py)))
    }

    /// Closes what nobody gets to know of; an error in that is not told.
    fn close(&self, py: Python<'_>, phase: Phase) {
        let from = match phase {
            Phase::Created(begun) => Stage::Begun(begun),
            Phase::Connecting(connection, future) => Stage::Connecting(connection, future),
            Phase::Meeting(met) => Stage::Met(met),
            Phase::Running | Phase::Met(_) | Phase::Finished => return,
        };
        cloverleaf::ignore(self.give_up(py, from));
    }
}

/// What a connection is to be waited for by, yielded.
#[cold]
fn yielded(py: Python<'_>, connection: &Owned) -> PyResult<Owned> {
    let connection = connection.bind(py);
    let future = connection.getattr(intern!(py, "future"))?;
    future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
    Ok(future.into())
}

/// Closes a connection or a transport.
fn close(py: Python<'_>, object: &Owned) -> PyResult<()> {
    object.bind(py).reach0(intern!(py, "close")).map(drop)
}

impl Coroutine for Meeting {
    type From = Stage;

    fn name(&self) -> &'static str {
        "EventLoop.create_connection"
    }

    #[inline]
    fn progress(&self, py: Python<'_>) -> Progress {
        self.phase(py).progress()
    }

    fn awaited(&self, py: Python<'_>) -> PyResult<Option<Owned>> {
        let awaited = match &*self.phase(py) {
            Phase::Connecting(_, future) => future.clone_ref(py),
            Phase::Meeting(met) => met.waiter.clone_ref(py),
            Phase::Created(_) | Phase::Running | Phase::Met(_) | Phase::Finished => {
                return Ok(None);
            }
        };
        streams::shown(&awaited.into_bound(py)).map(Some)
    }

    #[inline]
    fn run(&self, py: Python<'_>) -> PyResult<Turn<Stage>> {
        let mut phase = self.phase(py);
        match std::mem::replace(&mut *phase, Phase::Running) {
            Phase::Created(begun) => Ok(Turn::Own(Stage::Begun(begun))),
            Phase::Connecting(connection, future) => {
                Ok(Turn::Own(Stage::Connecting(connection, future)))
            }
            Phase::Meeting(met) => Ok(Turn::Own(Stage::Met(met))),
            Phase::Running => Err(Progress::Running.refusal()),
            over @ (Phase::Met(_) | Phase::Finished) => {
                *phase = over;
                Err(Progress::Finished.refusal())
            }
        }
    }

    #[inline]
    fn step(&self, py: Python<'_>, from: Stage) -> PyResult<Step> {
        match from {
            Stage::Begun(begun) => self.begin(py, begun),
            Stage::Connecting(connection, future) => self.go_on(py, connection, future),
            Stage::Met(met) => match streams::is_over(&met.waiter.bind(py)) {
                Ok(true) => self.finish(py, met),
                Ok(false) => Ok(self.wait_for_both(py, met)),
                Err(error) => {
                    close(py, &met.transport)?;
                    Err(error)
                }
            },
        }
    }

    fn note_handed(&self, _py: Python<'_>, _coroutine: Owned) {
        unreachable!("it never hands itself on")
    }

    #[inline]
    fn note_finished(&self, py: Python<'_>) {
        if !matches!(*self.phase(py), Phase::Met(_)) {
            drop(self.replace(py, Phase::Finished));
        }
    }

    fn give_up(&self, py: Python<'_>, from: Stage) -> PyResult<()> {
        match from {
            // The loop does not know of it.
            Stage::Begun(Begun::There(socket, _)) => {
                drop(socket);
                Ok(())
            }
            Stage::Begun(Begun::Pending(connection)) | Stage::Connecting(connection, _) => {
                close(py, &connection)
            }
            Stage::Met(met) => close(py, &met.transport),
        }
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let phase = std::mem::replace(self.phase.get_mut(), Phase::Finished);
        dropped(self, phase.progress());
        if phase.progress() != Progress::Finished {
            Python::attach(|py| {
                let raised = PyErr::take(py);
                self.close(py, phase);
                if let Some(raised) = raised {
                    raised.restore(py);
                }
            });
        }
    }
}

/// `_meet(protocol_factory, host, port, family, proto, flags)`: what makes the connection, if the host is given by its
/// number, and nothing keeps us from doing so without Python's sockets; else None.
fn meet(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let given = [0, 1, 2, 3, 4, 5].map(|index| args.get(index));
    let [
        Some(factory),
        Some(host),
        Some(port),
        Some(family),
        Some(proto),
        Some(flags),
    ] = given
    else {
        return Err(missing("_meet"));
    };
    if !connects_natively(slf)? {
        return Ok(none(py));
    }
    let event_loop = FINAL.cast(slf)?;
    let hints = [&*family, &*proto, &*flags];
    let Some(begun) = connect::attempt_literal(event_loop, &host, &port, hints)? else {
        return Ok(none(py));
    };
    let meeting = Meeting {
        event_loop: slf.clone().into(),
        factory: factory.into(),
        host: host.into(),
        port: port.into(),
        phase: AttachedCell::new(Phase::Created(begun)),
    };
    Ok(CLASS.instantiate(py, meeting)?.into())
}

/// `result()`: the transport and the protocol, once it has been awaited.
///
/// Not the value of `await`: that goes through a `StopIteration`, which takes as long as a tenth of the connection.
fn result(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let meeting = CLASS
        .get::<Meeting>(slf)
        .ok_or_else(|| PyTypeError::new_err("another object was expected"))?;
    let mut phase = meeting.phase(py);
    match std::mem::replace(&mut *phase, Phase::Finished) {
        Phase::Met(both) => Ok(both),
        other => {
            *phase = other;
            Err(PyRuntimeError::new_err("nothing has met yet"))
        }
    }
}

pub(super) const METHODS: [Method; 1] = [Method {
    name: c"_meet",
    doc: c"_meet($self, protocol_factory, host, port, family, proto, flags, /)\n--\n\nWhat connects to a host that is \
           given by its number; None if something else must.",
    kind: raw_fastcall!(meet),
}];

const RESULT: Method = Method {
    name: c"result",
    doc: c"result($self, /)\n--\n\nThe transport and the protocol that have met.",
    kind: raw_noargs_attached!(result),
};

/// Makes the type.
///
/// # Errors
/// What making a type raises.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    attach_methods(&crate::coroutine::prepare::<Meeting>(py)?, &[RESULT])
}
