//! Protocol data units: a header of 48 bytes, further headers, a digest of them, data with padding, a digest of those
//! (section 11).
//!
//! ```text
//! opcode flags .. .. | further headers, data: lengths | LUN | tag | ···     what is behind the tag depends on the opcode
//! ```

use std::fmt;

/// Bytes of a header.
pub const HEADER: usize = 48;

/// A header as it is sent.
pub type Header = [u8; HEADER];

/// The tag that stands for none.
pub const NO_TAG: u32 = u32::MAX;

const FINAL: u8 = 0x80;
/// In front of the opcode: carried out at once, whatever waits.
const IMMEDIATE: u8 = 0x40;

/// Zeroes behind a data segment: it is sent in whole words.
pub const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// The number of a logical unit, as it is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lun(pub [u8; 8]);

impl Lun {
    /// The greatest number.
    pub const MOST: u16 = 0x3fff;

    /// That with this number: addressed as a peripheral device up to 255, by the flat space from there on (SAM-5, section
    /// 4.7); `None` where it is greater than [`Lun::MOST`].
    pub fn of(number: u16) -> Option<Self> {
        let [high, low] = number.to_be_bytes();
        let high = match number {
            0..=0xff => 0,
            0x100..=Self::MOST => high | 0x40,
            _ => return None,
        };
        Some(Self([high, low, 0, 0, 0, 0, 0, 0]))
    }
}

/// Which way the data of a command go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// There are none.
    Nothing,
    /// From the target.
    Read,
    /// To the target.
    Write,
}

/// A stage of the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Who is who.
    Security,
    /// How the session is carried out.
    Operational,
    /// The session itself.
    FullFeature,
}

impl Stage {
    fn number(self) -> u8 {
        match self {
            Self::Security => 0,
            Self::Operational => 1,
            Self::FullFeature => 3,
        }
    }

    fn of(number: u8) -> Result<Self, PduError> {
        match number & 3 {
            0 => Ok(Self::Security),
            1 => Ok(Self::Operational),
            3 => Ok(Self::FullFeature),
            _ => Err(PduError::Field("stage")),
        }
    }
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// Its opcode is not one of this direction.
    #[error("its opcode {0:#04x} is unknown")]
    Opcode(u8),
    /// A field has a value that it can't have.
    #[error("its field '{0}' makes no sense")]
    Field(&'static str),
}

fn word(header: &Header, at: usize) -> u32 {
    let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    u32::from_be_bytes(bytes.unwrap_or_default())
}

fn half(header: &Header, at: usize) -> u16 {
    (word(header, at) >> 16) as u16
}

fn lun(header: &Header) -> Lun {
    let mut lun = Lun::default();
    lun.0.copy_from_slice(&header[8..16]);
    lun
}

/// Writes a header.
struct Maker(Header);

impl Maker {
    fn new(opcode: u8, flags: u8, data: usize) -> Self {
        let mut header = [0; HEADER];
        (header[0], header[1]) = (opcode, flags);
        // A segment is bounded by what was agreed on, which is less than 2²⁴.
        header[5..8].copy_from_slice(&(data as u32).to_be_bytes()[1..]);
        Self(header)
    }

    fn bytes<const N: usize>(mut self, at: usize, bytes: [u8; N]) -> Self {
        if let Some(place) = self.0.get_mut(at..at + N) {
            place.copy_from_slice(&bytes);
        }
        self
    }

    fn word(self, at: usize, word: u32) -> Self {
        self.bytes(at, word.to_be_bytes())
    }

    fn numbers(self, numbers: Numbers) -> Self {
        self.word(24, numbers.stat).word(28, numbers.expected_command).word(32, numbers.most_command)
    }
}

#[expect(missing_docs, reason = "fields that say nothing are named as the specification names them")]
/// What an initiator sends. `command` is its number (CmdSN), `status` that of the answer it expects next (ExpStatSN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// NOP-Out: asks whether the target is there (with a tag), or answers such a question (with the target's tag).
    Nop { lun: Lun, tag: u32, target_tag: u32, command: u32, status: u32 },
    /// A SCSI command.
    Command {
        lun: Lun,
        tag: u32,
        block: [u8; 16],
        transfer: Transfer,
        /// Bytes of data in all.
        expected: u32,
        /// No unsolicited data come in PDUs of their own.
        complete: bool,
        command: u32,
        status: u32,
    },
    /// A step of the login.
    Login {
        /// The initiator is ready for the next stage; none: it stays.
        stage: Stage,
        next: Option<Stage>,
        /// More of the text comes.
        continues: bool,
        isid: [u8; 6],
        tsih: u16,
        tag: u32,
        command: u32,
        status: u32,
    },
    /// Data of a command.
    DataOut {
        lun: Lun,
        tag: u32,
        /// Of the R2T; [`NO_TAG`]: nobody asked for them.
        target_tag: u32,
        status: u32,
        number: u32,
        offset: u32,
        last: bool,
    },
    /// A text, or the wish for the rest of one (with the target's tag).
    Text { tag: u32, target_tag: u32, command: u32, status: u32 },
    /// The end of the session.
    Logout { tag: u32, command: u32, status: u32 },
}

