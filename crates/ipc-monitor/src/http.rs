//! The routes of the monitor.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use futures_util::{Stream, stream};
use ipc_server::Observer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;

use crate::certificates::Certificates;
use crate::snapshot::{DeadLetters, Snapshot, inbox_status};
use crate::{metrics, wire};

/// The status page. `{{nonce}}` stands for the nonce of its style and script.
const PAGE: &str = include_str!("page.html");

/// How many pages get numbers at the same time.
const STREAMS_MAX: usize = 16;

/// How often a page gets numbers.
const PERIOD: Duration = Duration::from_secs(1);

/// What all routes share.
pub(crate) struct Shared {
    observer: Observer,
    certificates: Certificates,
    dead_letters: DeadLetters,
    streams: Arc<Semaphore>,
    /// What a request's `Host` may be, besides an IP address and `localhost`.
    host_names: Vec<String>,
}

impl Shared {
    pub(crate) fn new(
        observer: Observer,
        certificates: Certificates,
        host_names: Vec<String>,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let dead_letters = DeadLetters::default();
        Shared { observer, certificates, dead_letters, streams, host_names }
    }
}

/// Adds the routes to an app that has a [`Shared`].
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(page))
        .route("/events", web::get().to(events))
        .route("/metrics", web::get().to(metrics))
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz))
        .route("/healthz", web::head().to(healthz))
        .route("/readyz", web::head().to(readyz))
        .default_service(web::to(|| async {
            text(HttpResponse::NotFound(), "there are /, /metrics, /healthz and /readyz\n")
        }));
}

/// Refuses a request that a web site's name brought here: its browser would hand it the answer (DNS
/// rebinding).
fn refused(request: &HttpRequest, shared: &Shared) -> Option<HttpResponse> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let is_known = host.is_some_and(|host| is_address_or_name(host, &shared.host_names));
    let detail = "ask by an IP address, localhost, or a name that the monitor was given\n";
    (!is_known).then(|| text(HttpResponse::MisdirectedRequest(), detail))
}

fn is_address_or_name(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let mut names = names.iter().map(String::as_str).chain(["localhost"]);
    names.any(|known| known.eq_ignore_ascii_case(name)) || name.parse::<IpAddr>().is_ok()
}

/// Adds the header fields that every answer has.
fn with_headers(response: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    let fields = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fields {
        response.insert_header((name, HeaderValue::from_static(value)));
    }
    response
}

fn text(mut response: HttpResponseBuilder, body: impl Into<String>) -> HttpResponse {
    with_headers(&mut response).content_type("text/plain; charset=utf-8").body(body.into())
}

async fn healthz(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    refused(&request, &shared).unwrap_or_else(|| text(HttpResponse::Ok(), "ok\n"))
}

async fn readyz(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if let Some(refused) = refused(&request, &shared) {
        return refused;
    }
    let status = inbox_status(&shared.observer).await;
    let reasons = shared.observer.readiness(&status);
    if reasons.is_empty() {
        return text(HttpResponse::Ok(), "ready\n");
    }
    let lines: String = reasons.iter().map(|reason| format!("{reason}\n")).collect();
    text(HttpResponse::ServiceUnavailable(), lines)
}

async fn metrics(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if let Some(refused) = refused(&request, &shared) {
        return refused;
    }
    let snapshot = Snapshot::take(&shared.observer, &shared.certificates).await;
    let mut response = HttpResponse::Ok();
    with_headers(&mut response).content_type(metrics::CONTENT_TYPE).body(metrics::text(snapshot))
}

async fn page(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if let Some(refused) = refused(&request, &shared) {
        return refused;
    }
    let mut random = [0; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        log::error!("the status page has no random bytes: {error}");
        return text(HttpResponse::InternalServerError(), "the system has no random bytes\n");
    }
    let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = HttpResponse::Ok();
    with_headers(&mut response)
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .content_type("text/html; charset=utf-8")
        .body(PAGE.replace("{{nonce}}", &nonce))
}

async fn events(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if let Some(refused) = refused(&request, &shared) {
        return refused;
    }
    let Ok(place) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let detail = format!("{STREAMS_MAX} pages are open already; close one\n");
        return text(HttpResponse::ServiceUnavailable(), detail);
    };
    let mut response = HttpResponse::Ok();
    with_headers(&mut response).content_type("text/event-stream").streaming(numbers(shared, place))
}

/// An event at once, and one each [`PERIOD`], until the page goes away.
fn numbers(
    shared: web::Data<Shared>,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let mut ticks = tokio::time::interval(PERIOD);
    // What a page missed is not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((shared, place, ticks), |(shared, place, mut ticks)| async move {
        ticks.tick().await;
        let snapshot = Snapshot::take_with_dead_letters(
            &shared.observer,
            &shared.certificates,
            &shared.dead_letters,
        )
        .await;
        let event = format!("data: {}\n\n", wire::json(&snapshot));
        Some((Ok(Bytes::from(event)), (shared, place, ticks)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_given_names_are_asked_for() {
        let names = ["a.example".to_owned()];
        for good in
            ["127.0.0.1", "127.0.0.1:9464", "[::1]:9464", "[::1]", "localhost", "LocalHost:1"]
        {
            assert!(is_address_or_name(good, &[]), "{good}");
        }
        for good in ["a.example", "A.EXAMPLE:9464", "localhost"] {
            assert!(is_address_or_name(good, &names), "{good}");
        }
        for bad in
            ["evil.example", "evil.example:9464", "127.0.0.1.evil.example:80", "", "localhost."]
        {
            assert!(!is_address_or_name(bad, &names), "{bad}");
        }
    }

    #[test]
    fn the_page_takes_nothing_from_elsewhere_and_runs_nothing_without_the_nonce() {
        for foreign in ["http://", "https://", "src=", "@import", "url(", "onclick", "style=\""] {
            // The namespace of SVG is a name, and nothing is fetched from it.
            let page = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!(PAGE.matches("nonce=\"{{nonce}}\"").count(), 2, "one style, one script");
        assert!(!PAGE.contains("innerHTML"), "names that peers chose are text");
    }
}
