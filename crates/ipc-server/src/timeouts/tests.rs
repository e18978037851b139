//! Tests of a connection's limits. The clock is paused: it advances only for what is awaited.

use std::future::poll_fn;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::framing::HEAD_BYTES_MAX;

const TIMES: Timeouts = Timeouts {
    idle: Duration::from_secs(75),
    head: Duration::from_secs(5),
    linger: Duration::from_secs(1),
    answer: Duration::from_secs(30),
};

/// The server's end with its state, and the peer's end. The clock is paused.
fn connected() -> (TimeoutStream<DuplexStream, ()>, Rc<ConnectionState>, DuplexStream) {
    let (server, peer) = duplex(64);
    let connection = ConnectionState::new(TIMES);
    (TimeoutStream::new(server, Rc::clone(&connection), ()), connection, peer)
}

/// Gives a short answer.
fn answer(connection: &ConnectionState) -> bool {
    let is_kept = connection.answered(false);
    connection.answer_is_written();
    is_kept
}

/// How long it takes until the server finds the end of the stream.
async fn until_the_end(stream: &mut TimeoutStream<DuplexStream, ()>) -> Duration {
    let start = Instant::now();
    let mut buffer = [0; 64];
    while stream.read(&mut buffer).await.unwrap() > 0 {}
    start.elapsed()
}

fn about(time: Duration, seconds: u64) -> bool {
    let expected = Duration::from_secs(seconds);
    time >= expected && time < expected + Duration::from_millis(10)
}

