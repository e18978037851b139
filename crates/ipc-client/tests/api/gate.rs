//! What lets a test and the server that it made up wait for each other.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, Mutex};

/// Keeps whoever comes until it is opened. The server's thread waits with it.
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

/// Tells what arrives.
pub(crate) fn teller() -> (impl Fn(&str) + Send + Sync, Receiver<String>) {
    let (arrived, arrival) = channel();
    let arrived = Mutex::new(arrived);
    (move |body: &str| arrived.lock().unwrap().send(body.to_owned()).unwrap(), arrival)
}
