//! The record protocol of TLS 1.3 in one direction each: what is sent is sealed, what comes is opened.
//!
//! ```text
//! 23 03 03 length │ encrypted: content · its type · zeroes │ tag
//! └── header, authenticated ──┘
//! ```
//!
//! Specification: RFC 8446, sections 5 (records), 6 (alerts), 4.6 (messages after the handshake), 7 (keys).

use crypto::aead::{Aead, AeadCipher, NONCE, TAG};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

/// Most bytes of content in a record.
pub(crate) const CONTENT: usize = 16 << 10;
/// Bytes of a record's header.
pub(crate) const HEADER: usize = 5;
/// Bytes that a record has beside its content, as they are written here.
pub(crate) const OVERHEAD: usize = HEADER + 1 + TAG;
/// Longest record that is taken, with its header: peers may fill up with zeroes.
pub(crate) const LONGEST: usize = HEADER + CONTENT + 256;

/// Records under one key, after which it is exchanged. AES-GCM is good for 2^24.5 of full size (RFC 8446, 5.5).
const WORN: u64 = 1 << 24;
/// Messages that are no data, in a row, before a peer is given up: each costs work and moves nothing.
const IDLE_TALK: u32 = 64;
/// Most bytes of such a message: a ticket, with all that it may carry.
const MESSAGE: usize = 4 + (1 << 17);

/// Ciphers, each with the hash that its keys are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// `TLS_AES_128_GCM_SHA256`.
    Aes128,
    /// `TLS_AES_256_GCM_SHA384`.
    Aes256,
    /// `TLS_CHACHA20_POLY1305_SHA256`.
    ChaCha20,
}

impl Suite {
    /// All, the fastest first.
    pub const ALL: [Suite; 3] = [Self::Aes128, Self::Aes256, Self::ChaCha20];

    /// Its name in the specification, which is OpenSSL's too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "TLS_AES_128_GCM_SHA256",
            Self::Aes256 => "TLS_AES_256_GCM_SHA384",
            Self::ChaCha20 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    fn cipher(self) -> AeadCipher {
        match self {
            Self::Aes128 => AeadCipher::Aes128Gcm,
            Self::Aes256 => AeadCipher::Aes256Gcm,
            Self::ChaCha20 => AeadCipher::ChaCha20Poly1305,
        }
    }

    /// Bytes of a secret: of its hash.
    pub fn secret_len(self) -> usize {
        if self == Self::Aes256 { 48 } else { 32 }
    }

    /// `HKDF-Expand-Label` without context, of at most as many bytes as the hash has.
    fn expand(self, secret: &[u8], label: &str, len: usize) -> Option<Zeroizing<Vec<u8>>> {
        let name = format!("tls13 {label}");
        let mut info = u16::try_from(len).ok()?.to_be_bytes().to_vec();
        info.push(u8::try_from(name.len()).ok()?);
        info.extend_from_slice(name.as_bytes());
        // No context, then the number of HKDF's first block.
        info.extend_from_slice(&[0, 1]);
        let mut bytes = match self {
            Self::Aes256 => {
                let mac = Hmac::<Sha384>::new_from_slice(secret).ok()?.chain_update(&info);
                Zeroizing::new(mac.finalize().into_bytes().to_vec())
            }
            Self::Aes128 | Self::ChaCha20 => {
                let mac = Hmac::<Sha256>::new_from_slice(secret).ok()?.chain_update(&info);
                Zeroizing::new(mac.finalize().into_bytes().to_vec())
            }
        };
        bytes.truncate(len);
        (bytes.len() == len).then_some(bytes)
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Alert = 21,
    Handshake = 22,
    Data = 23,
}

/// Why what a peer sent can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("a TLS record is not what the peer sealed")]
    Forged,
    #[error("a TLS record is longer than any may be")]
    TooLong,
    #[error("what came is no TLS record")]
    NoRecord,
    #[error("a TLS message came that has no place here")]
    Unexpected,
    #[error("the TLS peer talks without sending data")]
    IdleTalk,
    #[error("the TLS peer gave up: {}", alert(*.0))]
    Alert(u8),
    #[error("TLS keys can't be made")]
    Keys,
}

impl Fault {
    /// The alert that the peer is told (RFC 8446, 6.2), where it is not the one who gave up.
    pub fn to_tell(self) -> Option<u8> {
        match self {
            Self::Forged => Some(BAD_RECORD_MAC),
            Self::TooLong => Some(RECORD_OVERFLOW),
            Self::NoRecord | Self::Unexpected | Self::IdleTalk => Some(UNEXPECTED_MESSAGE),
            Self::Keys => Some(INTERNAL_ERROR),
            Self::Alert(_) => None,
        }
    }
}

impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, fault)
    }
}

