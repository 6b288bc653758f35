//! The server's half of the handshake (fixed newstyle).
//!
//! ```text
//! ClientFlags ─▶ Header ─▶ Data ─▶ answered ─▶ Header ..    GO, EXPORT_NAME ─▶ Session
//!                   └────▶ Skip ─▶ refused ──▶ Header ..    ABORT           ─▶ Closed
//!                                                           STARTTLS        ─▶ the caller's ─▶ Header ..
//! ```
//!
//! Where TLS is required, nothing but STARTTLS and ABORT is granted before it, and nothing of what was said before it counts
//! after it ("FORCEDTLS").
//!
//! Laws: the export's backend is not touched before `GO`: only the [`Catalog`] is asked, and it answers from
//! memory. One call to [`Handshake::advance`] answers one option at most, so that what is queued towards a
//! client that does not read stays bounded. Data of unknown or oversized options are skipped, never kept.
//!
//! Bounds: [`limits::OPTION_DATA`] bytes held for a client; the time a handshake may take is the caller's.
//!
//! Specification: "Newstyle negotiation", "Fixed newstyle negotiation", "Option types".

mod options;

use crate::reader::{Reader, Unit};
use crate::{
    ClientFlags, HandshakeFlags, Headers, INIT_MAGIC, InfoType, OPTION_MAGIC, OPTION_REPLY_MAGIC, OptionCode,
    ReplyType, Rules, TransmissionFlags, limits,
};
use options::{InfoRequest, MetaRequest};

/// What a client may learn of an export before it uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Size in bytes.
    pub size: u64,
    /// What the export can do; `SEND_DF` is added when replies in chunks are agreed on, `BLOCK_STATUS_PAYLOAD` when
    /// extended headers and a context are.
    pub flags: TransmissionFlags,
    /// For people; may be empty.
    pub description: String,
    /// Smallest length and alignment in bytes: a power of two, at most 64 KiB.
    pub minimum_block: u32,
    /// Smallest length and alignment in bytes that is efficient: a power of two, at least 512.
    pub preferred_block: u32,
    /// Names of the metadata contexts that can be selected.
    pub contexts: Vec<String>,
}

/// The exports of a server, as the handshake sees them.
pub trait Catalog {
    /// What transmission will work with.
    type Export;
    /// Calls `visit` with the name and the description of every export that may be listed.
    fn list(&self, visit: &mut dyn FnMut(&str, &str));
    /// The export of that name; "" is the default export.
    fn find(&self, name: &str) -> Option<(Self::Export, Offer)>;
}

/// What was agreed on.
#[derive(Debug)]
pub struct Session<E> {
    /// From [`Catalog::find`].
    pub export: E,
    /// The name the client chose.
    pub name: String,
    /// What the client may ask for.
    pub rules: Rules,
    /// The selected metadata contexts; the wire's context ID is the index into [`Offer::contexts`].
    pub contexts: Vec<u32>,
}

/// Where the handshake stands after the bytes that were fed.
#[derive(Debug)]
pub enum Step<E> {
    /// All input was taken and more is needed.
    More,
    /// An option was answered: send the answer, then feed what is left.
    Answered,
    /// Send the answer, begin TLS, and then call [`Handshake::secured`].
    StartTls,
    /// Transmission begins; the rest of the input is its first requests.
    Ready(Session<E>),
    /// The client aborted: send the answer and close.
    Closed,
}

/// Why a connection must be closed without an answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// Flags that were not offered.
    #[error("client set unknown handshake flags {0:#x}")]
    UnknownFlags(u32),
    /// The stream is no option request.
    #[error("expected an NBD option, found magic {0:#018x}")]
    NotAnOption(u64),
    /// More data than any option needs.
    #[error(
        "client sent {length} bytes of data with option {option}, more than {} are never accepted",
        limits::OPTION_SKIP
    )]
    TooLong {
        /// The option.
        option: OptionCode,
        /// Bytes announced.
        length: u32,
    },
    /// An unknown export was asked for with `EXPORT_NAME`, to which there is no error reply.
    #[error("client asked for export '{0}', which is not served here")]
    NoSuchExport(String),
    /// With extended headers there is only `GO`.
    #[error("client asked for export '{0}' without GO, which extended headers need")]
    NeedsGo(String),
    /// `EXPORT_NAME` before TLS, to which there is no error reply.
    #[error("client asked for an export before TLS, which is required here")]
    NeedsTls,
    /// Bytes between the request for TLS and TLS: somebody on the way may have put them there.
    #[error("client sent {0} bytes behind its request for TLS, which are not in TLS")]
    Injected(usize),
    /// Input after the end.
    #[error("the handshake has ended")]
    Ended,
}

