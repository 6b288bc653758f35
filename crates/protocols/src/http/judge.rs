//! What comes from web servers, as programs that test its readers drive them: on bytes of their own.

use super::file::ContentRange;
use super::incoming::{Content, Incoming};
use super::location::Location;
use http::{Method, header};

/// Bytes of content that are taken at a time.
const PLACE: usize = 4 << 10;

/// What an answer's head tells, its content, and how many bytes come behind it.
type Answer = (String, Vec<u8>, usize);

/// Reads all that a server says as the answer to a request for a range, `piece` bytes at a time; or what is wrong.
pub fn judge_answer(bytes: &[u8], piece: usize) -> Result<Option<Answer>, String> {
    let told = |error: super::error::HttpError| error.to_string();
    let (mut incoming, mut rest) = (Incoming::new(), bytes);
    // Puts the next bytes where they are to be received: how many.
    let mut come = |to: &mut [u8]| {
        let n = piece.max(1).min(to.len()).min(rest.len());
        let (now, later) = rest.split_at(n);
        to.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        rest = later;
        n
    };
    incoming.expect();
    let head = loop {
        if let Some(head) = incoming.head(&Method::GET).map_err(told)? {
            break head;
        }
        match come(incoming.room()) {
            0 => return incoming.head_ended().map(|()| None).map_err(told),
            n => incoming.received(n),
        }
    };
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let range = text(header::CONTENT_RANGE).and_then(ContentRange::parse);
    let here = Location::parse("https://host/folder/file?query").map(|(location, _)| location);
    let leads = text(header::LOCATION).and_then(|to| Some(here.ok()?.resolve(to)?.whole()));
    let (mut place, mut content) = (vec![0; PLACE], Vec::new());
    loop {
        match incoming.content(&mut place).map_err(told)? {
            Content::Over => break,
            Content::Taken(n) => content.extend_from_slice(place.get(..n).unwrap_or_default()),
            Content::Direct(most) => {
                let n = come(place.get_mut(..most).unwrap_or_default());
                content.extend_from_slice(place.get(..n).unwrap_or_default());
                incoming.took(n).map_err(told)?;
            }
            Content::More => match come(incoming.room()) {
                0 => incoming.took(0).map_err(told)?,
                n => incoming.received(n),
            },
        }
    }
    let behind = incoming.behind() + rest.len();
    Ok(Some((format!("{} {range:?} {leads:?}", head.status), content, behind)))
}

/// Reads the URL of a file, and where a reference there leads to: each as it is told again.
pub fn judge_location(url: &str, reference: &str) -> Option<[String; 2]> {
    let (location, _) = Location::parse(url).ok()?;
    let whole = location.whole();
    let leads = location.resolve(reference).map(|to| to.whole()).unwrap_or_default();
    Some([whole, leads])
}

/// Reads the lines of a secret with headers, and a user: whether they can be sent.
pub fn judge_headers(lines: &[u8], user: &[u8], password: &[u8]) -> [bool; 2] {
    let mut headers = http::HeaderMap::new();
    let lines = super::options::add_lines(&mut headers, lines);
    [lines.is_ok(), super::options::basic(user, password).is_ok()]
}
