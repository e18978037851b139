//! Passwords in addresses of databases and inboxes: whether there is one, and the address without.
//!
//! The configuration comes here. It takes no such password from a file, and shows none.

/// The place of the password within `scheme://user:password@host…`. A password may have a `/` in
/// it.
fn place(url: &str) -> Option<(usize, usize)> {
    let begin = url.find("://")? + 3;
    let end = url[begin..].find('?').map_or(url.len(), |length| begin + length);
    let at = begin + url[begin..end].rfind('@')?;
    let colon = begin + url[begin..at].find(':')?;
    Some((colon + 1, at))
}

/// The values of parameters called `password` behind the `?`, with their places.
fn parameters(url: &str) -> Vec<(usize, usize)> {
    let Some(query) = url.find('?') else { return Vec::new() };
    let mut places = Vec::new();
    let mut at = query + 1;
    for pair in url[at..].split('&') {
        if let Some((name, value)) = pair.split_once('=')
            // An escaped letter may be one of that name.
            && (name.eq_ignore_ascii_case("password") || name.contains('%'))
        {
            let end = at + pair.len();
            places.push((end - value.len(), end));
        }
        at += pair.len() + 1;
    }
    places
}

/// Whether an address has a password in it.
pub(super) fn has_password(url: &str) -> bool {
    place(url).is_some() || !parameters(url).is_empty()
}

/// The address with `***` for each password. A text that is no address is `***`, unless it is a
/// plain word: a password may be anywhere in it.
pub(super) fn masked(url: &str) -> String {
    if !url.contains("://") && !url.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return "***".to_owned();
    }
    let mut shown = url.to_owned();
    let places = place(url).into_iter().chain(parameters(url));
    let mut places: Vec<_> = places.collect();
    places.sort_unstable();
    for (begin, end) in places.into_iter().rev() {
        shown.replace_range(begin..end, "***");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_an_address_is_shown() {
        for (url, shown) in [
            ("postgres://ipc:s3cret@db/ipc", "postgres://ipc:***@db/ipc"),
            ("postgres://ipc:s3@cret@db:5432/ipc", "postgres://ipc:***@db:5432/ipc"),
            (
                "postgres://db/ipc?user=a&password=s3cret&x=1",
                "postgres://db/ipc?user=a&password=***&x=1",
            ),
            ("nats://me:s3cret@n:1,m:2/J", "nats://me:***@n:1,m:2/J"),
            ("nats://me:s3cret@n:1", "nats://me:***@n:1"),
            ("nats://me:s3/cret@n:1/J", "nats://me:***@n:1/J"),
            ("postgres://db/ipc?pass%77ord=s3cret", "postgres://db/ipc?pass%77ord=***"),
        ] {
            assert!(has_password(url), "{url}");
            assert_eq!(masked(url), shown);
        }
        for url in ["durable", "nats://n:4222/J", "postgres://ipc@[::1]:5432/ipc", ""] {
            assert!(!has_password(url), "{url}");
            assert_eq!(masked(url), url);
        }
        for text in ["a:s3cret@c", "host=h user=u password=s3cret", "postgres:u:s3cret@h/db"] {
            assert_eq!(masked(text), "***", "{text}");
        }
    }
}
