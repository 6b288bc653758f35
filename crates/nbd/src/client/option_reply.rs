//! One reply to an option, as a client reads it.
//!
//! Specification: "Option reply types".

use crate::reader::{Reader, message};
use crate::{InfoType, OptionCode, ReplyType, TransmissionFlags};

/// A parsed reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OptionReply {
    Ack,
    Server {
        name: String,
        description: String,
    },
    Size {
        size: u64,
        flags: TransmissionFlags,
    },
    Name(String),
    Description(String),
    BlockSize {
        minimum: u32,
        preferred: u32,
        maximum: u32,
    },
    Context {
        id: u32,
        name: String,
    },
    /// An information item this crate does not know.
    Other,
    Refused {
        code: ReplyType,
        message: String,
    },
}

/// Parses the data of a reply to `option`; `None` if they contradict the specification.
pub(super) fn parse(option: OptionCode, kind: ReplyType, data: &[u8]) -> Option<OptionReply> {
    if kind.is_error() {
        return Some(OptionReply::Refused { code: kind, message: message(data) });
    }
    let mut reader = Reader(data);
    match (kind, option) {
        (ReplyType::ACK, _) => data.is_empty().then_some(OptionReply::Ack),
        (ReplyType::SERVER, OptionCode::LIST) => {
            let name = reader.counted_string()?.to_owned();
            Some(OptionReply::Server { name, description: message(reader.0) })
        }
        (ReplyType::INFO, OptionCode::INFO | OptionCode::GO) => info(reader),
        (ReplyType::META_CONTEXT, OptionCode::LIST_META_CONTEXT | OptionCode::SET_META_CONTEXT) => {
            let id = reader.u32()?;
            Some(OptionReply::Context { id, name: reader.string(reader.0.len())?.to_owned() })
        }
        _ => None,
    }
}

fn info(mut reader: Reader<'_>) -> Option<OptionReply> {
    let kind = InfoType(reader.u16()?);
    let reply = match kind {
        InfoType::EXPORT => {
            OptionReply::Size { size: reader.u64()?, flags: TransmissionFlags(reader.u16()?) }
        }
        InfoType::NAME => {
            return Some(OptionReply::Name(reader.string(reader.0.len())?.to_owned()));
        }
        InfoType::DESCRIPTION => return Some(OptionReply::Description(message(reader.0))),
        InfoType::BLOCK_SIZE => {
            let (minimum, preferred, maximum) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let sane = minimum.is_power_of_two()
                && minimum <= 64 * 1024
                && preferred.is_power_of_two()
                && minimum <= preferred
                && minimum <= maximum;
            if !sane {
                return None;
            }
            OptionReply::BlockSize { minimum, preferred, maximum }
        }
        _ => return Some(OptionReply::Other),
    };
    reader.0.is_empty().then_some(reply)
}
