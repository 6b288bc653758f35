//! Passwords in URLs: they come in with a file name, and are told to nobody.
use std::borrow::Cow;

/// What stands for a password.
const HIDDEN: &str = "***";

/// A text without the passwords of URLs in it: what stands between `://user:` (or `://user%`, as in iSCSI's) and the `@` in front
/// of the host.
pub fn hide_passwords(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        shown.push_str(before);
        let ends = |c: char| matches!(c, '/' | '\'' | '"' | '?' | '#') || c.is_whitespace();
        let authority = behind.get(..behind.find(ends).unwrap_or(behind.len())).unwrap_or_default();
        rest = behind;
        if let Some((login, _)) = authority.rsplit_once('@')
            && let Some(separator) = login.find([':', '%'])
        {
            shown.push_str(login.get(..=separator).unwrap_or_default());
            shown.push_str(HIDDEN);
            rest = behind.get(login.len()..).unwrap_or_default();
        }
    }
    if shown.is_empty() {
        return Cow::Borrowed(text);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_hidden_and_everything_else_stays() {
        for (text, shown) in [
            ("a.img", "a.img"),
            ("Could not open 'iscsi://u%p%w@h/t/1': no", "Could not open 'iscsi://u%***@h/t/1': no"),
            ("ftp://u:p@w@h:21/x@y", "ftp://u:***@h:21/x@y"),
            ("nbd://h:10809/a@b", "nbd://h:10809/a@b"),
            ("iscsi://u@h/t/1 and http://v:w@[::1]/", "iscsi://u@h/t/1 and http://v:***@[::1]/"),
            ("://", "://"),
            ("ü://ü:ü@ü", "ü://ü:***@ü"),
        ] {
            assert_eq!(hide_passwords(text), shown);
            assert_eq!(hide_passwords(shown), shown, "nothing is hidden twice");
        }
    }
}
