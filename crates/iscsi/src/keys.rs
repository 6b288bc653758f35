//! Keys and values: `key=value`, each with a zero byte behind it (section 6.1).
use crate::limits;

/// Longest key, in bytes.
const KEY: usize = 63;

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// It is longer than is taken.
    #[error("its keys take more than {} bytes", limits::TEXT)]
    TooLong,
    /// There are more than is taken.
    #[error("it has more than {} keys", limits::KEYS)]
    TooMany,
    /// It is no list of keys and values.
    #[error("it is no list of keys and values")]
    Malformed,
    /// A key comes twice.
    #[error("the key '{0}' comes twice")]
    Twice(String),
}

/// Keys with their values, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<(String, String)>);

impl Keys {
    /// The keys of a text.
    pub fn parse(text: &[u8]) -> Result<Self, KeysError> {
        if text.len() > limits::TEXT {
            return Err(KeysError::TooLong);
        }
        let mut keys = Self::default();
        // Some peers end a text with more zeroes than one.
        for pair in text.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
            let pair = std::str::from_utf8(pair).map_err(|_| KeysError::Malformed)?;
            let (key, value) = pair.split_once('=').ok_or(KeysError::Malformed)?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
            if key.is_empty()
                || key.len() > KEY
                || !key.chars().all(plain)
                || value.contains(char::is_control)
            {
                return Err(KeysError::Malformed);
            }
            if keys.get(key).is_some() {
                return Err(KeysError::Twice(key.to_owned()));
            }
            if keys.0.len() >= limits::KEYS {
                return Err(KeysError::TooMany);
            }
            keys.set(key, value);
        }
        Ok(keys)
    }

    /// Adds a key.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.0.push((key.to_owned(), value.into()));
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// As a text.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (key, value) in &self.0 {
            text.extend_from_slice(key.as_bytes());
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
            text.push(0);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed_back(pairs in proptest::collection::btree_map("[A-Za-z.]{1,20}", "[ -~]{0,40}", 0..20)) {
            let mut keys = Keys::default();
            pairs.iter().for_each(|(key, value)| keys.set(key, value.as_str()));
            prop_assert_eq!(Keys::parse(&keys.encode()).unwrap(), keys);
        }

        #[test]
        fn no_text_is_too_strange(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Keys::parse(&text);
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert_eq!(Keys::parse(&vec![b'a'; limits::TEXT + 1]), Err(KeysError::TooLong));
        let many: Vec<u8> = (0..=limits::KEYS).flat_map(|n| format!("K{n}=v\0").into_bytes()).collect();
        assert_eq!(Keys::parse(&many), Err(KeysError::TooMany));
        assert_eq!(Keys::parse(b"A=1\0A=2\0"), Err(KeysError::Twice("A".into())));
        for text in [&b"A\0"[..], b"=v\0", b"\xff=v\0", b"A=\n\0"] {
            assert_eq!(Keys::parse(text), Err(KeysError::Malformed), "{text:?}");
        }
    }
}
