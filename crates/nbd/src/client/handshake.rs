//! The client's half of the handshake: towards an export, or towards a list of all.
//!
//! ```text
//!                               refused ┌▶ STRUCTURED_REPLY ┐
//! connect:  greeting ─▶ EXTENDED_HEADERS ┴─────────────────▶ SET_META_CONTEXT ─▶ GO ─▶ Ready
//!              ├ with TLS ─▶ STARTTLS ─▶ the caller's ─▶ EXTENDED_HEADERS
//!              │ not fixed newstyle                  GO is unknown ─▶ EXPORT_NAME ─▶ Ready
//!              ├──────────────────────────────────────────────────▶ EXPORT_NAME
//!              └ oldstyle ─▶ the rest of its greeting ─▶ Ready
//! list:     greeting ─▶ (the same) ─▶ LIST ─▶ (INFO ─▶ LIST_META_CONTEXT) each ─▶ ABORT ─▶ Listed
//! ```
//!
//! Bounds: one reply is at most [`limits::OPTION_REPLY`] bytes, an option has at most
//! [`limits::OPTION_REPLIES`] replies and they hold at most [`LIST_BYTES`]; the time is the caller's.
//!
//! Specification: "Newstyle negotiation", "Oldstyle negotiation", "Option types".

use super::option_reply::{self, OptionReply};
use crate::reader::{Reader, Unit};
use crate::{
    ClientFlags, HandshakeFlags, Headers, INIT_MAGIC, InfoType, OLDSTYLE_MAGIC, OPTION_MAGIC,
    OPTION_REPLY_MAGIC, OptionCode, ReplyType, TransmissionFlags, limits,
};

/// Most bytes of names, descriptions and messages that the replies to one option may hold.
const LIST_BYTES: usize = 4 << 20;
/// Bytes of an oldstyle greeting behind those that tell it from a newstyle one: six of the size, four of flags, zeroes.
const OLDSTYLE_REST: usize = 6 + 4 + 124;
/// Most information and context replies about one export.
const EXPORT_REPLIES: usize = 1024;

/// An export as the server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The name asked for.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// Size in bytes, at most [`limits::EXPORT_SIZE`].
    pub size: u64,
    /// What it can do.
    pub flags: TransmissionFlags,
    /// Smallest length and alignment in bytes.
    pub minimum_block: u32,
    /// Smallest efficient length and alignment in bytes.
    pub preferred_block: u32,
    /// Largest payload in bytes.
    pub maximum_payload: u32,
    /// The server sent block sizes; else they are the specification's defaults.
    pub sized: bool,
    /// What requests and replies begin with.
    pub headers: Headers,
    /// Metadata contexts, with the IDs of their chunks where they were selected.
    pub contexts: Vec<(u32, String)>,
}

impl Export {
    fn new(name: &str, headers: Headers) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            size: 0,
            flags: TransmissionFlags::NONE,
            minimum_block: 1,
            preferred_block: 4096,
            maximum_payload: limits::PAYLOAD,
            sized: false,
            headers,
            contexts: Vec::new(),
        }
    }
}

/// One line of a server's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The export's name.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// Its details, if the server sends them.
    pub export: Option<Export>,
}

/// Where the handshake stands after the bytes that were fed.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send what was appended, then feed more.
    More,
    /// Begin TLS, then call [`Handshake::secured`].
    StartTls,
    /// Transmission begins.
    Ready(Export),
    /// The list is complete: send what was appended, then close.
    Listed(Vec<Listed>),
}

