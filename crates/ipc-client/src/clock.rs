//! Describes two clocks that do not agree: which one is behind, and how much is allowed.
//!
//! `sealer` and `exchange` call it with the times of a reply or a refusal. Nothing here reads a
//! clock.

use ipc_envelope::Freshness;

/// Smaller differences come from the resolution of a `Date` header, or from network delays.
const ALIKE_SECS: u64 = 5;

/// The end of a server's text about a stale envelope, after the number.
const ALLOWED: &str = " s are allowed";

/// How two clocks explain a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) detail: String,
    /// Whether the clocks alone are the reason. Then another attempt fails too.
    pub(crate) explain: bool,
}

/// Why an envelope was too old or too new for the server, from the server's text and clock. `None`
/// if the clocks agree.
pub(crate) fn of_refusal(server_secs: u64, own_secs: u64, detail: &str) -> Option<Clocks> {
    let by_secs = server_secs.abs_diff(own_secs);
    if by_secs <= ALIKE_SECS {
        return None;
    }
    let allowed = detail.strip_suffix(ALLOWED).and_then(|rest| rest.rsplit_once("; "));
    let allowed_secs: Option<u64> = allowed.and_then(|(_, number)| number.parse().ok());
    let difference = difference(own_secs, server_secs);
    let detail = match allowed_secs {
        Some(secs) => format!("{difference}; {secs}{ALLOWED}"),
        None => difference,
    };
    Some(Clocks {
        detail,
        explain: allowed_secs.is_some_and(|allowed_secs| by_secs > allowed_secs),
    })
}

/// Why a reply was too old or too new for this client.
pub(crate) fn of_reply(sealed_at_secs: u64, own_secs: u64, freshness: Freshness) -> String {
    let allowed_secs =
        if sealed_at_secs < own_secs { freshness.age_secs_max } else { freshness.ahead_secs_max };
    format!("the reply is stale: {}; {allowed_secs}{ALLOWED}", difference(own_secs, sealed_at_secs))
}

fn difference(own_secs: u64, server_secs: u64) -> String {
    let by_secs = server_secs.abs_diff(own_secs);
    let side = if own_secs < server_secs { "behind" } else { "ahead of" };
    format!("this host's clock is {by_secs} s {side} the server's")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_which_clock_is_behind_and_how_much_is_allowed() {
        let said = "the envelope was sealed 90 s ago by the server's clock; 60 s are allowed";
        let clocks = of_refusal(1090, 1000, said).unwrap();
        assert_eq!(
            clocks.detail,
            "this host's clock is 90 s behind the server's; 60 s are allowed"
        );
        assert!(clocks.explain);
        let clocks = of_refusal(1000, 1090, said).unwrap();
        assert_eq!(
            clocks.detail,
            "this host's clock is 90 s ahead of the server's; 60 s are allowed"
        );
        assert!(
            !of_refusal(1050, 1000, said).unwrap().explain,
            "the network delay must have been long, too"
        );
        assert_eq!(of_refusal(1005, 1000, said), None);
    }

    #[test]
    fn a_server_that_says_something_else_is_understood_as_far_as_it_goes() {
        for said in ["", "stale", "; s are allowed", "allowed; x s are allowed"] {
            let clocks = of_refusal(1090, 1000, said).unwrap();
            assert_eq!(clocks.detail, "this host's clock is 90 s behind the server's", "{said}");
            assert!(!clocks.explain);
        }
    }

    #[test]
    fn a_stale_reply_tells_it_too() {
        let told = |sealed_at_secs| of_reply(sealed_at_secs, 1000, Freshness::at(1000));
        assert_eq!(
            told(400),
            "the reply is stale: this host's clock is 600 s ahead of the server's; 60 s are allowed"
        );
        assert_eq!(
            told(1100),
            "the reply is stale: this host's clock is 100 s behind the server's; 60 s are allowed"
        );
    }
}
