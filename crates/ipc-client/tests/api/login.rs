//! Sessions: when a client logs in, which session it presents, and what it keeps for the next
//! process.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipc_base::chain;
use ipc_client::{CredentialsOrigin, Outcome, ProblemCode, SendError};
use ipc_envelope::{Key, KeyRing};
use ipc_home::{Credentials, KeptSession, LoginTurn};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::fake::{
    Answer, Fake, RAW, TOKEN, grant, http, problem, reply, success, took, with_session,
};
use crate::fixture::{PASSWORD, Place, issue, now_secs, ring};
use crate::logged;

#[test]
fn sixteen_sends_without_a_session_log_in_once() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(took));
    let client = place.client(&fake);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let client = &client;
            scope.spawn(move || client.send(&json!({"n": n})).wait().unwrap());
        }
    });
    assert_eq!(fake.logins().len(), 1);
    let login = &fake.logins()[0];
    assert_eq!((login.to.as_str(), login.session.as_deref()), ("/client/auth", None));
    assert_eq!(login.body, format!(r#"{{"username":"ipc-admin","password":"{PASSWORD}"}}"#));
}

#[test]
fn a_session_that_ends_is_renewed_and_the_message_goes_out_again_under_its_id() {
    let place = Place::new();
    let logins = AtomicUsize::new(0);
    // Each session is valid for two messages.
    let fake = Fake::tls(place.tls(), move |seen| {
        if seen.is_login() {
            return grant(seen, &format!("session-{}", logins.fetch_add(1, Ordering::SeqCst)));
        }
        let wanted = format!("session-{}", logins.load(Ordering::SeqCst).wrapping_sub(1));
        match seen.session.as_deref() {
            Some(session) if session == wanted && seen.turn != 3 => success(),
            _ => problem(ProblemCode::SessionExpired, ""),
        }
    });
    let client = place.client(&fake);
    for n in 0..4 {
        client.send(&json!({"n": n})).wait().unwrap();
    }
    assert_eq!(fake.logins().len(), 2);
    let submits = fake.submits();
    let refused = &submits[3];
    let again = &submits[4];
    assert_eq!((&refused.id, &refused.body), (&again.id, &again.body));
    assert_ne!(refused.envelope, again.envelope);
}

#[test]
fn own_credentials_go_before_those_of_the_home() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.builder(&fake).credentials("test1", "päss\"321").build().unwrap().blocking();
    client.send(&json!({})).wait().unwrap();
    assert_eq!(fake.logins()[0].body, r#"{"username":"test1","password":"päss\"321"}"#);
}

#[test]
fn wrong_credentials_are_tried_once_however_many_sends_wait() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), |seen| {
        problem(
            if seen.is_login() { ProblemCode::BadCredentials } else { ProblemCode::SessionExpired },
            "",
        )
    });
    let client =
        place.builder(&fake).credentials("test1", "wrong").connections_max(8).build().unwrap();
    let sends: Vec<_> = (0..8).map(|n| client.send(&json!({"n": n}))).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        for send in sends.into_iter().map(tokio::spawn).collect::<Vec<_>>() {
            let error = send.await.unwrap().unwrap_err();
            assert!(matches!(&error, SendError::BadCredentials { username, origin: CredentialsOrigin::Given } if username == "test1"));
            assert_eq!(error.outcome(), Outcome::Refused);
            assert!(error.remedy().unwrap().to_string().contains("test1"));
        }
    });
    // One login for all that waited. A task that came later may have tried again.
    assert!(fake.logins().len() < 8, "{} logins", fake.logins().len());
    assert!(place.kept_sessions().is_empty());
}

/// A server that accepts this password alone.
fn takes_password(password: &'static str) -> impl Fn(&crate::fake::Seen) -> Answer + Send + Sync {
    let good = with_session(|_| success());
    move |seen| match seen.is_login() && !seen.body.contains(password) {
        true => problem(ProblemCode::BadCredentials, ""),
        false => good(seen),
    }
}

