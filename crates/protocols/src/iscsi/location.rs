//! Where a unit is, and as whom one goes there: options, and the URL that stands for them.
//!
//! ```text
//! iscsi://[user[%password]@]host[:port]/target/lun
//! ```

use crate::uri::unescape;
use api::{BlockdevOptionsIscsi, IscsiHeaderDigest, IscsiTransport};
use block::{BlockError, Objects, Opt, Options, Result, Secret as SecretObject};
use iscsi::chap::OFFER;
use iscsi::{Credentials, DigestOffer, Lun, PORT, Profile, Secret};
use rt::net::Address;
use std::time::Duration;

/// The name of this initiator where none is given: the one that QEMU's programs have.
const INITIATOR: &str = "iqn.2008-11.org.linux-kvm";

/// How long a request waits for its answer where nothing is said, and how long for a target that is gone.
const ANSWER: Duration = Duration::from_secs(300);
const RECONNECT: Duration = Duration::from_secs(120);
/// In place of no end.
const ENDLESS: Duration = Duration::from_nanos(u64::MAX);

/// How long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delays {
    /// For the answer to a request.
    pub answer: Duration,
    /// By requests, for a target that is gone.
    pub reconnect: Duration,
}

impl Delays {
    fn of(timeout: Option<i64>) -> Result<Self> {
        Ok(match timeout {
            None => Self { answer: ANSWER, reconnect: RECONNECT },
            Some(0) => Self { answer: ENDLESS, reconnect: ENDLESS },
            Some(seconds) => {
                let seconds = u64::try_from(seconds)
                    .map_err(|_| BlockError::invalid(format!("'timeout' can't be {seconds} seconds")))?;
                let time = Duration::from_secs(seconds).min(ENDLESS);
                Self { answer: time, reconnect: time }
            }
        })
    }
}

/// A unit of a target.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Location {
    /// Where the target listens.
    pub portal: Address,
    /// Its number as it is sent.
    pub lun: Lun,
    pub delays: Delays,
    /// The options that mean it, as far as they are told.
    pub naming: Options,
    /// How it is called in messages.
    pub name: String,
}

/// The unit that the driver's options mean, and who goes there. `session` tells the session from others of this initiator.
pub(super) fn read(
    options: BlockdevOptionsIscsi,
    objects: &Objects,
    session: [u8; 6],
) -> Result<(Location, Profile)> {
    if options.transport == IscsiTransport::Iser {
        return Err(BlockError::unsupported("the transport 'iser' (RDMA) is not available; take 'tcp'"));
    }
    let number = options.lun.unwrap_or(0);
    let lun = u16::try_from(number).ok().and_then(Lun::of);
    let lun = lun.ok_or_else(|| {
        BlockError::invalid(format!("'lun' can't be {number}: units have numbers from 0 to {}", Lun::MOST))
    })?;
    let portal = portal(&options.portal)
        .ok_or_else(|| BlockError::invalid(format!("'{}' is no address of a portal", options.portal)))?;
    let initiator = options.initiator_name.clone().unwrap_or_else(|| INITIATOR.to_owned());
    for (what, name) in [("target", &options.target), ("initiator-name", &initiator)] {
        let plain = |c: char| !c.is_whitespace() && !c.is_control();
        // Where no target is named, the portal is asked what there is, for an error that helps.
        let is_named = !name.is_empty() || what == "target";
        if !is_named || name.len() > iscsi::limits::NAME || !name.chars().all(plain) {
            return Err(BlockError::invalid(format!("'{name}' is no name for '{what}'")));
        }
    }
    let secret = |id: &Option<String>| -> Result<Option<Secret>> {
        let Some(id) = id else { return Ok(None) };
        Ok(Some(Secret::new(objects.hold::<SecretObject>(id)?.bytes().to_vec())))
    };
    let clear = options.password.clone().map(|password| Secret::new(password.into_bytes()));
    let own = match (&options.user, secret(&options.password_secret)?.or(clear)) {
        (Some(user), Some(secret)) => Some(Credentials { user: user.clone(), secret }),
        (Some(_), None) => {
            return Err(BlockError::invalid(
                "'user' is given without what proves it: give 'password-secret'",
            ));
        }
        (None, _) => None,
    };
    let peer = match (&options.target_user, secret(&options.target_password_secret)?) {
        (Some(user), Some(secret)) => Some(Credentials { user: user.clone(), secret }),
        (None, None) => None,
        _ => return Err(BlockError::invalid("'target-user' and 'target-password-secret' go together")),
    };
    match (&own, &peer) {
        (None, Some(_)) => {
            let text = "a target proves itself only to those who do: give 'user' and 'password-secret', too";
            return Err(BlockError::invalid(text));
        }
        // Else whoever is asked for one could give the other back (RFC 7143, section 9.2.1).
        (Some(own), Some(peer)) if own.secret == peer.secret => {
            return Err(BlockError::invalid("the target's secret and this end's must not be the same"));
        }
        _ => {}
    }
    let location = Location {
        lun,
        delays: Delays::of(options.timeout)?,
        naming: naming(&options),
        name: match &*options.target {
            "" => format!("iscsi://{}/", portal.place()),
            target => format!("iscsi://{}/{target}/{number}", portal.place()),
        },
        portal,
    };
    let profile = Profile {
        initiator,
        target: options.target,
        isid: session,
        own,
        peer,
        algorithms: OFFER,
        header_digest: offer(options.header_digest).unwrap_or_default(),
        data_digest: offer(options.data_digest).unwrap_or(DigestOffer::None),
    };
    Ok((location, profile))
}

