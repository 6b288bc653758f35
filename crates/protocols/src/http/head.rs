//! Heads of answers.
//!
//! Specification: RFC 9112, sections 2 to 6; RFC 9110, section 8.6. Their lines are read by `httparse`.

use super::error::HttpError;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

/// Most bytes of a head, and how many lines it may have.
pub(super) const MOST: usize = 64 << 10;
const LINES: usize = 200;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub status: StatusCode,
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
        let mut lines = [httparse::EMPTY_HEADER; LINES];
        let mut answer = httparse::Response::new(&mut lines);
        let parsed = answer.parse(bytes).map_err(|error| HttpError::Garbage(error.to_string()))?;
        let httparse::Status::Complete(len) = parsed else { return Ok(None) };
        let wrong = |what: &str| HttpError::Garbage(what.to_owned());
        let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or_else(|| wrong("its status is none"))?;
        let mut headers = HeaderMap::with_capacity(answer.headers.len());
        for line in answer.headers.iter() {
            let name = HeaderName::from_bytes(line.name.as_bytes());
            let value = HeaderValue::from_bytes(line.value);
            let (Ok(name), Ok(value)) = (name, value) else { return Err(wrong("a line of its head")) };
            headers.append(name, value);
        }
        let is_old = answer.version == Some(0);
        let is_chunked = match headers.contains_key(header::TRANSFER_ENCODING) {
            false => false,
            // Others were not asked for (TE), and HTTP/1.0 has none.
            true => match tokens(&headers, &header::TRANSFER_ENCODING)
                .map(|mut coding| (coding.next(), coding.next()))
            {
                Some((Some(only), None)) if !is_old && only.eq_ignore_ascii_case("chunked") => true,
                _ => return Err(wrong("its transfer encoding is not 'chunked'")),
            },
        };
        let told = length(&headers)?;
        let says = |word: &str| {
            tokens(&headers, &header::CONNECTION)
                .is_some_and(|mut words| words.any(|own| own.eq_ignore_ascii_case(word)))
        };
        let keeps = if is_old { says("keep-alive") } else { !says("close") };
        // Who tells both may mean to be understood in two ways.
        let keeps = keeps && !(is_chunked && told.is_some());
        let length = told.filter(|_| !is_chunked);
        Ok(Some((Self { status, headers, length, is_chunked, keeps }, len)))
    }
}

/// What stands between the commas of all headers of a name; none where they are no text.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
    let texts: Result<Vec<&str>, _> = headers.get_all(name).iter().map(HeaderValue::to_str).collect();
    let words = texts.ok()?.into_iter().flat_map(|text| text.split(',').map(str::trim));
    Some(words.filter(|word| !word.is_empty()))
}

/// The length that all the headers agree on.
fn length(headers: &HeaderMap) -> Result<Option<u64>, HttpError> {
    let wrong = || HttpError::Garbage("its length is no number".to_owned());
    let mut length = None;
    if !headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(None);
    }
    for digits in tokens(headers, &header::CONTENT_LENGTH).ok_or_else(wrong)? {
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
            ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", Some((None, true, false))),
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
