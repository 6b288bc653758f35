//! Where an image is: options, and the file names that stand for them.
//!
//! ```text
//! rbd:pool/[namespace/]image[@snapshot][:conf=file][:id=user][:name=value…]
//! ```
//!
//! A backslash takes its meaning from the character behind it. Names and values of Ceph's configuration go on as `x-config`.

use api::{BlockdevOptionsRbd, RbdEncryptionOptionsBranch};
use block::{BlockError, Opt, Options, Result};

/// Turns a file name into options.
pub(super) fn parse_filename(name: &str) -> Result<Options> {
    let text =
        name.strip_prefix("rbd:").ok_or_else(|| BlockError::invalid("File name must start with 'rbd:'"))?;
    let (pool, rest) = split(text, '/').ok_or_else(|| BlockError::invalid("Pool name is required"))?;
    let mut options = Options::new().with_str("pool", &unescaped(pool));
    let (image, mut settings) = match split(rest, '@') {
        Some((image, rest)) => {
            let (snapshot, settings) = until(rest, ':');
            options.set("snapshot", Opt::Str(unescaped(snapshot)));
            (image, settings)
        }
        None => until(rest, ':'),
    };
    let (namespace, image) = split(image, '/').unwrap_or(("", image));
    options.set("namespace", Opt::Str(unescaped(namespace)));
    options.set("image", Opt::Str(unescaped(image)));
    let mut config = Vec::new();
    while let Some(text) = settings {
        let (name, rest) = split(text, '=').ok_or_else(|| {
            BlockError::invalid(format!("conf option {} has no value", unescaped(until(text, ':').0)))
        })?;
        let (value, others) = until(rest, ':');
        let (name, value) = (unescaped(name), unescaped(value));
        match name.as_str() {
            "conf" => options.set("conf", Opt::Str(value)),
            "id" => options.set("user", Opt::Str(value)),
            _ => config.push(Opt::Str(format!("{name}={value}"))),
        }
        settings = others;
    }
    Ok(if config.is_empty() { options } else { options.with("x-config", Opt::List(config)) })
}

/// Splits at the first of these characters that no backslash precedes.
fn split(text: &str, at: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    let found = text.char_indices().find(|(_, c)| {
        let plain = !escaped;
        escaped = plain && *c == '\\';
        plain && *c == at
    });
    found.map(|(index, _)| (&text[..index], &text[index + at.len_utf8()..]))
}

/// The same, where all is the first part if there is no such character.
fn until(text: &str, at: char) -> (&str, Option<&str>) {
    split(text, at).map_or((text, None), |(first, rest)| (first, Some(rest)))
}

/// A backslash at the end means itself.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().unwrap_or('\\')),
            c => out.push(c),
        }
    }
    out
}

/// Brings older spellings into the words of the schema.
pub(super) fn adapt(options: &mut Options) -> Result<()> {
    if let Some(name) = options.take_str("filename")? {
        for (option, value) in parse_filename(&name)?.iter() {
            options.set(option, value.clone());
        }
    }
    if let Some(secret) = options.take("password-secret") {
        if options.get("key-secret").is_some() {
            return Err(BlockError::invalid("'key-secret' and 'password-secret' may not be used together"));
        }
        options.set("key-secret", secret);
    }
    Ok(())
}

/// The image, as errors name it.
pub(super) fn shown(location: &BlockdevOptionsRbd) -> String {
    let mut name = format!("rbd:{}/", location.pool);
    if let Some(namespace) = namespace(location) {
        name.push_str(namespace);
        name.push('/');
    }
    name.push_str(&location.image);
    if let Some(snapshot) = &location.snapshot {
        name.push('@');
        name.push_str(snapshot);
    }
    name
}

/// The namespace, unless it is the nameless one.
pub(super) fn namespace(location: &BlockdevOptionsRbd) -> Option<&str> {
    location.namespace.as_deref().filter(|name| !name.is_empty())
}