fn offer(digest: Option<IscsiHeaderDigest>) -> Option<DigestOffer> {
    digest.map(|digest| match digest {
        IscsiHeaderDigest::Crc32c => DigestOffer::Crc32c,
        IscsiHeaderDigest::None => DigestOffer::None,
        IscsiHeaderDigest::Crc32cNone => DigestOffer::Crc32cNone,
        IscsiHeaderDigest::NoneCrc32c => DigestOffer::NoneCrc32c,
    })
}

/// What leads to the unit again. A password is not told, and the time that is waited for does not matter.
fn naming(options: &BlockdevOptionsIscsi) -> Options {
    let mut naming = Options::new();
    let mut text = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            naming.set(name, Opt::Str(value.clone()));
        }
    };
    text("transport", &Some(options.transport.to_string()));
    text("portal", &Some(options.portal.clone()));
    text("target", &Some(options.target.clone()));
    text("user", &options.user);
    text("password-secret", &options.password_secret);
    text("target-user", &options.target_user);
    text("target-password-secret", &options.target_password_secret);
    text("initiator-name", &options.initiator_name);
    text("header-digest", &options.header_digest.map(|digest| digest.to_string()));
    text("data-digest", &options.data_digest.map(|digest| digest.to_string()));
    if let Some(lun) = options.lun {
        naming.set("lun", Opt::Int(lun));
    }
    naming
}

/// Whether options mean the same unit, used in the same way.
pub(super) fn means(options: BlockdevOptionsIscsi, location: &Location) -> Result<bool> {
    Ok(naming(&options) == location.naming && Delays::of(options.timeout)? == location.delays)
}

/// The address of `host[:port]`, where the host may be an address in brackets.
pub(super) fn portal(text: &str) -> Option<Address> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None if rest.is_empty() => PORT,
        None => return None,
    };
    (!host.is_empty() && port > 0).then(|| Address::Tcp { host: host.to_owned(), port })
}

/// Turns a URL into options.
pub(super) fn parse_filename(name: &str) -> Result<Options> {
    // What is wrong may be the password: it is not told.
    let wrong = || BlockError::invalid("no valid URL: one looks like iscsi://HOST[:PORT]/TARGET/LUN");
    let (scheme, rest) = name.split_once("://").ok_or_else(wrong)?;
    let transport = match scheme {
        "iscsi" => "tcp",
        "iser" => "iser",
        _ => return Err(wrong()),
    };
    // Its parameters are settings of libiscsi's.
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // One that names no target: its portal may tell which there are.
    let (target, lun) = if path.is_empty() { ("", "0") } else { path.rsplit_once('/').ok_or_else(wrong)? };
    let (login, portal) = match authority.rsplit_once('@') {
        Some((login, portal)) => (Some(login), portal),
        None => (None, authority),
    };
    let target = unescape(target).ok_or_else(wrong)?;
    let is_number = !lun.is_empty() && lun.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number || target.is_empty() && !path.is_empty() {
        return Err(wrong());
    }
    let lun: u64 = lun.parse().map_err(|_| wrong())?;
    let mut options = Options::new()
        .with_str("transport", transport)
        .with_str("portal", portal)
        .with_str("target", &target)
        .with_str("lun", &lun.to_string());
    // A name without a password proves nothing, and is left out.
    if let Some((user, password)) = login.and_then(|login| login.split_once(['%', ':'])) {
        options = options.with_str("user", user).with_str("password", password);
    }
    Ok(options)
}

