//! The JSON of a header (RFC 8259), within bounds.

/// Values of a document, nested ones included.
const MOST_VALUES: usize = 1 << 16;
/// Levels of arrays and objects.
const DEEPEST: usize = 16;

/// A text that is no JSON, or too much of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its JSON part is wrong at byte {at}: {what}")]
pub struct JsonError {
    /// Where, in bytes from the JSON part's start.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// A value. Numbers are kept as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.members().iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The members of an object.
    pub(super) fn members(&self) -> &[(String, Value)] {
        match self {
            Value::Map(members) => members,
            _ => &[],
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Value::List(list) => list.iter().map(Value::text).collect(),
            _ => None,
        }
    }

    /// A number that is written as one.
    pub(super) fn number(&self) -> Option<u32> {
        match self {
            Value::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// A number of 64 bits, which LUKS2 writes as a text.
    pub(super) fn long(&self) -> Option<u64> {
        self.text()?.parse().ok()
    }
}

/// Reads a document.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut reader = Reader { bytes, at: 0, values: 0 };
    let value = reader.value(0)?;
    reader.space();
    if reader.at < bytes.len() { Err(reader.wrong("something follows the document")) } else { Ok(value) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &'static str) -> JsonError {
        JsonError { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Whether the next visible byte is `byte`, which is taken then.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        let there = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if !there {
            return Err(self.wrong("no value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(self.wrong("too many values"));
        }
        if depth > DEEPEST {
            return Err(self.wrong("nested too deeply"));
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => Ok(self.digits()),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            _ => self.word("null", Value::Null),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut members = Vec::new();
        if self.take(b'}') {
            return Ok(Value::Map(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            if !self.take(b':') {
                return Err(self.wrong("':' is missing"));
            }
            members.push((name, self.value(depth + 1)?));
            if self.take(b'}') {
                return Ok(Value::Map(members));
            }
            if !self.take(b',') {
                return Err(self.wrong("',' or '}' is missing"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut list = Vec::new();
        if self.take(b']') {
            return Ok(Value::List(list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Ok(Value::List(list));
            }
            if !self.take(b',') {
                return Err(self.wrong("',' or ']' is missing"));
            }
        }
    }

    fn digits(&mut self) -> Value {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = self.bytes.get(start..self.at).unwrap_or_default();
        Value::Number(String::from_utf8_lossy(digits).into_owned())
    }

    fn string(&mut self) -> Result<String, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a string is missing"));
        }
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let byte = self.peek().ok_or_else(|| self.wrong("a string without an end"))?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => {
                    let letter = self.escape()?;
                    text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..=0x1f => return Err(self.wrong("a control character in a string")),
                _ => text.push(byte),
            }
        }
        String::from_utf8(text).map_err(|_| self.wrong("a string that is not UTF-8"))
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek().ok_or_else(|| self.wrong("a string without an end"))?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_point(),
            _ => return Err(self.wrong("an unknown escape")),
        })
    }

    fn code_point(&mut self) -> Result<char, JsonError> {
        let high = self.four_digits()?;
        let code = if (0xd800..0xdc00).contains(&high) {
            let low = match self.bytes.get(self.at..).and_then(|rest| rest.strip_prefix(b"\\u")) {
                Some(_) => {
                    self.at += 2;
                    self.four_digits()?
                }
                None => return Err(self.wrong("half a character")),
            };
            let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400);
            low.map(|low| 0x10000 + (high - 0xd800) * 0x400 + low)
        } else {
            Some(high)
        };
        code.and_then(char::from_u32).ok_or_else(|| self.wrong("half a character"))
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.at..self.at.saturating_add(4)).unwrap_or_default();
        let code = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.wrong("four hexadecimal digits are missing"))?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read() {
        let value = parse(
            br#" {"a": [1, -2.5e3, "x\n\u0041\ud83d\ude00"], "b": {"c": null, "d": true}, "n": "12"} "#,
        )
        .unwrap();
        let list = vec![
            Value::Number("1".into()),
            Value::Number("-2.5e3".into()),
            Value::Text("x\nA\u{1f600}".into()),
        ];
        assert_eq!(value.get("a"), Some(&Value::List(list)));
        assert_eq!(value.get("b").and_then(|b| b.get("d")), Some(&Value::Bool(true)));
        assert_eq!(value.get("n").and_then(Value::long), Some(12));
        assert_eq!(parse(b"{}"), Ok(Value::Map(Vec::new())));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "{",
            "[1",
            "{\"a\"}",
            "{\"a\":}",
            "[1,]",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "nul",
            "{} x",
            "[1 2]",
            "\"\u{1}\"",
            "\"\\ud800\\u0041\"",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert_eq!(parse("[".repeat(1 << 20).as_bytes()).unwrap_err().what, "nested too deeply");
        let many = format!("[{}1]", "1,".repeat(1 << 20));
        assert_eq!(parse(many.as_bytes()).unwrap_err().what, "too many values");
    }
}
