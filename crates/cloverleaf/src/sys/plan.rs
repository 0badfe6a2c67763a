//! What a child does before it executes its program, as data that is ready before the child exists.
//!
//! The child may neither allocate nor fail in any way but by a system call's answer, so everything that it passes to
//! the kernel stands here in the form in which the kernel takes it.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::RawFd;

/// Strings, and the array of pointers to them that ends with a null pointer.
#[derive(Debug)]
pub(crate) struct Strings {
    /// One behind the other, which takes one piece of memory rather than one for each. Never changed, so that the
    /// pointers stay valid; moving a `Vec` does not move its bytes.
    _bytes: Vec<u8>,
    pointers: Box<[*const c_char]>,
}

impl Strings {
    /// Copies the strings.
    pub(crate) fn new<'a>(strings: impl Iterator<Item = &'a CStr> + Clone) -> Self {
        let lengths = strings.clone().map(|string| string.count_bytes() + 1);
        let mut bytes = Vec::with_capacity(lengths.sum());
        let mut starts = Vec::new();
        for string in strings {
            starts.push(bytes.len());
            bytes.extend_from_slice(string.to_bytes_with_nul());
        }
        let pointers = starts
            .into_iter()
            .map(|start| bytes[start..].as_ptr().cast());
        let pointers = pointers.chain([std::ptr::null()]).collect();
        Self {
            _bytes: bytes,
            pointers,
        }
    }

    /// The array, with the null pointer that ends it.
    pub(crate) fn pointers(&self) -> &[*const c_char] {
        &self.pointers
    }
}

/// What a child does.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `argv`.
    pub(crate) arguments: Strings,
    /// The paths to try, in this order.
    pub(crate) executables: Strings,
    /// `envp`.
    pub(crate) environment: Strings,
    /// The folder to change to.
    pub(crate) folder: Option<CString>,
    /// What becomes standard input, output and error; -1 leaves what the parent has.
    pub(crate) stdio: [RawFd; 3],
    /// The parent's ends of pipes, which the child closes first.
    pub(crate) parents_ends: Box<[RawFd]>,
    /// Descriptors to be inherited.
    pub(crate) kept: Box<[RawFd]>,
    /// The first and the last number of each range of descriptors to be closed.
    pub(crate) closed: Box<[(u32, u32)]>,
    /// The mask for the modes of new files.
    pub(crate) umask: Option<u32>,
    /// Whether Python's ignoring of `SIGPIPE` and `SIGXFSZ` ends.
    pub(crate) restores_signals: bool,
    /// Whether it leads a new session.
    pub(crate) new_session: bool,
    /// The process group to join; 0 is a new one.
    pub(crate) process_group: Option<i32>,
    /// Its supplementary groups.
    pub(crate) groups: Option<Box<[u32]>>,
    /// Its real and effective group.
    pub(crate) group: Option<u32>,
    /// Its real and effective user.
    pub(crate) user: Option<u32>,
    /// Both ends of the pipe that tells the parent of a failure, and of the program's execution by its end.
    pub(crate) report: (RawFd, RawFd),
    /// The signals that are blocked in the program, as they are in the thread that starts it.
    pub(crate) mask: u64,
}

impl Plan {
    /// The ranges of descriptors above standard error that are to be closed so that `kept`, which is sorted, stays.
    pub(crate) fn ranges_beside(kept: &[RawFd]) -> Box<[(u32, u32)]> {
        let mut ranges = Vec::with_capacity(kept.len() + 1);
        let mut first = 3;
        for kept in kept.iter().filter_map(|fd| u32::try_from(*fd).ok()) {
            if kept < first {
                continue;
            }
            if first < kept {
                ranges.push((first, kept - 1));
            }
            first = kept + 1;
        }
        ranges.push((first, u32::MAX));
        ranges.into_boxed_slice()
    }
}

/// How far a child came that could not execute its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Stage {
    /// It prepared itself.
    Preparing = 0,
    /// It changed to the folder.
    Folder = 1,
    /// It tried to execute.
    Executing = 2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_lies_between_the_ranges_that_are_closed() {
        let ranges = |kept: &[RawFd]| Plan::ranges_beside(kept).into_vec();
        assert_eq!(ranges(&[]), [(3, u32::MAX)]);
        assert_eq!(ranges(&[0, 2]), [(3, u32::MAX)]);
        assert_eq!(ranges(&[3, 4, 9]), [(5, 8), (10, u32::MAX)]);
        assert_eq!(ranges(&[1, 5]), [(3, 4), (6, u32::MAX)]);
        assert_eq!(ranges(&[7, 7]), [(3, 6), (8, u32::MAX)]);
    }

    #[test]
    fn strings_end_with_a_null_pointer() {
        let strings = Strings::new([c"one", c"", c"three"].into_iter());
        let first = strings.pointers()[0].addr();
        let offsets = strings.pointers()[..3]
            .iter()
            .map(|pointer| pointer.addr() - first);
        assert!(offsets.eq([0, 4, 5]));
        assert_eq!(strings.pointers().len(), 4);
        assert!(strings.pointers()[3].is_null());
    }
}
