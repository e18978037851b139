//! Measures how long it takes to write and read frames and messages of different sizes. Run it with
//! `cargo bench -p ipc-protocol`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ipc_protocol::{
    ChannelAnswer, ChannelReply, Frame, MessageId, NAMES_MAX, REPLY_ADDRESS, Route, to_body,
    write_batch, write_channel_answer, write_channel_entry, write_channel_frame, write_frame,
    write_frame_around,
};
use serde_json::{Value, json};

const SIZES: [usize; 4] = [64, 1024, 64 * 1024, 1024 * 1024];

/// Messages in a batch.
const BATCH: usize = 100;

fn main() {
    divan::main();
}

/// A message of `bytes` bytes, whose member is letters, as in most applications.
fn message(bytes: usize) -> Value {
    json!({ "data": "a".repeat(bytes - r#"{"data":""}"#.len()) })
}

fn id() -> MessageId {
    MessageId::from_random([7; 16])
}

/// A text as long as a session token.
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

/// The most expensive frame to check: 16 MiB full of member names, all of them escaped.
#[divan::bench(args = [1, 16 * 1024 * 1024], sample_count = 10)]
fn parse_a_frame_of_many_names(bencher: Bencher<'_, '_>, bytes: usize) {
    let object = |index: usize| {
        let members: Vec<_> =
            (0..NAMES_MAX).map(|name| format!(r#""\u0061{index:x}{name:x}":0"#)).collect();
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

/// A frame of a channel with `entries` messages. It has no session, like all frames of a channel
/// but the first.
fn channel_frame(entries: usize, bytes: usize) -> Vec<u8> {
    let (mut frame, message) = (Vec::new(), message(bytes).to_string());
    write_frame_around(&mut frame, Route::MessageChannel.path(), id(), None, |buffer| {
        write_channel_frame(buffer, 1000, None, |buffer| {
            for index in 0..entries {
                buffer.extend_from_slice(if index > 0 { b"," } else { b"" });
                write_channel_entry(buffer, id(), &message, None);
            }
        });
    });
    frame
}

#[divan::bench(args = [(1, 64), (100, 64), (100, 1024)])]
fn parse_a_frame_of_a_channels_client(bencher: Bencher<'_, '_>, (entries, bytes): (usize, usize)) {
    let frame = channel_frame(entries, bytes);
    bencher.counter(ItemsCount::new(entries)).bench_local(|| {
        let frame = Frame::parse_channel_frame(black_box(&frame), 1000).and_then(Frame::into_body);
        black_box(frame.expect("its body is a client's").entries.len())
    });
}

/// Measures reading a frame with the replies to many requests.
#[divan::bench(args = [(1, 64), (100, 64), (100, 1024)])]
fn parse_a_frame_of_a_channels_server(bencher: Bencher<'_, '_>, (replies, bytes): (usize, usize)) {
    let (mut frame, message) = (Vec::new(), message(bytes).to_string());
    let replies = (0..replies as u64).map(|entry| ChannelReply {
        entry,
        is_duplicate: false,
        body: &message,
    });
    let answer = ChannelAnswer { replies: replies.collect(), ..ChannelAnswer::default() };
    write_frame_around(&mut frame, REPLY_ADDRESS, id(), None, |buffer| {
        write_channel_answer(buffer, &answer)
    });
    bencher.counter(ItemsCount::new(answer.replies.len())).bench_local(|| {
        let answer = Frame::parse_channel_answer(black_box(&frame)).and_then(Frame::into_body);
        black_box(answer.expect("its body is a server's").replies.len())
    });
}
