//! Files on the loop: what is read, written, copied and told of them, and what giving up leaves behind.

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloverleaf::fs::{self as files, File, OpenOptions};
use cloverleaf::{EventLoop, spawn, yield_now};
use support::run;

/// A folder of the test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cloverleaf-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a new file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        cloverleaf::ignore(fs::remove_dir_all(&self.0)); // the system empties its folder at last
    }
}

fn content() -> Vec<u8> {
    (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect()
}

#[test]
fn what_has_no_position_is_neither_read_nor_written_at_one() {
    let (mut reading, mut writing) = io::pipe().expect("descriptors are left");
    writing.write_all(b"hello").unwrap();
    let ends = (reading.try_clone().unwrap(), writing.try_clone().unwrap());
    run(async {
        let (source, target) = (
            File::from(OwnedFd::from(ends.0)),
            File::from(OwnedFd::from(ends.1)),
        );
        let read = source.read_at(vec![0; 3], 0).await.1.unwrap_err();
        assert_eq!(read.kind(), io::ErrorKind::NotSeekable);
        let written = target.write_all_at("more", 0).await.1.unwrap_err();
        assert_eq!(written.kind(), io::ErrorKind::NotSeekable);
    });
    drop(writing);
    let mut left = String::new();
    reading.read_to_string(&mut left).unwrap();
    assert_eq!(left, "hello");

    let counter = rustix::event::eventfd(7, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let kept = counter.try_clone().unwrap();
    run(async {
        let counter = File::from(counter);
        let written = counter.write_all_at([0, 0, 0, 0, 0, 0, 0, 1], 8).await;
        assert_eq!(
            written.1.unwrap_err().kind(),
            io::ErrorKind::NotSeekable,
            "although it takes seeks"
        );
    });
    let mut count = [0; 8];
    rustix::io::read(&kept, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 7);
}

#[test]
fn a_file_is_read_at_any_offset() {
    let folder = Folder::new();
    let path = folder.file("content", &content());
    run(async {
        let file = File::open(&path).await.unwrap();
        let (buffer, count) = file.read_at(vec![0; 1000], 5).await;
        assert_eq!(count.unwrap(), 1000);
        assert_eq!(buffer, content()[5..1005]);
        let (buffer, count) = file.read_at(vec![7; 10], 2_999_996).await;
        assert_eq!(count.unwrap(), 4);
        assert_eq!(buffer[..4], content()[2_999_996..]);
        let (_, count) = file.read_at(vec![0; 10], 3_000_000).await;
        assert_eq!(count.unwrap(), 0);
        assert_eq!(file.read_to_end_at(10).await.unwrap(), content()[10..]);
    });
}

#[test]
fn a_file_is_written_at_any_offset() {
    let folder = Folder::new();
    let path = folder.0.join("written");
    run(async {
        let file = File::create(&path).await.unwrap();
        let (buffer, result) = file.write_all_at(content(), 100).await;
        result.unwrap();
        assert_eq!(buffer, content(), "the buffer comes back");
        file.write_all_at(b"head", 0).await.1.unwrap();
        file.sync().await.unwrap();
        assert_eq!(file.metadata().await.unwrap().len(), 3_000_100);
        file.set_len(50).await.unwrap();
    });
    let written = fs::read(&path).unwrap();
    assert_eq!((written.len(), &written[..6]), (50, &b"head\0\0"[..]));
}

#[test]
fn operations_beside_each_other_do_not_mix() {
    let folder = Folder::new();
    let path = folder.file("content", &content());
    let content = content();
    run(async {
        let file = std::rc::Rc::new(File::open(&path).await.unwrap());
        let reads: Vec<_> = (0..200_usize)
            .map(|n| {
                let file = std::rc::Rc::clone(&file);
                spawn(async move { file.read_at(vec![0; 4096], n as u64 * 9973).await })
            })
            .collect();
        for (n, read) in reads.into_iter().enumerate() {
            let (buffer, count) = read.await.unwrap();
            assert_eq!(buffer[..count.unwrap()], content[n * 9973..n * 9973 + 4096]);
        }
    });
}

#[test]
fn what_a_dropped_future_began_ends_by_itself() {
    let folder = Folder::new();
    let path = folder.file("content", &content());
    run(async {
        for turns in 0..4 {
            let file = File::open(&path).await.unwrap();
            let read = spawn(async move { file.read_at(vec![0; 2_000_000], 0).await });
            for _ in 0..turns {
                yield_now().await;
            }
            read.abort();
        }
        let read = files::read(&path).await.unwrap();
        assert_eq!(read, content());
    });
}

#[test]
fn a_loop_may_go_with_operations_in_flight() {
    let folder = Folder::new();
    let path = folder.file("content", &content());
    let event_loop = EventLoop::new().unwrap();
    event_loop
        .run_until_complete(async {
            let file = File::open(&path).await.unwrap();
            drop(spawn(
                async move { file.read_at(vec![0; 2_000_000], 0).await },
            ));
            yield_now().await;
        })
        .unwrap();
    drop(event_loop);
    assert_eq!(fs::read(&path).unwrap(), content());
}

#[test]
fn behind_the_end_there_is_nothing_to_read() {
    let folder = Folder::new();
    let path = folder.file("short", b"content");
    run(async {
        let file = File::open(&path).await.unwrap();
        assert_eq!(file.read_to_end_at(7).await.unwrap(), b"");
        assert_eq!(file.read_to_end_at(1 << 40).await.unwrap(), b"");
    });
}

#[test]
fn a_file_that_is_there_is_opened_to_be_read_and_written() {
    let folder = Folder::new();
    let path = folder.file("both", b"content");
    run(async {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&path).await.unwrap();
        file.write_all_at(b"CON", 0).await.1.unwrap();
        assert_eq!(file.read_to_end_at(0).await.unwrap(), b"CONtent");
        let file = options.append(true).open(&path).await.unwrap();
        file.write_all_at(b"s", 0).await.1.unwrap();
        assert_eq!(file.read_to_end_at(0).await.unwrap(), b"CONtents");
    });
}

#[test]
fn appending_writes_at_the_end() {
    let folder = Folder::new();
    let path = folder.file("log", b"first");
    run(async {
        let mut options = OpenOptions::new();
        let file = options.append(true).open(&path).await.unwrap();
        file.write_all_at(b" second", 0).await.1.unwrap();
    });
    assert_eq!(fs::read(&path).unwrap(), b"first second");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let folder = Folder::new();
    let path = folder.file("file", b"");
    run(async {
        let none = OpenOptions::new().open(&path).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::InvalidInput);
        let mut options = OpenOptions::new();
        let exists = options.write(true).create_new(true).open(&path).await;
        assert_eq!(exists.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let missing = File::open(folder.0.join("missing")).await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let wrong = File::open(&path)
            .await
            .unwrap()
            .write_all_at(b"x", 0)
            .await
            .1;
        assert_eq!(wrong.unwrap_err().raw_os_error(), Some(9), "EBADF");
    });
}

#[test]
fn names_and_folders_can_be_changed() {
    let folder = Folder::new();
    let path = folder.file("one", b"content");
    run(async {
        let inner = folder.0.join("inner");
        files::create_dir(&inner).await.unwrap();
        files::rename(&path, inner.join("two")).await.unwrap();
        files::write(inner.join("three"), b"more").await.unwrap();
        let mut names: Vec<_> = files::read_dir(&inner).await.unwrap();
        names.sort_by(|one, other| one.file_name().cmp(other.file_name()));
        let seen: Vec<_> = names
            .iter()
            .map(|entry| entry.file_name().to_owned())
            .collect();
        assert_eq!(seen, ["three", "two"]);
        assert!(names.iter().all(|entry| entry.file_type().is_file()));
        for entry in &names {
            files::remove_file(entry.path()).await.unwrap();
        }
        files::remove_dir(&inner).await.unwrap();
        let gone = files::metadata(&inner).await.unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn folders_are_made_and_removed_with_all_that_is_in_them() {
    let folder = Folder::new();
    let top = folder.0.join("a");
    run(async {
        let deep = top.join("b/c");
        files::create_dir_all(&deep).await.unwrap();
        files::create_dir_all(&deep).await.unwrap();
        files::write(deep.join("file"), b"content").await.unwrap();
        assert!(files::remove_dir(&top).await.is_err());
        files::remove_dir_all(&top).await.unwrap();
    });
    assert!(!top.exists());
}

#[test]
fn text_is_utf_8_or_an_error() {
    let folder = Folder::new();
    let text = folder.file("text", "grün".as_bytes());
    let bytes = folder.file("bytes", b"gr\xfcn");
    run(async {
        assert_eq!(files::read_to_string(&text).await.unwrap(), "grün");
        let error = files::read_to_string(&bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    });
}

#[test]
fn a_copy_has_content_and_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let path = folder.file("from", &content());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4640)).unwrap();
    let target = folder.file("to", &vec![1; 5_000_000]);
    run(async {
        assert_eq!(files::copy(&path, &target).await.unwrap(), 3_000_000);
        let same = files::copy(&path, &path).await.unwrap_err();
        assert_eq!(same.kind(), io::ErrorKind::InvalidInput);
        let comm = files::copy("/proc/self/comm", folder.0.join("comm"))
            .await
            .unwrap();
        assert_eq!(comm, fs::read("/proc/self/comm").unwrap().len() as u64);
    });
    assert_eq!(fs::read(&target).unwrap(), content());
    assert_eq!(fs::read(&path).unwrap(), content());
    assert_eq!(
        fs::metadata(&target).unwrap().permissions().mode() & 0o7777,
        0o4640
    );
}

#[test]
fn an_offset_that_no_file_has_is_an_error() {
    let folder = Folder::new();
    let path = folder.file("file", b"content");
    run(async {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&path).await.unwrap();
        for offset in [1 << 63, u64::MAX] {
            let (buffer, count) = file.read_at(vec![0; 4], offset).await;
            assert_eq!(count.unwrap_err().raw_os_error(), Some(22), "EINVAL");
            assert_eq!(buffer, [0; 4], "the buffer comes back as it was");
            let rest = file.read_to_end_at(offset).await;
            assert_eq!(rest.unwrap_err().raw_os_error(), Some(22));
            let (buffer, result) = file.write_all_at(b"new", offset).await;
            assert_eq!(result.unwrap_err().raw_os_error(), Some(22));
            assert_eq!(buffer, b"new");
        }
    });
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn what_is_no_file_is_not_copied_over_one() {
    let folder = Folder::new();
    let target = folder.file("file", b"content");
    run(async {
        for target in [&target, &folder.0.join("new")] {
            let error = files::copy(&folder.0, target).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
            let error = files::copy("/dev/null", target).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    });
    assert_eq!(fs::read(&target).unwrap(), b"content");
    assert!(!folder.0.join("new").exists());
}

#[test]
fn a_copy_under_way_is_seen_by_nobody_who_may_not_see_the_original() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &PathBuf| fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
    let folder = Folder::new();
    let path = folder.file("secret", &content());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let target = folder.0.join("copy");
    run(async {
        let ended = std::rc::Rc::new(std::cell::Cell::new(false));
        let copy = spawn({
            let (path, target, ended) = (path.clone(), target.clone(), ended.clone());
            async move {
                files::copy(path, target).await.unwrap();
                ended.set(true);
            }
        });
        while !ended.get() {
            if let Ok(mode) = mode(&target) {
                assert_eq!(mode, 0o600);
            }
            yield_now().await;
        }
        copy.await.unwrap();
    });
    assert_eq!(mode(&target).unwrap(), 0o600);
}

#[test]
fn a_copy_goes_to_what_is_no_file_and_leaves_its_permissions() {
    let folder = Folder::new();
    let path = folder.file("file", &content());
    let before = fs::metadata("/dev/null").unwrap().permissions();
    run(async {
        let copied = files::copy(&path, "/dev/null").await.unwrap();
        assert_eq!(copied, 3_000_000);
    });
    assert_eq!(fs::metadata("/dev/null").unwrap().permissions(), before);
}

#[test]
fn a_file_that_takes_no_offset_is_written_where_it_stands() {
    // Most files in /proc are such; the threads of a process have names of their own.
    let name = |text: &str| fs::write("/proc/thread-self/comm", text).unwrap();
    let own = fs::read_to_string("/proc/thread-self/comm").unwrap();
    let event_loop = cloverleaf::EventLoop::builder()
        .backend(cloverleaf::Backend::Epoll)
        .build()
        .unwrap();
    let path = format!("/proc/self/task/{}/comm", rustix::thread::gettid());
    event_loop
        .run_until_complete(async {
            let read = || fs::read_to_string("/proc/thread-self/comm").unwrap();
            files::write(&path, b"written").await.unwrap();
            assert_eq!(read(), "written\n");
            let folder = Folder::new();
            files::copy(folder.file("name", b"copied"), &path)
                .await
                .unwrap();
            assert_eq!(read(), "copied\n");
        })
        .unwrap();
    name(own.trim_end());
}

#[test]
fn what_is_asked_of_a_file_ends_none_of_its_record_locks() {
    use std::os::unix::fs::MetadataExt;
    let folder = Folder::new();
    let path = folder.file("locked", b"content");
    let number = format!(":{} ", fs::metadata(&path).unwrap().ino());
    let is_locked = || fs::read_to_string("/proc/locks").unwrap().contains(&number);
    run(async {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&path).await.unwrap();
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert!(is_locked());
        let found = file.metadata().await.unwrap();
        assert!(is_locked(), "as it is when any descriptor is closed");
        file.set_len(5).await.unwrap();
        file.set_permissions(found.permissions()).await.unwrap();
        assert_eq!(file.read_to_end_at(0).await.unwrap(), b"conte");
        file.sync().await.unwrap();
        assert!(is_locked());
    });
}