/// Why the handshake failed. The connection is of no further use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// No NBD server.
    #[error("the peer is no NBD server: it greets with {0:#018x}")]
    NotNbd(u64),
    /// Oldstyle negotiation knows no names.
    #[error(
        "the server speaks oldstyle NBD negotiation and has one export without a name: '{0}' can't be asked for"
    )]
    OldstyleName(String),
    /// The server refused.
    #[error("the server refuses {option} for export '{export}': {}", reason(*code, message))]
    Refused {
        /// What was asked for.
        option: OptionCode,
        /// The export's name.
        export: String,
        /// The server's answer.
        code: ReplyType,
        /// The server's message; may be empty.
        message: String,
    },
    /// The server can't begin TLS.
    #[error("the server cannot begin TLS: it does not speak fixed newstyle negotiation")]
    NoTls,
    /// Bytes between the grant of TLS and TLS: somebody on the way may have put them there.
    #[error("the server sent {0} bytes behind its grant of TLS, which are not in TLS")]
    Injected(usize),
    /// The server cannot list.
    #[error("the server cannot list its exports: it does not speak fixed newstyle negotiation")]
    CannotList,
    /// A reply that contradicts the specification.
    #[error("the server's reply to {option} is malformed (type {kind}, {length} bytes)")]
    Malformed {
        /// What was asked for.
        option: OptionCode,
        /// The reply's type.
        kind: ReplyType,
        /// Bytes of its data.
        length: usize,
    },
    /// Not a reply, or one to another option.
    #[error("expected a reply to {0}, found something else")]
    NotAReply(OptionCode),
    /// More replies than are reasonable.
    #[error("the server's replies to {0} are too many")]
    TooMany(OptionCode),
    /// The export is larger than offsets can say.
    #[error(
        "export '{export}' claims a size of {size} bytes, beyond the largest supported, {}",
        limits::EXPORT_SIZE
    )]
    TooLarge {
        /// The export's name.
        export: String,
        /// Bytes claimed.
        size: u64,
    },
    /// The server granted `GO` or `INFO` without sending the size.
    #[error("the server granted export '{0}' without telling its size")]
    NoSize(String),
    /// A name longer than the protocol allows.
    #[error("the export name is {0} bytes long, at most {max} are possible", max = limits::STRING)]
    NameTooLong(usize),
    /// Input after the end.
    #[error("the handshake has ended")]
    Ended,
}

fn reason(code: ReplyType, message: &str) -> String {
    let known = match code {
        ReplyType::ERR_UNSUP => "it does not know the option",
        ReplyType::ERR_POLICY => "its configuration forbids it",
        ReplyType::ERR_INVALID => "it finds the request invalid",
        ReplyType::ERR_PLATFORM => "its platform does not support it",
        ReplyType::ERR_TLS_REQD => "it requires TLS, which is not configured here",
        ReplyType::ERR_UNKNOWN => "there is no such export",
        ReplyType::ERR_SHUTDOWN => "it is shutting down",
        ReplyType::ERR_BLOCK_SIZE_REQD => "it requires block size constraints",
        ReplyType::ERR_TOO_BIG => "the request is too large for it",
        ReplyType::ERR_EXT_HEADER_REQD => "it requires extended headers",
        _ => "unknown error",
    };
    if message.is_empty() { format!("{known} ({code})") } else { format!("{known} ({code}): {message}") }
}

enum State {
    Greeting,
    ReplyHeader,
    ReplyData(ReplyType),
    ExportName,
    /// The rest of an oldstyle greeting, behind the highest bytes of the size.
    Oldstyle(u16),
    Ended,
}

enum Goal {
    Connect { contexts: Vec<String> },
    List { exports: Vec<Listed>, at: usize },
}

/// The handshake of one connection.
pub struct Handshake {
    state: State,
    unit: Unit,
    goal: Goal,
    /// The option that awaits its final reply.
    asked: OptionCode,
    replies: usize,
    reply_bytes: usize,
    /// TLS is asked for before anything else.
    starts_tls: bool,
    /// The best headers that are asked for.
    most: Headers,
    /// What was agreed on.
    headers: Headers,
    no_zeroes: bool,
    /// What is known of the export in question.
    export: Export,
    size_told: bool,
}

impl Handshake {
    /// Towards transmission with the export `name` ("" is the default one), selecting those of `contexts`
    /// that the server has.
    pub fn connect(name: &str, contexts: &[&str]) -> Result<Self, HandshakeError> {
        if name.len() > limits::STRING {
            return Err(HandshakeError::NameTooLong(name.len()));
        }
        let contexts = contexts.iter().map(|&context| context.to_owned()).collect();
        Ok(Self::new(name, Goal::Connect { contexts }))
    }

    /// Towards a list of all exports with their details.
    pub fn list() -> Self {
        Self::new("", Goal::List { exports: Vec::new(), at: 0 })
    }

    /// Asks for no better headers than these.
    pub fn at_most(self, most: Headers) -> Self {
        Self { most, ..self }
    }

    /// Asks for TLS before anything else, and for nothing without it.
    #[must_use]
    pub fn with_tls(self) -> Self {
        Self { starts_tls: true, ..self }
    }

    /// TLS has begun after [`Step::StartTls`]: appends what is to be sent in it. `left`: bytes that came behind the grant of it, and
    /// before it.
    pub fn secured(&mut self, left: usize, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        if left > 0 {
            return Err(HandshakeError::Injected(left));
        }
        self.first_question(out);
        Ok(())
    }

