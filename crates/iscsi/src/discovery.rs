//! What a portal tells of its targets (appendix C).
use crate::limits;

/// The question for all targets, as a text.
pub const SEND_TARGETS: &[u8] = b"SendTargets=All\0";

/// The names in the answer, in order, as far as they are some.
pub fn targets(text: &[u8]) -> impl Iterator<Item = &str> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    let pairs = text.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok());
    let names = pairs.filter_map(|pair| pair.strip_prefix("TargetName="));
    names.filter(move |name| (1..=limits::NAME).contains(&name.len()) && name.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_told_in_order_and_what_is_none_is_passed_over() {
        let text =
            b"TargetName=iqn.a\0TargetAddress=192.0.2.1:3260,1\0TargetAddress=[::1]:3260,1\0TargetName=\0\
            TargetName=a\nb\0TargetName=\xff\0TargetName=iqn.b\0";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["iqn.a", "iqn.b"]);
        let long = [b"TargetName=".as_slice(), &[b'a'; limits::NAME + 1]].concat();
        assert_eq!(targets(&long).count(), 0);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(targets(&text).count() <= text.len() / 12);
        }
    }
}
