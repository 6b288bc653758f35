//! What is asked of a store, by what is said of an object.

use super::*;

fn read(given: &[(&str, &str)]) -> Result<Settings> {
    let objects = Objects::default();
    for (id, text) in [("k", "the-secret-key\n"), ("t", "the-token")] {
        objects.add(id, Secret::new(text.as_bytes().to_vec()))?;
    }
    let options = given.iter().fold(Options::new(), |options, (name, value)| options.with_str(name, value));
    settings(options.read()?, &objects)
}

fn asked(given: &[(&str, &str)]) -> String {
    read(given).unwrap().location.whole()
}

#[test]
fn a_url_names_a_bucket_and_a_key() {
    let parsed = |name| {
        let options = parse_filename(name)?;
        let text = |name| options.get_str(name).unwrap_or_default().to_owned();
        Ok::<_, BlockError>((text("bucket"), text("key")))
    };
    assert_eq!(parsed("s3://b/a/c d?e").unwrap(), ("b".to_owned(), "a/c d?e".to_owned()));
    for wrong in ["s3:b/k", "s3://b", "s3://b/", "s3:///k", "s3://"] {
        assert!(parsed(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_object_is_asked_for_by_the_name_of_its_bucket_or_in_the_path() {
    let own = ("endpoint", "http://store:9000/");
    let aws = ("endpoint", "https://s3.eu-west-1.amazonaws.com");
    for (given, url) in [
        (&[("bucket", "b"), ("key", "a/c d+é"), own][..], "http://store:9000/b/a/c%20d%2B%C3%A9"),
        (
            &[("bucket", "b"), ("key", "k"), aws, ("path-style", "off")],
            "https://b.s3.eu-west-1.amazonaws.com/k",
        ),
        (&[("bucket", "b.c"), ("key", "k"), aws], "https://s3.eu-west-1.amazonaws.com/b.c/k"),
        (
            &[("bucket", "b"), ("key", "k?x#y"), ("version", "v/1="), own],
            "http://store:9000/b/k%3Fx%23y?versionId=v%2F1%3D",
        ),
    ] {
        assert_eq!(asked(given), url);
    }
}

#[test]
fn names_say_what_the_url_does_not_and_no_secret() {
    let named = |given: &[(&str, &str)]| {
        let settings = read(given).unwrap();
        (settings.name(), settings.naming.with_str("driver", "s3").to_json())
    };
    assert_eq!(named(&[("bucket", "b"), ("key", "k/l")]).0.as_deref(), Some("s3://b/k/l"));
    let signed = [
        ("bucket", "b"),
        ("key", "k"),
        ("access-key", "id"),
        ("secret-key-secret", "k"),
        ("session-token-secret", "t"),
    ];
    let (name, json) = named(&signed);
    assert_eq!(name, None);
    assert!(json.contains(r#""secret-key-secret": "k""#), "{json}");
    assert!(!json.contains("the-"), "{json}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for given in [
        &[("bucket", "b/c"), ("key", "k")][..],
        &[("bucket", "b"), ("key", "")],
        &[("bucket", "b"), ("key", "k"), ("access-key", "id")],
        &[("bucket", "b"), ("key", "k"), ("session-token-secret", "t")],
        &[("bucket", "b"), ("key", "k"), ("endpoint", "ftp://h")],
        &[("bucket", "b"), ("key", "k"), ("endpoint", "http://h/?x")],
        &[("bucket", "b"), ("key", "k"), ("access-key", "id"), ("secret-key-secret", "none")],
    ] {
        assert!(read(given).is_err(), "{given:?}");
    }
}

#[test]
fn an_endpoint_that_names_a_user_is_refused_and_not_shown() {
    for endpoint in ["http://me:word@h:9000", "https://me@h", "http://me:wo/rd@h", "http://me:w?ord@h/f"] {
        let given = [("bucket", "b"), ("key", "k"), ("endpoint", endpoint)];
        let error = read(&given).map(|settings| settings.name()).unwrap_err().to_string();
        assert!(!error.contains("wo"), "{error}");
    }
}