/// Whether there is TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Security {
    /// None is offered.
    Plain,
    /// Required, and not there yet.
    Required,
    /// What comes, comes in TLS.
    Established,
}

enum State {
    ClientFlags,
    Header,
    Data(OptionCode),
    Skip { option: OptionCode, left: u32 },
    Ended,
}

/// The handshake of one connection.
pub struct Handshake {
    state: State,
    unit: Unit,
    security: Security,
    no_zeroes: bool,
    headers: Headers,
    /// The last `SET_META_CONTEXT`: the export it named and what it selected.
    selected: Option<(String, Vec<u32>)>,
}

impl Handshake {
    /// A new connection; appends the greeting to `out`.
    pub fn new(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&INIT_MAGIC.to_be_bytes());
        out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        out.extend_from_slice(&(HandshakeFlags::FIXED_NEWSTYLE | HandshakeFlags::NO_ZEROES).0.to_be_bytes());
        let mut unit = Unit::default();
        unit.begin(4);
        Self {
            state: State::ClientFlags,
            unit,
            security: Security::Plain,
            no_zeroes: false,
            headers: Headers::Simple,
            selected: None,
        }
    }

    /// Nothing is granted before TLS.
    #[must_use]
    pub fn requiring_tls(self) -> Self {
        Self { security: Security::Required, ..self }
    }

    /// TLS has begun after [`Step::StartTls`]. `left`: bytes that came behind the request for it, and before it.
    pub fn secured(&mut self, left: usize) -> Result<(), HandshakeError> {
        if left > 0 {
            return Err(HandshakeError::Injected(left));
        }
        self.security = Security::Established;
        self.headers = Headers::Simple;
        self.selected = None;
        self.expect_header();
        Ok(())
    }

    /// Takes bytes off the front of `input` up to the end of one option, appends what is to be sent to `out`,
    /// and says how many bytes it took and where the handshake stands.
    pub fn advance<C: Catalog>(
        &mut self,
        input: &[u8],
        catalog: &C,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Step<C::Export>), HandshakeError> {
        let mut rest = input;
        let step = self.step(&mut rest, catalog, out);
        if step.is_err() {
            self.state = State::Ended;
        }
        Ok((input.len() - rest.len(), step?))
    }

    fn step<C: Catalog>(
        &mut self,
        input: &mut &[u8],
        catalog: &C,
        out: &mut Vec<u8>,
    ) -> Result<Step<C::Export>, HandshakeError> {
        loop {
            match self.state {
                State::ClientFlags => {
                    if !self.unit.take(input) {
                        return Ok(Step::More);
                    }
                    self.client_flags()?;
                    self.expect_header();
                }
                State::Header => {
                    if !self.unit.take(input) {
                        return Ok(Step::More);
                    }
                    self.option_header()?;
                }
                State::Data(option) => {
                    if !self.unit.take(input) {
                        return Ok(Step::More);
                    }
                    let unit = std::mem::take(&mut self.unit);
                    self.expect_header();
                    return self.answer(option, unit.bytes(), catalog, out);
                }
                State::Skip { option, left } => {
                    let skipped = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    *input = input.get(skipped..).unwrap_or_default();
                    let left = left - skipped as u32; // skipped <= left
                    if left > 0 {
                        self.state = State::Skip { option, left };
                        return Ok(Step::More);
                    }
                    self.expect_header();
                    self.refuse_unread(option, out);
                    return Ok(Step::Answered);
                }
                State::Ended => return Err(HandshakeError::Ended),
            }
        }
    }

    fn expect_header(&mut self) {
        self.unit.begin(16);
        self.state = State::Header;
    }

    fn client_flags(&mut self) -> Result<(), HandshakeError> {
        let flags = ClientFlags(Reader(self.unit.bytes()).u32().unwrap_or_default());
        let unknown = flags.without(ClientFlags::FIXED_NEWSTYLE | ClientFlags::NO_ZEROES);
        if !unknown.is_empty() {
            return Err(HandshakeError::UnknownFlags(unknown.0));
        }
        self.no_zeroes = flags.contains(ClientFlags::NO_ZEROES);
        Ok(())
    }

    fn option_header(&mut self) -> Result<(), HandshakeError> {
        let mut header = Reader(self.unit.bytes());
        let magic = header.u64().unwrap_or_default();
        if magic != OPTION_MAGIC {
            return Err(HandshakeError::NotAnOption(magic));
        }
        let option = OptionCode(header.u32().unwrap_or_default());
        let length = header.u32().unwrap_or_default();
        if length > limits::OPTION_SKIP {
            return Err(HandshakeError::TooLong { option, length });
        }
        let early = self.security == Security::Required
            && !matches!(option, OptionCode::STARTTLS | OptionCode::ABORT);
        if early && option == OptionCode::EXPORT_NAME {
            return Err(HandshakeError::NeedsTls);
        }
        self.state = if !early && known(option) && length as usize <= limits::OPTION_DATA {
            self.unit.begin(length as usize);
            State::Data(option)
        } else {
            State::Skip { option, left: length }
        };
        Ok(())
    }

    fn answer<C: Catalog>(
        &mut self,
        option: OptionCode,
        data: &[u8],
        catalog: &C,
        out: &mut Vec<u8>,
    ) -> Result<Step<C::Export>, HandshakeError> {
        match option {
            OptionCode::EXPORT_NAME => return self.export_name(data, catalog, out),
            OptionCode::ABORT => {
                self.state = State::Ended;
                put_reply(out, option, ReplyType::ACK, &[]);
                return Ok(Step::Closed);
            }
            OptionCode::INFO | OptionCode::GO => return Ok(self.info(option, data, catalog, out)),
            OptionCode::LIST if data.is_empty() => list(catalog, out),
            OptionCode::STRUCTURED_REPLY if data.is_empty() => self.agree(option, Headers::Structured, out),
            OptionCode::EXTENDED_HEADERS if data.is_empty() => self.agree(option, Headers::Extended, out),
            OptionCode::STARTTLS if data.is_empty() => match self.security {
                Security::Plain => {
                    put_error(out, option, ReplyType::ERR_POLICY, "TLS not configured");
                }
                Security::Established => {
                    put_error(out, option, ReplyType::ERR_INVALID, "TLS is in use already");
                }
                Security::Required => {
                    self.state = State::Ended;
                    put_reply(out, option, ReplyType::ACK, &[]);
                    return Ok(Step::StartTls);
                }
            },
            OptionCode::LIST_META_CONTEXT | OptionCode::SET_META_CONTEXT => {
                self.meta_context(option, data, catalog, out);
            }
            _ => put_error(out, option, ReplyType::ERR_INVALID, "this option carries no data"),
        }
        Ok(Step::Answered)
    }

    /// Agrees on better headers than before; never on worse ones.
    fn agree(&mut self, option: OptionCode, headers: Headers, out: &mut Vec<u8>) {
        if headers > self.headers {
            self.headers = headers;
            put_reply(out, option, ReplyType::ACK, &[]);
        } else if headers == self.headers {
            put_error(out, option, ReplyType::ERR_INVALID, "this is agreed on already");
        } else {
            let words = "extended headers are agreed on already";
            put_error(out, option, ReplyType::ERR_EXT_HEADER_REQD, words);
        }
    }

    fn export_name<C: Catalog>(
        &mut self,
        data: &[u8],
        catalog: &C,
        out: &mut Vec<u8>,
    ) -> Result<Step<C::Export>, HandshakeError> {
        let unknown = || HandshakeError::NoSuchExport(crate::reader::message(data));
        if self.headers.extended() {
            return Err(HandshakeError::NeedsGo(crate::reader::message(data)));
        }
        let name = Reader(data).string(data.len()).ok_or_else(unknown)?;
        let (export, offer) = catalog.find(name).ok_or_else(unknown)?;
        if offer.size > limits::EXPORT_SIZE {
            return Err(unknown());
        }
        // This client was sent no block sizes: it may use any.
        let session = self.session(export, name, &offer, 1);
        out.extend_from_slice(&offer.size.to_be_bytes());
        out.extend_from_slice(&session.rules.flags.0.to_be_bytes());
        if !self.no_zeroes {
            out.extend_from_slice(&[0; 124]);
        }
        self.state = State::Ended;
        Ok(Step::Ready(session))
    }

    fn info<C: Catalog>(
        &mut self,
        option: OptionCode,
        data: &[u8],
        catalog: &C,
        out: &mut Vec<u8>,
    ) -> Step<C::Export> {
        let Some(request) = InfoRequest::parse(data) else {
            put_error(out, option, ReplyType::ERR_INVALID, "malformed export information request");
            return Step::Answered;
        };
        let Some((export, offer)) = catalog.find(request.name) else {
            unknown_export(out, option, request.name);
            return Step::Answered;
        };
        if offer.size > limits::EXPORT_SIZE {
            put_error(out, option, ReplyType::ERR_POLICY, "the export is larger than 2^63 - 1 bytes");
            return Step::Answered;
        }
        let sized = request.wants(InfoType::BLOCK_SIZE);
        let minimum = if sized || option == OptionCode::INFO { offer.minimum_block } else { 1 };
        let session = self.session(export, request.name, &offer, minimum);
        // INFO reports what GO would give with the selected contexts.
        let may_filter = option == OptionCode::INFO && self.headers.extended() && !offer.contexts.is_empty();
        let flags = session.rules.flags
            | TransmissionFlags::when(may_filter, TransmissionFlags::BLOCK_STATUS_PAYLOAD);
        put_info(out, option, InfoType::EXPORT, &[&offer.size.to_be_bytes(), &flags.0.to_be_bytes()]);
        if request.wants(InfoType::NAME) {
            put_info(out, option, InfoType::NAME, &[request.name.as_bytes()]);
        }
        if request.wants(InfoType::DESCRIPTION) && !offer.description.is_empty() {
            put_info(out, option, InfoType::DESCRIPTION, &[clip(&offer.description).as_bytes()]);
        }
        let sizes = [minimum, offer.preferred_block, limits::PAYLOAD].map(u32::to_be_bytes);
        put_info(out, option, InfoType::BLOCK_SIZE, &[sizes.as_flattened()]);
        put_reply(out, option, ReplyType::ACK, &[]);
        if option == OptionCode::INFO {
            return Step::Answered;
        }
        self.state = State::Ended;
        Step::Ready(session)
    }

    fn meta_context<C: Catalog>(&mut self, option: OptionCode, data: &[u8], catalog: &C, out: &mut Vec<u8>) {
        let setting = option == OptionCode::SET_META_CONTEXT;
        if setting {
            self.selected = None;
        }
        if !self.headers.chunked() {
            put_error(out, option, ReplyType::ERR_INVALID, "metadata contexts need structured replies first");
            return;
        }
        let Some(request) = MetaRequest::parse(data) else {
            put_error(out, option, ReplyType::ERR_INVALID, "malformed metadata context request");
            return;
        };
        let Some((_, offer)) = catalog.find(request.export) else {
            unknown_export(out, option, request.export);
            return;
        };
        let mut selected = Vec::new();
        for (id, name) in (0u32..).zip(&offer.contexts) {
            let chosen = if setting { request.selects(name) } else { request.lists(name) };
            if chosen {
                let id = if setting { id } else { 0 };
                put_reply(out, option, ReplyType::META_CONTEXT, &[&id.to_be_bytes(), name.as_bytes()]);
                selected.push(id);
            }
        }
        if setting {
            self.selected = Some((request.export.to_owned(), selected));
        }
        put_reply(out, option, ReplyType::ACK, &[]);
    }

    /// Refuses an option whose data were not kept.
    fn refuse_unread(&self, option: OptionCode, out: &mut Vec<u8>) {
        if self.security == Security::Required {
            // Programs look for these words.
            let words = format!("Option {:#x} not permitted before TLS", option.0);
            put_error(out, option, ReplyType::ERR_TLS_REQD, &words);
        } else if known(option) {
            put_error(out, option, ReplyType::ERR_TOO_BIG, "the option's data are too long");
        } else {
            put_error(out, option, ReplyType::ERR_UNSUP, "this server does not know the option");
        }
    }

    /// What a client that chose this export now would get.
    fn session<E>(&self, export: E, name: &str, offer: &Offer, minimum_block: u32) -> Session<E> {
        let contexts = match &self.selected {
            Some((chosen, ids)) if chosen == name && self.headers.chunked() => ids.clone(),
            _ => Vec::new(),
        };
        let flags = offer.flags.without(TransmissionFlags::SEND_DF)
            | TransmissionFlags::HAS_FLAGS
            | TransmissionFlags::when(self.headers.chunked(), TransmissionFlags::SEND_DF)
            | TransmissionFlags::when(
                self.headers.extended() && !contexts.is_empty(),
                TransmissionFlags::BLOCK_STATUS_PAYLOAD,
            );
        let rules = Rules {
            size: offer.size,
            flags,
            minimum_block,
            headers: self.headers,
            contexts: !contexts.is_empty(),
        };
        Session { export, name: name.to_owned(), rules, contexts }
    }
}