impl Request {
    /// The header in front of so many bytes of data.
    pub fn encode(&self, data: usize) -> Header {
        let made = match *self {
            Self::Nop { lun, tag, target_tag, command, status } => Maker::new(IMMEDIATE, FINAL, data)
                .bytes(8, lun.0)
                .word(16, tag)
                .word(20, target_tag)
                .word(24, command)
                .word(28, status),
            Self::Command { lun, tag, block, transfer, expected, complete, command, status } => {
                let way = match transfer {
                    Transfer::Nothing => 0,
                    Transfer::Read => 0x40,
                    Transfer::Write => 0x20,
                };
                // In any order beside others: a simple task.
                let flags = way | 1 | if complete { FINAL } else { 0 };
                Maker::new(1, flags, data)
                    .bytes(8, lun.0)
                    .word(16, tag)
                    .word(20, expected)
                    .word(24, command)
                    .word(28, status)
                    .bytes(32, block)
            }
            Self::Login { stage, next, continues, isid, tsih, tag, command, status } => {
                let next = next.map_or(0, |next| FINAL | next.number());
                let flags = next | stage.number() << 2 | if continues { 0x40 } else { 0 };
                Maker::new(IMMEDIATE | 3, flags, data)
                    .bytes(8, isid)
                    .bytes(14, tsih.to_be_bytes())
                    .word(16, tag)
                    .word(24, command)
                    .word(28, status)
            }
            Self::DataOut { lun, tag, target_tag, status, number, offset, last } => {
                Maker::new(5, if last { FINAL } else { 0 }, data)
                    .bytes(8, lun.0)
                    .word(16, tag)
                    .word(20, target_tag)
                    .word(28, status)
                    .word(36, number)
                    .word(40, offset)
            }
            Self::Text { tag, target_tag, command, status } => Maker::new(IMMEDIATE | 4, FINAL, data)
                .word(16, tag)
                .word(20, target_tag)
                .word(24, command)
                .word(28, status),
            Self::Logout { tag, command, status } => {
                Maker::new(IMMEDIATE | 6, FINAL, data).word(16, tag).word(24, command).word(28, status)
            }
        };
        made.0
    }

    /// What a header says; a target's part.
    pub fn parse(header: &Header) -> Result<Self, PduError> {
        let (flags, tag) = (header[1], word(header, 16));
        let (command, status) = (word(header, 24), word(header, 28));
        match header[0] & 0x3f {
            0 => Ok(Self::Nop { lun: lun(header), tag, target_tag: word(header, 20), command, status }),
            1 => {
                let mut block = [0; 16];
                block.copy_from_slice(&header[32..48]);
                let transfer = match flags & 0x60 {
                    0 => Transfer::Nothing,
                    0x40 => Transfer::Read,
                    0x20 => Transfer::Write,
                    _ => return Err(PduError::Field("data direction")),
                };
                let (expected, complete) = (word(header, 20), flags & FINAL != 0);
                Ok(Self::Command {
                    lun: lun(header),
                    tag,
                    block,
                    transfer,
                    expected,
                    complete,
                    command,
                    status,
                })
            }
            3 => {
                let mut isid = [0; 6];
                isid.copy_from_slice(&header[8..14]);
                Ok(Self::Login {
                    stage: Stage::of(flags >> 2)?,
                    next: if flags & FINAL != 0 { Some(Stage::of(flags)?) } else { None },
                    continues: flags & 0x40 != 0,
                    isid,
                    tsih: half(header, 14),
                    tag,
                    command,
                    status,
                })
            }
            4 => Ok(Self::Text { tag, target_tag: word(header, 20), command, status }),
            5 => Ok(Self::DataOut {
                lun: lun(header),
                tag,
                target_tag: word(header, 20),
                status,
                number: word(header, 36),
                offset: word(header, 40),
                last: flags & FINAL != 0,
            }),
            6 => Ok(Self::Logout { tag, command, status }),
            opcode => Err(PduError::Opcode(opcode)),
        }
    }
}

