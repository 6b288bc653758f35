//! The way to a file: redirections, proxies, and who is told what.

use super::server::{answer, good};
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

fn redirect(status: &str, to: &str) -> Served {
    Served::Bytes(answer(status, &format!("Location: {to}\r\n"), b"elsewhere"))
}

fn with_secrets(url: &str, objects: &Objects) -> BlockdevOptionsCurlHttp {
    for (id, text) in
        [("p", "the-password"), ("c", "session=the-cookie"), ("h", "X-Key: the-key\nX-Other: o\n")]
    {
        objects.add(id, Secret::new(text.as_bytes().to_vec())).unwrap();
    }
    let mut options = options(url);
    options.username = Some("alice".to_owned());
    options.password_secret = Some("p".to_owned());
    options.cookie_secret = Some("c".to_owned());
    options.header_secret = Some("h".to_owned());
    options
}

#[test]
fn redirections_are_followed_and_not_gone_through_again() {
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        run(async {
            let file = content(SIZE);
            let server = Server::start(move |came| match came.target.as_str() {
                "/disk" => redirect(status, "folder/next"),
                "/folder/next" => redirect(status, "../real?x=1"),
                "/real?x=1" => Served::Bytes(good(came, &file)),
                _ => Served::Last(Vec::new()),
            })
            .await;
            let driver = open_at(&server.url).await.unwrap();
            check(&driver, 1 << 20).await;
            let first = server.came().iter().filter(|came| came.target == "/disk").count();
            assert_eq!(first, 1);
        });
    }
}

#[test]
fn where_a_redirection_led_to_may_end_and_the_first_place_is_asked_again() {
    run(async {
        let (file, count) = (content(SIZE), AtomicUsize::new(0));
        let server = Server::start(move |came| match came.target.as_str() {
            "/disk" => redirect("302 Found", &format!("/signed-{}", count.fetch_add(1, Ordering::Relaxed))),
            // Each of them is good for a few requests.
            signed if came.number % 5 == 4 && signed.starts_with("/signed") => {
                Served::Bytes(answer("403 Forbidden", "", b"expired"))
            }
            _ => Served::Bytes(good(came, &file)),
        })
        .await;
        let driver = open_at(&server.url).await.unwrap();
        check(&driver, 1 << 20).await;
        assert!(server.came().iter().any(|came| came.target == "/signed-1"));
    });
}

#[test]
fn redirections_without_end_or_to_nowhere_are_refused() {
    run(async {
        let server = Server::start(|came| redirect("302 Found", &format!("{}x", came.target))).await;
        let error = refused(&server.url).await;
        assert!(error.to_string().contains("more than 20 redirections"), "{error}");
        assert_eq!(server.came().len(), 21);
        for to in ["ftp://h/x", "gopher:x", "http://", "//:0/x"] {
            let to = to.to_owned();
            let server = Server::start(move |_| redirect("302 Found", &to)).await;
            let error = refused(&server.url).await;
            assert!(error.to_string().contains("nowhere"), "{error}");
        }
        let server = Server::start(|_| Served::Bytes(answer("302 Found", "", b""))).await;
        assert!(refused(&server.url).await.to_string().contains("nowhere"));
    });
}

#[test]
fn who_the_user_is_is_told_to_the_server_of_the_url_alone() {
    run(async {
        let file = content(SIZE);
        let other = Server::start(move |came| Served::Bytes(good(came, &file))).await;
        let to = other.url.clone();
        let server = Server::start(move |came| match came.target.as_str() {
            "/disk" => redirect("302 Found", "/second"),
            _ => redirect("302 Found", &to),
        })
        .await;
        let objects = Objects::default();
        let driver = open_with(with_secrets(&server.url, &objects), &objects).await.unwrap();
        check(&driver, 1 << 20).await;
        for came in server.came() {
            assert_eq!(came.header("authorization"), Some("Basic YWxpY2U6dGhlLXBhc3N3b3Jk"));
            assert_eq!(came.header("cookie"), Some("session=the-cookie"));
            assert_eq!((came.header("x-key"), came.header("x-other")), (Some("the-key"), Some("o")));
        }
        for came in other.came() {
            let told = ["authorization", "cookie", "x-key"].map(|name| came.header(name).is_some());
            assert_eq!(told, [false; 3], "{}", came.head);
        }
    });
}

#[test]
fn a_proxy_is_asked_for_the_whole_url_and_told_who_the_user_is_there() {
    run(async {
        let file = content(SIZE);
        let proxy = Server::start(move |came| match came.header("proxy-authorization") {
            Some("Basic Ym9iOnRoZS1wYXNzd29yZA==") => Served::Bytes(good(came, &file)),
            _ => Served::Bytes(answer("407 Proxy Authentication Required", "", b"")),
        })
        .await;
        let objects = Objects::default();
        let mut settings = with_secrets("http://files.example/disk", &objects);
        settings.proxy = Some(proxy.place.clone());
        let error = open_with(settings.clone(), &objects).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("proxy-username"), "{error}");
        settings.proxy_username = Some("bob".to_owned());
        settings.proxy_password_secret = Some("p".to_owned());
        let driver = open_with(settings, &objects).await.unwrap();
        check(&driver, 1 << 20).await;
        for came in proxy.came() {
            assert_eq!(came.target, "http://files.example/disk");
            assert_eq!(came.header("host"), Some("files.example"));
        }
    });
}

