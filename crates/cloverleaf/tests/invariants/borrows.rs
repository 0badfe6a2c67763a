//! No foreign code runs, and nothing foreign is dropped, while the loop borrows its own state.

use super::*;

/// Asks the loop for things when it is dropped.
struct Demanding(Rc<Cell<u32>>);

impl Drop for Demanding {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        drop(spawn(async {}));
        drop(sleep(Duration::from_secs(1)));
        drop(UnixStream::pair());
    }
}

#[test]
fn destructors_may_use_the_loop_wherever_they_run() {
    let event_loop = EventLoop::new().unwrap();
    let drops = Rc::new(Cell::new(0));
    let demanding = || Demanding(Rc::clone(&drops));
    let (task, call, timer, last) = (demanding(), demanding(), demanding(), demanding());
    let cancelled = demanding();
    let cancelled = event_loop.call_soon(move |_| drop(cancelled));
    event_loop.call_later(Duration::ZERO, move |_| drop(timer));
    event_loop.call_soon(move |_| drop(call));
    let main = async {
        let task = spawn(async move {
            pending::<()>().await;
            drop(task);
        });
        yield_now().await;
        task.abort();
        assert!(!cancelled.cancel(), "its turn came first");
        yield_now().await;
    };
    event_loop.run_until_complete(main).unwrap();
    assert_eq!(drops.get(), 4);
    event_loop.call_soon(move |_| drop(last));
    drop(event_loop);
    assert_eq!(drops.get(), 5);
}

#[test]
fn tasks_that_drop_each_other_when_the_loop_closes_are_all_dropped() {
    struct Aborts(Rc<RefCell<Option<JoinHandle<()>>>>);
    impl Drop for Aborts {
        fn drop(&mut self) {
            if let Some(task) = self.0.take() {
                task.abort();
            }
        }
    }
    let event_loop = EventLoop::new().unwrap();
    let held = Rc::new(());
    let places = [Rc::default(), Rc::default()];
    for (own, other) in [(0, 1), (1, 0)] {
        let (aborts, held) = (Aborts(Rc::clone(&places[other])), Rc::clone(&held));
        let task = event_loop.spawn(async move {
            pending::<()>().await;
            drop((aborts, held));
        });
        places[own].replace(Some(task));
    }
    drop(event_loop);
    assert_eq!(Rc::strong_count(&held), 1);
}
