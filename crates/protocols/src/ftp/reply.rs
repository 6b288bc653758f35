//! What an FTP server says: replies, without I/O.
//!
//! ```text
//! 220 text            one line
//! 211-text            several: up to the line that begins with the same number and a space
//!  anything
//! 211 text
//! ```
//!
//! Bounds: [`MOST_LINE`] and [`MOST_REPLY`]; a server that says more is given up.
//! Specifications: RFC 959 (4.2, 5.4), 2428 (EPSV), 3659 (SIZE, MDTM).

/// Longest line, in bytes.
const MOST_LINE: usize = 4 << 10;
/// Longest reply, in bytes: a list of features, or a greeting of some pages, fits.
const MOST_REPLY: usize = 64 << 10;
/// Characters of a server's text that are told.
const SHOWN: usize = 256;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// Its number, from 100 to 599.
    pub code: u16,
    /// Its lines, without the numbers of the first and the last.
    lines: Vec<String>,
}

/// What is said is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// A line or a reply has no end.
    #[error("the server says more than an FTP server has to say")]
    TooLong,
    /// There is no number where one should be.
    #[error("the server does not speak FTP")]
    NoReply,
}

impl Reply {
    /// The server has begun, and says more later.
    pub fn is_preliminary(&self) -> bool {
        self.code < 200
    }

    /// It is done.
    pub fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Another attempt may succeed.
    pub fn is_passing(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// One of its lines names this feature (RFC 2389).
    pub fn lists(&self, feature: &str) -> bool {
        self.lines.iter().any(|line| line.trim().eq_ignore_ascii_case(feature))
    }

    /// The bytes of a file (213).
    pub fn size(&self) -> Option<u64> {
        let text = self.lines.first()?.trim();
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    }

    /// The port of a data connection (229): `(|||port|)`, by any character in place of the bar.
    pub fn extended_port(&self) -> Option<u16> {
        let (_, rest) = self.lines.first()?.split_once('(')?;
        let bar = rest.chars().next().filter(|c| c.is_ascii() && !c.is_ascii_digit())?;
        let rest = rest.strip_prefix(&String::from_iter([bar; 3]))?;
        let (port, _) = rest.split_once(bar)?;
        port.parse().ok().filter(|port| *port != 0)
    }

    /// The port of a data connection (227): `h1,h2,h3,h4,p1,p2`, somewhere in the text. The address there is not looked at: it is
    /// that of the server, or of somebody whom the server wants to be connected to.
    pub fn passive_port(&self) -> Option<u16> {
        let text = self.lines.first()?;
        let words = text.split(|c: char| !c.is_ascii_digit() && c != ',');
        let numbers = |word: &str| word.split(',').map(|n| n.parse::<u8>().ok()).collect::<Option<Vec<_>>>();
        let six = words.filter_map(numbers).find(|numbers| numbers.len() == 6)?;
        let [_, _, _, _, high, low] = six.as_slice() else { return None };
        Some(u16::from_be_bytes([*high, *low])).filter(|port| *port != 0)
    }

    /// The text of the line that says what it is about: the last one.
    pub fn text(&self) -> &str {
        self.lines.last().map_or("", |line| line.trim())
    }

    /// It is not told what the server says, if it says this.
    #[must_use]
    pub fn without(mut self, secret: &str) -> Self {
        if !secret.is_empty() {
            self.lines.retain(|line| !line.contains(secret));
        }
        self
    }
}

impl std::fmt::Display for Reply {
    /// For people: the number, and a short text on one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String =
            self.text().chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if text.is_empty() { write!(f, "{}", self.code) } else { write!(f, "{} {text}", self.code) }
    }
}

/// Puts replies together from what is received.
#[derive(Default)]
pub(super) struct Replies {
    /// What was received and is no whole line yet, or not looked at.
    bytes: Vec<u8>,
    /// A reply of several lines that has begun, and its bytes so far.
    begun: Option<(Reply, usize)>,
}

impl Replies {
    /// Takes what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Nothing was said behind the last reply.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.begun.is_none()
    }

    /// The next reply, if it is whole.
    pub fn next(&mut self) -> Result<Option<Reply>, Unreadable> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            if end > MOST_LINE {
                return Err(Unreadable::TooLong);
            }
            let rest = self.bytes.split_off(end + 1);
            let line = std::mem::replace(&mut self.bytes, rest);
            let line = String::from_utf8_lossy(&line);
            if let Some(reply) = self.take(line.trim_end_matches(['\n', '\r']))? {
                return Ok(Some(reply));
            }
        }
        if self.bytes.len() > MOST_LINE { Err(Unreadable::TooLong) } else { Ok(None) }
    }

    fn take(&mut self, line: &str) -> Result<Option<Reply>, Unreadable> {
        let numbered = number(line);
        let Some((mut reply, bytes)) = self.begun.take() else {
            let (code, mark, text) = numbered.ok_or(Unreadable::NoReply)?;
            let reply = Reply { code, lines: vec![text.to_owned()] };
            return Ok(match mark {
                '-' => {
                    self.begun = Some((reply, line.len()));
                    None
                }
                _ => Some(reply),
            });
        };
        let bytes = bytes + line.len() + 1;
        if bytes > MOST_REPLY {
            return Err(Unreadable::TooLong);
        }
        if let Some((code, ' ', text)) = numbered
            && code == reply.code
        {
            reply.lines.push(text.to_owned());
            return Ok(Some(reply));
        }
        reply.lines.push(line.to_owned());
        self.begun = Some((reply, bytes));
        Ok(None)
    }
}

