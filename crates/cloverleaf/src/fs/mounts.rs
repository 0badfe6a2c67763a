//! Which mounts lead to file systems of this machine: what these say of a file that the kernel has at hand takes no wait.
//!
//! Others, those of a network or of a process (FUSE), may ask a server for a file's attributes, and to open it, although
//! its name is cached. Which one a descriptor is on the kernel says without asking anybody (`AT_STATX_DONT_SYNC`), and
//! `/proc/self/mountinfo` what kind that is, once for each mount. What cannot be told is taken for one that may wait.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::RwLock;

use rustix::fs::{AtFlags, StatxFlags, fcntl_get_seals, statx};

/// The types, as in `/proc/filesystems`, whose inodes are in memory once their names are.
const LOCAL_TYPES: [&str; 22] = [
    "bcachefs", "btrfs", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660",
    "jfs", "msdos", "overlay", "proc", "ramfs", "reiserfs", "squashfs", "sysfs", "tmpfs", "vfat",
    "xfs", "zfs",
];

/// `STATX_MNT_ID_UNIQUE`, of Linux 6.8: a number that no other mount is given before the machine starts again.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// More than a machine has; those that are gone are forgotten with all others.
const MOST_KNOWN: usize = 4096;

/// A mount's number, and its device's where that number is given again after an unmount.
type Mount = (u64, u32, u32);

/// What was found of each mount. Only ever tried: a child has nobody who would release what was held when it was forked.
static KNOWN: RwLock<BTreeMap<Mount, bool>> = RwLock::new(BTreeMap::new());

/// Whether a descriptor is on a file system that asks nobody for what it has in memory.
pub(super) fn is_local(fd: BorrowedFd<'_>) -> bool {
    let Some(mount) = mount_of(fd) else {
        return false;
    };
    if let Ok(known) = KNOWN.try_read()
        && let Some(&is_local) = known.get(&mount)
    {
        return is_local;
    }
    let Some(is_local) = ask(fd) else {
        return false;
    };
    if let Ok(mut known) = KNOWN.try_write() {
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(mount, is_local);
    }
    is_local
}

/// The same of a file that is open, and so keeps its mount from being another's meanwhile. What can be sealed is in memory
/// (`F_GET_SEALS`), also where its mount is in no table, as that of `memfd_create(2)`.
pub(super) fn is_local_while_open(fd: BorrowedFd<'_>) -> bool {
    is_local(fd) || fcntl_get_seals(fd).is_ok() || (mount_of(fd).is_none() && ask(fd) == Some(true))
}

/// By what a mount is known; None where nothing tells it from one that takes its place.
fn mount_of(fd: BorrowedFd<'_>) -> Option<Mount> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(fd, c"", flags, StatxFlags::MNT_ID | MNT_ID_UNIQUE).ok()?;
    let has = |flag: StatxFlags| found.stx_mask & flag.bits() != 0;
    if has(MNT_ID_UNIQUE) {
        return Some((found.stx_mnt_id, 0, 0));
    }
    // A disk's number stays the disk's. Those without a disk (major 0) are given again, as those of mounts are.
    (has(StatxFlags::MNT_ID) && found.stx_dev_major != 0).then_some((
        found.stx_mnt_id,
        found.stx_dev_major,
        found.stx_dev_minor,
    ))
}

/// Looks the mount up: the descriptor keeps it, and so its number here, from being another's meanwhile.
fn ask(fd: BorrowedFd<'_>) -> Option<bool> {
    let number = number_of(fd)?;
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    Some(type_of(&table, number).is_some_and(is_local_type))
}