/// The numbers that each answer tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of this answer, or of the next one where it has none of its own (StatSN).
    pub stat: u32,
    /// The command that is expected next (ExpCmdSN).
    pub expected_command: u32,
    /// The last command that the target has room for (MaxCmdSN).
    pub most_command: u32,
}

/// How the length of the data was not the one that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// It was.
    None,
    /// So many bytes were not transferred.
    Under(u32),
    /// So many bytes more would have been.
    Over(u32),
}

impl Residual {
    fn of(flags: u8, count: u32) -> Result<Self, PduError> {
        match flags & 6 {
            0 => Ok(Self::None),
            2 => Ok(Self::Under(count)),
            4 => Ok(Self::Over(count)),
            _ => Err(PduError::Field("residual")),
        }
    }

    fn flags(self) -> (u8, u32) {
        match self {
            Self::None => (0, 0),
            Self::Under(count) => (2, count),
            Self::Over(count) => (4, count),
        }
    }
}

/// What a target tells by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncEvent {
    /// Sense data of a unit.
    Sense,
    /// The initiator is to log out within so many seconds.
    LogoutWanted(u16),
    /// The target ends the connection, or all of the session's; another may be made after so many seconds.
    Dropped(u16),
    /// The initiator is to negotiate anew within so many seconds.
    NegotiationWanted(u16),
    /// Something of the vendor's.
    Other(u8),
}

#[expect(missing_docs, reason = "fields that say nothing are named as the specification names them")]
/// What a target sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// NOP-In: an answer to a NOP-Out (with its tag), or a question of the target's own (with a tag of the target's).
    Nop { lun: Lun, tag: u32, target_tag: u32 },
    /// The end of a command: the data, if there are any, are its sense.
    Response { tag: u32, response: u8, status: u8, residual: Residual },
    /// Data of a command, and with a status its end.
    DataIn { tag: u32, number: u32, offset: u32, last: bool, status: Option<u8>, residual: Residual },
    /// The target asks for data of a command.
    Ready { lun: Lun, tag: u32, target_tag: u32, number: u32, offset: u32, len: u32 },
    /// A step of the login.
    Login {
        stage: Stage,
        next: Option<Stage>,
        continues: bool,
        isid: [u8; 6],
        tsih: u16,
        tag: u32,
        class: u8,
        detail: u8,
    },
    /// A text, or a part of one: the rest is asked for with the target's tag.
    Text { tag: u32, target_tag: u32 },
    /// The session has ended.
    Logout { tag: u32, response: u8 },
    /// What the target tells by itself.
    Async(AsyncEvent),
    /// A PDU was refused; its header is the data.
    Reject { reason: u8 },
}

impl Answer {
    /// What a header says.
    pub fn parse(header: &Header) -> Result<(Self, Numbers), PduError> {
        let (flags, tag, target_tag) = (header[1], word(header, 16), word(header, 20));
        let numbers = Numbers {
            stat: word(header, 24),
            expected_command: word(header, 28),
            most_command: word(header, 32),
        };
        let answer = match header[0] & 0x3f {
            0x20 => Self::Nop { lun: lun(header), tag, target_tag },
            0x21 => Self::Response {
                tag,
                response: header[2],
                status: header[3],
                residual: Residual::of(flags, word(header, 44))?,
            },
            0x23 => {
                let mut isid = [0; 6];
                isid.copy_from_slice(&header[8..14]);
                Self::Login {
                    stage: Stage::of(flags >> 2)?,
                    next: if flags & FINAL != 0 { Some(Stage::of(flags)?) } else { None },
                    continues: flags & 0x40 != 0,
                    isid,
                    tsih: half(header, 14),
                    tag,
                    class: header[36],
                    detail: header[37],
                }
            }
            0x24 => Self::Text { tag, target_tag },
            0x25 => {
                let ends = flags & 1 != 0;
                Self::DataIn {
                    tag,
                    number: word(header, 36),
                    offset: word(header, 40),
                    last: flags & FINAL != 0,
                    status: ends.then_some(header[3]),
                    residual: if ends { Residual::of(flags, word(header, 44))? } else { Residual::None },
                }
            }
            0x26 => Self::Logout { tag, response: header[2] },
            0x31 => Self::Ready {
                lun: lun(header),
                tag,
                target_tag,
                number: word(header, 36),
                offset: word(header, 40),
                len: word(header, 44),
            },
            0x32 => Self::Async(match (header[36], half(header, 42)) {
                (0, _) => AsyncEvent::Sense,
                (1, seconds) => AsyncEvent::LogoutWanted(seconds),
                (2 | 3, _) => AsyncEvent::Dropped(half(header, 40)),
                (4, seconds) => AsyncEvent::NegotiationWanted(seconds),
                (other, _) => AsyncEvent::Other(other),
            }),
            0x3f => Self::Reject { reason: header[2] },
            opcode => return Err(PduError::Opcode(opcode)),
        };
        Ok((answer, numbers))
    }

