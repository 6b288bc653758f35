//! The way into a session: connects, logs in, and follows a target that is elsewhere.

use super::discover;
use super::location::{Location, portal};
use block::{BlockError, ErrorKind, Result};
use iscsi::chap;
use iscsi::{
    Agreed, HEADER, Header, Lengths, Login, LoginError, Numbers, Profile, Refusal, Step, limits, padding,
};
use rt::net::{Address, Stream};
use std::time::Duration;

/// How long is waited for what a portal offers, where its answer to the login is known.
const OFFER: Duration = Duration::from_secs(2);
/// How often a target may send one elsewhere.
const HOPS: usize = 4;

/// A connection whose login is done: what was agreed on, and the numbers to begin with.
pub(super) type Session = (Stream, Agreed, Numbers);

/// Logs in, in bounded time.
pub(super) async fn login(location: &Location, profile: &Profile, longest: Duration) -> Result<Session> {
    let name = &location.name;
    match rt::timeout(longest, find(location, profile)).await {
        Ok(result) => result,
        Err(_) => {
            let seconds = longest.as_secs_f32();
            let text = format!("'{name}': the target did not let one in within {seconds} s");
            Err(BlockError::new(ErrorKind::Timeout, text))
        }
    }
}

/// Logs in; where there is no such target, the error tells which there are.
async fn find(location: &Location, profile: &Profile) -> Result<Session> {
    if profile.target.is_empty() {
        let offer = discover::offer(location, profile).await?;
        return Err(BlockError::invalid(format!("'{}' names no target; {offer}", location.name)));
    }
    match follow(location, profile).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match rt::timeout(OFFER, discover::offer(location, profile)).await {
                Ok(Ok(offer)) => Err(BlockError::new(ErrorKind::NotFound, format!("{error}; {offer}"))),
                // The first error says why.
                _ => Err(error),
            }
        }
        result => result,
    }
}

/// Logs in, wherever the target sends one.
pub(super) async fn follow(location: &Location, profile: &Profile) -> Result<Session> {
    let name = &location.name;
    let mut place = location.portal.clone();
    for _ in 0..HOPS {
        let mut way = attempt(&place, name, profile).await?;
        if let Way::Misread = way {
            // There are targets that choose an algorithm whose responses they have no room for (tgt 1.0.85 and SHA-256).
            way =
                attempt(&place, name, &Profile { algorithms: chap::PLAIN_OFFER, ..profile.clone() }).await?;
        }
        let elsewhere = match way {
            Way::In(session) => return Ok(session),
            Way::Elsewhere(elsewhere) => elsewhere,
            Way::Misread => return Err(refusal(name, profile, LoginError::Refused(Refusal::MISREAD))),
        };
        // Behind a comma is the number of its group of portals.
        let address = elsewhere.split_once(',').map_or(elsewhere.as_str(), |(address, _)| address);
        place = portal(address).ok_or_else(|| {
            let shown: String = elsewhere.chars().take(64).collect();
            let text = format!("'{name}': the target sends one to '{shown}', which is no address");
            BlockError::new(ErrorKind::Io, text)
        })?;
    }
    let text = format!("'{name}': the target sent one elsewhere {HOPS} times");
    Err(BlockError::new(ErrorKind::Io, text))
}

/// What a login led to.
enum Way {
    In(Session),
    /// The target is there.
    Elsewhere(String),
    /// The target could make nothing of how one proves who one is.
    Misread,
}

/// Logs in at a place.
async fn attempt(place: &Address, name: &str, profile: &Profile) -> Result<Way> {
    let stream = Stream::connect(place).await;
    let stream = stream
        .map_err(|error| BlockError::os(format!("Failed to connect to '{}'", place.place()), &error))?;
    let mut random = [0; 17];
    getrandom::fill(&mut random)
        .map_err(|_| BlockError::new(ErrorKind::Io, "the system has no random numbers for a challenge"))?;
    let (mut login, mut out) = Login::begin(profile, random);
    loop {
        stream.send_all(&out).await.map_err(|error| broken(name, &error))?;
        let (header, text) = receive(&stream, name).await?;
        out = match login.advance(&header, &text) {
            Ok(Step::Send(bytes)) => bytes,
            Ok(Step::Elsewhere(place)) => return Ok(Way::Elsewhere(place)),
            Ok(Step::Ready { agreed, numbers }) => return Ok(Way::In((stream, agreed, numbers))),
            Err(LoginError::Refused(Refusal::MISREAD)) if profile.own.is_some() => return Ok(Way::Misread),
            Err(error) => return Err(refusal(name, profile, error)),
        };
    }
}

/// The next PDU: its header, and the text behind it.
pub(super) async fn receive(stream: &Stream, name: &str) -> Result<(Header, Vec<u8>)> {
    let broken = |error| broken(name, &error);
    let mut header = [0; HEADER];
    stream.recv_exact(&mut header).await.map_err(broken)?;
    let Lengths { further, data: len } = Lengths::of(&header);
    if len > limits::TEXT {
        let text = format!("'{name}': the target sent {len} bytes in one step of the login");
        return Err(BlockError::new(ErrorKind::Io, text));
    }
    let mut text = vec![0; further + len + padding(len)];
    stream.recv_exact(&mut text).await.map_err(broken)?;
    text.truncate(further + len);
    text.drain(..further);
    Ok((header, text))
}

/// The error of a target that does not go on.
pub(super) fn broken(name: &str, error: &std::io::Error) -> BlockError {
    BlockError::os(format!("'{name}': the target broke off the login"), error)
}

fn refusal(name: &str, profile: &Profile, error: LoginError) -> BlockError {
    let kind = match &error {
        LoginError::Refused(Refusal::NOT_FOUND | Refusal::REMOVED) => ErrorKind::NotFound,
        LoginError::Refused(Refusal::AUTHENTICATION | Refusal::FORBIDDEN) | LoginError::NeedsCredentials => {
            ErrorKind::Permission
        }
        LoginError::Impostor(_) | LoginError::Unproved | LoginError::Reflected => ErrorKind::Refused,
        _ => ErrorKind::Io,
    };
    let hint = match (&error, &profile.own) {
        (LoginError::Refused(Refusal::AUTHENTICATION), None) => {
            "; it may want to know who you are: give 'user' and 'password-secret'"
        }
        (LoginError::Refused(Refusal::AUTHENTICATION), Some(_)) => "; look at 'user' and its secret",
        _ => "",
    };
    BlockError::new(kind, format!("'{name}': {error}{hint}"))
}
