//! What the URIs of servers have in common.

/// Splits `host[:port]`, where the host may be an address in brackets.
pub(crate) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| (host, Some(port))),
        None => rest.is_empty().then_some((host, None)),
    }
}

/// Decodes `%xx`; `None` where what stands there is not two digits.
pub(crate) fn unescape_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|d| d.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(bytes)
}

/// The same; `None` also if what comes out is no text.
pub(crate) fn unescape(text: &str) -> Option<String> {
    String::from_utf8(unescape_bytes(text)?).ok().filter(|text| !text.contains('\0'))
}

/// Encodes characters that would end the path of a URI or be decoded to others.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' | '?' | '#' => out.push_str(&format!("%{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_two_digits() {
        assert_eq!(unescape_bytes("a%2Fb%C3%a9").as_deref(), Some("a/b\u{e9}".as_bytes()));
        for text in ["%", "%2", "%zz", "%+1"] {
            assert_eq!(unescape_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_encoded_is_read_as_it_was_and_no_name_ends_early() {
        for text in ["a/b c", "%2f", "a?b#c%", "\u{e9}"] {
            assert!(!escape(text).contains(['?', '#']));
            assert_eq!(unescape(&escape(text)).as_deref(), Some(text));
        }
        for text in ["%00", "a%ff"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }
}
