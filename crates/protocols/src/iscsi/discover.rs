//! What a portal offers: for whoever names no target of it, or one that it does not have.

use super::location::Location;
use super::login::{Session, broken, follow, receive};
use block::{BlockError, ErrorKind, Result};
use iscsi::{Answer, DigestOffer, NO_TAG, Profile, Request, SEND_TARGETS, limits, targets};

/// Most names that are told.
const TOLD: usize = 16;
/// Parts of one answer.
const PARTS: usize = 16;
/// The tag of the question.
const TAG: u32 = 1;

/// Words about the targets that the portal offers to this initiator.
pub(super) async fn offer(location: &Location, profile: &Profile) -> Result<String> {
    let digest = DigestOffer::None;
    let target = String::new();
    let profile = Profile { target, header_digest: digest, data_digest: digest, ..profile.clone() };
    let session = follow(location, &profile).await?;
    let text = ask(session, &location.name).await?;
    let count = targets(&text).count();
    let mut names = targets(&text).take(TOLD).collect::<Vec<_>>().join(", ");
    if count > TOLD {
        names.push_str(&format!(" and {} more", count - TOLD));
    }
    let place = location.portal.place();
    Ok(match count {
        0 => format!("'{place}' offers no target to this initiator"),
        _ => format!("'{place}' offers: {names}"),
    })
}

/// Asks for all targets; the answer as it is.
async fn ask((stream, _, numbers): Session, name: &str) -> Result<Vec<u8>> {
    let (command, mut status) = (numbers.expected_command, numbers.stat.wrapping_add(1));
    let (mut question, mut target_tag) = (SEND_TARGETS, NO_TAG);
    let mut text = Vec::new();
    for _ in 0..PARTS {
        let request = Request::Text { tag: TAG, target_tag, command, status };
        // Its length is a multiple of four.
        let bytes = [&request.encode(question.len())[..], question].concat();
        stream.send_all(&bytes).await.map_err(|error| broken(name, &error))?;
        let (header, part) = receive(&stream, name).await?;
        let Ok((Answer::Text { tag: TAG, target_tag: next }, numbers)) = Answer::parse(&header) else {
            break;
        };
        text.extend_from_slice(&part);
        if text.len() > limits::TEXT {
            // The last name may go on.
            let whole = text.iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1);
            text.truncate(whole);
            return Ok(text);
        }
        if next == NO_TAG {
            return Ok(text);
        }
        (question, target_tag, status) = (&[], next, numbers.stat.wrapping_add(1));
    }
    let text = format!("'{name}': the target gave no sensible answer to which targets there are");
    Err(BlockError::new(ErrorKind::Io, text))
}