fn write_admin(place: &Place, password: &str) {
    let admin = Credentials::new("ipc-admin", password);
    place.home.write_admin_credentials(&admin, now_secs(), [8; 16]).unwrap();
}

#[test]
fn an_admin_whose_password_was_changed_meanwhile_gets_in_with_the_new_one() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), takes_password("another"));
    let client = place.client(&fake);
    write_admin(&place, "another");
    client.send(&json!({"n": 1})).wait().unwrap();
    client.send(&json!({"n": 2})).wait().unwrap();
    assert_eq!(fake.logins().len(), 2);
    assert_eq!(place.kept_sessions().len(), 1);
}

#[test]
fn an_admin_whose_credentials_are_as_they_were_is_refused_at_once() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), takes_password("another"));
    let client = place.client(&fake);
    let refused = || {
        let error = client.send(&json!({})).wait().unwrap_err();
        assert!(
            matches!(error, SendError::BadCredentials { origin: CredentialsOrigin::AdminCred, .. }),
            "{error:?}"
        );
        let renew = ipc_client::Remedy::RenewCredentials { user: "ipc-admin".into() };
        assert_eq!(error.remedy(), Some(renew));
        fake.logins().len()
    };
    assert_eq!(refused(), 1);
    // New credentials are tried once. If they cannot be read, the old ones are tried.
    write_admin(&place, "still-wrong");
    assert_eq!(refused(), 3);
    std::fs::remove_file(place.home.admin_cred_file()).unwrap();
    assert_eq!(refused(), 4);
}

#[test]
fn a_login_that_is_only_checked_is_one_and_keeps_no_session() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), takes_password("right"));
    let client =
        |password| place.builder(&fake).credentials("test1", password).build().unwrap().blocking();
    client("right").check_login().unwrap();
    assert_eq!((fake.logins().len(), fake.seen().len()), (1, 1));
    let error = client("wrong").check_login().unwrap_err();
    assert!(matches!(&error, SendError::BadCredentials { username, .. } if username == "test1"));
    assert_eq!((fake.logins().len(), fake.seen().len()), (2, 2));
    assert!(place.kept_sessions().is_empty());

    let fake = Fake::tls(place.tls(), |_| problem(ProblemCode::WrongCertificate, ""));
    let error = place.client(&fake).check_login().unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::WrongCertificate));
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn credentials_of_its_own_are_never_replaced_by_the_homes() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), takes_password("another"));
    let client = place.builder(&fake).credentials("ipc-admin", "wrong").build().unwrap();
    write_admin(&place, "another");
    let error = client.blocking().send(&json!({})).wait().unwrap_err();
    assert!(
        matches!(error, SendError::BadCredentials { origin: CredentialsOrigin::Given, .. }),
        "{error:?}"
    );
    assert_eq!(fake.logins().len(), 1);
}

#[test]
fn a_server_that_takes_no_session_of_its_own_is_not_asked_for_ever() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), |seen| match seen.is_login() {
        true => grant(seen, "never good"),
        false => problem(ProblemCode::SessionExpired, ""),
    });
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Refused { status: 419, code: Some(ProblemCode::SessionExpired), .. }
        ),
        "{error:?}"
    );
    assert_eq!((fake.logins().len(), fake.submits().len()), (1, 2));
}

#[test]
fn a_kept_session_saves_the_next_client_its_login() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    place.client(&fake).send(&json!({})).wait().unwrap();

    let kept = place.kept_sessions();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(place.home.sessions_dir().metadata().unwrap().permissions().mode() & 0o7777, 0o700);

    place.client(&fake).send(&json!({})).wait().unwrap();
    assert_eq!((fake.logins().len(), fake.submits().len()), (1, 3));

    // Another user has no session, nor has another certificate.
    place
        .builder(&fake)
        .credentials("test1", "pass321")
        .build()
        .unwrap()
        .blocking()
        .send(&json!({}))
        .wait()
        .unwrap();
    assert_eq!(fake.logins().len(), 2);
    place.present(&issue(&place.authority, "localhost", now_secs()));
    place.client(&fake).send(&json!({})).wait().unwrap();
    assert_eq!(fake.logins().len(), 3);
}

