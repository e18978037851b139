//! Compares `docs/openapi.yaml` with the routes and codes of the protocol, and with every response
//! that a test of this binary gets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use ipc_protocol::{ProblemCode, Route};
use serde_json::Value;

static PAGE: LazyLock<Value> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("../../../../docs/openapi.yaml")).expect("the page is YAML")
});

const PROBLEM: &str = "application/problem+json";

/// Returns `value`, or the value that its `$ref` names.
fn resolved(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a reference within the page");
            PAGE.pointer(pointer).unwrap_or_else(|| panic!("{reference} does not exist"))
        }
        None => value,
    }
}

/// The codes that a response may have.
fn codes(response: &Value) -> BTreeSet<&str> {
    let parts = &response["content"][PROBLEM]["schema"]["allOf"];
    let parts = parts.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let lists = parts.filter_map(|part| part["properties"]["code"]["enum"].as_array());
    lists.flatten().map(|code| code.as_str().expect("a code is text")).collect()
}

/// The responses of a route by status.
fn responses(route: Route) -> BTreeMap<u16, &'static Value> {
    let operation = &PAGE["paths"][route.path()][route.method().to_ascii_lowercase()];
    let responses = operation["responses"].as_object().expect("every route is on the page");
    let by_status =
        responses.iter().map(|(status, one)| (status.parse().expect("a status"), resolved(one)));
    by_status.collect()
}

/// Whether a code can be the response to a whole request at `route`, by `docs/protocol.md`.
fn occurs_at(code: ProblemCode, route: Route) -> bool {
    let is_post = route.method() == "POST";
    let is_login = route == Route::ClientAuth;
    let is_renewal = route == Route::ClientRenew;
    match code {
        ProblemCode::MalformedRequest
        | ProblemCode::WrongCertificate
        | ProblemCode::CertificateRevoked
        | ProblemCode::MethodNotAllowed
        | ProblemCode::ShuttingDown => true,
        ProblemCode::NotFound => false,
        ProblemCode::MalformedEnvelope
        | ProblemCode::StaleEnvelope
        | ProblemCode::MalformedFrame
        | ProblemCode::NotAnObject
        | ProblemCode::RequestTimeout
        | ProblemCode::TooLarge
        | ProblemCode::InternalError
        | ProblemCode::Unavailable => is_post,
        ProblemCode::SessionExpired => is_post && !is_login,
        // A batch has an answer for each of its messages instead.
        ProblemCode::IdReused => is_post && !is_renewal && route != Route::MessageBatch,
        ProblemCode::InboxFull | ProblemCode::IdsFull => {
            is_post && !is_login && !is_renewal && route != Route::MessageBatch
        }
        ProblemCode::RenewalRefused | ProblemCode::RenewalUnavailable => is_renewal,
        ProblemCode::BadCredentials | ProblemCode::TooManyAttempts => is_login,
        ProblemCode::UpgradeRequired => route == Route::MessageChannel,
        ProblemCode::ReplyForgotten | ProblemCode::NotAnswered | ProblemCode::NoReplyInTime => {
            route == Route::MessageRequest
        }
        new => panic!("{new}: add the routes at which it occurs here and to docs/openapi.yaml"),
    }
}

/// Compares a response of the server with the page. Responses of the HTTP library itself have no
/// problem document and are not on the page.
#[track_caller]
pub(crate) fn is_on_the_page(
    (method, target): (&str, &str),
    received: u16,
    headers: &[(String, String)],
    body: &[u8],
) {
    let header = |name: &str| {
        headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    let media_type = header("content-type").unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default();
    if received >= 400 && media_type != PROBLEM {
        return;
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let not_found = &PAGE["components"]["responses"]["NotFound"];
    let route = Route::ALL.into_iter().find(|route| route.path() == path);
    let on_the_page = match route {
        Some(route) => responses(route).get(&received).copied(),
        // A target in another form may still be that of a route.
        None if !target.starts_with('/') => return,
        None => match received {
            404 => Some(not_found),
            // The checks before the routes are the same for every route.
            status => responses(Route::IsRunning).get(&status).copied(),
        },
    };
    let what = format!("{method} {path} {received}");
    let on_the_page = on_the_page.unwrap_or_else(|| panic!("{what} is not on docs/openapi.yaml"));
    if received >= 400 && method != "HEAD" {
        let problem: Value = serde_json::from_slice(body).expect("a problem is JSON");
        let code = problem["code"].as_str().expect("a problem has a code");
        assert!(codes(on_the_page).contains(code), "{what} with {code} is not on the page");
    } else if received == 200 {
        assert!(on_the_page["content"].get(media_type).is_some(), "{what}: {media_type}");
    }
    for (name, described) in on_the_page["headers"].as_object().into_iter().flatten() {
        let is_there = header(&name.to_ascii_lowercase()).is_some();
        assert!(is_there || resolved(described)["required"] != true, "{what} has no {name}");
    }
}

#[test]
fn the_page_has_every_route_and_no_other() {
    assert_eq!(PAGE["openapi"], "3.1.0");
    let paths = PAGE["paths"].as_object().unwrap();
    let found = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(|method| (method.to_ascii_uppercase(), path.clone()))
    });
    let routes = Route::ALL.map(|route| (route.method().to_owned(), route.path().to_owned()));
    assert_eq!(found.collect::<BTreeSet<_>>(), BTreeSet::from(routes));
}

#[test]
fn every_code_is_on_the_page_where_it_can_occur_and_with_its_status() {
    let not_found = &PAGE["components"]["responses"]["NotFound"];
    let mut seen = codes(not_found);
    for route in Route::ALL {
        for (status, response) in responses(route) {
            let mut expected = ProblemCode::ALL.to_vec();
            expected.retain(|code| occurs_at(*code, route) && code.status() == status);
            let expected: BTreeSet<_> = expected.iter().map(|code| code.as_str()).collect();
            assert_eq!(codes(response), expected, "{} {status}", route.path());
            assert_eq!(expected.is_empty(), status < 400, "{} {status}", route.path());
            seen.extend(expected);
        }
        for code in ProblemCode::ALL.into_iter().filter(|code| occurs_at(*code, route)) {
            assert!(responses(route).contains_key(&code.status()), "{} {code}", route.path());
        }
    }
    assert_eq!(seen, ProblemCode::ALL.iter().map(|code| code.as_str()).collect());
}

#[test]
fn a_refusal_that_passes_says_on_the_page_when_to_come_again() {
    for (status, response) in Route::ALL.into_iter().flat_map(responses) {
        let has_it = response["headers"].get("Retry-After").is_some();
        assert_eq!(has_it, matches!(status, 429 | 503), "{status}");
    }
}

#[test]
fn every_reference_of_the_page_leads_somewhere() {
    fn walk(value: &Value, count: &mut usize) {
        if value["$ref"].is_string() {
            assert!(resolved(value).is_object() || resolved(value).is_boolean());
            *count += 1;
        }
        if let Some(place) = value["x-web-ipc-plaintext"].as_str() {
            let schema = PAGE.pointer(&place[1..]).unwrap_or_else(|| panic!("{place}"));
            assert!(schema.is_object());
        }
        match value {
            Value::Object(members) => members.values().for_each(|one| walk(one, count)),
            Value::Array(elements) => elements.iter().for_each(|one| walk(one, count)),
            _ => (),
        }
    }
    let mut count = 0;
    walk(&PAGE, &mut count);
    assert!(count > 50, "{count}");
}
