//! The proxy that a server is reached by: that of the option, or that of the environment, as curl reads it.
//!
//! `http_proxy`, `https_proxy`, `all_proxy`, and `no_proxy` with hosts, domains or `*` that are reached without; all but the first
//! in capitals too, for that one is what a web server makes of a header that a client sends.

use super::location::{Location, Server};
use super::options::basic;
use crate::uri::unescape_bytes;
use block::{BlockError, Result};
use http::header::HeaderValue;

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub server: Server,
    /// What it is told of the user.
    pub authorization: Option<HeaderValue>,
}

impl Proxy {
    /// That for a server; `given` is what the option says, `own` who the user is by options.
    pub fn find(given: Option<&str>, server: &Server, own: Option<&HeaderValue>) -> Result<Option<Self>> {
        let url = match given {
            Some(url) => url.to_owned(),
            None if is_excepted(&server.host, &variable(&["no_proxy", "NO_PROXY"])) => return Ok(None),
            None => of_environment(server.secure),
        };
        if url.is_empty() {
            return Ok(None);
        }
        let url = if url.contains("://") { url } else { format!("http://{url}") };
        let wrong = |_| BlockError::invalid("the proxy is none that is reached by HTTP: 'http://host:port'");
        let (location, user) = Location::parse(&url).map_err(wrong)?;
        if location.server.secure {
            return Err(BlockError::unsupported(
                "a proxy is reached by HTTP without TLS: 'http://host:port'",
            ));
        }
        let of_url = user.and_then(|(name, password)| {
            Some(basic(&unescape_bytes(name)?, &unescape_bytes(password.unwrap_or_default())?))
        });
        // Without a port, as curl has it.
        let port = if names_port(&url) { location.server.port } else { 1080 };
        Ok(Some(Self {
            server: Server { port, ..location.server },
            authorization: own.cloned().or(of_url.transpose()?),
        }))
    }
}

fn names_port(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    server.rsplit_once(']').map_or(server, |(_, behind)| behind).contains(':')
}

fn variable(names: &[&str]) -> String {
    names.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty())).unwrap_or_default()
}

fn of_environment(secure: bool) -> String {
    let own = if secure { variable(&["https_proxy", "HTTPS_PROXY"]) } else { variable(&["http_proxy"]) };
    if own.is_empty() { variable(&["all_proxy", "ALL_PROXY"]) } else { own }
}

/// Whether a host is among those that are reached without a proxy.
fn is_excepted(host: &str, list: &str) -> bool {
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.trim_start_matches('.').to_ascii_lowercase();
        let ends = || host.strip_suffix(&entry).is_some_and(|front| front.ends_with('.'));
        entry == "*" || host == entry || ends()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server { secure: false, host: "files.example".to_owned(), port: 80 }
    }

    #[test]
    fn the_option_names_a_proxy_or_none() {
        let proxy = |text| Proxy::find(Some(text), &server(), None).unwrap();
        assert!(proxy("").is_none());
        assert_eq!(proxy("http://p:3128").unwrap().server.place(), "p:3128");
        assert_eq!(proxy("p").unwrap().server.place(), "p:1080");
        assert_eq!(proxy("http://p:80/").unwrap().server.place(), "p:80");
        let authorization = proxy("http://me:word@p:1").unwrap().authorization.unwrap();
        assert_eq!(authorization.as_bytes(), b"Basic bWU6d29yZA==");
        for wrong in ["https://p:1", "socks5://p:1", "http://me:word@:1"] {
            let error = Proxy::find(Some(wrong), &server(), None).map(drop).unwrap_err().to_string();
            assert!(!error.contains("word"), "{error}");
        }
    }

    #[test]
    fn hosts_and_domains_are_excepted() {
        for (host, list, is) in [
            ("a.example", "a.example", true),
            ("a.example", "b.example, .example", true),
            ("a.example", "example", true),
            ("aexample", "example", false),
            ("h", "*", true),
            ("127.0.0.1", "localhost,127.0.0.1", true),
            ("h", "", false),
        ] {
            assert_eq!(is_excepted(host, list), is, "{host} in {list}");
        }
    }
}