#[test]
fn a_client_told_to_keep_no_session_leaves_none_and_takes_none() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    for logins in 1..=2 {
        let client = place.builder(&fake).keep_session(false).build().unwrap().blocking();
        client.send(&json!({})).wait().unwrap();
        assert_eq!(fake.logins().len(), logins);
        assert!(place.kept_sessions().is_empty());
    }
}

#[test]
fn a_kept_session_that_is_no_longer_good_is_renewed() {
    let place = Place::new();
    let first = Fake::tls(place.tls(), with_session(|_| success()));
    place.client(&first).send(&json!({})).wait().unwrap();
    let second = Fake::tls(place.tls(), |seen| match (seen.is_login(), seen.session.as_deref()) {
        (true, _) => grant(seen, "another"),
        (false, Some("another")) => success(),
        _ => problem(ProblemCode::SessionExpired, ""),
    });
    place.client(&second).send(&json!({})).wait().unwrap();
    let sessions: Vec<_> = second.submits().into_iter().map(|seen| seen.session.unwrap()).collect();
    assert_eq!(sessions, [TOKEN, "another"]);
    place.client(&second).send(&json!({})).wait().unwrap();
    assert_eq!(second.logins().len(), 1, "the new session replaced the old one");
}

#[test]
fn a_session_that_cannot_be_kept_is_used_all_the_same() {
    let place = Place::new();
    std::fs::write(place.home.sessions_dir(), "a file where the directory should be").unwrap();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    place.client(&fake).send(&json!({})).wait().unwrap();
    assert_eq!(fake.logins().len(), 1);
}

#[test]
fn of_many_clients_that_need_a_session_at_the_same_time_one_logs_in() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(took));
    // Each client has a thread and a lock of its own, as a process has. None finds a session when
    // it is built.
    let clients: Vec<_> = (0..24).map(|_| place.client(&fake)).collect();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| client.send(&json!({})).wait().unwrap());
        }
    });
    assert_eq!((fake.logins().len(), fake.messages().len()), (1, 24));
}

#[test]
fn clients_that_can_agree_on_nothing_all_log_in() {
    let place = Place::new();
    std::fs::write(place.home.sessions_dir(), "a file where the directory should be").unwrap();
    let fake = Fake::tls(place.tls(), with_session(took));
    let clients: Vec<_> = (0..4).map(|_| place.client(&fake)).collect();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| client.send(&json!({})).wait().unwrap());
        }
    });
    assert_eq!((fake.logins().len(), fake.messages().len()), (4, 4));
}

#[test]
fn a_client_that_hangs_while_it_logs_in_holds_nobody_up_for_long() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let LoginTurn::Ours(_hangs) = place.home.try_login_lock("localhost", "ipc-admin").unwrap()
    else {
        panic!("another client holds the lock");
    };
    // The client waits for half of its timeout.
    let client = place.builder(&fake).timeout(Duration::from_secs(4)).build().unwrap().blocking();
    client.send(&json!({})).wait().unwrap();
    assert_eq!(fake.logins().len(), 1);
}

/// Keeps a session of the home's own admin, as another process would.
fn keep(place: &Place, token: &str) {
    let mut chain = place.home.identity(&"localhost".parse().unwrap()).unwrap().chain;
    let session = KeptSession {
        token: token.to_owned().into(),
        expires_at_secs: now_secs() + 3600,
        certificate: Some(Sha256::digest(chain.remove(0)).into()),
        password_check: None,
    };
    place.home.keep_session("localhost", "ipc-admin", &session).unwrap();
}

#[test]
fn a_session_that_another_process_keeps_meanwhile_is_taken_instead_of_a_login() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.client(&fake);
    keep(&place, TOKEN);
    client.send(&json!({})).wait().unwrap();
    assert_eq!((fake.logins().len(), fake.submits().len()), (0, 2));
}

