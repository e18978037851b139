//! Who else may read a home: nobody, unless somebody who knows what that weakens says otherwise.
//!
//! [`Home`](crate::Home) carries the answer to wherever a mode is looked at. Who may write is never
//! a choice.

use std::ffi::OsString;

use crate::HomeError;

/// The environment variable that, set to `1`, lets a home be used that others can read. What it
/// weakens: [`Home::dangerously_open_readable`](crate::Home::dangerously_open_readable).
pub const READABLE_HOME_VARIABLE: &str = "WEB_IPC_DANGEROUSLY_READABLE_HOME";

/// Who may read the secrets of a home beside its owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nobody: directories are 0700 and files 0600, and none is a link.
    #[default]
    Private,
    /// Whoever their modes let. Files may be links, as in a mounted secret of Kubernetes.
    Readable,
}

impl Access {
    /// What [`READABLE_HOME_VARIABLE`] says.
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
