//! `File`: a file that is read and written at offsets, and how it is opened.
//!
//! An operation on a buffer takes the buffer and hands it back with the result, so that a future that is dropped leaves
//! nothing half owned: what it began goes on with the buffer and the descriptor as its own, and frees them at its end.
//! Operations are independent of each other, and what is begun before another has ended may run beside it.

use std::fs::{Metadata, Permissions};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::{ReadWriteFlags, preadv2};

use super::at_once::{has_position, may_ask, open_at_once, write_at_once};
use crate::driver::Op;
use crate::event_loop::{operate, spawn_blocking, yield_now};
use crate::limits::{AT_ONCE_BYTES, OPERATIONS_PER_TURN};
use crate::sys::{system_call, with_file};

/// An open file.
///
/// What the page cache has is read on the loop's thread, without a wait; for all else the loop goes on meanwhile.
/// Dropping the file closes it when the operations that were begun have ended.
///
/// # Examples
/// ```
/// use cloverleaf::fs::File;
///
/// let event_loop = cloverleaf::EventLoop::new()?;
/// let magic = event_loop.run_until_complete(async {
///     let program = File::open("/proc/self/exe").await?;
///     let (buffer, result) = program.read_at(vec![0; 4], 0).await;
///     result.map(|count| buffer[..count].to_vec())
/// })??;
/// assert_eq!(magic, b"\x7fELF");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct File {
    fd: Arc<OwnedFd>,
    /// It goes past the page cache, so that nothing of it is ever at hand.
    is_direct: bool,
    /// A ring may take its operations: it need ask no server before, and heeds their offsets.
    suits_ring: bool,
    spent: std::cell::Cell<usize>,
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        let may_ask = may_ask(fd.as_fd());
        Self::new(fd, may_ask)
    }
}

impl File {
    fn new(fd: OwnedFd, may_ask: bool) -> Self {
        let flags = rustix::fs::fcntl_getfl(&fd);
        Self {
            is_direct: flags.is_ok_and(|flags| flags.contains(OFlags::DIRECT)),
            suits_ring: !may_ask && has_position(fd.as_fd()),
            fd: Arc::new(fd),
            spent: std::cell::Cell::new(0),
        }
    }

    /// Opens a file to be read.
    ///
    /// # Errors
    /// Those of `open(2)`.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file to be written, which is made, or emptied if there is one.
    ///
    /// # Errors
    /// Those of `open(2)`.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        options.open(path).await
    }

    pub(super) const fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Fills `buffer` from `offset` on, and hands it back with how much of it: all, unless the file ends before.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn read_at(&self, mut buffer: Vec<u8>, offset: u64) -> (Vec<u8>, io::Result<usize>) {
        self.begin().await;
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let rest = buffer.len() - filled;
            if rest <= AT_ONCE_BYTES
                && !self.is_direct
                && let Some(count) = self.try_read(&mut buffer[filled..], at)
            {
                if count == 0 {
                    break;
                }
                filled += count;
                continue;
            }
            match self.read_rest(buffer, filled, at).await {
                (back, Ok(count)) => {
                    buffer = back;
                    if count == 0 {
                        break;
                    }
                    filled += count;
                }
                (back, Err(error)) => return (back, Err(error)),
            }
        }
        (buffer, Ok(filled))
    }

    fn try_read(&self, room: &mut [u8], offset: u64) -> Option<usize> {
        // To this call alone -1 is where the descriptor stands; what is wrong with it another one says.
        i64::try_from(offset).ok()?;
        let mut pieces = [IoSliceMut::new(room)];
        system_call(|| preadv2(&self.fd, &mut pieces, offset, ReadWriteFlags::NOWAIT)).ok()
    }

    /// Reads behind the first `filled` bytes, by the driver or the pool.
    async fn read_rest(
        &self,
        mut buffer: Vec<u8>,
        filled: usize,
        offset: u64,
    ) -> (Vec<u8>, io::Result<usize>) {
        let tail = buffer.split_off(filled);
        let op = Op::Read {
            fd: Arc::clone(&self.fd),
            buffer: tail,
            start: 0,
            offset,
        };
        let (op, result) = self.operate(op).await;
        if let Some(Op::Read { buffer: tail, .. }) = op {
            if filled == 0 {
                return (tail, result);
            }
            buffer.extend_from_slice(&tail);
        }
        (buffer, result)
    }

    /// The rest of the file from `offset` on.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn read_to_end_at(&self, offset: u64) -> io::Result<Vec<u8>> {
        let size = self.metadata().await?.len().saturating_sub(offset);
        // One byte more shows the end without another read; a file in /proc has no size at all.
        let mut room = usize::try_from(size)
            .unwrap_or(0)
            .saturating_add(1)
            .max(4096);
        let mut content = Vec::new();
        loop {
            let at = offset + content.len() as u64;
            let (mut buffer, result) = self.read_at(vec![0; room], at).await;
            let count = result?;
            buffer.truncate(count);
            if content.is_empty() {
                content = buffer;
            } else {
                content.extend_from_slice(&buffer);
            }
            if count < room {
                return Ok(content);
            }
            room = content.len().max(4096);
        }
    }

    /// Writes all of `bytes` at `offset`, and hands the buffer back. In a file that was opened to append, the kernel
    /// writes at its end whatever the offset.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn write_all_at(
        &self,
        bytes: impl Into<Vec<u8>>,
        offset: u64,
    ) -> (Vec<u8>, io::Result<()>) {
        self.begin().await;
        let mut bytes = bytes.into();
        let head = &bytes[..bytes.len().min(AT_ONCE_BYTES)];
        let mut done = if self.is_direct {
            0
        } else {
            write_at_once(self.as_fd(), head, offset).unwrap_or(0)
        };
        while done < bytes.len() {
            // What was written is taken off the front only in the rare case that there is a rest.
            let head: Vec<u8> = bytes.drain(..done).collect();
            let op = Op::Write {
                fd: Arc::clone(&self.fd),
                buffer: bytes,
                start: 0,
                offset: offset + head.len() as u64,
                note: None,
            };
            let (op, result) = self.operate(op).await;
            let tail = match op {
                Some(Op::Write { buffer, .. }) => buffer,
                _ => Vec::new(),
            };
            bytes = head;
            let before = bytes.len();
            bytes.extend_from_slice(&tail);
            match result {
                Ok(0) => return (bytes, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => done = before + count,
                Err(error) => return (bytes, Err(error)),
            }
        }
        (bytes, Ok(()))
    }

    /// Brings what was written, and what is known of the file, to the disk.
    ///
    /// # Errors
    /// Those of `fsync(2)`.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn sync(&self) -> io::Result<()> {
        let fd = Arc::clone(&self.fd);
        self.operate(Op::Sync { fd }).await.1.map(|_| ())
    }

    /// What is known of the file.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        self.with_std(std::fs::File::metadata).await
    }

    /// Cuts the file to this many bytes, or extends it by zeros.
    ///
    /// # Errors
    /// Those of `ftruncate(2)`.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_std(move |file| file.set_len(len)).await
    }

    /// Changes who may do what with the file.
    ///
    /// # Errors
    /// Those of `fchmod(2)`.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.with_std(move |file| file.set_permissions(permissions))
            .await
    }

    /// Calls a method of the standard library's file on a thread of the pool.
    async fn with_std<T: Send + 'static>(
        &self,
        call: impl FnOnce(&std::fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let fd = Arc::clone(&self.fd);
        spawn_blocking(move || with_file(fd.as_fd(), call)).await?
    }

    /// Does an operation by the driver, if that suits the file.
    async fn operate(&self, op: Op) -> (Option<Op>, io::Result<usize>) {
        operate(op, self.suits_ring).await
    }

    /// Lets others run first when this file has had many operations that took no wait.
    async fn begin(&self) {
        let spent = self.spent.get() + 1;
        self.spent.set(spent % OPERATIONS_PER_TURN);
        if spent == OPERATIONS_PER_TURN {
            yield_now().await;
        }
    }
}