/// The options this server has an answer to.
fn known(option: OptionCode) -> bool {
    matches!(
        option,
        OptionCode::EXPORT_NAME
            | OptionCode::ABORT
            | OptionCode::LIST
            | OptionCode::STARTTLS
            | OptionCode::INFO
            | OptionCode::GO
            | OptionCode::STRUCTURED_REPLY
            | OptionCode::EXTENDED_HEADERS
            | OptionCode::LIST_META_CONTEXT
            | OptionCode::SET_META_CONTEXT
    )
}

fn unknown_export(out: &mut Vec<u8>, option: OptionCode, name: &str) {
    put_error(out, option, ReplyType::ERR_UNKNOWN, &format!("export '{name}' is not served here"));
}

fn list<C: Catalog>(catalog: &C, out: &mut Vec<u8>) {
    catalog.list(&mut |name, description| {
        // A name that no client can send back is not listed.
        if let Ok(length) = u32::try_from(name.len())
            && name.len() <= limits::STRING
        {
            let parts: [&[u8]; 3] = [&length.to_be_bytes(), name.as_bytes(), clip(description).as_bytes()];
            put_reply(out, OptionCode::LIST, ReplyType::SERVER, &parts);
        }
    });
    put_reply(out, OptionCode::LIST, ReplyType::ACK, &[]);
}

/// `text` cut to the protocol's longest string.
fn clip(text: &str) -> &str {
    let end = (0..=limits::STRING.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.get(..end.unwrap_or(0)).unwrap_or("")
}

fn put_reply(out: &mut Vec<u8>, option: OptionCode, kind: ReplyType, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.0.to_be_bytes());
    out.extend_from_slice(&kind.0.to_be_bytes());
    out.extend_from_slice(&(length as u32).to_be_bytes()); // parts are clipped: a few KiB
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_error(out: &mut Vec<u8>, option: OptionCode, kind: ReplyType, message: &str) {
    put_reply(out, option, kind, &[clip(message).as_bytes()]);
}

fn put_info(out: &mut Vec<u8>, option: OptionCode, info: InfoType, payload: &[&[u8]]) {
    let kind = info.0.to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![&kind];
    parts.extend_from_slice(payload);
    put_reply(out, option, ReplyType::INFO, &parts);
}