/// The number of a descriptor's mount, in `/proc/self/mountinfo`.
fn number_of(fd: BorrowedFd<'_>) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    if let Ok(found) = statx(fd, c"", flags, StatxFlags::MNT_ID)
        && found.stx_mask & StatxFlags::MNT_ID.bits() != 0
    {
        return Some(found.stx_mnt_id);
    }
    // Before Linux 5.8.
    let notes = std::fs::read(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    noted_number(&notes)
}

/// The number of a mount, in what `/proc/self/fdinfo` has of a descriptor, see `proc_pid_fdinfo(5)`.
fn noted_number(notes: &[u8]) -> Option<u64> {
    let mut lines = notes.split(|&byte| byte == b'\n');
    let number = lines.find_map(|line| line.strip_prefix(b"mnt_id:"))?;
    str::from_utf8(number).ok()?.trim().parse().ok()
}

fn is_local_type(name: &str) -> bool {
    LOCAL_TYPES.contains(&name)
}

/// The type of the mount with this number, in a table like `/proc/self/mountinfo`, see `proc_pid_mountinfo(5)`.
fn type_of(table: &[u8], number: u64) -> Option<&str> {
    table.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let first = str::from_utf8(fields.next()?).ok()?;
        if first.parse() != Ok(number) {
            return None;
        }
        // Parent, device, root, place and options, then any number of optional fields up to a dash.
        let name = fields.skip(5).skip_while(|field| *field != b"-").nth(1)?;
        str::from_utf8(name).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    const TABLE: &[u8] = b"\
21 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
22 21 0:20 / /a\\040-\\040b rw,nosuid shared:2 master:1 - tmpfs tmpfs rw,size=1k
23 21 0:41 / /home/\xff rw - fuse.sshfs me@there:/ rw,user_id=0
24 21 0:42 / - rw - nfs4 there:/ rw
25 21 0:43 / /cut rw shared:1
212 21 0:44 / /dash rw -
";

    #[test]
    fn a_mounts_type_stands_behind_the_dash_that_ends_its_optional_fields() {
        assert_eq!(type_of(TABLE, 21), Some("ext4"));
        assert_eq!(type_of(TABLE, 22), Some("tmpfs"));
        assert_eq!(type_of(TABLE, 23), Some("fuse.sshfs"));
        assert_eq!(type_of(TABLE, 24), Some("nfs4"));
    }

    #[test]
    fn a_descriptors_notes_have_the_number_of_its_mount() -> std::io::Result<()> {
        let notes = b"pos:\t0\nflags:\t0100000\nmnt_id:\t29\nino:\t7\n";
        assert_eq!(noted_number(notes), Some(29));
        assert_eq!(noted_number(b"pos:\t0\n"), None);
        let file = File::open("/proc/self/status")?;
        let notes = std::fs::read(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
        assert_eq!(noted_number(&notes), number_of(file.as_fd()));
        assert!(is_local_while_open(file.as_fd()));
        Ok(())
    }

    #[test]
    fn what_the_table_does_not_say_is_unknown() {
        for number in [2, 1, 25, 212, 99] {
            assert_eq!(type_of(TABLE, number), None, "{number}");
        }
        assert_eq!(type_of(b"", 21), None);
    }

    #[test]
    fn file_systems_with_a_server_are_not_local() {
        for name in [
            "fuse",
            "fuseblk",
            "fuse.sshfs",
            "nfs",
            "nfs4",
            "cifs",
            "9p",
            "autofs",
            "",
        ] {
            assert!(!is_local_type(name), "{name}");
        }
        assert!(LOCAL_TYPES.iter().all(|name| is_local_type(name)));
    }

    #[test]
    fn a_mount_is_asked_for_once() -> std::io::Result<()> {
        let file = File::open("/proc/self/status")?;
        let here = file.as_fd();
        // Before Linux 6.8 nothing tells /proc from what is mounted in its place.
        let Some(mount) = mount_of(here) else {
            return Ok(());
        };
        assert_eq!(ask(here), Some(true));
        assert!(is_local(here));
        let known = KNOWN.read().expect("no test panics while it writes");
        assert_eq!(known.get(&mount), Some(&true));
        Ok(())
    }
}
