//! Files: read and written from the loop's thread where that takes no wait, and by its pool where it does.
//!
//! [`read_at_once`], [`write_at_once`], [`open_at_once`], [`look_at_once`] and [`known_at_once`] know of no loop: each does
//! its work only if nothing has to be waited for. [`read_full`], [`write_full`] and [`copy_stretch`] may wait, and are for
//! a thread of a pool. The rest are a Rust program's asynchronous files, which put the two together.

mod at_once;
mod copy;
mod file;
mod full;
mod mounts;
mod paths;

pub use at_once::{
    Known, has_position, known_at_once, length_at_once, look_at_once, may_ask, mode_at_once,
    open_at_once, read_at_once, read_on_at_once, write_at_once,
};
pub use copy::{Copied, copy, copy_stretch};
pub use file::{File, OpenOptions};
pub use full::{read_full, write_full};
pub use paths::{
    DirEntry, create_dir, create_dir_all, metadata, read, read_dir, read_to_string, remove_dir,
    remove_dir_all, remove_file, rename, write,
};
