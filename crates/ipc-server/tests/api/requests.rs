//! Tests requests and their replies.

use std::time::Duration;

use ipc_protocol::{MessageId, ProblemCode, Route};
use ipc_server::{MemoryOptions, Server};
use serde_json::json;

use crate::fixture::*;
use crate::logged;
use crate::ways::*;

/// Sends a request whose `Prefer` header is `wait`.
async fn ask(connection: &mut Connection, id: MessageId, session: &str, wait: &str) -> Response {
    let envelope = sealed(Route::MessageRequest, id, Some(session), r#"{"what":"time"}"#);
    let headers = format!("content-type: application/octet-stream\r\n{wait}");
    connection.request("POST", "/message/request", &headers, &envelope).await
}

const LONG: Duration = Duration::from_secs(3600);
const BODY: &str = r#"{"what":"time"}"#;

/// Takes the next message and replies to it.
async fn reply(server: &Server, reply: serde_json::Value) {
    let delivery = server.inbox().recv().await.unwrap();
    assert!(delivery.wants_reply());
    delivery.reply(&reply).await.unwrap();
}

#[tokio::test]
async fn a_request_gets_the_applications_reply_and_again_if_it_comes_again_either_way() {
    for way in Way::BOTH {
        let server = builder().start().await.unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        let id = new_id();
        let (answer, ()) =
            tokio::join!(line.request(id, BODY, LONG), reply(&server, json!({"time": "noon"})));
        let noon = r#"{"time":"noon"}"#.to_owned();
        assert_eq!(answer, Outcome::Reply(noon.clone(), false));
        // A repeated request gets the first reply, though no application is running.
        assert_eq!(line.request(id, BODY, LONG).await, Outcome::Reply(noon.clone(), true));
        for other in Way::BOTH {
            let mut other = other.open(&server, &session).await;
            assert_eq!(other.request(id, BODY, LONG).await, Outcome::Reply(noon.clone(), true));
        }
    }
}

#[tokio::test]
async fn a_reply_by_post_has_the_requests_own_id() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    let mut connection = connect(&server).await;
    let id = new_id();
    let (answer, ()) =
        tokio::join!(ask(&mut connection, id, &session, ""), reply(&server, json!({})));
    let plaintext = HOME.keys.open(&answer.body, None).unwrap();
    let frame = ipc_protocol::Frame::parse(&plaintext).unwrap();
    assert!(frame.reply_to(id).is_ok());
}

