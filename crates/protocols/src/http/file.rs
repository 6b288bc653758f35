//! A file of a web server: what it is when it is opened, and that it stays so.
//!
//! ```text
//! HEAD ─ size, ranges ─▶ ranges                    read in ranges
//!   └─ refused, or says too little ─▶ GET, first byte ─ 206 ─▶ read in ranges
//!                                                     └─ 200 ─▶ read once, as a stream
//! ```
//!
//! Two versions of a file are never mixed: each answer is compared with what the first one told (ETag, Last-Modified, size), and
//! the server is asked for that version alone.
//!
//! Specification: RFC 9110, sections 8.8 (validators), 13 (conditions), 14 (ranges).

use super::client::{Ask, Client, Reply};
use super::error::HttpError;
use super::location::Location;
use super::options::Settings;
use super::patience::Patience;
use crate::ending::Ending;
use crate::readahead::Remote;
use arc_swap::ArcSwap;
use block::Result as BlockResult;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use rt::{BoxFuture, BufMut};
use std::sync::Arc;

/// Bytes that have to come before a server that fails is given its time anew.
pub(super) const PROGRESS: u64 = 64 << 10;

/// A file.
pub(super) struct RemoteFile {
    client: Client,
    /// Where it was asked for first.
    first: Arc<Location>,
    /// Where it was had last: redirections are not gone through for each request.
    latest: ArcSwap<Location>,
    version: Version,
    /// Bytes.
    pub size: u64,
    /// Nobody reads it any more.
    ending: Arc<Ending>,
}

/// A file that is there.
pub(super) struct Found {
    pub file: RemoteFile,
    /// The answer that has all of it, where there are no ranges.
    pub stream: Option<Reply>,
}

/// What tells versions of a file apart.
#[derive(Debug, Default, PartialEq)]
struct Version {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Version {
    fn of(headers: &HeaderMap) -> Self {
        let get = |name| headers.get(name).cloned();
        Self { etag: get(header::ETAG), modified: get(header::LAST_MODIFIED) }
    }

    /// By what a server is asked for this version alone. A weak ETag never matches.
    fn condition(&self) -> Option<(HeaderName, &HeaderValue)> {
        let strong = self.etag.as_ref().filter(|etag| etag.as_bytes().starts_with(b"\""));
        let etag = strong.map(|etag| (header::IF_MATCH, etag));
        etag.or_else(|| Some((header::IF_UNMODIFIED_SINCE, self.modified.as_ref()?)))
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), HttpError> {
        let other = |known: &Option<HeaderValue>, name| matches!((known, headers.get(name)), (Some(known), Some(now)) if known != now);
        if other(&self.etag, header::ETAG) {
            return Err(HttpError::Changed("it has another ETag"));
        }
        if other(&self.modified, header::LAST_MODIFIED) {
            return Err(HttpError::Changed("it was modified at another time"));
        }
        Ok(())
    }
}

/// What an answer tells of a file.
struct Known {
    location: Arc<Location>,
    version: Version,
    size: u64,
}

impl Known {
    fn of(reply: &Reply, size: u64) -> Result<Self, HttpError> {
        let size = i64::try_from(size).map(|_| size).map_err(|_| HttpError::NoSize)?;
        let version = Version::of(&reply.head.headers);
        Ok(Self { location: reply.location.clone(), version, size })
    }
}

/// Looks for a file.
pub(super) async fn find(settings: &Settings) -> Result<Found, HttpError> {
    let client = Client::new(settings);
    let first = Arc::new(settings.location.clone());
    let mut patience = Patience::at_open(settings.timeout);
    let known = look(&client, &first, settings.force_range, &mut patience).await?;
    if let Some(known) = known {
        return Ok(Found { file: RemoteFile::new(client, first, known), stream: None });
    }
    let byte = Ask { method: Method::GET, range: Some((0, 0)), condition: None };
    let reply = client.ask(&first, &byte, &mut patience).await?;
    check_encoding(&reply)?;
    let range = ContentRange::of(&reply);
    match (reply.head.status, range) {
        (StatusCode::PARTIAL_CONTENT, Some(ContentRange { bytes: Some((0, 0)), size })) => {
            let known = Known::of(&reply, size.ok_or(HttpError::NoSize)?)?;
            reply.discard().await;
            Ok(Found { file: RemoteFile::new(client, first, known), stream: None })
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange { size: Some(0), .. })) => {
            let known = Known::of(&reply, 0)?;
            Ok(Found { file: RemoteFile::new(client, first, known), stream: None })
        }
        (StatusCode::OK, _) => {
            let known = Known::of(&reply, reply.length().ok_or(HttpError::NoSize)?)?;
            if known.size > settings.cache {
                return Err(HttpError::NoRanges { size: known.size, limit: settings.cache });
            }
            Ok(Found { file: RemoteFile::new(client, first, known), stream: Some(reply) })
        }
        (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, _) => Err(HttpError::WrongRange),
        (status, _) => Err(HttpError::Status { status, wait: None }),
    }
}

