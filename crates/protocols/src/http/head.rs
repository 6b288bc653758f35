//! Heads of answers.
//!
//! Specification: RFC 9112, sections 2 to 6; RFC 9110, section 8.6. Their lines are read by `httparse`.

use super::error::HttpError;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use std::mem::MaybeUninit;

/// Most bytes of a head, and how many lines it may have.
pub(super) const MOST: usize = 64 << 10;
const LINES: usize = 200;
/// Lines that say how the content comes, and what follows.
const CONNECTION: &str = "connection";
const CONTENT_LENGTH: &str = "content-length";
const TRANSFER_ENCODING: &str = "transfer-encoding";
/// Headers that are looked at: no others take memory.
const KEPT: [HeaderName; 7] = [
    header::ACCEPT_RANGES,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::RETRY_AFTER,
];

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub status: StatusCode,
    /// Those of [`KEPT`].
    pub headers: HeaderMap,
    /// Bytes of the content, as it tells; none where that comes in chunks.
    pub length: Option<u64>,
    /// The content comes in chunks.
    pub is_chunked: bool,
    /// The connection may be used again when the content is over.
    pub keeps: bool,
}

impl Head {
    /// Reads a head, if all of it is there: what it says, and how many bytes it has.
    ///
    /// # Errors
    /// It is none, or one of which the end of the content can't be known.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HttpError> {
        let mut lines = [const { MaybeUninit::uninit() }; LINES];
        let mut answer = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let parsed = parser.parse_response_with_uninit_headers(&mut answer, bytes, &mut lines);
        let parsed = parsed.map_err(|error| HttpError::Garbage(error.to_string()))?;
        let httparse::Status::Complete(len) = parsed else { return Ok(None) };
        let wrong = |what: &str| HttpError::Garbage(what.to_owned());
        let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or_else(|| wrong("its status is none"))?;
        let lines = &*answer.headers;
        let mut headers = HeaderMap::new();
        for line in lines {
            if let Some(name) = KEPT.iter().find(|name| line.name.eq_ignore_ascii_case(name.as_str())) {
                let value = HeaderValue::from_bytes(line.value);
                headers.append(name, value.map_err(|_| wrong("a line of its head"))?);
            }
        }
        let is_old = answer.version == Some(0);
        let mut codings = words(lines, TRANSFER_ENCODING);
        let is_chunked = match has(lines, TRANSFER_ENCODING) {
            false => false,
            // Others were not asked for (TE), and HTTP/1.0 has none.
            true => match (codings.next(), codings.next()) {
                (Some(only), None) if !is_old && only.eq_ignore_ascii_case("chunked") => true,
                _ => return Err(wrong("its transfer encoding is not 'chunked'")),
            },
        };
        let length = length(lines)?;
        if is_chunked && length.is_some() {
            // Who tells both means to be understood in two ways, by two readers (RFC 9112, 6.3).
            return Err(wrong("it tells a length, and comes in chunks"));
        }
        let says = |word: &str| words(lines, CONNECTION).any(|own| own.eq_ignore_ascii_case(word));
        let keeps = if is_old { says("keep-alive") } else { !says("close") };
        Ok(Some((Self { status, headers, length, is_chunked, keeps }, len)))
    }

    /// The content comes to its end with the connection: who breaks it can't be told from who ends it.
    pub fn is_unbounded(&self) -> bool {
        self.length.is_none() && !self.is_chunked
    }
}

fn has(lines: &[httparse::Header<'_>], name: &str) -> bool {
    lines.iter().any(|line| line.name.eq_ignore_ascii_case(name))
}

/// What stands between the commas of all lines of a name.
fn words<'a>(lines: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = lines.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
    // What is no text is no word that means anything.
    let texts = named.map(|line| std::str::from_utf8(line.value).unwrap_or("\u{fffd}"));
    texts.flat_map(|text| text.split(',').map(str::trim)).filter(|word| !word.is_empty())
}

/// The length that all the lines agree on.
fn length(lines: &[httparse::Header<'_>]) -> Result<Option<u64>, HttpError> {
    let wrong = || HttpError::Garbage("its length is no number".to_owned());
    let mut length = None;
    if !has(lines, CONTENT_LENGTH) {
        return Ok(None);
    }
    for digits in words(lines, CONTENT_LENGTH) {
        let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
        let told: u64 = digits.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        if length.replace(told).is_some_and(|other| other != told) {
            return Err(HttpError::Garbage("it tells two lengths".to_owned()));
        }
    }
    length.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(Head, usize)>, HttpError> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_head_is_known_when_all_of_it_is_there() {
        let text = "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\nhello";
        for end in 0..text.len() - 5 {
            assert!(parse(&text[..end]).unwrap().is_none(), "{end}");
        }
        let (head, len) = parse(text).unwrap().unwrap();
        assert_eq!(&text[len..], "hello");
        assert_eq!(
            (head.status, head.length, head.is_chunked),
            (StatusCode::PARTIAL_CONTENT, Some(5), false)
        );
        assert!(head.keeps);
        assert_eq!(head.headers["etag"], "\"x\"");
    }

    #[test]
    fn how_the_content_ends_is_read_as_the_specification_says() {
        for (version, lines, expected) in [
            ("1.1", "", Some((None, false, true))),
            ("1.0", "", Some((None, false, false))),
            ("1.0", "Connection: Keep-Alive\r\n", Some((None, false, true))),
            ("1.1", "Connection: x, Close\r\n", Some((None, false, false))),
            ("1.1", "Content-Length: 7, 7\r\nContent-Length: 7\r\n", Some((Some(7), false, true))),
            ("1.1", "Content-Length: 7\r\nContent-Length: 8\r\n", None),
            ("1.1", "Content-Length: +7\r\n", None),
            ("1.1", "Content-Length: \r\n", None),
            ("1.1", "Content-Length: 99999999999999999999\r\n", None),
            ("1.1", "Transfer-Encoding: Chunked\r\n", Some((None, true, true))),
            ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", None),
            ("1.1", "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", None),
            ("1.1", "Content-Length: \u{e9}\r\n", None),
            ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", None),
            ("1.1", "Transfer-Encoding: gzip, chunked\r\n", None),
            ("1.1", "Transfer-Encoding: \r\n", None),
            ("1.0", "Transfer-Encoding: chunked\r\n", None),
        ] {
            let text = format!("HTTP/{version} 200 OK\r\n{lines}\r\n");
            let got = parse(&text).ok().flatten();
            let got = got.map(|(head, _)| (head.length, head.is_chunked, head.keeps));
            assert_eq!(got, expected, "{version} {lines}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused_at_once() {
        for text in ["SSH-2.0-OpenSSH_9.2\r\n", "\x00\x01", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 99 No\r\n\r\n"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        let lines = "X: y\r\n".repeat(LINES + 1);
        assert!(parse(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).is_err());
    }
}