    /// The header in front of so many bytes of data; a target's part.
    pub fn encode(&self, numbers: Numbers, data: usize) -> Header {
        let made = match *self {
            Self::Nop { lun, tag, target_tag } => {
                Maker::new(0x20, FINAL, data).bytes(8, lun.0).word(16, tag).word(20, target_tag)
            }
            Self::Response { tag, response, status, residual } => {
                let (flags, count) = residual.flags();
                Maker::new(0x21, FINAL | flags, data)
                    .bytes(2, [response, status])
                    .word(16, tag)
                    .word(44, count)
            }
            Self::DataIn { tag, number, offset, last, status, residual } => {
                let (flags, count) = residual.flags();
                let ends = if status.is_some() { flags | 1 } else { 0 };
                Maker::new(0x25, ends | if last { FINAL } else { 0 }, data)
                    .bytes(3, [status.unwrap_or(0)])
                    .word(16, tag)
                    .word(20, NO_TAG)
                    .word(36, number)
                    .word(40, offset)
                    .word(44, count)
            }
            Self::Ready { lun, tag, target_tag, number, offset, len } => Maker::new(0x31, FINAL, data)
                .bytes(8, lun.0)
                .word(16, tag)
                .word(20, target_tag)
                .word(36, number)
                .word(40, offset)
                .word(44, len),
            Self::Login { stage, next, continues, isid, tsih, tag, class, detail } => {
                let next = next.map_or(0, |next| FINAL | next.number());
                let flags = next | stage.number() << 2 | if continues { 0x40 } else { 0 };
                Maker::new(0x23, flags, data)
                    .bytes(8, isid)
                    .bytes(14, tsih.to_be_bytes())
                    .word(16, tag)
                    .bytes(36, [class, detail])
            }
            Self::Text { tag, target_tag } => {
                let last = if target_tag == NO_TAG { FINAL } else { 0 };
                Maker::new(0x24, last, data).word(16, tag).word(20, target_tag)
            }
            Self::Logout { tag, response } => {
                Maker::new(0x26, FINAL, data).bytes(2, [response]).word(16, tag)
            }
            Self::Async(event) => {
                let (number, second, third) = match event {
                    AsyncEvent::Sense => (0, 0, 0),
                    AsyncEvent::LogoutWanted(seconds) => (1, 0, seconds),
                    AsyncEvent::Dropped(seconds) => (2, seconds, 0),
                    AsyncEvent::NegotiationWanted(seconds) => (4, 0, seconds),
                    AsyncEvent::Other(number) => (number, 0, 0),
                };
                Maker::new(0x32, FINAL, data)
                    .word(16, NO_TAG)
                    .bytes(36, [number])
                    .bytes(40, u16::to_be_bytes(second))
                    .bytes(42, u16::to_be_bytes(third))
            }
            Self::Reject { reason } => Maker::new(0x3f, FINAL, data).bytes(2, [reason]).word(16, NO_TAG),
        };
        made.numbers(numbers).0
    }

    /// Whether it has a number of its own: the answers that have are counted without a gap. A question of the target's, data
    /// without a status and a request for data have that of the next one.
    pub fn is_counted(&self) -> bool {
        match self {
            Self::Nop { tag, .. } => *tag != NO_TAG,
            Self::DataIn { status, .. } => status.is_some(),
            Self::Ready { .. } => false,
            _ => true,
        }
    }
}

/// The lengths of what follows a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Further headers, in bytes.
    pub further: usize,
    /// Data, in bytes, without padding.
    pub data: usize,
}

impl Lengths {
    /// Those that a header tells.
    pub fn of(header: &Header) -> Self {
        let data = u32::from_be_bytes([0, header[5], header[6], header[7]]);
        Self { further: usize::from(header[4]) * 4, data: data as usize }
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u16::from_be_bytes([self.0[0] & 0x3f, self.0[1]]))
    }
}

#[cfg(test)]
mod tests;
