//! Remote procedure calls: who calls what, and what became of it.
//!
//! Specification: RFC 5531.

use crate::limits;
use crate::record;
use crate::xdr::{Malformed, Reader, Xdr, padding, put_length, put_opaque};
use std::fmt;

/// The version of the protocol.
const VERSION: u32 = 2;
const CALL: u32 = 0;
const REPLY: u32 = 1;
/// Nobody says who he is.
const AUTH_NONE: u32 = 0;
/// The caller says who he is, and is believed.
const AUTH_SYS: u32 = 1;

/// A procedure with its arguments.
pub trait Call: Xdr {
    /// The program that has it.
    const PROGRAM: u32;
    /// The program's version.
    const VERSION: u32;
    /// Its number there.
    const PROCEDURE: u32;
    /// Its name, for messages.
    const NAME: &'static str;
    /// What it answers.
    type Reply: Xdr;
}

/// Who calls: numbers of a user and a group, as `AUTH_SYS` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
}

/// The name of the calling machine, which servers do no more with than to write it down.
const MACHINE: &[u8] = b"cairn";

/// A call as one record, without the `payload` bytes of an opaque value that stand last among its arguments: their length stands at
/// its end. `None` where it would be longer than a fragment can be.
pub fn message<C: Call>(
    xid: u32,
    credential: &Credential,
    call: &C,
    payload: Option<usize>,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&[0; record::MARK]);
    for number in [xid, CALL, VERSION, C::PROGRAM, C::VERSION, C::PROCEDURE, AUTH_SYS] {
        number.put(&mut out);
    }
    let mut body = Vec::with_capacity(32);
    0u32.put(&mut body);
    put_opaque(MACHINE, &mut body);
    for number in [credential.user, credential.group, 0] {
        number.put(&mut body);
    }
    put_opaque(&body, &mut out);
    AUTH_NONE.put(&mut out);
    0u32.put(&mut out);
    call.put(&mut out);
    if let Some(len) = payload {
        put_length(len, &mut out);
    }
    let behind = payload.map_or(0, |len| len.saturating_add(padding(len)));
    let mark = record::mark((out.len() - record::MARK).checked_add(behind)?)?;
    out.get_mut(..record::MARK)?.copy_from_slice(&mark);
    Some(out)
}

/// The head of a call, as a server takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallHead {
    /// Its number.
    pub xid: u32,
    /// The program.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// The procedure.
    pub procedure: u32,
    /// Who calls.
    pub credential: Credential,
}

impl CallHead {
    /// Takes the head of a call from the front of a record.
    ///
    /// # Errors
    /// It is no call by `AUTH_SYS`.
    pub fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let xid = u32::take(from)?;
        need(from, "a call's kind of message", CALL)?;
        need(from, "the version of remote procedure calls", VERSION)?;
        let (program, version, procedure) = (u32::take(from)?, u32::take(from)?, u32::take(from)?);
        need(from, "the way to say who one is", AUTH_SYS)?;
        let mut body = Reader::new(from.opaque(limits::AUTH)?);
        let _stamp = u32::take(&mut body)?;
        body.opaque(limits::NAME)?;
        let credential = Credential { user: u32::take(&mut body)?, group: u32::take(&mut body)? };
        let _verifier = (u32::take(from)?, from.opaque(limits::AUTH)?);
        Ok(Self { xid, program, version, procedure, credential })
    }
}

fn need(from: &mut Reader<'_>, what: &'static str, wanted: u32) -> Result<(), Malformed> {
    match u32::take(from)? {
        value if value == wanted => Ok(()),
        value => Err(Malformed::Unknown { what, value }),
    }
}

/// Why a call was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The server has other versions of the protocol of calls.
    #[error("it speaks other versions of remote procedure calls ({0} to {1})")]
    Rpc(u32, u32),
    /// It does not take the credentials.
    #[error("it refuses the credentials ({0})")]
    Credentials(AuthStatus),
    /// It does not have the program.
    #[error("it does not offer the program")]
    NoProgram,
    /// It has other versions of the program.
    #[error("it offers other versions of the program ({0} to {1})")]
    NoVersion(u32, u32),
    /// The program does not have the procedure.
    #[error("it does not have the procedure")]
    NoProcedure,
    /// It does not understand the arguments.
    #[error("it does not understand the arguments")]
    Arguments,
    /// It has failed.
    #[error("it has failed itself (SYSTEM_ERR)")]
    Failed,
}

/// Why credentials are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthStatus(pub u32);

impl AuthStatus {
    /// Stronger credentials are needed.
    pub const TOO_WEAK: Self = Self(5);
}

impl fmt::Display for AuthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("AUTH_BADCRED"),
            2 => f.write_str("AUTH_REJECTEDCRED"),
            3 => f.write_str("AUTH_BADVERF"),
            4 => f.write_str("AUTH_REJECTEDVERF"),
            5 => f.write_str("AUTH_TOOWEAK"),
            other => write!(f, "status {other}"),
        }
    }
}

/// The head of a reply; the results of the procedure follow where it was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHead {
    /// The number of the call.
    pub xid: u32,
    /// Whether it was carried out.
    pub outcome: Result<(), Refusal>,
}

impl Xdr for ReplyHead {
    fn put(&self, out: &mut Vec<u8>) {
        let mut numbers = |numbers: &[u32]| numbers.iter().for_each(|number| number.put(out));
        match self.outcome {
            Err(Refusal::Rpc(low, high)) => numbers(&[self.xid, REPLY, 1, 0, low, high]),
            Err(Refusal::Credentials(status)) => numbers(&[self.xid, REPLY, 1, 1, status.0]),
            accepted => {
                numbers(&[self.xid, REPLY, 0, AUTH_NONE, 0]);
                match accepted {
                    Ok(()) => numbers(&[0]),
                    Err(Refusal::NoProgram) => numbers(&[1]),
                    Err(Refusal::NoVersion(low, high)) => numbers(&[2, low, high]),
                    Err(Refusal::NoProcedure) => numbers(&[3]),
                    Err(Refusal::Arguments) => numbers(&[4]),
                    Err(_) => numbers(&[5]),
                }
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let xid = u32::take(from)?;
        need(from, "a reply's kind of message", REPLY)?;
        let outcome = match u32::take(from)? {
            0 => {
                let _verifier = (u32::take(from)?, from.opaque(limits::AUTH)?);
                match u32::take(from)? {
                    0 => Ok(()),
                    1 => Err(Refusal::NoProgram),
                    2 => Err(Refusal::NoVersion(u32::take(from)?, u32::take(from)?)),
                    3 => Err(Refusal::NoProcedure),
                    4 => Err(Refusal::Arguments),
                    5 => Err(Refusal::Failed),
                    value => return Err(Malformed::Unknown { what: "what became of a call", value }),
                }
            }
            1 => match u32::take(from)? {
                0 => Err(Refusal::Rpc(u32::take(from)?, u32::take(from)?)),
                1 => Err(Refusal::Credentials(AuthStatus(u32::take(from)?))),
                value => return Err(Malformed::Unknown { what: "the reason of a refusal", value }),
            },
            value => return Err(Malformed::Unknown { what: "the answer to a call", value }),
        };
        Ok(Self { xid, outcome })
    }
}
