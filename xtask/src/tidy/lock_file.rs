//! What the lock file may hold: one TLS library, one crypto provider for it.
//!
//! `tidy` comes here with the text of `Cargo.lock`. Two rustls providers in one tree compile, and
//! panic at run time when the first connection must choose; two versions of rustls make types that
//! look alike and are not.

/// Beginnings of names of crates that are, or bring, another provider for rustls than ring.
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

/// What is wrong with the lock file.
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
                "Cargo.lock must hold exactly one {wanted}; it holds: [{}]",
                versions.join(", ")
            ));
        }
    }
    for (name, version) in packages {
        if OTHER_PROVIDERS.iter().any(|other| name.starts_with(other)) {
            problems.push(format!(
                "Cargo.lock holds {name} {version}: ring is the one crypto provider"
            ));
        }
    }
    problems
}

/// Name and version of each package.
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
        assert_eq!(found, ["Cargo.lock holds aws-lc-sys 0.30.0: ring is the one crypto provider"]);
    }

    #[test]
    fn a_second_rustls_is_found() {
        let found =
            problems(&lock(&[("ring", "0.17.14"), ("rustls", "0.22.4"), ("rustls", "0.23.46")]));
        assert_eq!(found, ["Cargo.lock must hold exactly one rustls; it holds: [0.22.4, 0.23.46]"]);
    }

    #[test]
    fn a_missing_provider_is_found() {
        let found = problems(&lock(&[("rustls", "0.23.46")]));
        assert_eq!(found, ["Cargo.lock must hold exactly one ring; it holds: []"]);
    }
}