#[test]
fn tls_by_a_proxy_begins_with_connect_and_what_it_answers_decides() {
    run(async {
        let objects = Objects::default();
        for (served, expected) in [
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "403 (Forbidden) to CONNECT"),
            ("HTTP/1.1 407 Auth\r\n\r\n", "407"),
            ("garbage\r\n\r\n", "no HTTP"),
            ("", "closed"),
        ] {
            let proxy = Server::start(move |_| Served::Last(served.as_bytes().to_vec())).await;
            let mut settings = options("https://files.example/disk");
            settings.proxy = Some(format!("http://me:word@{}", proxy.place));
            let error = open_with(settings, &objects).await.map(drop).unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
            let came = &proxy.came()[0];
            assert_eq!((came.method.as_str(), came.target.as_str()), ("CONNECT", "files.example:443"));
            assert_eq!(came.header("proxy-authorization"), Some("Basic bWU6d29yZA=="));
            assert_eq!(came.header("authorization"), None);
        }
        let proxy =
            Server::start(|_| Served::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".to_vec())).await;
        let mut settings = options("https://files.example/disk");
        settings.proxy = Some(proxy.place.clone());
        let error = open_with(settings, &objects).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("no HTTP"), "{error}");
    });
}

#[test]
fn no_secret_is_in_a_name_or_an_error() {
    run(async {
        let server = Server::start(|_| Served::Bytes(answer("401 Unauthorized", "", b""))).await;
        let objects = Objects::default();
        let url = server.url.replace("http://", "http://carol:the-word@") + "?signature=the-signature";
        let settings = with_secrets(&url, &objects);
        let named = Settings::of(settings.clone(), "http", &objects).unwrap();
        let names = format!("{} {:?}", named.naming.to_json(), named.name());
        let error = open_with(settings, &objects).await.map(drop).unwrap_err();
        for text in [names, error.to_string(), format!("{error:?}")] {
            for secret in ["the-password", "the-cookie", "the-key", "the-word"] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
        assert!(!error.to_string().contains("the-signature"), "{error}");
        // What the options say counts, not the URL.
        assert_eq!(server.came()[0].header("authorization"), Some("Basic YWxpY2U6dGhlLXBhc3N3b3Jk"));
    });
}

#[test]
fn names_are_urls_where_these_are_enough_and_options_else() {
    let objects = Objects::default();
    objects.add("s", Secret::new(b"word".to_vec())).unwrap();
    let named = |given: &[(&str, &str)]| {
        let start = Options::new().with_str("url", "http://h/d");
        let mut options = given.iter().fold(start, |options, (name, value)| options.with_str(name, value));
        adapted(&mut options);
        let settings = Settings::of(options.read().unwrap(), "http", &objects).unwrap();
        (settings.name(), settings.naming.with_str("driver", "http").to_json())
    };
    for plain in [
        &[][..],
        &[("readahead", "64k"), ("timeout", "7")],
        &[("timeout", "0")],
        &[("sslverify", "on")],
        &[("cookie", "a=b")],
        &[("force-range", "on"), ("connections", "2"), ("cache-size", "1M"), ("proxy", "")],
    ] {
        assert_eq!(named(plain).0.as_deref(), Some("http://h/d"), "{plain:?}");
    }
    for (given, json) in [
        (&[("username", "x")][..], r#"{"url": "http://h/d", "driver": "http", "username": "x"}"#),
        (&[("sslverify", "off")], r#"{"url": "http://h/d", "driver": "http", "sslverify": false}"#),
        (
            &[("password-secret", "s"), ("username", "alice")],
            r#"{"password-secret": "s", "url": "http://h/d", "driver": "http", "username": "alice"}"#,
        ),
        (&[("cookie-secret", "s")], r#"{"url": "http://h/d", "cookie-secret": "s", "driver": "http"}"#),
        (
            &[("proxy-username", "s"), ("proxy-password-secret", "s")],
            r#"{"url": "http://h/d", "proxy-username": "s", "driver": "http", "proxy-password-secret": "s"}"#,
        ),
    ] {
        let (name, naming) = named(given);
        assert_eq!((name, naming.as_str()), (None, json));
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let objects = Objects::default();
    objects.add("bad", Secret::new(b"Host: evil".to_vec())).unwrap();
    objects.add("line", Secret::new(b"no colon".to_vec())).unwrap();
    objects.add("split", Secret::new(b"a\r\nb".to_vec())).unwrap();
    for (given, expected) in [
        (&[("url", "https://h/d")][..], "begins with 'http://'"),
        (&[("url", "http:foo")], "begins with 'http://'"),
        (&[("url", "http://")], "no URL"),
        (&[("readahead", "513")], "multiple of 512"),
        (&[("readahead", "1G")], "at most"),
        (&[("timeout", "10001")], "timeout"),
        (&[("timeout", "-1")], "timeout"),
        (&[("connections", "0")], "connections"),
        (&[("cookie", "a"), ("cookie-secret", "bad")], "not by both"),
        (&[("password-secret", "none")], "No secret with id 'none'"),
        (&[("header-secret", "bad")], "'host' is set by the driver"),
        (&[("header-secret", "line")], "not 'Name: value'"),
        (&[("cookie-secret", "split")], "characters"),
        (&[("username", "a:b")], "':'"),
    ] {
        let start = Options::new().with_str("url", "http://h/d");
        let mut options = given.iter().fold(start, |mut options, (name, value)| {
            options.set(*name, block::Opt::Str((*value).to_owned()));
            options
        });
        let outcome = super::super::options::adapt(&mut options)
            .and_then(|()| options.read())
            .and_then(|options| Settings::of(options, "http", &objects).map(drop));
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(expected), "{given:?}: {error}");
    }
}
