//! What comes from web servers, as programs that test its readers drive them: on bytes of their own.

use super::body::{Body, Next};
use super::file::ContentRange;
use super::head::Head;
use super::location::Location;
use http::{Method, header};

/// What an answer's head tells, its content, and how many bytes come behind it.
type Answer = (String, Vec<u8>, usize);

/// Reads all that a server says as the answer to a request for a range, `piece` bytes at a time; or what is wrong.
pub fn judge_answer(bytes: &[u8], piece: usize) -> Result<Option<Answer>, String> {
    let told = |error: super::error::HttpError| error.to_string();
    let Some((head, len)) = Head::parse(bytes).map_err(told)? else { return Ok(None) };
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let range = text(header::CONTENT_RANGE).and_then(ContentRange::parse);
    let here = Location::parse("https://host/folder/file?query").map(|(location, _)| location);
    let leads = text(header::LOCATION).and_then(|to| Some(here.ok()?.resolve(to)?.whole()));
    let mut body = Body::of(&Method::GET, &head);
    let mut rest = bytes.get(len..).unwrap_or_default();
    let (mut here, mut content) = (Vec::new(), Vec::new());
    loop {
        match body.next(&here).map_err(told)? {
            Next::Over => break,
            Next::Other(n) => drop(here.drain(..n.min(here.len()))),
            Next::Content(most) if !here.is_empty() => {
                let n = here.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                content.extend(here.drain(..n));
                body.took(n as u64);
            }
            Next::More | Next::Content(_) if rest.is_empty() => body.end().map_err(told)?,
            Next::More | Next::Content(_) => {
                let (now, later) = rest.split_at(piece.clamp(1, rest.len()));
                here.extend_from_slice(now);
                rest = later;
            }
        }
    }
    let behind = here.len() + rest.len();
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