/// Takes the older way of naming a unit, a URL as `filename`.
pub(super) fn adapt(options: &mut Options) -> Result<()> {
    if let Some(name) = options.take_str("filename")? {
        for (option, value) in parse_filename(&name)?.iter() {
            if options.get(option).is_none() {
                options.set(option, value.clone());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(options: Options) -> Result<(Location, Profile)> {
        let mut options = options.nested();
        adapt(&mut options)?;
        let objects = Objects::default();
        objects.add("s0", SecretObject::new(b"secretsecret".to_vec()))?;
        objects.add("s1", SecretObject::new(b"anothersecret".to_vec()))?;
        read(options.read()?, &objects, [0; 6])
    }

    fn of(url: &str) -> Result<(Location, Profile)> {
        location(parse_filename(url)?)
    }

    fn given() -> Options {
        Options::new().with_str("transport", "tcp").with_str("portal", "h").with_str("target", "iqn.t")
    }

    #[test]
    fn a_url_and_options_lead_to_the_same_unit() {
        let url = of("iscsi://alice%secretsecret@h:99/iqn.t%3ax/01").unwrap();
        let options = Options::new()
            .with_str("transport", "tcp")
            .with_str("portal", "h:99")
            .with_str("target", "iqn.t:x")
            .with("lun", Opt::Int(1))
            .with_str("user", "alice");
        let named = location(options.clone().with_str("password-secret", "s0")).unwrap();
        assert_eq!(url.1, named.1);
        assert_eq!(url.0.name, "iscsi://h:99/iqn.t:x/1");
        assert_eq!((url.0.portal, url.0.lun), (named.0.portal, named.0.lun));
        assert_eq!(of("iscsi://[::1]/iqn.t/0?x=y").unwrap().0.name, "iscsi://[::1]:3260/iqn.t/0");
        let older = Options::new().with_str("filename", "iscsi://alice%secretsecret@h:99/iqn.t:x/1");
        assert_eq!(location(older).unwrap().1, url.1);
        assert_eq!(of("iscsi://alice@h/iqn.t/0").unwrap().1.own, None);
    }

    #[test]
    fn no_password_is_in_a_name() {
        let (location, profile) = of("iscsi://alice%secretsecret@h/iqn.t/1").unwrap();
        let shown = format!("{location:?} {profile:?} {}", location.naming.to_json());
        assert!(shown.contains("alice") && !shown.contains("secretsecret"), "{shown}");
        let wrong = of("iscsi://alice%secretsecret@h/iqn.t/x").unwrap_err().to_string();
        assert!(!wrong.contains("secretsecret"), "{wrong}");
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for url in [
            "iscsi:",
            "iscsi:foo",
            "iscsi://",
            "iscsi://h/t",
            "iscsi://h/t/",
            "iscsi://h/t/1x",
            "iscsi://h/t/-1",
            "iscsi://h//1",
            "iscsi:///t/1",
            "iscsi://h:0/t/1",
            "iscsi://h:99999/t/1",
            "iscsi://h/t/16384",
            "iser://h/t/1",
            "iscsi://h/t%/1",
            "iscsi://h/t%0/1",
            "iscsi://h/t%+1/1",
            "iscsi://h/a b/1",
            "iscsi://[::1/t/1",
            "iscsi://h/t/99999999999999999999",
        ] {
            assert!(of(url).is_err(), "{url}");
        }
        let refused =
            |name: &str, value: &str| location(given().with_str(name, value)).unwrap_err().to_string();
        assert!(refused("user", "alice").contains("password-secret"));
        assert!(refused("target-user", "bob").contains("go together"));
        assert!(refused("timeout", "-1").contains("timeout"));
        assert!(refused("lun", "-1").contains("lun"));
        let both = given().with_str("target-user", "bob").with_str("target-password-secret", "s0");
        assert!(location(both.clone()).unwrap_err().to_string().contains("'user'"));
        let both = both.with_str("user", "alice").with_str("password-secret", "s0");
        assert!(location(both.clone()).unwrap_err().to_string().contains("the same"));
        let differ = both.with_str("password-secret", "s1");
        assert!(location(differ).unwrap().1.peer.is_some());
    }

    #[test]
    fn a_time_is_for_answers_and_for_targets_that_are_gone() {
        let delays = |timeout: &str| location(given().with_str("timeout", timeout)).unwrap().0.delays;
        assert_eq!(delays("5"), Delays { answer: Duration::from_secs(5), reconnect: Duration::from_secs(5) });
        assert_eq!(delays("0").reconnect, ENDLESS);
        assert_eq!(location(given()).unwrap().0.delays.reconnect, RECONNECT);
    }
}
