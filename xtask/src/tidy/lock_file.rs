//! Checks that the lock file has one TLS library and one crypto provider for it.
//!
//! `tidy` comes here with the text of `Cargo.lock`. Two rustls providers in one tree compile, but
//! the first connection panics because it cannot choose. Two versions of rustls have types with the
//! same names that do not fit each other.

/// Prefixes of the names of crates that are, or depend on, another provider for rustls than ring.
const OTHER_PROVIDERS: &[&str] = &[
    "aws-lc",
    "boring",
    "rustls-aws-lc",
    "rustls-graviola",
    "rustls-mbedcrypto",
    "rustls-mbedtls",
    "rustls-openssl",
    "rustls-ring",
    "rustls-rustcrypto",
    "rustls-symcrypt",
    "rustls-wolfcrypt",
];

/// The problems of the lock file.
pub(super) fn problems(lock: &str) -> Vec<String> {
    let packages = packages(lock);
    let mut problems = Vec::new();
    for wanted in ["ring", "rustls"] {
        let versions: Vec<&str> = packages
            .iter()
            .filter(|(name, _)| *name == wanted)
            .map(|(_, version)| *version)
            .collect();
        if versions.len() != 1 {
            problems.push(format!(
                "Cargo.lock must have exactly one {wanted}; it has: [{}]",
                versions.join(", ")
            ));
        }
    }
    for (name, version) in packages {
        if OTHER_PROVIDERS.iter().any(|other| name.starts_with(other)) {
            problems.push(format!(
                "Cargo.lock holds {name} {version}: ring must be the only crypto provider"
            ));
        }
    }
    problems
}

/// The name and version of each package.
fn packages(lock: &str) -> Vec<(&str, &str)> {
    lock.split("[[package]]")
        .skip(1)
        .filter_map(|package| Some((value(package, "name")?, value(package, "version")?)))
        .collect()
}

fn value<'a>(package: &'a str, key: &str) -> Option<&'a str> {
    package.lines().find_map(|line| {
        line.strip_prefix(key)?
            .trim_start()
            .strip_prefix('=')?
            .trim()
            .strip_prefix('"')?
            .strip_suffix('"')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str)]) -> String {
        let entry = |(name, version): &(&str, &str)| {
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\ndependencies = [\n \"name\",\n]\n\n"
            )
        };
        format!("version = 4\n\n{}", packages.iter().map(entry).collect::<String>())
    }

    #[test]
    fn one_ring_and_one_rustls_are_good() {
        assert!(
            problems(&lock(&[
                ("ring", "0.17.14"),
                ("rustls", "0.23.46"),
                ("rustls-pki-types", "1.16.0")
            ]))
            .is_empty()
        );
    }

    #[test]
    fn a_second_provider_is_found() {
        let found = problems(&lock(&[
            ("aws-lc-sys", "0.30.0"),
            ("ring", "0.17.14"),
            ("rustls", "0.23.46"),
        ]));
        assert_eq!(
            found,
            ["Cargo.lock holds aws-lc-sys 0.30.0: ring must be the only crypto provider"]
        );
    }

    #[test]
    fn a_second_rustls_is_found() {
        let found =
            problems(&lock(&[("ring", "0.17.14"), ("rustls", "0.22.4"), ("rustls", "0.23.46")]));
        assert_eq!(found, ["Cargo.lock must have exactly one rustls; it has: [0.22.4, 0.23.46]"]);
    }

    #[test]
    fn a_missing_provider_is_found() {
        let found = problems(&lock(&[("rustls", "0.23.46")]));
        assert_eq!(found, ["Cargo.lock must have exactly one ring; it has: []"]);
    }
}
