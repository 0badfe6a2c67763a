//! Programs that are started without a wait: the caller goes on while the child executes them.
//!
//! The child is made by the calling thread and has its properties: processor affinity, niceness, namespaces, limits.
//! It has copies of all its descriptors until it closes them, or executes its program.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use rustix::io::Errno;

use crate::sys::{self, Plan, Stage, Strings};

/// A program, and what its process does before it executes it, in this order.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a choice of its own, as the system calls behind them are"
)]
pub struct Program {
    /// Descriptors that the program inherits, beside standard input, output and error.
    pub kept: Vec<RawFd>,
    /// Descriptors that the child closes first: the parent's ends of its pipes.
    pub parents_ends: Vec<RawFd>,
    /// What becomes standard input, output and error, if not what they are in this process.
    pub stdio: [Option<RawFd>; 3],
    /// The folder to change to.
    pub folder: Option<CString>,
    /// The mask for the modes of new files.
    pub umask: Option<u32>,
    /// Whether `SIGPIPE` and `SIGXFSZ`, which Python ignores, get their default actions.
    pub restores_signals: bool,
    /// Whether the child leads a new session.
    pub new_session: bool,
    /// The process group that it joins; 0 is a new one.
    pub process_group: Option<i32>,
    /// Its supplementary groups.
    pub groups: Option<Vec<u32>>,
    /// Its real and effective group.
    pub group: Option<u32>,
    /// Its real and effective user.
    pub user: Option<u32>,
    /// Whether the child closes all descriptors but those kept.
    pub closes_others: bool,
    /// The paths to try until one can be executed.
    pub executables: Vec<CString>,
    /// The program's arguments, its name first.
    pub arguments: Vec<CString>,
    /// Its environment, if not a copy of this process's.
    pub environment: Option<Vec<CString>>,
    /// Whether the child has a copy of this process's memory rather than sharing it, which takes longer.
    ///
    /// It always has one if it becomes another user, as processes of two users should share no memory.
    pub copies_memory: bool,
}

/// A child that executes its program, or tries to.
///
/// Dropping it leaves the child alone. Its memory is freed if the child needs it no more, and otherwise never.
#[derive(Debug)]
pub struct Starting {
    child: sys::Starting,
    told: Vec<u8>,
}

/// Whether a program was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It was, or something else has ended the child.
    Executed,
    /// It was not, for this reason; the child ends without it, and must be reaped.
    Failed(Errno, Obstacle),
}

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Changing to the folder.
    Folder,
    /// Something else before the execution.
    Preparation,
    /// The execution.
    Execution,
}

impl Program {
    /// Whether programs can be started on this system, by this architecture and kernel.
    pub fn can_start() -> bool {
        sys::can_start()
    }

    /// Makes the child. Nobody reaps it unless the caller does.
    ///
    /// # Errors
    /// Those of `pipe2(2)`, `mmap(2)` and `clone(2)`.
    ///
    /// # Examples
    /// ```
    /// # if cloverleaf::Program::can_start() {
    /// let program = cloverleaf::Program {
    ///     executables: vec![c"/bin/true".to_owned()],
    ///     arguments: vec![c"true".to_owned()],
    ///     ..Default::default()
    /// };
    /// let child = program.start()?;
    /// # let pid = rustix::process::Pid::from_raw(child.id());
    /// # rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start(self) -> io::Result<Starting> {
        let changes_user = self.groups.is_some() || self.group.is_some() || self.user.is_some();
        let shares_memory = !self.copies_memory && !changes_user;
        let child = sys::start(self.into_plan(), shares_memory)?;
        let told = Vec::with_capacity(REPORT_BYTES);
        Ok(Starting { child, told })
    }

    fn into_plan(mut self) -> Plan {
        self.kept.sort_unstable();
        self.kept.dedup();
        Plan {
            closed: if self.closes_others {
                Plan::ranges_beside(&self.kept)
            } else {
                Box::default()
            },
            arguments: copied(&self.arguments),
            executables: copied(&self.executables),
            environment: match &self.environment {
                Some(strings) => copied(strings),
                None => sys::environment(),
            },
            folder: self.folder,
            stdio: self.stdio.map(|fd| fd.unwrap_or(-1)),
            parents_ends: self.parents_ends.into_boxed_slice(),
            kept: self.kept.into_boxed_slice(),
            umask: self.umask,
            restores_signals: self.restores_signals,
            new_session: self.new_session,
            process_group: self.process_group,
            groups: self.groups.map(Vec::into_boxed_slice),
            group: self.group,
            user: self.user,
            report: (-1, -1),
            mask: 0,
        }
    }
}

fn copied(strings: &[CString]) -> Strings {
    Strings::new(strings.iter().map(CString::as_c_str))
}

/// An error number, and how far the child had come.
const REPORT_BYTES: usize = 8;

impl Starting {
    /// The child's number.
    pub const fn id(&self) -> i32 {
        self.child.pid()
    }

    /// Whether the program was executed; `None` if that is not known yet.
    ///
    /// Once it is known, the child needs no memory of this process's any more. Ask when the descriptor is readable.
    ///
    /// # Errors
    /// Those of `read(2)`.
    pub fn try_started(&mut self) -> io::Result<Option<Started>> {
        let mut piece = [0; REPORT_BYTES];
        loop {
            match rustix::io::read(self.child.report(), &mut piece) {
                Ok(0) => return Ok(Some(self.started())),
                Ok(count) => self.told.extend_from_slice(&piece[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn started(&self) -> Started {
        let mut told = self.told.as_slice();
        let (mut errno, mut stage) = ([0; 4], [0; 4]);
        if told.read_exact(&mut errno).is_err() || told.read_exact(&mut stage).is_err() {
            return Started::Executed;
        }
        let stage = i32::from_ne_bytes(stage);
        let obstacle = if stage == Stage::Executing as i32 {
            Obstacle::Execution
        } else if stage == Stage::Folder as i32 {
            Obstacle::Folder
        } else {
            Obstacle::Preparation
        };
        Started::Failed(
            Errno::from_raw_os_error(i32::from_ne_bytes(errno)),
            obstacle,
        )
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.report()
    }
}