/// Asks for the head alone: what it tells, where that is enough to read in ranges.
async fn look(
    client: &Client,
    first: &Arc<Location>,
    force_range: bool,
    patience: &mut Patience,
) -> Result<Option<Known>, HttpError> {
    let head = Ask { method: Method::HEAD, range: None, condition: None };
    let reply = match client.ask(first, &head, patience).await {
        // Not every server has HEAD, and a signed URL may be for GET alone.
        Err(error) if error.status().is_some_and(may_be_of_head) => return Ok(None),
        answer => answer?,
    };
    check_encoding(&reply)?;
    // Some say 0 of what they make as they send it.
    let size = reply.length().filter(|size| *size > 0 && (force_range || has_ranges(&reply)));
    let known = match size {
        Some(size) if reply.head.status == StatusCode::OK => Some(Known::of(&reply, size)?),
        _ => None,
    };
    reply.discard().await;
    Ok(known)
}

fn has_ranges(reply: &Reply) -> bool {
    let units = reply.text(header::ACCEPT_RANGES).unwrap_or_default();
    units.split(',').any(|unit| unit.trim().eq_ignore_ascii_case("bytes"))
}

fn may_be_of_head(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
    )
}

fn check_encoding(reply: &Reply) -> Result<(), HttpError> {
    match reply.text(header::CONTENT_ENCODING).map(str::trim) {
        None | Some("" | "identity") => Ok(()),
        Some(encoding) => Err(HttpError::Encoded(encoding.chars().take(40).collect())),
    }
}

/// What an answer says of its range.
#[derive(Debug, PartialEq)]
pub(super) struct ContentRange {
    /// The first and the last byte; none where no byte of those that were asked for is there.
    bytes: Option<(u64, u64)>,
    /// Bytes of the file, where that is known.
    size: Option<u64>,
}

impl ContentRange {
    fn of(reply: &Reply) -> Option<Self> {
        Self::parse(reply.text(header::CONTENT_RANGE)?)
    }

    /// Reads `bytes FIRST-LAST/SIZE`, where the range or the size may be `*`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
        };
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, size) = rest.trim().split_once('/')?;
        let size = if size == "*" { None } else { Some(number(size)?) };
        let bytes = match range {
            "*" => None,
            range => {
                let (first, last) = range.split_once('-')?;
                let (first, last) = (number(first)?, number(last)?);
                (first <= last && size.is_none_or(|size| last < size)).then_some((first, last))?.into()
            }
        };
        unit.eq_ignore_ascii_case("bytes").then_some(Self { bytes, size })
    }
}

impl RemoteFile {
    fn new(client: Client, first: Arc<Location>, known: Known) -> Self {
        let Known { location, version, size } = known;
        Self { client, first, latest: ArcSwap::new(location), version, size, ending: Arc::default() }
    }

    /// Its connections.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// By what reading it is ended, also what is read ahead.
    pub fn ending(&self) -> &Arc<Ending> {
        &self.ending
    }

    /// A version is told from others, by the server itself too.
    pub fn tells_versions(&self) -> bool {
        self.version.condition().is_some()
    }

    /// Where it was asked for, as people are told.
    pub fn place(&self) -> String {
        self.first.to_string()
    }

