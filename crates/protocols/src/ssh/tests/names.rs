//! Names and options: each form leads to the same place, and the name of a file back to it.

use super::*;
use block::Opt;

fn read(options: Options) -> Result<Location> {
    Location::take(&mut options.clone())
}

fn named(name: &str) -> Result<(Location, String)> {
    let options = location::parse_filename(name)?;
    let location = read(options.clone())?;
    let shown = location.filename(&options);
    Ok((location, shown))
}

#[test]
fn a_name_is_shown_as_it_is_found_again() {
    for (name, shown) in [
        ("ssh://me@host/a", "ssh://me@host:22/a"),
        ("ssh://me@host:2222/a/b%20c", "ssh://me@host:2222/a/b c"),
        ("ssh://me@[::1]:99/a?host_key_check=no", "ssh://me@[::1]:99/a?host_key_check=no"),
        ("ssh://me@host/a?host_key_check=sha256:AB:cd", "ssh://me@host:22/a?host_key_check=sha256:AB:cd"),
        ("ssh://me@host/a?host_key_check=yes&", "ssh://me@host:22/a?host_key_check=yes"),
        ("ssh://m%40e@host/a", "ssh://m@e@host:22/a"),
    ] {
        let (location, found) = named(name).unwrap();
        assert_eq!(found, shown, "{name}");
        assert_eq!(named(shown).unwrap().0, location, "{shown}");
    }
}

#[test]
fn the_older_and_todays_spelling_mean_the_same() {
    let old = Options::new()
        .with_str("host", "h")
        .with_str("path", "/p")
        .with_str("user", "u")
        .with_str("host_key_check", "md5:00");
    let check = Options::new().with_str("mode", "hash").with_str("type", "md5").with_str("hash", "00");
    let server = Options::new().with_str("host", "h").with("port", Opt::Str("22".to_owned()));
    let new = Options::new()
        .with("server", Opt::Dict(server))
        .with_str("path", "/p")
        .with_str("user", "u")
        .with("host-key-check", Opt::Dict(check));
    let dotted = Options::new()
        .with_str("server.host", "h")
        .with_str("server.port", "22")
        .with_str("server.ipv4", "on")
        .with_str("path", "/p")
        .with_str("user", "u")
        .with_str("host-key-check.mode", "hash")
        .with_str("host-key-check.type", "md5")
        .with_str("host-key-check.hash", "00");
    let expected = read(old.clone()).unwrap();
    assert_eq!(expected.check, Check::Hash { kind: SshHostKeyCheckHashType::Md5, hash: "00".to_owned() });
    assert_eq!((read(new.clone()).unwrap(), read(dotted).unwrap()), (expected.clone(), expected.clone()));
    // Only the older spelling is of a name.
    assert_eq!(expected.filename(&old), "ssh://u@h:22/p?host_key_check=md5:00");
    assert_eq!(expected.filename(&new), "ssh://u@h:22/p");
}

#[test]
fn the_servers_key_is_checked_if_nothing_else_is_said() {
    assert_eq!(named("ssh://u@h/p").unwrap().0.check, Check::KnownHosts { file: None });
}

#[test]
fn what_makes_no_sense_is_refused_and_no_password_is_taken() {
    for (name, text) in [
        ("ssh:foo", "missing hostname"),
        ("ssh:///x", "missing hostname"),
        ("ssh://host", "missing remote path"),
        ("ssh://host:x/a", "no URI"),
        ("ssh://host:99999/a", "no URI"),
        ("ssh://host/%zz", "no URI"),
        ("ssh://host/a%00", "no URI"),
        ("ssh://host/a?x=y", "Unsupported parameter 'x'"),
        ("ssh://host/a?host_key_check", "Unsupported parameter 'host_key_check'"),
        ("ssh://u@host/a?host_key_check=maybe", "unknown host_key_check setting (maybe)"),
        ("ssh://u@host/a?host_key_check=sha512:00", "unknown host_key_check setting (sha512:00)"),
        ("ssh://u:w@host/a", "password-secret"),
    ] {
        let error = named(name).map(drop).unwrap_err();
        assert!(error.to_string().contains(text), "{name}: {error}");
    }
    let port = Options::new().with_str("port", "22").with_str("path", "/p");
    assert!(read(port).unwrap_err().to_string().contains("port may not be used without host"));
    let secret = Options::new().with_str("host", "h").with_str("path", "/p").with_str("key-secret", "s");
    assert!(read(secret).unwrap_err().to_string().contains("key-file"));
}
