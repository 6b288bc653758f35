//! Servers whose files are read: what web, FTP and TFTP servers say, and the names of files there.

/// The first byte says how much comes at a time; the rest is what a web server answers. Laws: how it comes changes nothing; no
/// byte is made up.
pub fn http_answer(input: &[u8]) {
    let Some((piece, bytes)) = input.split_first() else { return };
    let whole = protocols::judge_answer(bytes, bytes.len().max(1));
    assert_eq!(whole, protocols::judge_answer(bytes, usize::from(*piece).max(1)), "the pieces count");
    if let Ok(Some((_, content, behind))) = whole {
        assert!(content.len() + behind <= bytes.len());
    }
}

/// A URL and a reference there, and lines of headers. Laws: what is told of a place leads to the same place; a request holds it.
pub fn http_names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (url, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (reference, lines) = rest.split_once('\n').unwrap_or((rest, ""));
    if let Some(told) = protocols::judge_location(url, reference) {
        for place in told.iter().filter(|place| !place.is_empty()) {
            let again = protocols::judge_location(place, "");
            assert_eq!(again.as_ref().map(|[whole, _]| whole), Some(place));
            let (_, target) = place.split_once("://").unwrap_or_default();
            let target = target.find('/').and_then(|at| target.get(at..)).unwrap_or_default();
            assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{place:?}");
        }
    }
    let [_, sent] = protocols::judge_headers(lines.as_bytes(), reference.as_bytes(), url.as_bytes());
    assert_eq!(sent, !reference.contains(':'), "any user but one with a colon can be told");
}

/// The first byte says how much comes at a time; the rest is what an FTP server says. Law: how it comes changes nothing.
pub fn ftp_replies(input: &[u8]) {
    let Some((piece, bytes)) = input.split_first() else { return };
    let whole = protocols::judge_replies(bytes, bytes.len());
    assert_eq!(whole, protocols::judge_replies(bytes, usize::from(*piece)), "the pieces count");
}

/// A packet of a TFTP server. Law: the answer does not change, and a text is one line.
pub fn tftp_packet(input: &[u8]) {
    let said = protocols::judge_packet(input);
    assert!(said.as_ref().is_none_or(|said| !said.contains(char::is_control)), "{said:?}");
    assert_eq!(said, protocols::judge_packet(input));
}

fn texts(front: &[u8], texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| [front, text.as_bytes()].concat()).collect()
}

/// Answers of each kind.
pub fn http_answer_seeds() -> Vec<Vec<u8>> {
    texts(
        &[3],
        &[
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 10-14/99\r\nETag: \"x\"\r\n\r\nhelloHTTP",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX: y\r\n\r\n",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nAccept-Ranges: bytes\r\n\r\nall of it",
            "HTTP/1.1 302 Found\r\nLocation: ../b?c=d\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 416 No\r\nContent-Range: bytes */0\r\nContent-Length: 2, 2\r\n\r\nno",
        ],
    )
}

/// URLs with references, and headers.
pub fn http_name_seeds() -> Vec<Vec<u8>> {
    texts(
        &[],
        &[
            "http://me:word@h:8080/a/b?c=d#e\n../f?g\nX-Key: value\nCookie: a=b",
            "https://[::1]/a b/%41\n//other:81/x",
            "http://h?q\nhttps://k/\nHost: h",
        ],
    )
}

/// Replies of a whole session.
pub fn ftp_seeds() -> Vec<Vec<u8>> {
    texts(
        &[7],
        &[
            "220-Welcome\r\n here\r\n220 go on\r\n331 password\r\n230 in\r\n213 1048576\r\n213 20240229123456\r\n",
            "229 Entering (|||40001|)\r\n227 Entering (192,0,2,1,156,65)\r\n350 go on\r\n150 here\r\n226 done\r\n",
            "211-Features:\r\n UTF8\r\n MLST type*;size*;\r\n211 end\r\n550 none\r\n",
        ],
    )
}

/// Packets of each kind.
pub fn tftp_seeds() -> Vec<Vec<u8>> {
    texts(
        &[0],
        &[
            "\x03\0\x01data",
            "\x06blksize\x001428\0tsize\x0077\0windowsize\x0016\0",
            "\x05\0\x01no such file\0",
            "\x04\0\x01",
        ],
    )
}
