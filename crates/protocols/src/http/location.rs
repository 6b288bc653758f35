//! Where a file is: a server, and what is asked of it.
//!
//! Specification: RFC 3986; section 5.2 for what a redirection is relative to.

use crate::url::Url;
use block::{BlockError, Result, hide_passwords};
use std::fmt;

/// A file of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub server: Server,
    /// Path and query, in characters that a request may hold.
    pub target: String,
}

/// A server, as requests are made to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub secure: bool,
    /// Without brackets.
    pub host: String,
    pub port: u16,
}

impl Server {
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Host and port, the latter where it is not the scheme's.
    pub fn authority(&self) -> String {
        let host = bracketed(&self.host);
        if self.port == port_of(self.secure) { host } else { format!("{host}:{}", self.port) }
    }

    /// Host and port.
    pub fn place(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }
}

impl Location {
    /// All of it, which may hold a key: not to be shown.
    pub fn whole(&self) -> String {
        format!("{}://{}{}", self.server.scheme(), self.server.authority(), self.target)
    }
}

impl fmt::Display for Location {
    /// Without what is behind the path, which may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let more = if query.is_empty() { "" } else { "?…" };
        write!(f, "{}://{}{path}{more}", self.server.scheme(), self.server.authority())
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn port_of(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// A URL's user, and password, as they stand there.
pub(crate) type User<'a> = Option<(&'a str, Option<&'a str>)>;

impl Location {
    /// Takes a URL apart; the user that it names is told beside the location.
    ///
    /// # Errors
    /// It is no URL of a web server.
    pub fn parse(url: &str) -> Result<(Self, User<'_>)> {
        let whole = url;
        let (url, _) = url.split_once('#').unwrap_or((url, ""));
        let start = url.find("://").map_or(0, |at| at + 3);
        let end = url.get(start..).and_then(|rest| rest.find(['/', '?']));
        let (server, target) = url.split_at(end.map_or(url.len(), |end| start + end));
        // A password may hold what ends a server's part: all of it is looked at for one.
        let wrong = |_| match whole.contains("://") {
            true => BlockError::invalid(format!("'{}' is no URL of a web server", hide_passwords(whole))),
            false => BlockError::invalid("the URL of a web server begins with 'http://' or 'https://'"),
        };
        let parts = Url::parse(server).map_err(wrong)?;
        if server.ends_with(':') && whole.get(server.len()..).is_some_and(|rest| rest.contains('@')) {
            // A password that begins with what ends a server's part.
            return Err(BlockError::invalid(format!(
                "'{}' is no URL of a web server",
                hide_passwords(whole)
            )));
        }
        let secure = match parts.scheme {
            scheme if scheme.eq_ignore_ascii_case("http") => false,
            scheme if scheme.eq_ignore_ascii_case("https") => true,
            scheme => return Err(BlockError::invalid(format!("'{scheme}' is no scheme of web servers"))),
        };
        let server = Server {
            secure,
            host: parts.host.to_ascii_lowercase(),
            port: parts.port.unwrap_or(port_of(secure)),
        };
        let target = match target.strip_prefix('?') {
            Some(_) => encoded(&format!("/{target}")),
            None if target.is_empty() => "/".to_owned(),
            None => encoded(target),
        };
        Ok((Self { server, target }, parts.user))
    }

    /// Where a reference leads that stands here; `None` where it makes no sense.
    pub fn resolve(&self, reference: &str) -> Option<Self> {
        let (reference, _) = reference.split_once('#').unwrap_or((reference, ""));
        if has_scheme(reference) {
            return Self::parse(reference).ok().map(|(location, _)| location);
        }
        if reference.starts_with("//") {
            let url = format!("{}:{reference}", self.server.scheme());
            return Self::parse(&url).ok().map(|(location, _)| location);
        }
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let target = match reference {
            "" if query.is_empty() => path.to_owned(),
            "" => format!("{path}?{query}"),
            reference if reference.starts_with('?') => format!("{path}{reference}"),
            reference => {
                let (to, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
                let folder = path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or("/");
                let whole = if to.starts_with('/') { to.to_owned() } else { format!("{folder}{to}") };
                format!("{}{query}", without_dots(&whole))
            }
        };
        Some(Self { server: self.server.clone(), target: encoded(&target) })
    }
}

fn has_scheme(reference: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    reference.split_once(':').is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(plain))
}

/// A path without `.` and `..`.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// With what a request can't hold as `%xx`.
fn encoded(target: &str) -> String {
    let mut out = String::with_capacity(target.len());
    for byte in target.bytes() {
        match byte {
            0..=b' ' | 0x7f.. | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                out.push_str(&format!("%{byte:02X}"));
            }
            byte => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Location {
        Location::parse(url).unwrap().0
    }

    #[test]
    fn urls_are_taken_apart_and_told_as_requests_have_them() {
        for (url, told) in [
            ("http://h", "http://h/"),
            ("http://H:80/a", "http://h/a"),
            ("https://h:443/a/../b", "https://h/a/../b"),
            ("https://h:8443?x=/y@z", "https://h:8443/?x=/y@z"),
            ("http://[::1]:81/a b#part", "http://[::1]:81/a%20b"),
            ("http://u:p@h/é%C3", "http://h/%C3%A9%C3"),
        ] {
            assert_eq!(parse(url).whole(), told, "{url}");
        }
        assert_eq!(Location::parse("http://u:p@h/x@y").unwrap().1, Some(("u", Some("p"))));
        assert_eq!(parse("https://h/a?Signature=secret").to_string(), "https://h/a?…");
    }

    #[test]
    fn what_is_no_url_of_a_web_server_is_refused_without_its_password() {
        for url in ["http:x", "ftp://u:secret@h/x", "http://u:secret@/x", "http://u:secret@h:x/", "h/x", ""] {
            let error = Location::parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_url_that_is_refused_never_shows_a_password() {
        const PIECES: &[&str] = &["/", "?", "#", "'", "@", ":", "%", " ", "://", "ü", "x", "&"];
        for number in 0..PIECES.len().pow(3) {
            let piece = |nth: u32| PIECES[number / PIECES.len().pow(nth) % PIECES.len()];
            let password = format!("{}{}SECRET{}", piece(0), piece(1), piece(2));
            for url in [format!("http://me:{password}@host/x"), format!("httq://me:{password}@host")] {
                if let Err(error) = parse_all(&url) {
                    assert!(!error.to_string().contains("SECRET"), "{url}: {error}");
                }
            }
        }
    }

    fn parse_all(url: &str) -> Result<()> {
        crate::url::Url::parse(url)?;
        Location::parse(url).map(drop)
    }

    #[test]
    fn references_are_resolved_as_the_specification_says() {
        // RFC 3986, 5.4, but for what only other schemes have.
        let base = parse("http://a/b/c/d;p?q");
        for (reference, leads) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("g#s", "http://a/b/c/g"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("./g/.", "http://a/b/c/g/"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("https://h:1/x", "https://h:1/x"),
        ] {
            assert_eq!(base.resolve(reference).unwrap().whole(), leads, "{reference}");
        }
        assert_eq!(base.resolve("ftp://h/x"), None);
    }
}
