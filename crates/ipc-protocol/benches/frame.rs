//! Frames and messages, written and read, by size. `cargo bench -p ipc-protocol`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ipc_protocol::{Frame, MessageId, NAMES_MAX, Route, to_body, write_batch, write_frame};
use serde_json::{Value, json};

const SIZES: [usize; 4] = [64, 1024, 64 * 1024, 1024 * 1024];

/// Messages in a batch.
const BATCH: usize = 100;

fn main() {
    divan::main();
}

/// A message of so many bytes: members of letters, as applications have them.
fn message(bytes: usize) -> Value {
    json!({ "data": "a".repeat(bytes - r#"{"data":""}"#.len()) })
}

fn id() -> MessageId {
    MessageId::from_random([7; 16])
}

/// As long as a session token is.
fn session() -> String {
    "s".repeat(300)
}

fn frame(to: Route, body: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, to.path(), id(), Some(&session()), body);
    frame
}

#[divan::bench(args = SIZES)]
fn to_body_of_a_value(bencher: Bencher<'_, '_>, bytes: usize) {
    let message = message(bytes);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| to_body(black_box(&message)));
}

#[divan::bench(args = SIZES)]
fn write_a_frame(bencher: Bencher<'_, '_>, bytes: usize) {
    let (body, session) = (message(bytes).to_string(), session());
    let mut buffer = Vec::new();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        buffer.clear();
        write_frame(&mut buffer, Route::MessageSubmit.path(), id(), Some(&session), &body);
        black_box(&buffer);
    });
}

#[divan::bench(args = SIZES)]
fn parse_a_frame(bencher: Bencher<'_, '_>, bytes: usize) {
    let frame = frame(Route::MessageSubmit, &message(bytes).to_string());
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let frame = Frame::parse(black_box(&frame)).expect("it was just written");
        black_box(frame.object().expect("its body is an object").len())
    });
}

/// What costs most to check: a frame of 16 MiB that is full of names, all of them escaped.
#[divan::bench(args = [1, 16 * 1024 * 1024], sample_count = 10)]
fn parse_a_frame_of_many_names(bencher: Bencher<'_, '_>, bytes: usize) {
    let object = |index: usize| {
        let members: Vec<_> = (0..NAMES_MAX).map(|name| format!(r#""\u0061{index:x}{name:x}":0"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    let objects = bytes.div_ceil(object(0).len());
    let body = format!(r#"{{"":[{}]}}"#, (0..objects).map(object).collect::<Vec<_>>().join(","));
    let frame = frame(Route::MessageSubmit, &body);
    bencher.counter(BytesCount::new(frame.len())).bench_local(|| {
        let frame = Frame::parse(black_box(&frame)).expect("it was just written");
        black_box(frame.id())
    });
}

#[divan::bench(args = [64, 1024])]
fn parse_a_batch_of_100(bencher: Bencher<'_, '_>, bytes: usize) {
    let message = message(bytes).to_string();
    let mut body = Vec::new();
    write_batch(&mut body, (0..BATCH).map(|_| (id(), message.as_str())));
    let frame = frame(Route::MessageBatch, std::str::from_utf8(&body).expect("it is JSON"));
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let frame = Frame::parse(black_box(&frame)).expect("it was just written");
        black_box(frame.batch(BATCH).expect("its body is an array").len())
    });
}
