//! Names, options, and what of them reaches the server.

use super::*;

fn read(given: Options, in_tls: bool) -> Result<(Location, Secret)> {
    let mut given = given.nested();
    url::adapt(&mut given)?;
    Location::of(given.read()?, in_tls, &Objects::default())
}

fn named(name: &str) -> Result<(Location, Secret)> {
    read(location::parse_filename(name)?, !name.starts_with("ftp:"))
}

#[test]
fn a_name_says_where_a_file_is_and_who_reads_it() {
    let (location, password) = named("ftp://me:pass%3Aw@h.example//srv/a%20b;type=i").unwrap();
    assert_eq!(
        (location.host.as_str(), location.port, &location.path[..]),
        ("h.example", 21, &b"/srv/a b"[..])
    );
    assert_eq!((&location.user[..], password.bytes()), (&b"me"[..], &b"pass:w"[..]));
    assert_eq!(location.url, "ftp://me@h.example//srv/a%20b;type=i");
    let (location, password) = named("ftp://[::1]:2121/x").unwrap();
    assert_eq!((location.host.as_str(), location.port, &location.user[..]), ("::1", 2121, &b"anonymous"[..]));
    assert_eq!(
        (password.bytes(), location.filename().as_deref()),
        (&b"anonymous@"[..], Some("ftp://[::1]:2121/x"))
    );
    let begins = |name: &str| {
        let (location, _) = named(name).unwrap();
        (location.port, location.tls.as_ref().map(|tls| tls.begin), location.filename())
    };
    let implicit = Some("ftps://h/x".to_owned());
    assert_eq!(begins("ftps://h/x"), (990, Some(location::Begin::Implicit), implicit));
    assert_eq!(begins("ftpes://h/x"), (21, Some(location::Begin::Explicit), None));
    let old = options("filename=ftp://h/x");
    assert_eq!(read(old.clone(), false).unwrap().0, named("ftp://h/x").unwrap().0);
    assert!(read(old.with_str("url", "ftp://h/x"), false).is_err());
}

#[test]
fn what_a_name_tells_leads_to_the_file_and_tells_no_password() {
    for (given, in_tls, told) in [
        ("url=ftp://me:hunter2@h/x", false, ""),
        ("url=ftps://h/x,sslverify=on", true, ""),
        ("url=ftp://u:hunter2@h/x,username=me", false, r#"{"url": "ftp://u@h/x", "username": "me"}"#),
        ("url=ftps://h/x,sslverify=off", true, r#"{"url": "ftps://h/x", "sslverify": false}"#),
        (
            "url=ftps://h/x,explicit=on,cafile=ca",
            true,
            r#"{"url": "ftps://h/x", "explicit": true, "cafile": "ca"}"#,
        ),
    ] {
        let (location, _) = read(options(given), in_tls).unwrap();
        let mut words: Vec<_> = told.trim_matches(['{', '}']).split(", ").collect();
        let json = location.naming.to_json();
        let mut own: Vec<_> = json.trim_matches(['{', '}']).split(", ").collect();
        words.sort_unstable();
        own.sort_unstable();
        assert_eq!(own, words, "{given}");
        assert_eq!(location.filename().is_some(), told.is_empty());
        assert!(!format!("{location:?}").contains("hunter2"), "{given}");
    }
}

#[test]
fn what_makes_no_sense_or_would_end_a_command_is_refused() {
    for (given, in_tls) in [
        ("url=ftps://h/x", false),
        ("url=ftp://h/x", true),
        ("url=http://h/x", false),
        ("url=ftp://h", false),
        ("url=ftp://h/dir/", false),
        ("url=ftp://h/x;type=a", false),
        ("url=ftp://h/x%0d%0aDELE%20y", false),
        ("url=ftp://h/x%0aDELE%20y", false),
        ("url=ftp://h/x%00y", false),
        ("url=ftp://h/x%", false),
        ("url=ftp://a%0aDELE:b@h/x", false),
        ("url=ftp://a:b%0dDELE@h/x", false),
        ("url=ftp://h/x,username=a\nDELE", false),
        ("url=ftp://h/x\r\nDELE", false),
        ("url=ftp://h/x,password-secret=nobody", false),
        ("url=ftp://h/x,proxy-username=p", false),
        ("url=ftp://h/x,proxy-password-secret=p", false),
        ("url=ftp://h/x,sslverify=off", false),
        ("url=ftp://h/x,explicit=on", false),
        ("url=ftp://h/x,readahead=100", false),
        ("url=ftp://h/x,timeout=99999", false),
        ("url=ftp://h/x,colour=red", false),
        ("username=x", false),
    ] {
        assert!(read(options(given), in_tls).is_err(), "{given}");
    }
    let objects = Objects::default();
    objects.add("s", Secret::new(b"a\nDELE x".to_vec())).unwrap();
    objects.add("t", Secret::new(b"word".to_vec())).unwrap();
    let of = |id: &str| {
        Location::of(options(&format!("url=ftp://me:b@h/x,password-secret={id}")).read()?, false, &objects)
    };
    assert!(of("s").is_err());
    assert_eq!(of("t").unwrap().1.bytes(), b"word");
}

#[test]
fn a_wrong_password_is_told_of_and_is_in_no_text() {
    run(async {
        let server = serve(content(SIZE), Manner::Good).await;
        let given = options(&format!("url=ftp://me:hunter2@127.0.0.1:{}/disk.img", server.port));
        let (location, password) = Location::of(given.read().unwrap(), false, &Objects::default()).unwrap();
        let error = Ftp::open(location, password, Objects::default()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.to_string().ends_with("does not let the user in: 530"), "{error}");
    });
}

#[test]
fn names_that_are_not_ascii_are_sent_as_they_are_and_utf_8_is_agreed_on() {
    run(async {
        let server = serve(content(SIZE), Manner::Good).await;
        let (location, password) = located(server.port);
        let location = Location { path: "\u{e9}.img".into(), ..location };
        let error = Ftp::open(location, password, Objects::default()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let commands = server.shared.commands.lock().clone();
        let expected = ["USER me", "PASS secret", "FEAT", "OPTS UTF8 ON", "TYPE I", "SIZE \u{e9}.img"];
        assert_eq!(commands, expected);
    });
}

#[test]
fn a_session_that_is_closed_takes_leave() {
    run(async {
        let server = serve(content(SIZE), Manner::Good).await;
        let driver = connected(&server).await;
        check(&driver, 0, 512).await;
        driver.close().await.unwrap();
        while server.shared.commands.lock().last().is_none_or(|last| last != "QUIT") {
            rt::yield_now().await;
        }
    });
}
