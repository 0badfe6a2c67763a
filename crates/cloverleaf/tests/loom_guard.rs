//! The guard's sleep under every interleaving; build with `RUSTFLAGS="--cfg loom"` and run in release mode.
#![cfg(loom)]

use std::sync::Arc;

use cloverleaf::{Missing, Vigil};
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// What is held, and the thread's bed.
struct World {
    vigil: Vigil,
    held: Mutex<u32>,
    /// Like a thread that is unparked: a wake that comes too early ends the next sleep.
    wakes: Mutex<bool>,
    woken: Condvar,
}

impl World {
    fn new() -> Arc<Self> {
        let vigil = Vigil::new();
        vigil.begin();
        Arc::new(Self {
            vigil,
            held: Mutex::new(0),
            wakes: Mutex::new(false),
            woken: Condvar::new(),
        })
    }

    fn hold(&self) {
        *self.held.lock().unwrap() += 1;
        match self.vigil.rouse() {
            Ok(()) => {}
            Err(Missing::Asleep) => {
                *self.wakes.lock().unwrap() = true;
                self.woken.notify_one();
            }
            Err(Missing::Nobody) => unreachable!("it never ends"),
        }
    }

    /// Sends what is held until so much has been sent; loom reports it as a deadlock if nobody wakes it.
    fn send(&self, expected: u32) {
        let mut sent = 0;
        while sent < expected {
            sent += std::mem::take(&mut *self.held.lock().unwrap());
            let is_idle =
                sent < expected && self.vigil.fall_asleep(|| *self.held.lock().unwrap() > 0);
            while is_idle && self.vigil.is_asleep() {
                let mut wakes = self.wakes.lock().unwrap();
                while !*wakes {
                    wakes = self.woken.wait(wakes).unwrap();
                }
                *wakes = false;
            }
        }
    }
}

#[test]
fn nothing_is_held_while_the_guard_sleeps() {
    loom::model(|| {
        let world = World::new();
        let theirs = Arc::clone(&world);
        let holder = thread::spawn(move || {
            theirs.hold();
            theirs.hold();
        });
        world.send(2);
        holder.join().unwrap();
    });
}
