//! URLs of files on servers: `scheme://[user[:password]@]host[:port]/path`.
//!
//! Specification: RFC 3986, as far as FTP (RFC 1738) and TFTP (RFC 3617) use it. A password in a URL is in nothing that is shown.

use block::{BlockError, Options, Result, hide_passwords};
use std::time::Duration;

/// How long is waited for a server, in seconds, where nothing else is said, as QEMU does; and the longest.
const TIMEOUT: u64 = 5;
const MOST_TIMEOUT: u64 = 10_000;

/// A URL, its parts as they stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub scheme: &'a str,
    /// Before the `@`: the name, and the password behind a colon.
    pub user: Option<(&'a str, Option<&'a str>)>,
    /// A name or an address, without brackets.
    pub host: &'a str,
    pub port: Option<u16>,
    /// What is behind the slash after the server.
    pub path: &'a str,
}

impl<'a> Url<'a> {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// It is none, or names no server. Its text is repeated without what may be a password in it.
    pub fn parse(url: &'a str) -> Result<Self> {
        let wrong = || match url.contains("://") {
            true => format!("'{}' is no URL of a file on a server", hide_passwords(url)),
            false => "a URL of a file on a server begins with a scheme and '://'".to_owned(),
        };
        Self::split(url).ok_or_else(|| BlockError::invalid(wrong()))
    }

    fn split(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A name or password may hold an '@' that nobody has encoded.
        let (user, server) = match authority.rsplit_once('@') {
            Some((user, server)) => (Some(user), server),
            None => (None, authority),
        };
        let user =
            user.map(|user| user.split_once(':').map_or((user, None), |(name, word)| (name, Some(word))));
        let (host, port) = match server.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => server.split_at(server.find(':').unwrap_or(server.len())),
        };
        let port = match port.strip_prefix(':') {
            // What is behind it looks like the rest of a password with a slash in it.
            Some("") if path.contains('@') => return None,
            Some("") => None,
            Some(digits) => Some(digits.parse().ok().filter(|port| *port != 0)?),
            None if port.is_empty() => None,
            None => return None,
        };
        let plain = host.chars().all(|c| !c.is_whitespace() && !c.is_control());
        (!host.is_empty() && plain).then_some(Self { scheme, user, host, port, path })
    }
}

/// A URL that [`Url::parse`] understands, without its password: a name of the file still.
pub(crate) fn shown(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(start);
    let is_web = scheme.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"));
    let ends: &[char] = if is_web { &['/', '?', '#'] } else { &['/'] };
    let (authority, path) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, server)) => {
            let name = user.split_once(':').map_or(user, |(name, _)| name);
            format!("{scheme}{name}@{server}{path}")
        }
        None => url.to_owned(),
    }
}

/// Turns a file name into options.
pub(crate) fn parse_filename(name: &str) -> Result<Options> {
    Ok(Options::new().with_str("url", name))
}

/// Takes `filename`, the older name of the option `url`.
pub(crate) fn adapt(options: &mut Options) -> Result<()> {
    match options.take("filename") {
        None => Ok(()),
        Some(_) if options.get("url").is_some() => {
            Err(BlockError::invalid("url and filename are one option: give one of them"))
        }
        Some(url) => {
            options.set("url", url);
            Ok(())
        }
    }
}

/// How long a server may be silent, as the option `timeout` has it, in seconds; 0 is the longest, as it is with QEMU.
pub(crate) fn timeout(given: Option<i64>) -> Result<Duration> {
    let seconds = block::not_negative("timeout", given)?.unwrap_or(TIMEOUT);
    match seconds {
        0 => Ok(Duration::from_secs(MOST_TIMEOUT)),
        1..=MOST_TIMEOUT => Ok(Duration::from_secs(seconds)),
        _ => Err(BlockError::invalid(format!("timeout is at most {MOST_TIMEOUT} seconds"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("ftp://me:a:b@c@h.example:2121//srv/x%20y").unwrap();
        let parts = Url {
            scheme: "ftp",
            user: Some(("me", Some("a:b@c"))),
            host: "h.example",
            port: Some(2121),
            path: "/srv/x%20y",
        };
        assert_eq!(url, parts);
        let url = Url::parse("tftp://[fe80::1]/x").unwrap();
        assert_eq!((url.user, url.host, url.port, url.path), (None, "fe80::1", None, "x"));
        let url = Url::parse("ftp://me@h:").unwrap();
        assert_eq!((url.user, url.host, url.port, url.path), (Some(("me", None)), "h", None, ""));
    }

    #[test]
    fn a_url_without_its_password_names_the_same_server() {
        for (url, name) in [
            ("https://u:secret@h:8443/x@y", "https://u@h:8443/x@y"),
            ("https://h:8443?x=y@z", "https://h:8443?x=y@z"),
            ("HTTP://h#x@y", "HTTP://h#x@y"),
            ("ftp://u:se?cret#@h/x", "ftp://u@h/x"),
        ] {
            assert_eq!(shown(url), name);
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_a_password() {
        for text in [
            "",
            "ftp:x",
            "ftp:///x",
            "ftp://u:secret@/x",
            "ftp://u:secret@h:0/x",
            "ftp://u:/secret@h/x",
            "ftp://u:secret@h:99999/x",
            "ftp://u:secret@h:x/x",
            "ftp://u:secret@[::1/x",
            "ftp://u:secret@[::1]x/x",
            "ftp://u:secret@h\r\nx/x",
            "u:secret@h/x",
        ] {
            let error = Url::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_left_out_of_what_is_shown() {
        assert_eq!(shown("ftp://me:word@h:1/p:a@b"), "ftp://me@h:1/p:a@b");
        assert_eq!(shown("ftp://h/p@x:y"), "ftp://h/p@x:y");
        assert_eq!(shown("ftp://me@h"), "ftp://me@h");
    }
}
