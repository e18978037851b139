//! Who besides the owner may read a home: nobody, unless the operator explicitly allows it.
//!
//! [`Home`](crate::Home) carries the setting to every check of a mode. Write access for others is
//! never allowed.

use std::ffi::OsString;

use crate::HomeError;

/// The environment variable that, set to `1`, allows a home that others can read. For the
/// consequences see [`Home::dangerously_open_readable`](crate::Home::dangerously_open_readable).
pub const READABLE_HOME_VARIABLE: &str = "WEB_IPC_DANGEROUSLY_READABLE_HOME";

/// Who may read the secrets of a home besides its owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nobody: directories are 0700, files are 0600, and none is a link.
    #[default]
    Private,
    /// Everyone whom the modes allow. Files may be links, as in a mounted secret of Kubernetes.
    Readable,
}

impl Access {
    /// The setting of [`READABLE_HOME_VARIABLE`].
    pub(crate) fn from_environment() -> Result<Self, HomeError> {
        Self::from_value(std::env::var_os(READABLE_HOME_VARIABLE))
    }

    fn from_value(value: Option<OsString>) -> Result<Self, HomeError> {
        match value {
            None => Ok(Self::Private),
            Some(value) if value.is_empty() => Ok(Self::Private),
            Some(value) if value == "1" => Ok(Self::Readable),
            Some(value) => Err(HomeError::BadVariable {
                variable: READABLE_HOME_VARIABLE,
                value: value.to_string_lossy().into_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_one_lets_others_read() {
        assert_eq!(Access::from_value(None).unwrap(), Access::Private);
        assert_eq!(Access::from_value(Some("".into())).unwrap(), Access::Private);
        assert_eq!(Access::from_value(Some("1".into())).unwrap(), Access::Readable);
        for value in ["0", "true", "yes", " 1"] {
            let error = Access::from_value(Some(value.into())).unwrap_err();
            assert!(
                error.remedy().unwrap().to_string().contains(READABLE_HOME_VARIABLE),
                "{error}"
            );
        }
    }
}