#[test]
fn a_session_that_is_kept_and_over_is_no_reason_to_give_up() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.client(&fake);
    keep(&place, "over");
    client.send(&json!({})).wait().unwrap();
    let sessions: Vec<_> = fake.submits().into_iter().map(|seen| seen.session).collect();
    assert_eq!(sessions, [None, Some("over".to_owned()), Some(TOKEN.to_owned())]);
    assert_eq!(fake.logins().len(), 1);
}

#[test]
fn a_password_that_is_given_is_the_one_that_got_the_session_or_is_tried() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), takes_password("right"));
    let send = |password: &str| {
        let client = place.builder(&fake).credentials("carol", password).build().unwrap();
        (client.blocking().send(&json!({})).wait(), fake.logins().len())
    };
    let ends = |password: &str| {
        let (result, logins) = send(password);
        (result.map(drop).map_err(|error| error.outcome()), logins)
    };
    assert_eq!(ends("right"), (Ok(()), 1));
    assert_eq!(ends("right"), (Ok(()), 1), "the session is kept");
    let (result, logins) = send("wrong");
    assert!(matches!(result, Err(SendError::BadCredentials { .. })), "{result:?}");
    assert_eq!(logins, 2);
    assert_eq!(ends("right"), (Ok(()), 2), "a wrong password does not remove the session");
    for file in place.kept_sessions() {
        let kept = std::fs::read_to_string(file).unwrap();
        assert!(!kept.contains("right"), "{kept}");
    }
}

#[test]
fn sessions_in_a_directory_that_was_open_to_others_are_used_and_it_is_closed() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    place.client(&fake).send(&json!({})).wait().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.home.sessions_dir(), open).unwrap();
    logged::watch();
    place.client(&fake).send(&json!({})).wait().unwrap();
    assert_eq!(fake.logins().len(), 1);
    assert_eq!(place.home.sessions_dir().metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    let said = format!(
        "{} was open to other users (mode 0755) and is closed now",
        place.home.sessions_dir().display()
    );
    assert!(logged::so_far().contains(&said));
}

#[test]
fn a_kept_session_that_others_could_read_is_replaced_and_that_is_said_once() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    place.client(&fake).send(&json!({})).wait().unwrap();
    let file = place.kept_sessions().remove(0);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    logged::watch();
    place.client(&fake).send(&json!({})).wait().unwrap();
    assert_eq!(fake.logins().len(), 2);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let said =
        format!("since the kept session cannot be used: {} is open to other users", file.display());
    assert_eq!(logged::so_far().matches(&said).count(), 1);
}

#[test]
fn a_login_that_hangs_holds_no_call_up_beyond_its_deadline() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), |seen| match seen.is_login() {
        true => Answer::Hang,
        false => problem(ProblemCode::SessionExpired, ""),
    });
    let deadline = Duration::from_millis(1500);
    let client = place.builder(&fake).timeout(deadline).build().unwrap().blocking();
    let ended = |error: &SendError| {
        let SendError::Timeout { outcome: Outcome::NeverArrived, last, .. } = error else {
            panic!("{error:?}")
        };
        assert!(matches!(**last, SendError::LoginFailed { .. }), "{last:?}");
    };
    ended(&client.send(&json!({})).wait().unwrap_err());
    ended(&client.request(&json!({})).timeout(deadline).wait().unwrap_err());
    ended(&client.send_all([json!({}), json!({})]).wait().unwrap_err().source);
}

#[test]
fn a_reply_as_base64url_text_is_read_too() {
    let place = Place::new();
    let good = with_session(|_| success());
    let fake = Fake::tls(place.tls(), move |seen| match seen.is_login() {
        true => {
            let text = ring().seal_base64url(&reply(seen, TOKEN), now_secs(), [5; 16]);
            Answer::Send(http(200, "", text.as_bytes()))
        }
        false => good(seen),
    });
    place.client(&fake).send(&json!({})).wait().unwrap();
}