    fn new(name: &str, goal: Goal) -> Self {
        let mut unit = Unit::default();
        unit.begin(18);
        Self {
            state: State::Greeting,
            unit,
            goal,
            asked: OptionCode::ABORT,
            replies: 0,
            reply_bytes: 0,
            starts_tls: false,
            most: Headers::Extended,
            headers: Headers::Simple,
            no_zeroes: false,
            export: Export::new(name, Headers::Simple),
            size_told: false,
        }
    }

    /// Takes bytes off the front of `input`, appends what is to be sent to `out`, and says how many it took and
    /// where the handshake stands. Bytes that are left belong to transmission. What was appended is to be sent also after
    /// an error: it may be an ABORT.
    pub fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, Step), HandshakeError> {
        let mut rest = input;
        let step = self.step(&mut rest, out);
        if let Err(HandshakeError::Refused { .. }) = step {
            // The server has answered and waits for the next option: it is told that there will be none.
            self.ask(OptionCode::ABORT, &[], out);
        }
        if !matches!(step, Ok(Step::More)) {
            self.state = State::Ended;
        }
        Ok((input.len() - rest.len(), step?))
    }

    fn step(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        loop {
            if matches!(self.state, State::Ended) {
                return Err(HandshakeError::Ended);
            }
            if !self.unit.take(input) {
                return Ok(Step::More);
            }
            let unit = std::mem::take(&mut self.unit);
            match self.state {
                State::Greeting => self.greeting(unit.bytes(), out)?,
                State::ReplyHeader => self.reply_header(unit.bytes())?,
                State::ReplyData(kind) => {
                    let step = self.reply(kind, unit.bytes(), out)?;
                    if step != Step::More {
                        return Ok(step);
                    }
                }
                State::ExportName => {
                    let mut reader = Reader(unit.bytes());
                    let (size, flags) = (reader.u64().unwrap_or_default(), reader.u16().unwrap_or_default());
                    self.size(size, TransmissionFlags(flags))?;
                    return self.ready();
                }
                State::Oldstyle(high) => {
                    let mut reader = Reader(unit.bytes());
                    let (middle, low) = (reader.u32().unwrap_or_default(), reader.u16().unwrap_or_default());
                    let size = u64::from(high) << 48 | u64::from(middle) << 16 | u64::from(low);
                    // The upper half of the flags is of the handshake, which is over.
                    let flags = reader.u32().unwrap_or_default() as u16;
                    self.size(size, TransmissionFlags(flags))?;
                    return self.ready();
                }
                State::Ended => return Err(HandshakeError::Ended),
            }
        }
    }

    fn greeting(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let mut reader = Reader(bytes);
        let (init, style) = (reader.u64().unwrap_or_default(), reader.u64().unwrap_or_default());
        let last = reader.u16().unwrap_or_default();
        let flags = HandshakeFlags(last);
        if init != INIT_MAGIC {
            return Err(HandshakeError::NotNbd(init));
        }
        match style {
            OPTION_MAGIC => {}
            OLDSTYLE_MAGIC => return self.oldstyle(last),
            other => return Err(HandshakeError::NotNbd(other)),
        }
        let fixed = flags.contains(HandshakeFlags::FIXED_NEWSTYLE);
        self.no_zeroes = flags.contains(HandshakeFlags::NO_ZEROES);
        let answer = ClientFlags::when(fixed, ClientFlags::FIXED_NEWSTYLE)
            | ClientFlags::when(self.no_zeroes, ClientFlags::NO_ZEROES);
        out.extend_from_slice(&answer.0.to_be_bytes());
        match (fixed, &self.goal) {
            (true, _) if self.starts_tls => self.ask(OptionCode::STARTTLS, &[], out),
            (true, _) => self.first_question(out),
            (false, _) if self.starts_tls => return Err(HandshakeError::NoTls),
            (false, Goal::Connect { .. }) => self.ask_export_name(out),
            (false, Goal::List { .. }) => return Err(HandshakeError::CannotList),
        }
        Ok(())
    }

    /// Asks for the first thing after the greeting, or after TLS has begun.
    fn first_question(&mut self, out: &mut Vec<u8>) {
        match self.most {
            Headers::Extended => self.ask(OptionCode::EXTENDED_HEADERS, &[], out),
            Headers::Structured => self.ask(OptionCode::STRUCTURED_REPLY, &[], out),
            Headers::Simple => self.headers_settled(out),
        }
    }

    /// After the first bytes of an oldstyle greeting, of which the last are the highest of the size.
    fn oldstyle(&mut self, high: u16) -> Result<(), HandshakeError> {
        match self.goal {
            _ if self.starts_tls => Err(HandshakeError::NoTls),
            Goal::List { .. } => Err(HandshakeError::CannotList),
            Goal::Connect { .. } if !self.export.name.is_empty() => {
                Err(HandshakeError::OldstyleName(self.export.name.clone()))
            }
            Goal::Connect { .. } => {
                self.state = State::Oldstyle(high);
                self.unit.begin(OLDSTYLE_REST);
                Ok(())
            }
        }
    }

    fn ask(&mut self, option: OptionCode, data: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        out.extend_from_slice(&option.0.to_be_bytes());
        out.extend_from_slice(&(data.len() as u32).to_be_bytes()); // names are bounded: a few KiB
        out.extend_from_slice(data);
        self.asked = option;
        self.replies = 0;
        self.reply_bytes = 0;
        self.expect_reply();
    }

    fn ask_export_name(&mut self, out: &mut Vec<u8>) {
        let name = self.export.name.clone();
        self.ask(OptionCode::EXPORT_NAME, name.as_bytes(), out);
        self.unit.begin(if self.no_zeroes { 10 } else { 134 });
        self.state = State::ExportName;
    }

    fn ask_info(&mut self, option: OptionCode, out: &mut Vec<u8>) {
        const WANTED: [InfoType; 2] = [InfoType::BLOCK_SIZE, InfoType::DESCRIPTION];
        let mut data = counted(&self.export.name);
        data.extend_from_slice(&(WANTED.len() as u16).to_be_bytes());
        WANTED.iter().for_each(|item| data.extend_from_slice(&item.0.to_be_bytes()));
        self.size_told = false;
        self.ask(option, &data, out);
    }

    fn ask_contexts(&mut self, option: OptionCode, queries: &[String], out: &mut Vec<u8>) {
        let mut data = counted(&self.export.name);
        data.extend_from_slice(&(queries.len() as u32).to_be_bytes());
        queries.iter().for_each(|query| data.extend_from_slice(&counted(query)));
        self.ask(option, &data, out);
    }

    fn expect_reply(&mut self) {
        self.unit.begin(20);
        self.state = State::ReplyHeader;
    }

    fn reply_header(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        let mut reader = Reader(bytes);
        let magic = reader.u64().unwrap_or_default();
        let option = OptionCode(reader.u32().unwrap_or_default());
        let kind = ReplyType(reader.u32().unwrap_or_default());
        let length = reader.u32().unwrap_or_default() as usize;
        if magic != OPTION_REPLY_MAGIC || option != self.asked {
            return Err(HandshakeError::NotAReply(self.asked));
        }
        if length > limits::OPTION_REPLY {
            return Err(HandshakeError::Malformed { option, kind, length });
        }
        self.replies += 1;
        self.reply_bytes += length;
        let most = if option == OptionCode::LIST { limits::OPTION_REPLIES } else { EXPORT_REPLIES };
        if self.replies > most || self.reply_bytes > LIST_BYTES {
            return Err(HandshakeError::TooMany(option));
        }
        self.unit.begin(length);
        self.state = State::ReplyData(kind);
        Ok(())
    }

    fn reply(&mut self, kind: ReplyType, data: &[u8], out: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        let option = self.asked;
        let reply = option_reply::parse(option, kind, data).ok_or(HandshakeError::Malformed {
            option,
            kind,
            length: data.len(),
        })?;
        self.expect_reply();
        match reply {
            OptionReply::Ack => return self.answered(None, out),
            OptionReply::Refused { code, message } => return self.answered(Some((code, message)), out),
            OptionReply::Server { name, description } => {
                if let Goal::List { exports, .. } = &mut self.goal {
                    exports.push(Listed { name, description, export: None });
                }
            }
            OptionReply::Size { size, flags } => self.size(size, flags)?,
            OptionReply::Description(text) => self.export.description = text,
            OptionReply::BlockSize { minimum, preferred, maximum } => {
                self.export.minimum_block = minimum;
                self.export.preferred_block = preferred;
                self.export.maximum_payload = maximum;
                self.export.sized = true;
            }
            OptionReply::Context { id, name } => self.export.contexts.push((id, name)),
            OptionReply::Name(_) | OptionReply::Other => {}
        }
        Ok(Step::More)
    }

    /// The final reply to an option has come; asks for the next thing.
    fn answered(
        &mut self,
        refused: Option<(ReplyType, String)>,
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        match (self.asked, &refused) {
            (OptionCode::STARTTLS, None) => return Ok(Step::StartTls),
            (option, Some((code, message)))
                // What headers there are matters no more then: the option that follows is refused too, and told of.
                if option == OptionCode::STARTTLS
                    || *code == ReplyType::ERR_TLS_REQD
                        && !matches!(option, OptionCode::EXTENDED_HEADERS | OptionCode::STRUCTURED_REPLY) =>
            {
                let (export, code, message) = (self.export.name.clone(), *code, message.clone());
                return Err(HandshakeError::Refused { option, export, code, message });
            }
            (OptionCode::EXTENDED_HEADERS, None) => self.headers = Headers::Extended,
            (OptionCode::STRUCTURED_REPLY, None) => self.headers = Headers::Structured,
            (OptionCode::EXTENDED_HEADERS, Some(_)) => {
                self.ask(OptionCode::STRUCTURED_REPLY, &[], out);
                return Ok(Step::More);
            }
            _ => {}
        }
        self.export.headers = self.headers;
        if matches!(self.asked, OptionCode::EXTENDED_HEADERS | OptionCode::STRUCTURED_REPLY) {
            self.headers_settled(out);
            return Ok(Step::More);
        }
        if matches!(self.goal, Goal::List { .. }) {
            return self.next_of_list(refused, out);
        }
        match (self.asked, refused) {
            (OptionCode::SET_META_CONTEXT, refused) => {
                if refused.is_some() {
                    self.export.contexts.clear();
                }
                self.ask_info(OptionCode::GO, out);
            }
            (OptionCode::GO, None) => return self.ready(),
            (OptionCode::GO, Some((ReplyType::ERR_UNSUP, _))) if !self.headers.extended() => {
                self.ask_export_name(out);
            }
            (option, Some((code, message))) => {
                let export = self.export.name.clone();
                return Err(HandshakeError::Refused { option, export, code, message });
            }
            (option, None) => return Err(HandshakeError::NotAReply(option)),
        }
        Ok(Step::More)
    }

    /// Asks for the first thing after the headers.
    fn headers_settled(&mut self, out: &mut Vec<u8>) {
        match &mut self.goal {
            Goal::List { .. } => self.ask(OptionCode::LIST, &[], out),
            Goal::Connect { contexts } if self.headers.chunked() && !contexts.is_empty() => {
                let queries = std::mem::take(contexts);
                self.ask_contexts(OptionCode::SET_META_CONTEXT, &queries, out);
            }
            Goal::Connect { .. } => self.ask_info(OptionCode::GO, out),
        }
    }

    fn next_of_list(
        &mut self,
        refused: Option<(ReplyType, String)>,
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        let headers = self.headers;
        let Goal::List { exports, at } = &mut self.goal else { return Err(HandshakeError::Ended) };
        match (self.asked, refused) {
            (OptionCode::LIST, None) => {}
            (OptionCode::LIST, Some((code, message))) => {
                let option = OptionCode::LIST;
                return Err(HandshakeError::Refused { option, export: String::new(), code, message });
            }
            (OptionCode::INFO, None) if !self.size_told => {
                return Err(HandshakeError::NoSize(self.export.name.clone()));
            }
            (OptionCode::INFO, None) if headers.chunked() => {
                self.ask_contexts(OptionCode::LIST_META_CONTEXT, &[], out);
                return Ok(Step::More);
            }
            (OptionCode::INFO, Some(_)) => *at += 1,
            (OptionCode::ABORT, _) => return Ok(Step::Listed(std::mem::take(exports))),
            _ => {
                if let Some(listed) = exports.get_mut(*at) {
                    listed.export = Some(self.export.clone());
                }
                *at += 1;
            }
        }
        match exports.get(*at) {
            Some(listed) => {
                self.export = Export::new(&listed.name, headers);
                self.ask_info(OptionCode::INFO, out);
                Ok(Step::More)
            }
            None => {
                // The server may close without an answer: nothing is waited for.
                let exports = std::mem::take(exports);
                self.ask(OptionCode::ABORT, &[], out);
                Ok(Step::Listed(exports))
            }
        }
    }

    fn size(&mut self, size: u64, flags: TransmissionFlags) -> Result<(), HandshakeError> {
        if size > limits::EXPORT_SIZE {
            return Err(HandshakeError::TooLarge { export: self.export.name.clone(), size });
        }
        self.export.size = size;
        self.export.flags = flags;
        self.size_told = true;
        Ok(())
    }

    fn ready(&mut self) -> Result<Step, HandshakeError> {
        if !self.size_told {
            return Err(HandshakeError::NoSize(self.export.name.clone()));
        }
        Ok(Step::Ready(self.export.clone()))
    }
}

fn counted(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u32).to_be_bytes().to_vec(); // names are bounded
    out.extend_from_slice(text.as_bytes());
    out
}