#[tokio::test]
async fn one_who_asks_again_while_it_is_worked_on_gets_the_same_reply() {
    for (first_way, second_way) in [
        (Way::Post, Way::Post),
        (Way::Post, Way::Channel),
        (Way::Channel, Way::Post),
        (Way::Channel, Way::Channel),
    ] {
        let server = builder().start().await.unwrap();
        let session = admin_session(&server).await;
        let (mut first, mut second) =
            (first_way.open(&server, &session).await, second_way.open(&server, &session).await);
        let id = new_id();
        let work = async {
            let delivery = server.inbox().recv().await.unwrap();
            // The second request has arrived once the inbox reports the message as known.
            delivery.reply(&json!({"n": 1})).await.unwrap();
        };
        let (one, two, ()) =
            tokio::join!(first.request(id, BODY, LONG), second.request(id, BODY, LONG), work);
        for outcome in [one, two] {
            assert!(
                matches!(&outcome, Outcome::Reply(body, _) if body == r#"{"n":1}"#),
                "{outcome:?}"
            );
        }
        server.stop().await;
        assert!(server.inbox().recv().await.is_none(), "the message was delivered once");
    }
}

#[tokio::test]
async fn no_reply_in_time_is_told_and_a_late_one_is_there_for_the_next_who_asks() {
    for way in Way::BOTH {
        let server = builder().start().await.unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        let id = new_id();
        let answer = line.request(id, BODY, Duration::ZERO).await;
        assert_eq!(answer, Outcome::Refused(ProblemCode::NoReplyInTime));
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted, "the line goes on");
        reply(&server, json!({"late": true})).await;
        let late = line.request(id, BODY, LONG).await;
        assert_eq!(late, Outcome::Reply(r#"{"late":true}"#.to_owned(), true));
    }
}

#[tokio::test]
async fn the_server_waits_no_longer_than_it_is_set_to() {
    let server = builder().reply_wait_max(Duration::ZERO).start().await.unwrap();
    let session = admin_session(&server).await;
    for way in Way::BOTH {
        let answer = way.open(&server, &session).await.request(new_id(), BODY, LONG).await;
        assert_eq!(answer, Outcome::Refused(ProblemCode::NoReplyInTime));
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_is_told_at_once() {
    for way in Way::BOTH {
        let server = builder().start().await.unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        let drop_it = async { drop(server.inbox().recv().await.unwrap()) };
        let (answer, ()) = tokio::join!(line.request(new_id(), BODY, LONG), drop_it);
        assert_eq!(answer, Outcome::Refused(ProblemCode::NotAnswered));
    }
}

#[tokio::test]
async fn a_request_that_is_declined_is_told_why_and_so_is_the_one_that_is_sent_again() {
    for way in Way::BOTH {
        let server = builder().start().await.unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        let id = new_id();
        let work = async {
            server.inbox().recv().await.unwrap().decline("\"a\"\nb\u{1b}").await.unwrap();
            server.inbox().recv().await.unwrap().decline("é".repeat(200)).await.unwrap();
        };
        let ask = async {
            let declined = Outcome::Declined("\"a\" b".to_owned());
            assert_eq!(line.request(id, BODY, LONG).await, declined);
            assert_eq!(line.request(id, BODY, LONG).await, declined, "not delivered again");
            let cut = Outcome::Declined("é".repeat(100));
            assert_eq!(line.request(new_id(), BODY, LONG).await, cut);
        };
        tokio::join!(ask, work);
        let refusals = server.observer().statistics().refusals;
        assert!(refusals.contains(&(ProblemCode::NotAnswered, 3)), "{refusals:?}");
    }
}

#[tokio::test]
async fn a_reply_that_no_client_would_take_is_refused_where_it_is_made() {
    use serde_json::value::RawValue;
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    for (bad, told) in [
        (r#"{"n":123456789012345678901234567890}"#, "an integer that does not fit 64 bits"),
        (r#"{"a":1,"a":2}"#, "a member name that occurs twice in its object"),
        (r#"{"n":1e999}"#, "a number beyond the range of a double"),
        (r#"{"s":"\ud800"}"#, "half of a surrogate pair"),
        (&deep, "more than 128 nested levels"),
    ] {
        for way in Way::BOTH {
            let mut line = way.open(&server, &session).await;
            let work = async {
                let reply: &RawValue = serde_json::from_str(bad).unwrap();
                let delivery = server.inbox().recv().await.unwrap();
                while !delivery.is_awaited() {
                    tokio::task::yield_now().await;
                }
                let error = delivery.reply(reply).await.unwrap_err();
                ipc_base::chain(&error).to_string()
            };
            let (answer, error) = tokio::join!(line.request(new_id(), BODY, LONG), work);
            let reason = format!("the reply breaks the protocol's rules for JSON: {told}");
            let Outcome::Declined(heard) = answer else { panic!("{answer:?}") };
            assert!(heard.starts_with(&reason), "{heard}");
            assert!(
                error.contains("breaks the protocol's rules for JSON") && error.contains(told),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_stop_waits_for_replies() {
    for way in Way::BOTH {
        let server = builder().start().await.unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        let work = async {
            let first = server.inbox().recv().await.unwrap();
            server.begin_stop();
            first.reply(&json!({"n": 1})).await.unwrap();
            server.stop().await;
        };
        let (answer, ()) = tokio::join!(line.request(new_id(), BODY, LONG), work);
        assert_eq!(answer, Outcome::Reply(r#"{"n":1}"#.to_owned(), false));
        assert!(server.inbox().recv().await.is_none(), "the inbox is closed");
        assert!(line.has_ended().await, "and the connection too");
    }
}

#[tokio::test]
async fn whoever_waits_for_a_durable_inbox_that_ends_is_told_to_come_again() {
    for way in Way::BOTH {
        let directory = tempfile::tempdir().unwrap();
        let inbox =
            ipc_server::Inbox::durable().open(directory.path().join("inbox.db")).await.unwrap();
        let server = builder().inbox(inbox).start().await.unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        let ending = async {
            while server.inbox().waiting().await == 0 {
                tokio::task::yield_now().await;
            }
            server.begin_stop();
            assert_eq!(server.finish_inbox().await, 1);
        };
        let (answer, ()) = tokio::join!(line.request(new_id(), BODY, LONG), ending);
        assert_eq!(answer, Outcome::Refused(ProblemCode::ShuttingDown));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_message_that_was_no_request_has_no_reply_to_ask_for() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    for way in Way::BOTH {
        let mut line = way.open(&server, &session).await;
        let id = new_id();
        assert_eq!(line.send(id, BODY).await, Outcome::Accepted);
        let answer = line.request(id, BODY, LONG).await;
        assert_eq!(answer, Outcome::Refused(ProblemCode::ReplyForgotten));
    }
}

#[tokio::test]
async fn a_hundred_requests_wait_on_one_worker() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    let config = tls(Some(identity("localhost")));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (address, config, session) = (server.address(), config.clone(), session.clone());
            tokio::spawn(async move {
                let mut connection = connect_tls(address, &config).await.unwrap();
                reply_in(&ask(&mut connection, new_id(), &session, "").await)
            })
        })
        .collect();
    let mut deliveries = Vec::new();
    for _ in 0..100 {
        deliveries.push(server.inbox().recv().await.unwrap());
    }
    // While all requests wait, the server still answers others.
    assert_eq!(connect(&server).await.request("GET", "/is/running", "", b"").await.status, 200);
    for delivery in deliveries {
        delivery.reply(&json!({})).await.unwrap();
    }
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "{}");
    }
}

#[tokio::test]
async fn long_replies_that_nobody_takes_share_the_memory_of_long_bodies() {
    let server = builder().bodies_bytes_max(9_000_000).start().await.unwrap();
    let session = admin_session(&server).await;
    let reply = serde_json::json!({"text": "x".repeat(8_000_000)});
    let answering = async {
        for _ in 0..2 {
            server.inbox().recv().await.unwrap().reply(&reply).await.unwrap();
        }
    };
    let id = new_id();
    let asking = async {
        // The reply does not fit into the sockets, and the client does not read it.
        let mut idle = connect(&server).await;
        let route = Route::MessageRequest;
        let envelope = sealed(route, new_id(), Some(&session), "{}");
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
            route.path(),
            envelope.len()
        );
        idle.write(&[head.as_bytes(), &envelope].concat()).await.unwrap();
        // The head of the response shows that the server has begun to send it.
        assert_eq!(idle.read_head().await.unwrap().status, 200);
        let mut other = connect(&server).await;
        let answer = other.post(route, &sealed(route, id, Some(&session), "{}")).await;
        answer.is_refusal(ProblemCode::Unavailable);
        assert_eq!(answer.header("retry-after"), Some("1"));
        drop(idle);
        loop {
            let answer = other.post(route, &sealed(route, id, Some(&session), "{}")).await;
            if answer.status != 503 {
                break reply_in(&answer);
            }
        }
    };
    let (reply_got, ()) = tokio::join!(asking, answering);
    assert_eq!(reply_got, reply.to_string(), "the reply was kept");
}

#[tokio::test]
async fn every_form_of_a_wish_to_wait_is_understood() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    let mut connection = connect(&server).await;
    for wait in [
        "prefer: wait=0\r\n",
        "Prefer: Wait=0\r\n",
        "prefer: wait =0\r\n",
        "prefer: wait = \"0\"\r\n",
        "prefer: foo=\"a, wait=300\", wait=0; x=y\r\n",
        "prefer: respond-async\r\nprefer: wait=0\r\n",
        "prefer: wait=0, wait=300\r\n",
    ] {
        // The default would be 30 s.
        ask(&mut connection, new_id(), &session, wait).await.is_refusal(ProblemCode::NoReplyInTime);
    }
}

#[tokio::test]
async fn a_request_that_the_application_gives_back_has_a_line_in_the_log() {
    logged::watch();
    let inbox = MemoryOptions::default().max_deliveries(2).build();
    let server = builder().inbox(inbox).start().await.unwrap();
    let session = admin_session(&server).await;
    let mut line = Way::Post.open(&server, &session).await;
    let id = new_id();
    let give_back_twice = async {
        let delivery = server.inbox().recv().await.unwrap();
        delivery.nack(Duration::from_millis(10)).await.unwrap();
        let lines = logged::with(&id.to_string());
        let line = format!("request {id} was given back and comes again in 10ms");
        assert!(
            lines.len() == 1 && lines[0].starts_with("INFO ") && lines[0].ends_with(&line),
            "{lines:?}"
        );
        let delivery = server.inbox().recv().await.unwrap();
        assert!(delivery.is_last_delivery());
        delivery.nack(Duration::ZERO).await.unwrap();
    };
    let (answer, ()) = tokio::join!(line.request(id, BODY, LONG), give_back_twice);
    assert_eq!(answer, Outcome::Refused(ProblemCode::NotAnswered));
    assert_eq!(
        logged::with(&id.to_string()).len(),
        1,
        "it became a dead letter and does not come again"
    );
}