/// The number that a line begins with, what follows it (a space where nothing does), and the text.
fn number(line: &str) -> Option<(u16, char, &str)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let code = digits.parse().ok().filter(|code| plain && (100..600).contains(code))?;
    let mark = rest.chars().next().unwrap_or(' ');
    matches!(mark, ' ' | '-').then(|| (code, mark, rest.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<Reply> {
        let mut replies = Replies::default();
        let mut all = Vec::new();
        // Byte by byte: where the pieces end does not matter.
        for byte in text.as_bytes() {
            replies.push(&[*byte]);
            while let Some(reply) = replies.next().unwrap() {
                all.push(reply);
            }
        }
        assert!(replies.is_empty());
        all
    }

    fn one(text: &str) -> Reply {
        said(&format!("{text}\r\n")).remove(0)
    }

    #[test]
    fn replies_are_put_together_whatever_their_lines_begin_with() {
        let text = "220 ready\r\n211-Features:\r\n SIZE\n211-REST\r\n220 no end\r\n 211 no end\r\n211 End\r\n226\r\n";
        let all = said(text);
        assert_eq!(all.iter().map(|reply| reply.code).collect::<Vec<_>>(), [220, 211, 226]);
        assert!(all[1].lists("size") && all[1].lists("211-REST") && !all[1].lists("REST"));
        let shown = [all[0].to_string(), all[1].to_string(), all[2].to_string()];
        assert_eq!(shown, ["220 ready", "211 End", "226"]);
        assert_eq!(one("550 a\x07b").to_string(), "550 a b");
        assert_eq!(one(&format!("550 {}", "x".repeat(3000))).to_string().len(), 4 + SHOWN);
    }

    #[test]
    fn what_is_no_reply_or_has_no_end_is_refused() {
        for garbage in ["SSH-2.0-x", "", "22", "099 x", "600 x", "+20 x", "220x", "2\u{e9}0 x"] {
            let mut replies = Replies::default();
            replies.push(format!("{garbage}\r\n").as_bytes());
            assert_eq!(replies.next(), Err(Unreadable::NoReply), "{garbage}");
        }
        let mut replies = Replies::default();
        replies.push(&[b'2'; MOST_LINE + 1]);
        assert_eq!(replies.next(), Err(Unreadable::TooLong));
        let mut replies = Replies::default();
        replies.push(b"220-x\r\n");
        let mut endless = (0..MOST_REPLY).map(|_| {
            replies.push(b" more and more\r\n");
            replies.next()
        });
        assert!(endless.any(|next| next == Err(Unreadable::TooLong)));
    }

    #[test]
    fn ports_are_found_in_all_their_forms_and_addresses_are_not_looked_at() {
        assert_eq!(one("229 Entering Extended Passive Mode (|||6446|)").extended_port(), Some(6446));
        assert_eq!(one("229 ok (!!!80!)").extended_port(), Some(80));
        for text in [
            "229 (||||)",
            "229 |||6446|",
            "229 (|||0|)",
            "229 (|||70000|)",
            "229 (|1|10.0.0.1|99|)",
            "229 (111801)",
            "229 (",
            "229 (|||7",
        ] {
            assert_eq!(one(text).extended_port(), None, "{text}");
        }
        assert_eq!(one("227 Entering Passive Mode (10,0,0,1,25,46).").passive_port(), Some(6446));
        assert_eq!(one("227 mode 10,0,0,1,25,46").passive_port(), Some(6446));
        for text in
            ["227 (10,0,0,1,0,0)", "227 (10,0,0,1,25)", "227 (10,0,0,1,256,46)", "227 (1,2,3,4,5,6,7)", "227"]
        {
            assert_eq!(one(text).passive_port(), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_digits_alone() {
        assert_eq!(one("213 1048576").size(), Some(1 << 20));
        for text in ["213 -1", "213 +1", "213 1e3", "213", "213 99999999999999999999", "213 1 2"] {
            assert_eq!(one(text).size(), None, "{text}");
        }
    }

    #[test]
    fn a_secret_that_a_server_repeats_is_not_told() {
        assert_eq!(one("530 'hunter2' is wrong").without("hunter2").to_string(), "530");
        assert_eq!(one("530 wrong").without("hunter2").to_string(), "530 wrong");
        assert_eq!(one("530 wrong").without("").to_string(), "530 wrong");
    }
}