/// A peer that sends a byte every second for ever.
async fn drip(peer: &mut DuplexStream) {
    while peer.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_byte_ends_when_it_has_been_idle_for_too_long() {
    let (mut stream, connection, _peer) = connected();
    assert!(about(until_the_end(&mut stream).await, 75));
    assert!(connection.is_over());
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "it stays at its end");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_dripped_ends_with_its_time_on_the_first_request_and_on_later_ones() {
    for earlier_requests in 0..3 {
        let (mut stream, connection, mut peer) = connected();
        for _ in 0..earlier_requests {
            peer.write_all(b"head").await.unwrap();
            assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 4);
            connection.request_begins(BodyLength::None, false);
            tokio::time::advance(Duration::from_secs(20)).await;
            assert!(answer(&connection));
            stream.write_all(b"answer").await.unwrap();
            stream.flush().await.unwrap();
            peer.read_exact(&mut [0; 6]).await.unwrap();
            tokio::time::advance(Duration::from_secs(70)).await;
        }
        tokio::select! {
            time = until_the_end(&mut stream) => assert!(about(time, 5), "{time:?}"),
            () = drip(&mut peer) => unreachable!(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_byte_of_a_later_head_is_cut_off_too() {
    let (mut stream, connection, mut peer) = connected();
    connection.request_begins(BodyLength::None, false);
    answer(&connection);
    stream.flush().await.unwrap();
    peer.write_all(b"G").await.unwrap();
    assert!(about(until_the_end(&mut stream).await, 5));
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_has_no_limit_here() {
    let (mut stream, connection, mut peer) = connected();
    connection.request_begins(BodyLength::Bytes(1 << 20), false);
    let late = async {
        tokio::time::sleep(Duration::from_secs(1000)).await;
        peer.write_all(b"late").await.unwrap();
    };
    let mut buffer = [0; 8];
    let (read, ()) = tokio::join!(stream.read(&mut buffer), late);
    assert_eq!(read.unwrap(), 4);
    assert_eq!(connection.eviction_rank(), None);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_left_unread_is_dropped_for_a_while_and_no_longer_however_it_comes() {
    for is_dripped in [false, true] {
        let (mut stream, connection, mut peer) = connected();
        connection.request_begins(BodyLength::Bytes(1 << 20), false);
        assert!(!answer(&connection), "such a connection is not kept");
        stream.flush().await.unwrap();
        tokio::select! {
            time = until_the_end(&mut stream) => assert!(about(time, 1), "{time:?}"),
            () = async {
                if is_dripped {
                    drip(&mut peer).await;
                }
                std::future::pending().await
            } => (),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_after_an_answer_ends_too() {
    let (mut stream, connection, mut peer) = connected();
    connection.request_begins(BodyLength::Bytes(1 << 20), false);
    answer(&connection);
    stream.flush().await.unwrap();
    let flood = async {
        // There is always something to read, while the clock advances by the second.
        while peer.write_all(&[0; 64]).await.is_ok() {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        time = until_the_end(&mut stream) => assert!(time <= Duration::from_millis(1200), "{time:?}"),
        () = flood => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_read_to_its_end_keeps_the_connection() {
    let (mut stream, connection, _peer) = connected();
    connection.request_begins(BodyLength::Bytes(1 << 20), false);
    connection.body_is_read();
    assert!(answer(&connection));
    stream.flush().await.unwrap();
    assert!(connection.eviction_rank().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_limit_after_an_answer_holds_although_nobody_reads_again_before_it() {
    let (mut stream, connection, _peer) = connected();
    // A read sets the timer for a limit that is far away. The task then waits only for its own
    // timer.
    let mut buffer = [0; 8];
    let mut first = ReadBuf::new(&mut buffer);
    poll_fn(|context| {
        assert!(Pin::new(&mut stream).poll_read(context, &mut first).is_pending());
        connection.request_begins(BodyLength::Bytes(1 << 20), false);
        answer(&connection);
        assert!(Pin::new(&mut stream).poll_flush(context).is_ready());
        Poll::Ready(())
    })
    .await;
    assert_eq!(stream.timer_at, Some(Instant::now() + TIMES.linger));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_is_given_up_whole_or_in_drips() {
    for takes_a_byte_a_second in [false, true] {
        let (mut stream, connection, mut peer) = connected();
        connection.request_begins(BodyLength::None, false);
        answer(&connection);
        let start = Instant::now();
        let error = tokio::select! {
            result = async {
                stream.write_all(&[0; 1000]).await?;
                stream.flush().await
            } => result.unwrap_err(),
            () = async {
                if takes_a_byte_a_second {
                    loop {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        peer.read_u8().await.unwrap();
                    }
                }
                std::future::pending().await
            } => unreachable!(),
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(about(start.elapsed(), 30), "{:?}", start.elapsed());
    }
}

/// Writes more than the pipe holds.
async fn write_too_much(stream: &mut TimeoutStream<DuplexStream, ()>) {
    poll_fn(|context| {
        while Pin::new(&mut *stream).poll_write(context, &[0; 64]).is_ready() {}
        Poll::Ready(())
    })
    .await;
}

/// Polls a read like a task that was woken.
async fn read_now(stream: &mut TimeoutStream<DuplexStream, ()>) -> Poll<io::Result<usize>> {
    poll_fn(|context| {
        let mut space = [0; 64];
        let mut space = ReadBuf::new(&mut space);
        let result = Pin::new(&mut *stream).poll_read(context, &mut space);
        Poll::Ready(result.map_ok(|()| space.filled().len()))
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn no_request_is_read_before_the_peer_has_the_answer_to_the_one_before() {
    let (mut stream, connection, mut peer) = connected();
    connection.request_begins(BodyLength::None, false);
    peer.write_all(b"more").await.unwrap();
    connection.answered(false);
    stream.flush().await.unwrap();
    assert!(read_now(&mut stream).await.is_pending(), "the answer has only begun");
    write_too_much(&mut stream).await;
    connection.answer_is_written();
    assert!(read_now(&mut stream).await.is_pending());
    peer.read_exact(&mut [0; 64]).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn no_limit_but_its_own_ends_an_answer_on_its_way() {
    for is_last in [false, true] {
        let (mut stream, connection, mut peer) = connected();
        connection.request_begins(BodyLength::None, is_last);
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        connection.answered(false);
        // The first part is written at once, the next is not.
        stream.write_all(&[0; 64]).await.unwrap();
        stream.flush().await.unwrap();
        write_too_much(&mut stream).await;
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(read_now(&mut stream).await.is_pending());
        // Taking only a part of it does not extend the time.
        peer.read_exact(&mut [0; 64]).await.unwrap();
        stream.flush().await.unwrap();
        write_too_much(&mut stream).await;
        assert!(read_now(&mut stream).await.is_pending());
        tokio::time::advance(Duration::from_secs(2)).await;
        let Poll::Ready(Err(error)) = read_now(&mut stream).await else { panic!("it is over") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_idle_connection_begins_when_its_answer_was_taken() {
    let (mut stream, connection, mut peer) = connected();
    connection.request_begins(BodyLength::None, false);
    connection.answered(false);
    write_too_much(&mut stream).await;
    connection.answer_is_written();
    tokio::time::advance(Duration::from_secs(20)).await;
    peer.read_exact(&mut [0; 64]).await.unwrap();
    stream.flush().await.unwrap();
    assert!(about(until_the_end(&mut stream).await, 75));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_long_is_answered_and_nothing_of_its_end_is_read() {
    let (server, mut peer) = duplex(1 << 20);
    let connection = ConnectionState::new(TIMES);
    let mut stream = TimeoutStream::new(server, Rc::clone(&connection), ());
    let head = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(HEAD_BYTES_MAX));
    peer.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut space) = (Vec::new(), [0; 1000]);
    let start = Instant::now();
    while let count @ 1.. = stream.read(&mut space).await.unwrap() {
        read.extend_from_slice(&space[..count]);
    }
    assert!(about(start.elapsed(), 1), "the peer may read its answer");
    assert!(!read.is_empty() && read.len() < HEAD_BYTES_MAX, "{}", read.len());
    assert!(head.as_bytes().starts_with(&read));
    let mut answer = vec![0; HEAD_TOO_LONG.len()];
    peer.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, HEAD_TOO_LONG);
}

/// How long it takes until the server has closed the connection.
async fn until_closed(stream: &mut TimeoutStream<DuplexStream, ()>) -> Duration {
    let start = Instant::now();
    stream.shutdown().await.unwrap();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_followed_by_a_wait_for_the_peers_end_and_no_longer_than_the_limit() {
    for peer_closes in [true, false] {
        let (mut stream, connection, mut peer) = connected();
        connection.request_begins(BodyLength::None, true);
        assert!(!answer(&connection), "the request asked for the end");
        stream.flush().await.unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let (time, ()) = tokio::join!(until_closed(&mut stream), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if peer_closes {
                peer.shutdown().await.unwrap();
            }
        });
        let expected = if peer_closes { 300 } else { 1000 };
        assert!(time.as_millis().abs_diff(expected) < 10, "{time:?}");
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 0, "what came behind it is not read");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_at_once_unless_something_came_that_nobody_read() {
    for comes in [false, true] {
        let (mut stream, _watch, mut peer) = connected();
        if comes {
            peer.write_all(b"GET").await.unwrap();
        }
        let time = until_closed(&mut stream).await;
        assert!(about(time, u64::from(comes)), "{time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closed_by_another_ends_at_once() {
    let (mut stream, connection, _peer) = connected();
    let close = async {
        tokio::task::yield_now().await;
        connection.close_now();
    };
    let (time, ()) = tokio::join!(until_the_end(&mut stream), close);
    assert_eq!(time, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_sets_its_timer_once_in_a_while() {
    let (mut stream, connection, mut peer) = connected();
    let mut set = 0;
    let mut timer_at = stream.timer_at;
    for _ in 0..100 {
        peer.write_all(b"head").await.unwrap();
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 4);
        // actix-http does the same: it reads until there is nothing.
        let mut buffer = [0; 8];
        let mut nothing = ReadBuf::new(&mut buffer);
        poll_fn(|context| {
            assert!(Pin::new(&mut stream).poll_read(context, &mut nothing).is_pending());
            Poll::Ready(())
        })
        .await;
        connection.request_begins(BodyLength::None, false);
        answer(&connection);
        stream.flush().await.unwrap();
        set += u32::from(stream.timer_at != timer_at);
        timer_at = stream.timer_at;
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    assert_eq!(set, 1);
}

/// A connection that a request has turned into a channel.
fn opened() -> (TimeoutStream<DuplexStream, ()>, Rc<ConnectionState>, DuplexStream) {
    let (stream, connection, peer) = connected();
    connection.request_begins(BodyLength::None, true);
    connection.channel_opens();
    assert!(connection.answered(true), "it is kept, although the request was the last");
    (stream, connection, peer)
}

#[tokio::test(start_paused = true)]
async fn a_channel_has_none_of_these_limits_while_it_is_open() {
    let (mut stream, connection, mut peer) = opened();
    stream.flush().await.unwrap();
    let late = async {
        tokio::time::sleep(Duration::from_secs(1000)).await;
        peer.write_all(b"late").await.unwrap();
        // Nor does the limit apply to what is written to the channel.
        tokio::time::sleep(Duration::from_secs(1000)).await;
        peer.read_exact(&mut [0; 100]).await.unwrap();
    };
    let exchange = async {
        let mut buffer = [0; 8];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
        stream.write_all(&[0; 100]).await.unwrap();
        stream.flush().await.unwrap();
    };
    tokio::join!(exchange, late);
    assert!(!connection.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_over_is_closed_like_any_other_connection() {
    for peer_is_done in [false, true] {
        let (mut stream, connection, _peer) = opened();
        if peer_is_done {
            connection.peer_is_done();
        }
        connection.answer_is_written();
        stream.write_all(b"close").await.unwrap();
        stream.flush().await.unwrap();
        let time = until_the_end(&mut stream).await;
        assert!(about(time, if peer_is_done { 0 } else { 1 }), "{time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_channel_has_its_turn_among_idle_connections_and_is_told_to_go() {
    let (_stream, connection, _peer) = opened();
    let start = Instant::now();
    tokio::time::advance(Duration::from_secs(5)).await;
    connection.channel_is_idle(None);
    assert_eq!(connection.eviction_rank(), None, "something waits");
    connection.channel_is_idle(Some(start));
    assert_eq!(connection.eviction_rank(), Some((false, start + TIMES.idle)));
    connection.close_now();
    assert!(connection.makes_room() && !connection.is_over(), "it is for the channel to say so");
    assert_eq!(connection.eviction_rank(), None);
}
