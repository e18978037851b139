//! What `--doctor` says of this process: the files that it may open.

use ipc_base::Remedy;
use ipc_setup::{Diagnosis, Finding, HomeKind};
use rustix::process::{Resource, getrlimit};

const CHECK: &str = "open files";

/// Enough for a client with its channel, its connections and its files.
const CLIENT_NEEDS: u64 = 64;

/// Whether the limit of open files is enough for what the home is for. A server raises its soft
/// limit to the hard one, so that only the hard one counts.
pub(super) fn open_files(diagnosis: &Diagnosis) -> Vec<Finding> {
    let limit = getrlimit(Resource::Nofile);
    vec![match diagnosis.home {
        Some((_, HomeKind::Client)) => of_limit(limit.current, CLIENT_NEEDS, "a client"),
        _ => of_limit(limit.maximum, ipc_server::open_files_needed(), "a server"),
    }]
}

fn of_limit(limit: Option<u64>, needed: u64, who: &str) -> Finding {
    match limit {
        Some(limit) if limit < needed => {
            let sentence = format!(
                "this process may open {limit} files, and {who} with all its connections needs {needed}"
            );
            let mend = format!(
                "run ulimit -n {needed} first, as root where that is refused, or set \
                 LimitNOFILE={needed} in its service"
            );
            Finding::warning(CHECK, "few_open_files", sentence).mended_by(Remedy::act(mend))
        }
        Some(limit) => {
            let sentence = format!("this process may open {limit} files, and {who} needs {needed}");
            Finding::ok(CHECK, sentence)
        }
        None => Finding::ok(CHECK, "this process may open any number of files"),
    }
}

#[cfg(test)]
mod tests {
    use ipc_setup::Severity;

    use super::*;

    #[test]
    fn a_limit_below_what_is_needed_is_a_warning_with_the_number() {
        let few = of_limit(Some(255), 256, "a server");
        assert_eq!((few.severity, few.code), (Severity::Warning, "few_open_files"));
        assert!(few.remedy.unwrap().to_string().starts_with("run ulimit -n 256 first"));
        for limit in [Some(256), None] {
            assert_eq!(of_limit(limit, 256, "a server").severity, Severity::Ok);
        }
    }
}