const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const INTERNAL_ERROR: u8 = 80;
/// `close_notify`: the peer sends nothing more.
pub(crate) const CLOSE_NOTIFY: u8 = 0;
/// `access_denied`: the peer is known, and not let in.
pub(crate) const ACCESS_DENIED: u8 = 49;
/// `user_canceled`: `close_notify` follows.
const USER_CANCELED: u8 = 90;

/// An alert in words.
pub(crate) fn alert(code: u8) -> String {
    let words = match code {
        10 => "it got a message that it did not expect",
        20 | 51 => "what it got is not what was sealed here",
        22 => "it got too long a record",
        40 => "it could not agree",
        42 => "it finds the certificate bad",
        43 => "it does not know the kind of certificate",
        44 => "the certificate was revoked",
        45 => "the certificate has expired",
        46 => "it does not take the certificate",
        47 => "it finds a value out of range",
        48 => "it does not know the authority that signed the certificate",
        ACCESS_DENIED => "access is denied",
        50 => "it can't read a message",
        70 => "it does not speak this version of TLS",
        71 => "it asks for more security",
        80 => "something went wrong inside of it",
        115 => "it does not know the user of the shared key",
        116 => "it asks for a certificate",
        _ => return format!("alert {code}"),
    };
    format!("{words} (alert {code})")
}

/// Keys of one direction, and the number of the next record.
struct Keys {
    suite: Suite,
    secret: Zeroizing<Vec<u8>>,
    aead: Aead,
    iv: [u8; NONCE],
    next: u64,
}

impl Keys {
    fn new(suite: Suite, secret: Zeroizing<Vec<u8>>) -> Result<Self, Fault> {
        if secret.len() != suite.secret_len() {
            return Err(Fault::Keys);
        }
        let key = suite.expand(&secret, "key", suite.cipher().key_len()).ok_or(Fault::Keys)?;
        let iv = suite.expand(&secret, "iv", NONCE).ok_or(Fault::Keys)?;
        let iv = iv.as_slice().try_into().map_err(|_| Fault::Keys)?;
        let aead = Aead::new(suite.cipher(), &key).ok_or(Fault::Keys)?;
        Ok(Self { suite, secret, aead, iv, next: 0 })
    }

    /// The next keys of this direction.
    fn exchange(&mut self) -> Result<(), Fault> {
        let secret =
            self.suite.expand(&self.secret, "traffic upd", self.suite.secret_len()).ok_or(Fault::Keys)?;
        *self = Self::new(self.suite, secret)?;
        Ok(())
    }

    /// The nonce of the next record. Numbers are never used again: keys are exchanged long before they end.
    fn nonce(&mut self) -> [u8; NONCE] {
        let mut nonce = self.iv;
        for (byte, number) in nonce.iter_mut().skip(NONCE - 8).zip(self.next.to_be_bytes()) {
            *byte ^= number;
        }
        self.next = self.next.saturating_add(1);
        nonce
    }
}

/// The sending direction.
pub(crate) struct Sealer(Keys);

impl Sealer {
    pub fn new(suite: Suite, secret: Zeroizing<Vec<u8>>) -> Result<Self, Fault> {
        Keys::new(suite, secret).map(Self)
    }

    /// Puts a record with `plain`, at most [`CONTENT`] bytes, to the beginning of `out`; its length.
    pub fn seal(&mut self, content: Content, plain: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        let (header, body) = record(plain.len(), out)?;
        let nonce = self.0.nonce();
        let done = self.0.aead.seal(&nonce, header, plain, content as u8, body);
        if done { Ok(HEADER + body.len()) } else { Err(Fault::Keys) }
    }

    /// As [`Sealer::seal`], of `len` bytes of data that stand in `out` already, behind the place of the header.
    pub fn seal_in_place(&mut self, len: usize, out: &mut [u8]) -> Result<usize, Fault> {
        let (header, body) = record(len, out)?;
        let nonce = self.0.nonce();
        let done = self.0.aead.seal_in_place(&nonce, header, Content::Data as u8, body);
        if done { Ok(HEADER + body.len()) } else { Err(Fault::Keys) }
    }

    /// It is time for other keys.
    pub fn is_worn(&self) -> bool {
        self.0.next >= WORN
    }

    /// Puts the message by which keys are exchanged to the beginning of `out`, and exchanges them; its length.
    pub fn exchange(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        let len = self.seal(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 0], out)?;
        self.0.exchange()?;
        Ok(len)
    }
}

/// The places of a record's header, written, and of what is encrypted, in `out`.
fn record(len: usize, out: &mut [u8]) -> Result<(&[u8], &mut [u8]), Fault> {
    let (header, body) = out.split_at_mut_checked(HEADER).ok_or(Fault::TooLong)?;
    let body = body.get_mut(..len + 1 + TAG).filter(|_| len <= CONTENT).ok_or(Fault::TooLong)?;
    let [high, low] = (body.len() as u16).to_be_bytes(); // at most CONTENT + 17
    header.copy_from_slice(&[Content::Data as u8, 3, 3, high, low]);
    Ok((header, body))
}

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// What a record was, once opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// So many bytes of data.
    Data(usize),
    /// Nothing for whoever reads.
    Nothing,
    /// Nothing either; the peer asks for other keys in the other direction.
    Exchange,
    /// The peer sends nothing more.
    End,
}

