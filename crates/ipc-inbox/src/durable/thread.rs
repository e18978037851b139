//! The inbox's thread: it opens the file, carries out commands until the last handle is gone, and
//! closes the file.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::commands::Commands;
use super::options::{DurableOptions, OpenError};
use super::writer::Writer;
use crate::replies::Replies;

/// The arguments of the thread.
pub(super) struct Start {
    pub(super) path: PathBuf,
    pub(super) options: DurableOptions,
    pub(super) commands: Arc<Commands>,
    pub(super) replies: Arc<Replies>,
    pub(super) opened: oneshot::Sender<Result<(), OpenError>>,
}

/// Runs the thread. It ends when the last handle is gone.
pub(super) fn run(start: Start) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            // The caller may be gone.
            let _gone = start.opened.send(Err(OpenError::Thread { source }));
            return;
        }
    };
    runtime.block_on(async move {
        let Start { path, options, commands, replies, opened } = start;
        // Even if the thread panics, no caller waits in vain.
        let _end = End(Arc::clone(&commands));
        let mut writer = match Writer::open(path, options, Arc::clone(&commands), replies).await {
            Ok(writer) => writer,
            Err(error) => {
                let _gone = opened.send(Err(error));
                return;
            }
        };
        if opened.send(Ok(())).is_ok() {
            writer.work().await;
        }
        // A caller that has just sent a command is told that the thread has ended.
        commands.end();
        writer.finish().await;
    });
}

/// Ends the commands when it is dropped.
struct End(Arc<Commands>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}
