//! Tests batches: many messages in one envelope, with an answer for each that is not newly
//! accepted.

use ipc_protocol::{BatchReply, MessageId, ProblemCode, Route, write_batch};
use ipc_server::MemoryOptions;

use crate::fixture::*;

fn batch(messages: &[(MessageId, &str)]) -> String {
    let mut body = Vec::new();
    write_batch(&mut body, messages.iter().copied());
    String::from_utf8(body).unwrap()
}

async fn send(connection: &mut Connection, session: &str, body: &str) -> Response {
    connection
        .post(Route::MessageBatch, &sealed(Route::MessageBatch, new_id(), Some(session), body))
        .await
}

fn reply(response: &Response) -> BatchReply {
    serde_json::from_str(&reply_in(response)).unwrap()
}

fn others(reply: &BatchReply) -> Vec<(u32, &str)> {
    reply.others.iter().map(|other| (other.index, other.code.as_str())).collect()
}

#[tokio::test]
async fn each_message_is_delivered_once_however_batches_overlap() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    let mut connection = connect(&server).await;
    let ids: Vec<_> = (0..4).map(|_| new_id()).collect();
    let first = batch(&[(ids[0], r#"{"n":0}"#), (ids[1], r#"{"n":1}"#), (ids[2], r#"{"n":2}"#)]);
    assert_eq!(
        reply(&send(&mut connection, &session, &first).await),
        BatchReply { accepted: 3, ..Default::default() }
    );
    let again = reply(&send(&mut connection, &session, &first).await);
    assert_eq!(
        (again.accepted, others(&again)),
        (0, vec![(0, "duplicate"), (1, "duplicate"), (2, "duplicate")])
    );
    let overlapping =
        batch(&[(ids[2], r#"{"n":2}"#), (ids[3], r#"{"n":3}"#), (ids[0], r#"{"x":0}"#)]);
    let overlap = reply(&send(&mut connection, &session, &overlapping).await);
    assert_eq!((overlap.accepted, others(&overlap)), (1, vec![(0, "duplicate"), (2, "id_reused")]));
    connection.submit(ids[3], &session, r#"{"n":3}"#).await.is_success();
    server.stop().await;
    for n in 0..4 {
        assert_eq!(server.inbox().recv().await.unwrap().body(), format!(r#"{{"n":{n}}}"#));
    }
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn one_bad_message_does_not_stop_the_rest() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    let mut connection = connect(&server).await;
    let good = batch(&[(new_id(), "{}")]);
    let good = good.trim_matches(['[', ']']);
    let body = format!(r#"[{good},1,{{"id":"{}","body":[]}},{{"id":"x","body":{{}}}}]"#, new_id());
    let answer = reply(&send(&mut connection, &session, &body).await);
    assert_eq!(answer.accepted, 1);
    assert_eq!(
        others(&answer),
        [(1, "malformed_frame"), (2, "not_an_object"), (3, "malformed_frame")]
    );
}

#[tokio::test]
async fn an_inbox_with_room_for_some_takes_the_first_ones_and_says_from_where_on_it_was_full() {
    let server =
        builder().inbox(MemoryOptions::default().messages_max(2).build()).start().await.unwrap();
    let session = admin_session(&server).await;
    let mut connection = connect(&server).await;
    let ids: Vec<_> = (0..4).map(|_| new_id()).collect();
    let all: Vec<_> = ids.iter().map(|id| (*id, "{}")).collect();
    let answer = reply(&send(&mut connection, &session, &batch(&all)).await);
    assert_eq!(answer, BatchReply { accepted: 2, full_from: Some(2), ..Default::default() });
    let answer = reply(&send(&mut connection, &session, &batch(&all[2..])).await);
    assert_eq!(answer, BatchReply { full_from: Some(0), ..Default::default() });
    assert_eq!(server.inbox().recv().await.unwrap().id(), ids[0]);
    assert_eq!(server.inbox().recv().await.unwrap().id(), ids[1]);
    let answer = reply(&send(&mut connection, &session, &batch(&all[2..])).await);
    assert_eq!(answer, BatchReply { accepted: 2, ..Default::default() });
}

#[tokio::test]
async fn a_batch_that_finds_no_room_for_its_ids_is_told_so() {
    let inbox = MemoryOptions::default().remembered_ids_max(2).build();
    let server = builder().inbox(inbox).start().await.unwrap();
    let session = admin_session(&server).await;
    let mut connection = connect(&server).await;
    let all: Vec<_> = (0..4).map(|_| (new_id(), "{}")).collect();
    let answer = reply(&send(&mut connection, &session, &batch(&all)).await);
    let full_code = Some("ids_full".to_owned());
    let full = BatchReply { accepted: 2, full_from: Some(2), full_code, others: Vec::new() };
    assert_eq!(answer, full);
    let answer = reply(&send(&mut connection, &session, &batch(&all[..3])).await);
    assert_eq!(answer.full_from, Some(2));
    assert_eq!(answer.full_code.as_deref(), Some("ids_full"));
    assert_eq!(others(&answer), [(0, "duplicate"), (1, "duplicate")]);
}

#[tokio::test]
async fn what_is_no_batch_or_too_long_a_one_is_refused() {
    let server = builder().batch_messages_max(2).start().await.unwrap();
    let session = admin_session(&server).await;
    let mut connection = connect(&server).await;
    send(&mut connection, &session, "{}").await.is_refusal(ProblemCode::NotAnObject);
    let three: Vec<_> = (0..3).map(|_| (new_id(), "{}")).collect();
    send(&mut connection, &session, &batch(&three)).await.is_refusal(ProblemCode::TooLarge);
    send(&mut connection, "none", &batch(&three)).await.is_refusal(ProblemCode::SessionExpired);
    assert_eq!(reply(&send(&mut connection, &session, "[]").await), BatchReply::default());
    server.stop().await;
    assert!(server.inbox().recv().await.is_none());
}
