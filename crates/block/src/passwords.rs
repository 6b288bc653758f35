//! Passwords and keys in names of files: they come in with a name, and are told to nobody.
use std::borrow::Cow;

/// What stands for a password.
const HIDDEN: &str = "***";

/// A text without the passwords of URLs in it, and without the keys of Ceph's users in names that begin with `rbd:`.
///
/// A password stands behind `://user:` (or `://user%`, as in iSCSI's). It may have any character that nobody has encoded: all up to
/// the last `@` is hidden. Only one that begins like a port (`://user:80/`) is not known from one.
pub fn hide_passwords(text: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(text);
    if let Some(hidden) = without_passwords(&shown) {
        shown = Cow::Owned(hidden);
    }
    if let Some(hidden) = without_keys(&shown) {
        shown = Cow::Owned(hidden);
    }
    shown
}

fn without_passwords(text: &str) -> Option<String> {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        shown.push_str(before);
        rest = behind;
        if let (Some(start), Some(end)) = (password(behind), behind.rfind('@'))
            && start <= end
        {
            shown.push_str(behind.get(..start).unwrap_or_default());
            shown.push_str(HIDDEN);
            rest = behind.get(end..).unwrap_or_default();
        }
    }
    if shown.is_empty() {
        return None;
    }
    shown.push_str(rest);
    Some(shown)
}

/// Where a password begins in what is behind `://`, if one may.
fn password(behind: &str) -> Option<usize> {
    let ends = |c: char| matches!(c, '/' | '?' | '#' | '\'' | '"') || c.is_whitespace();
    let front = behind.get(..behind.find(ends).unwrap_or(behind.len()))?;
    let start = front.find([':', '%'])? + 1;
    let word = front.get(start..)?;
    let is_port = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_address = front.starts_with('[') && !front.contains('@');
    // One that is hidden already ends where it says.
    let is_hidden = word.strip_prefix(HIDDEN).is_some_and(|rest| rest.starts_with('@'));
    (!is_port && !is_address && !is_hidden).then_some(start)
}

/// Names of Ceph's images are `rbd:pool/image:option=value…`, where a backslash takes its meaning from the character behind it.
fn without_keys(text: &str) -> Option<String> {
    let start = text.find("rbd:")?;
    let (front, mut rest) = text.split_at(start);
    let mut shown = front.to_owned();
    loop {
        // An option that is a key goes on behind a colon with a backslash, whatever that one's meaning is.
        let is_key = rest.split_once('=').is_some_and(|(name, _)| name.replace('\\', "") == "key");
        let end = if is_key { key_end(rest, start == 0) } else { next_option(rest) };
        let (part, behind) = rest.split_at(end);
        match is_key {
            true => shown.push_str(&format!("key={HIDDEN}")),
            false => shown.push_str(part),
        }
        let next = if is_key { next_option(behind) } else { 0 };
        let (between, behind) = behind.split_at(next);
        shown.push_str(between);
        let Some(others) = behind.strip_prefix(':') else { break };
        shown.push(':');
        rest = others;
    }
    Some(shown)
}

/// Where the next colon is that no backslash takes its meaning from, or the end.
fn next_option(text: &str) -> usize {
    let mut escaped = false;
    let colon = text.bytes().position(|byte| {
        let plain = !escaped;
        escaped = plain && byte == b'\\';
        plain && byte == b':'
    });
    colon.unwrap_or(text.len())
}

/// Where a key ends: at a colon, and in a text that is more than a name also where a quote or a space ends the name.
fn key_end(text: &str, is_name: bool) -> usize {
    let mut before = ' ';
    let end = text.find(|c: char| {
        let is_end =
            (c == ':' && before != '\\') || (!is_name && (matches!(c, '\'' | '"') || c.is_whitespace()));
        before = c;
        is_end
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_hidden_and_everything_else_stays() {
        for (text, shown) in [
            ("a.img", "a.img"),
            ("Could not open 'iscsi://u%p%w@h/t/1': no", "Could not open 'iscsi://u%***@h/t/1': no"),
            ("ftp://u:p@w@h:21/x", "ftp://u:***@h:21/x"),
            ("ftp://u:p/w?x#y'z\" @h:21/x", "ftp://u:***@h:21/x"),
            ("nbd://h:10809/a@b", "nbd://h:10809/a@b"),
            ("nbd://[::1]:10809/a@b", "nbd://[::1]:10809/a@b"),
            ("http://h/a:b@c", "http://h/a:b@c"),
            ("'http://u:***@h/x': ask root@h", "'http://u:***@h/x': ask root@h"),
            (
                "'rbd:p/i:key=AQ==:id=a' and 'rbd:p/i:id=b:key=x'",
                "'rbd:p/i:key=***:id=a' and 'rbd:p/i:id=b:key=***'",
            ),
            ("rbd:p/i:keyring=/k", "rbd:p/i:keyring=/k"),
            ("rbd:p/i@s:key=AQ==:id=a", "rbd:p/i@s:key=***:id=a"),
            (r"rbd:p/i:\key=a\:b:conf=/c\:key=d", r"rbd:p/i:key=***:conf=/c\:key=d"),
            (r"rbd:p/i:conf=/c\\:key=d", r"rbd:p/i:conf=/c\\:key=***"),
            ("rbd:p/i:key=a 'b\" c", "rbd:p/i:key=***"),
            ("rbd:p/i:id=key:keyring=/k:", "rbd:p/i:id=key:keyring=/k:"),
            ("'rbd:p/i:key=a': no: key=b", "'rbd:p/i:key=***': no: key=b"),
            ("iscsi://u@h/t/1 and http://v:w@[::1]/", "iscsi://u@h/t/1 and http://v:***@[::1]/"),
            ("://", "://"),
            ("ü://ü:ü@ü", "ü://ü:***@ü"),
        ] {
            assert_eq!(hide_passwords(text), shown);
            assert_eq!(hide_passwords(shown), shown, "nothing is hidden twice");
        }
    }

    #[test]
    fn no_password_is_ever_shown_whatever_it_is_made_of() {
        const PIECES: &[&str] =
            &["/", "?", "#", "'", "\"", "@", ":", "%", " ", "://", "ü", "x", "4", "***", "': ", "rbd:", "\\"];
        let mut state = 1u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let mut junk =
                || (0..next(6)).filter_map(|_| PIECES.get(next(PIECES.len()))).copied().collect::<String>();
            let (front, back) = (junk(), junk());
            let password = format!("{front}SECRET{back}");
            // It can't be known from a port, or is the sign of one that is hidden.
            if front.starts_with('4') || front.starts_with("***@") {
                continue;
            }
            for text in [
                format!("ftp://me:{password}@host/x"),
                format!("Could not open 'http://me:{password}@host:80/x?y': no"),
                format!("json:{{\"url\": \"iscsi://me%{password}@host/t/1\"}}"),
            ] {
                let shown = hide_passwords(&text);
                assert!(!shown.contains("SECRET"), "{text}: {shown}");
                assert_eq!(hide_passwords(&shown), shown, "nothing is hidden twice");
            }
        }
    }
}