/// How a file is opened; the words are those of [`std::fs::OpenOptions`].
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of open(2)")]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    direct: bool,
    mode: Option<u32>,
}

impl OpenOptions {
    /// Nothing asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// To be read.
    pub const fn read(&mut self, read: bool) -> &mut Self {
        self.read = read;
        self
    }

    /// To be written.
    pub const fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    /// To be written at its end, always.
    pub const fn append(&mut self, append: bool) -> &mut Self {
        self.append = append;
        self
    }

    /// Emptied first.
    pub const fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    /// Made if there is none.
    pub const fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Made; an error if there is one.
    pub const fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// Past the page cache (`O_DIRECT`); buffers and offsets must be aligned then, see `open(2)`.
    pub const fn direct(&mut self, direct: bool) -> &mut Self {
        self.direct = direct;
        self
    }

    /// The permissions of a file that is made, before the mask.
    pub(super) const fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = Some(mode);
        self
    }

    /// Opens the file: at once if the kernel has its path at hand, else on a thread of the pool.
    ///
    /// # Errors
    /// Those of `open(2)`; `InvalidInput` for options that contradict each other.
    ///
    /// # Panics
    /// If no loop runs in this thread.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        if let Some(flags) = self.plain_flags()
            && let Some(fd) = open_at_once(path, flags)
        {
            return Ok(File::new(fd, false));
        }
        let mut options = std::fs::OpenOptions::new();
        options
            .read(self.read)
            .write(self.write)
            .append(self.append)
            .truncate(self.truncate)
            .create(self.create)
            .create_new(self.create_new);
        if self.direct {
            options.custom_flags(libc::O_DIRECT);
        }
        if let Some(mode) = self.mode {
            options.mode(mode);
        }
        let path = path.to_path_buf();
        spawn_blocking(move || Ok(File::from(OwnedFd::from(options.open(path)?)))).await?
    }

    /// The flags of `open(2)`, if the file is neither made nor emptied and the options make sense.
    fn plain_flags(&self) -> Option<OFlags> {
        if self.truncate || self.create || self.create_new {
            return None;
        }
        let mut flags = match (self.read, self.write || self.append) {
            (true, false) => OFlags::RDONLY,
            (false, true) => OFlags::WRONLY,
            (true, true) => OFlags::RDWR,
            (false, false) => return None,
        };
        flags.set(OFlags::APPEND, self.append);
        flags.set(OFlags::DIRECT, self.direct);
        Some(flags)
    }
}