/// The receiving direction.
pub(crate) struct Opener {
    keys: Keys,
    /// The part of a message after the handshake that has come.
    message: Vec<u8>,
    idle: u32,
}

impl Opener {
    pub fn new(suite: Suite, secret: Zeroizing<Vec<u8>>) -> Result<Self, Fault> {
        Ok(Self { keys: Keys::new(suite, secret)?, message: Vec::new(), idle: 0 })
    }

    /// The length of the record at the beginning of `input`, with its header; none if more has to come to tell.
    pub fn record_len(input: &[u8]) -> Result<Option<usize>, Fault> {
        let Some((&[kind, major, _, high, low], _)) = input.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        if kind != Content::Data as u8 || major != 3 {
            return Err(Fault::NoRecord);
        }
        let len = HEADER + usize::from(u16::from_be_bytes([high, low]));
        if len > LONGEST { Err(Fault::TooLong) } else { Ok(Some(len)) }
    }

    /// Bytes that [`Opener::open`] needs for a record of this length with its header.
    pub fn room(record: usize) -> usize {
        record.saturating_sub(HEADER + TAG)
    }

    /// Opens a record to the beginning of `out`.
    pub fn open(&mut self, record: &[u8], out: &mut [u8]) -> Result<Opened, Fault> {
        let (header, sealed) = record.split_at_checked(HEADER).ok_or(Fault::NoRecord)?;
        let nonce = self.keys.nonce();
        let len = self.keys.aead.open(&nonce, header, sealed, out).ok_or(Fault::Forged)?;
        self.judge(out.get(..len).unwrap_or_default())
    }

    /// Opens a record in place: its content stands behind the header then.
    pub fn open_in_place(&mut self, record: &mut [u8]) -> Result<Opened, Fault> {
        let (header, sealed) = record.split_at_mut_checked(HEADER).ok_or(Fault::NoRecord)?;
        let nonce = self.keys.nonce();
        let len = self.keys.aead.open_in_place(&nonce, header, sealed).ok_or(Fault::Forged)?;
        self.judge(sealed.get(..len).unwrap_or_default())
    }

    fn judge(&mut self, inner: &[u8]) -> Result<Opened, Fault> {
        let end = inner.iter().rposition(|byte| *byte != 0).ok_or(Fault::Unexpected)?;
        let (content, kind) = (inner.get(..end).unwrap_or_default(), inner.get(end).copied());
        if content.len() > CONTENT {
            return Err(Fault::TooLong);
        }
        if kind == Some(Content::Data as u8) && self.message.is_empty() {
            self.count(content.is_empty())?;
            return Ok(Opened::Data(content.len()));
        }
        self.count(true)?;
        match (kind, content) {
            (Some(21), [_, CLOSE_NOTIFY]) => Ok(Opened::End),
            (Some(21), [_, USER_CANCELED]) => Ok(Opened::Nothing),
            (Some(21), [_, code]) => Err(Fault::Alert(*code)),
            (Some(22), [_, ..]) => self.messages(content),
            _ => Err(Fault::Unexpected),
        }
    }

    fn count(&mut self, idle: bool) -> Result<(), Fault> {
        self.idle = if idle { self.idle + 1 } else { 0 };
        if self.idle > IDLE_TALK { Err(Fault::IdleTalk) } else { Ok(()) }
    }

    /// Messages after the handshake, of which one may come in several records.
    fn messages(&mut self, content: &[u8]) -> Result<Opened, Fault> {
        self.message.extend_from_slice(content);
        let mut opened = Opened::Nothing;
        while let Some((&[kind, high, middle, low], rest)) = self.message.split_first_chunk::<4>() {
            let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if 4 + len > MESSAGE {
                return Err(Fault::TooLong);
            }
            let Some(body) = rest.get(..len) else { return Ok(opened) };
            match (kind, body) {
                // No session is ever resumed.
                (NEW_SESSION_TICKET, _) => {}
                // What comes behind it is under other keys: nothing may be left of this record.
                (KEY_UPDATE, [asked @ (0 | 1)]) if rest.len() == 1 => {
                    self.keys.exchange()?;
                    if *asked == 1 {
                        opened = Opened::Exchange;
                    }
                }
                _ => return Err(Fault::Unexpected),
            }
            self.message.drain(..4 + len);
        }
        if self.message.is_empty() {
            // Tickets come once: nothing is kept for them.
            self.message = Vec::new();
        }
        Ok(opened)
    }
}

#[cfg(test)]
#[path = "records/tests.rs"]
mod tests;