    /// Asks for a range, or for all, and makes sure that the answer is of this version.
    async fn request(&self, range: Option<(u64, u64)>, patience: &mut Patience) -> Result<Reply, HttpError> {
        let ask = Ask { method: Method::GET, range, condition: self.version.condition() };
        let latest = self.latest.load_full();
        let reply = match self.client.ask(&latest, &ask, patience).await {
            // Where a redirection led to may have been for a while only.
            Err(error) if error.status().is_some_and(is_of_location) && latest != self.first => {
                self.client.ask(&self.first, &ask, patience).await?
            }
            answer => answer?,
        };
        if !Arc::ptr_eq(&reply.location, &latest) {
            self.latest.store(reply.location.clone());
        }
        match reply.head.status {
            StatusCode::PRECONDITION_FAILED => {
                return Err(HttpError::Changed("the server has another version"));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(HttpError::Changed("it is shorter")),
            _ => {}
        }
        self.version.check(&reply.head.headers)?;
        check_encoding(&reply)?;
        Ok(reply)
    }

    /// Asks for all of it from the start.
    pub async fn stream(&self, patience: &mut Patience) -> Result<Reply, HttpError> {
        let reply = self.request(None, patience).await?;
        match reply.length() {
            Some(size) if size == self.size => Ok(reply),
            _ => Err(HttpError::Changed("it has another size")),
        }
    }

    /// Bytes that an answer has of those that were asked for.
    fn judge(&self, reply: &Reply, offset: u64, len: usize) -> Result<usize, HttpError> {
        if reply.head.status == StatusCode::OK {
            return match reply.length() {
                Some(size) if size != self.size => Err(HttpError::Changed("it has another size")),
                Some(size) if offset == 0 && size == len as u64 => Ok(len),
                _ => Err(HttpError::RangeIgnored),
            };
        }
        let range = ContentRange::of(reply).ok_or(HttpError::WrongRange)?;
        if range.size.is_some_and(|size| size != self.size) {
            return Err(HttpError::Changed("it has another size"));
        }
        let (first, last) = range.bytes.ok_or(HttpError::WrongRange)?;
        let got = last.saturating_sub(first).saturating_add(1);
        // A server may send less.
        if first != offset || got > len as u64 || reply.length().is_some_and(|length| length != got) {
            return Err(HttpError::WrongRange);
        }
        Ok(got as usize)
    }

    async fn fill(&self, offset: u64, buf: &mut [u8]) -> Result<(), HttpError> {
        let mut patience = Patience::new(self.client.timeout);
        let (mut done, mut mark) = (0, 0);
        while done < buf.len() {
            let left = buf.get_mut(done..).unwrap_or_default();
            let at = offset + done as u64;
            let reply = self.request(Some((at, at + left.len() as u64 - 1)), &mut patience).await?;
            let len = self.judge(&reply, at, left.len())?;
            let (came, result) = reply.fill(left.get_mut(..len).unwrap_or_default()).await;
            done += came;
            if (done - mark) as u64 >= PROGRESS {
                mark = done;
                patience.renew();
            }
            match result {
                Err(error) => patience.again(error, false).await?,
                Ok(()) if done < buf.len() => patience.check(done - mark, PROGRESS as usize)?,
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

fn is_of_location(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE
    )
}

impl Remote for RemoteFile {
    fn read_at(&self, offset: u64, mut buf: BufMut) -> BoxFuture<'_, (BufMut, BlockResult<()>)> {
        Box::pin(async move {
            let filled = self.ending.unless(self.fill(offset, &mut buf)).await;
            let result =
                filled.and_then(|result| result.map_err(|error| error.about(&self.place()).at(offset)));
            (buf, result)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_specification_writes_them() {
        let range = |bytes, size| Some(ContentRange { bytes, size });
        for (text, expected) in [
            ("bytes 0-0/10", range(Some((0, 0)), Some(10))),
            ("Bytes 5-9/*", range(Some((5, 9)), None)),
            ("bytes */0", range(None, Some(0))),
            ("bytes 5-4/10", None),
            ("bytes 0-10/10", None),
            ("bytes +0-1/10", None),
            ("bytes 0-1", None),
            ("items 0-1/10", None),
            ("bytes 0-99999999999999999999/*", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
    }
}