#[test]
fn a_reply_that_is_not_the_servers_own_and_of_now_is_refused() {
    let other_ring = KeyRing::new(Key::from_bytes([1; 32]));
    type Forge = Box<dyn Fn(&crate::fake::Seen) -> Vec<u8> + Send + Sync>;
    let forgeries: [(&str, Forge); 4] = [
        ("keys", Box::new(move |seen| other_ring.seal(&reply(seen, TOKEN), now_secs(), [5; 16]))),
        ("clock", Box::new(|seen| ring().seal(&reply(seen, TOKEN), now_secs() - 600, [5; 16]))),
        (
            "invalid",
            Box::new(|seen| {
                let mut other = seen.clone();
                other.id = "00112233-4455-4677-8899-aabbccddeeff".into();
                ring().seal(&reply(&other, TOKEN), now_secs(), [5; 16])
            }),
        ),
        ("keys", Box::new(|_| b"success".to_vec())),
    ];
    for (word, forge) in forgeries {
        let place = Place::new();
        let fake = Fake::tls(place.tls(), move |seen| match seen.is_login() {
            true => Answer::Send(http(200, RAW, &forge(seen))),
            false => problem(ProblemCode::SessionExpired, ""),
        });
        let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
        let SendError::LoginFailed { last } = &error else { panic!("{error:?}") };
        assert!(matches!(**last, SendError::Unexpected { status: 200, .. }), "{error:?}");
        assert!(last.to_string().contains(word), "{last}");
        assert_eq!(error.outcome(), Outcome::NeverArrived, "the server did not accept the message");
        assert_eq!(fake.logins().len(), 1);
    }
}

#[test]
fn a_session_that_would_make_every_frame_long_is_not_taken() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), |seen| match seen.is_login() {
        true => grant(seen, &"x".repeat(16 * 1024 + 1)),
        false => problem(ProblemCode::SessionExpired, ""),
    });
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    let SendError::LoginFailed { last } = &error else { panic!("{error:?}") };
    assert!(
        last.to_string().ends_with("the session token is longer than this client accepts"),
        "{last}"
    );
    assert!(place.kept_sessions().is_empty());
}

#[test]
fn a_login_that_has_to_wait_for_longer_than_the_call_ends_it_at_once_and_says_for_how_long() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), |seen| match seen.is_login() {
        true => problem(ProblemCode::TooManyAttempts, "Retry-After: 41\r\n"),
        false => problem(ProblemCode::SessionExpired, ""),
    });
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    assert_eq!(
        chain(&error).to_string(),
        "the message was not sent: the server refused the login with status 429 \
         (too_many_attempts): because of the script (the next is allowed in 41 s)"
    );
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(fake.logins().len(), 1);
}

#[test]
fn a_login_without_an_answer_leaves_no_doubt_about_the_message() {
    let place = Place::new();
    let logins = AtomicUsize::new(0);
    let fake = Fake::tls(place.tls(), move |seen| match seen.is_login() {
        true if logins.fetch_add(1, Ordering::SeqCst) < 3 => Answer::Close,
        // So that it is a login that the deadline ends, however slow the machine is.
        true => Answer::Hang,
        false => problem(ProblemCode::SessionExpired, ""),
    });
    let client = place.builder(&fake).timeout(Duration::from_secs(4)).build().unwrap().blocking();
    let error = client.send(&json!({})).wait().unwrap_err();
    let SendError::Timeout { outcome: Outcome::NeverArrived, last, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(**last, SendError::LoginFailed { .. }), "{last:?}");
    assert_eq!(fake.logins().len(), 4, "the client tries until the deadline");
}

#[test]
fn a_failed_login_after_a_lost_answer_leaves_the_doubt_there_was() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), |seen| match (seen.is_login(), seen.turn) {
        (false, 0) => Answer::Close,
        (false, _) => problem(ProblemCode::SessionExpired, ""),
        (true, _) => problem(ProblemCode::BadCredentials, ""),
    });
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    let SendError::InDoubt { last } = &error else { panic!("{error:?}") };
    assert!(matches!(**last, SendError::BadCredentials { .. }), "{last:?}");
    assert_eq!(error.outcome(), Outcome::NotKnown);
}
