//! Messages of an exact size.
//!
//! Every client uses them. The text is `{"data":"…"}`, so the size is that of the JSON text that an
//! application sends.

use serde::Serialize;

/// A message with one member of letters.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Body {
    data: String,
}

impl Body {
    /// The size of a message without letters.
    pub(crate) const BYTES_MIN: usize = r#"{"data":""}"#.len();

    /// A message whose JSON text has so many bytes.
    pub(crate) fn of_bytes(bytes: usize) -> Result<Self, String> {
        let letters = bytes
            .checked_sub(Self::BYTES_MIN)
            .ok_or_else(|| format!("a message must have at least {} bytes", Self::BYTES_MIN))?;
        Ok(Body { data: ('a'..='z').cycle().take(letters).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_size_that_was_asked_for() {
        for bytes in [Body::BYTES_MIN, 64, 1024, 65536, 1 << 20] {
            assert_eq!(
                serde_json::to_string(&Body::of_bytes(bytes).unwrap()).unwrap().len(),
                bytes
            );
        }
        assert!(Body::of_bytes(10).is_err());
    }
}
