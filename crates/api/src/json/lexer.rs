//! Bytes to tokens, one byte at a time, so that input may end anywhere.

use super::MAX_BYTES;

/// A token of the right form; whether a string's content is right is looked at later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// One of `{ } [ ] : ,`.
    Punctuation(u8),
    /// The bytes between the quotes.
    String(Vec<u8>),
    /// The text of a number without fraction and exponent.
    Integer(String),
    /// The text of another number.
    Float(String),
    /// A word of small letters.
    Word(String),
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The last of these bytes does not fit the others.
    Stray(Vec<u8>),
    /// A single token beyond all bounds.
    TooLarge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// After a fault, up to something that can begin a token.
    Recovery,
    String {
        quote: u8,
        escaped: bool,
    },
    Word,
    Number(Number),
}

/// How far a number has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// What a byte did.
pub(crate) struct Step {
    /// Whether the byte was used; if not, it is to be given again.
    pub consumed: bool,
    /// What became complete.
    pub outcome: Option<Result<Token, Fault>>,
}

pub(crate) struct Lexer {
    state: State,
    text: Vec<u8>,
}

impl Lexer {
    pub(crate) fn new() -> Self {
        Self { state: State::Start, text: Vec::new() }
    }

    /// Whether a token has begun.
    pub(crate) fn inside_token(&self) -> bool {
        !matches!(self.state, State::Start | State::Recovery)
    }

    pub(crate) fn step(&mut self, byte: u8) -> Step {
        if self.text.len() >= MAX_BYTES {
            return self.fault(Fault::TooLarge);
        }
        match self.state {
            State::Start => self.start(byte),
            State::Recovery => {
                let resumes = matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b',' | 0xfe | 0xff)
                    || (byte < b' ' && byte != b'\t');
                if resumes {
                    self.state = State::Start;
                }
                Step { consumed: !resumes, outcome: None }
            }
            State::String { quote, escaped } => self.string(byte, quote, escaped),
            State::Word if byte.is_ascii_lowercase() => self.goes_on(byte, State::Word),
            State::Word => self.ends(Token::Word),
            State::Number(number) => self.number(byte, number),
        }
    }

    fn start(&mut self, byte: u8) -> Step {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => Step { consumed: true, outcome: None },
            b'{' | b'}' | b'[' | b']' | b':' | b',' => {
                Step { consumed: true, outcome: Some(Ok(Token::Punctuation(byte))) }
            }
            b'"' | b'\'' => {
                self.state = State::String { quote: byte, escaped: false };
                Step { consumed: true, outcome: None }
            }
            b'a'..=b'z' => self.goes_on(byte, State::Word),
            b'-' => self.goes_on(byte, State::Number(Number::Minus)),
            b'0' => self.goes_on(byte, State::Number(Number::Zero)),
            b'1'..=b'9' => self.goes_on(byte, State::Number(Number::Digits)),
            _ => self.stray(byte),
        }
    }

    fn string(&mut self, byte: u8, quote: u8, escaped: bool) -> Step {
        if matches!(byte, 0..=0x1f | 0xfe | 0xff) {
            self.text.insert(0, quote);
            return self.stray(byte);
        }
        if byte == quote && !escaped {
            self.state = State::Start;
            return Step { consumed: true, outcome: Some(Ok(Token::String(std::mem::take(&mut self.text)))) };
        }
        self.goes_on(byte, State::String { quote, escaped: byte == b'\\' && !escaped })
    }

    fn number(&mut self, byte: u8, number: Number) -> Step {
        use Number::*;
        let next = match (number, byte) {
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') => Digits,
            (Digits, b'0'..=b'9') => Digits,
            (Zero, b'0'..=b'9') => return self.stray(byte),
            (Zero | Digits, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Digits | Fraction, b'e' | b'E') => Exponent,
            (Exponent, b'+' | b'-') => ExponentSign,
            (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => ExponentDigits,
            (Zero | Digits, _) => return self.ends(Token::Integer),
            (Fraction | ExponentDigits, _) => return self.ends(Token::Float),
            (Minus | Point | Exponent | ExponentSign, _) => return self.stray(byte),
        };
        self.goes_on(byte, State::Number(next))
    }

    fn goes_on(&mut self, byte: u8, state: State) -> Step {
        self.text.push(byte);
        self.state = state;
        Step { consumed: true, outcome: None }
    }

    /// The token ended before this byte.
    fn ends(&mut self, token: fn(String) -> Token) -> Step {
        self.state = State::Start;
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.text)).into_owned();
        Step { consumed: false, outcome: Some(Ok(token(text))) }
    }

    fn stray(&mut self, byte: u8) -> Step {
        self.text.push(byte);
        let text = std::mem::take(&mut self.text);
        self.fault(Fault::Stray(text))
    }

    fn fault(&mut self, fault: Fault) -> Step {
        self.state = State::Recovery;
        self.text = Vec::new();
        Step { consumed: true, outcome: Some(Err(fault)) }
    }
}
