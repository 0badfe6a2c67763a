//! What is done by a path: metadata, directories, names. Each is one call on a thread of the loop's pool.

use std::ffi::OsString;
use std::fs::{FileType, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::file::File;
use crate::event_loop::spawn_blocking;

async fn on_pool<T: Send + 'static>(
    path: &Path,
    call: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.to_path_buf();
    spawn_blocking(move || call(path)).await?
}

/// What is known of a file, behind symbolic links.
///
/// # Errors
/// Those of `stat(2)`.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    on_pool(path.as_ref(), std::fs::metadata).await
}

/// Makes a directory.
///
/// # Errors
/// Those of `mkdir(2)`.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    on_pool(path.as_ref(), std::fs::create_dir).await
}

/// Makes a directory, and those above it that are not there; one that is there already is no error.
///
/// # Errors
/// Those of `mkdir(2)`.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    on_pool(path.as_ref(), std::fs::create_dir_all).await
}

/// Removes an empty directory.
///
/// # Errors
/// Those of `rmdir(2)`.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    on_pool(path.as_ref(), std::fs::remove_dir).await
}

/// Removes a directory with all that is in it; symbolic links are not followed.
///
/// # Errors
/// Those of `openat(2)`, `getdents64(2)`, `unlinkat(2)`; what was removed before stays so.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    on_pool(path.as_ref(), std::fs::remove_dir_all).await
}

/// Removes a name of a file.
///
/// # Errors
/// Those of `unlink(2)`.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    on_pool(path.as_ref(), std::fs::remove_file).await
}

/// Gives a file another name, in the place of what bears it.
///
/// # Errors
/// Those of `rename(2)`.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let to = to.as_ref().to_path_buf();
    on_pool(from.as_ref(), |from| std::fs::rename(from, to)).await
}

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    name: OsString,
    path: PathBuf,
    kind: FileType,
}

impl DirEntry {
    /// The name alone.
    pub fn file_name(&self) -> &std::ffi::OsStr {
        &self.name
    }

    /// The name behind the directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is; a symbolic link is one.
    pub const fn file_type(&self) -> FileType {
        self.kind
    }
}

/// The names in a directory, without `.` and `..`, in no order.
///
/// # Errors
/// Those of opening and reading the directory.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<Vec<DirEntry>> {
    on_pool(path.as_ref(), |path| {
        std::fs::read_dir(path)?
            .map(|entry| {
                let entry = entry?;
                Ok(DirEntry {
                    name: entry.file_name(),
                    path: entry.path(),
                    kind: entry.file_type()?,
                })
            })
            .collect()
    })
    .await
}

/// The whole content of a file.
///
/// # Errors
/// Those of opening and reading it.
///
/// # Panics
/// If no loop runs in this thread.
///
/// # Examples
/// ```
/// let event_loop = cloverleaf::EventLoop::new()?;
/// let comm = event_loop.run_until_complete(cloverleaf::fs::read("/proc/self/comm"))?;
/// assert!(comm?.ends_with(b"\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let file = File::open(path).await?;
    file.read_to_end_at(0).await
}

/// The whole content of a file that is text in UTF-8.
///
/// # Errors
/// Those of opening and reading it; `InvalidData` if it is no UTF-8.
///
/// # Panics
/// If no loop runs in this thread.
///
/// # Examples
/// ```
/// let event_loop = cloverleaf::EventLoop::new()?;
/// let comm = event_loop.run_until_complete(cloverleaf::fs::read_to_string("/proc/self/comm"))?;
/// assert!(comm?.ends_with('\n'));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let content = String::from_utf8(read(path).await?);
    content.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Makes `bytes` the whole content of a file, which is made if there is none.
///
/// # Errors
/// Those of opening and writing it.
///
/// # Panics
/// If no loop runs in this thread.
pub async fn write(path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
    let file = File::create(path).await?;
    file.write_all_at(bytes, 0).await.1
}
