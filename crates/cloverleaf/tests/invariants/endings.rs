//! After the end nothing of ours remains; `tests/closing.rs` counts descriptors and threads.

use super::*;

#[test]
fn a_closed_loop_drops_its_tasks_and_closes_what_they_own() {
    let event_loop = EventLoop::new().unwrap();
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let stream = UnixStream::try_from(ours).unwrap();
    drop(event_loop.spawn(async move { stream.read(&mut [0; 1]).await }));
    event_loop.run_until_complete(yield_now()).unwrap();
    drop(event_loop);
    theirs.set_nonblocking(true).unwrap();
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "our end is closed");
}

#[test]
fn a_child_is_reaped_once() {
    let event_loop = EventLoop::new().unwrap();
    let child = std::process::Command::new("true").spawn().unwrap();
    let id = child.id();
    let mut child = Child::from(child);
    let status = event_loop
        .run_until_complete(child.wait())
        .unwrap()
        .unwrap();
    assert!(status.success());
    let mut again = Child::from_id(id).unwrap();
    assert!(
        event_loop
            .run_until_complete(again.wait())
            .unwrap()
            .is_err()
    );
    assert!(event_loop.run_until_complete(child.wait()).unwrap().is_ok());
}