/// The options that say which image it is. Of keys there is no word, of a passphrase the id of its secret.
pub(super) fn naming_options(location: &BlockdevOptionsRbd) -> Options {
    let mut options = Options::new().with_str("pool", &location.pool).with_str("image", &location.image);
    let texts = [
        ("namespace", &location.namespace),
        ("conf", &location.conf),
        ("snapshot", &location.snapshot),
        ("user", &location.user),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            options.set(name, Opt::Str(value.clone()));
        }
    }
    for (index, server) in location.server.iter().flatten().enumerate() {
        options.set(format!("server.{index}.host"), Opt::Str(server.host.clone()));
        options.set(format!("server.{index}.port"), Opt::Str(server.port.clone()));
    }
    let (mut layer, mut prefix) = (location.encrypt.as_ref(), "encrypt".to_owned());
    while let Some(encrypt) = layer {
        use RbdEncryptionOptionsBranch::*;
        let (format, secret) = match &encrypt.branch {
            Luks(luks) => ("luks", &luks.key_secret),
            Luks2(luks) => ("luks2", &luks.key_secret),
            LuksAny(luks) => ("luks-any", &luks.key_secret),
        };
        options.set(format!("{prefix}.format"), Opt::Str(format.into()));
        options.set(format!("{prefix}.key-secret"), Opt::Str(secret.clone()));
        (layer, prefix) = (encrypt.parent.as_deref(), format!("{prefix}.parent"));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(name: &str) -> Result<BlockdevOptionsRbd> {
        let mut options = parse_filename(name)?;
        adapt(&mut options)?;
        options.read()
    }

    #[test]
    fn a_name_is_taken_apart_as_the_field_knows_it() {
        let plain = location("rbd:pool/disk").unwrap();
        assert_eq!(
            (plain.pool.as_str(), plain.image.as_str(), plain.namespace.as_deref()),
            ("pool", "disk", Some(""))
        );
        let whole = location("rbd:p/n/i@s:conf=/etc/c.conf:id=me:mon_host=h\\:1:key=a=b").unwrap();
        assert_eq!(shown(&whole), "rbd:p/n/i@s");
        assert_eq!((whole.conf.as_deref(), whole.user.as_deref()), (Some("/etc/c.conf"), Some("me")));
        assert_eq!(whole.x_config.unwrap(), ["mon_host=h:1", "key=a=b"]);
        let escaped = location(r"rbd:p\/q/a\@b\:c\\@s\:t:id=x\").unwrap();
        assert_eq!(shown(&escaped), r"rbd:p/q/a@b:c\@s:t");
        assert_eq!(escaped.user.as_deref(), Some(r"x\"));
        // The first @ begins a snapshot, wherever it stands.
        let odd = location("rbd:p/i:conf=a@b").unwrap();
        assert_eq!((odd.image.as_str(), odd.snapshot.as_deref()), ("i:conf=a", Some("b")));
        assert_eq!(location("rbd:p/i@").unwrap().snapshot.as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (name, text) in [
            ("rbd:", "Pool name is required"),
            ("rbd:pool", "Pool name is required"),
            (r"rbd:pool\/image", "Pool name is required"),
            ("rbd:p/i:x", "conf option x has no value"),
            ("rbd:p/i:conf=/c:secret:y", "conf option secret has no value"),
            ("rbd:p/i:", "conf option  has no value"),
        ] {
            assert_eq!(location(name).unwrap_err().message(), text, "{name}");
        }
    }

    #[test]
    fn a_name_leads_back_to_the_image_and_tells_no_key() {
        let mut options = parse_filename("rbd:p/i@s:id=me:key=TOPSECRET:mon_host=h").unwrap();
        options.set("key-secret", Opt::Str("k".into()));
        let server = Options::new().with_str("host", "a").with_str("port", "6789");
        options.set("server", Opt::List(vec![Opt::Dict(server)]));
        let inner = Options::new().with_str("format", "luks").with_str("key-secret", "s2");
        let encrypt = Options::new().with_str("format", "luks2").with_str("key-secret", "s1");
        options.set("encrypt", Opt::Dict(encrypt.with("parent", Opt::Dict(inner))));
        let location: BlockdevOptionsRbd = options.read().unwrap();
        let naming = naming_options(&location);
        assert!(!naming.to_json().contains("TOPSECRET"));
        let back: BlockdevOptionsRbd = naming.nested().read().unwrap();
        assert_eq!(back, BlockdevOptionsRbd { key_secret: None, x_config: None, ..location });
    }
}
