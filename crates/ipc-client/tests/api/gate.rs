//! Lets a test and its server wait for each other.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, Mutex};

/// Blocks the server's thread until the test opens the gate.
#[derive(Default)]
pub(crate) struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub(crate) fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }

    pub(crate) fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

/// A function that reports arrivals, and the receiver of its reports.
pub(crate) fn teller() -> (impl Fn(&str) + Send + Sync, Receiver<String>) {
    let (arrived, arrival) = channel();
    let arrived = Mutex::new(arrived);
    (move |body: &str| arrived.lock().unwrap().send(body.to_owned()).unwrap(), arrival)
}
