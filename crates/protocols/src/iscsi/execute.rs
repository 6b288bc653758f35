//! A command until it is carried out: what a unit answers, and what is done about it.
//!
//! | answer | what is done |
//! |---|---|
//! | busy, no room for the command, becoming ready, broken off | again, after a pause, until patience ends |
//! | the unit was reset, in a session that is in use | the session is given up: what the unit had not stored is written again |
//! | something else that everybody has to know | it is logged, and again |
//! | anything else | an error that says what it is |

use super::connection::{Connection, Payload};
use super::receive::Broken;
use super::tasks::{Outcome, Reply};
use block::{BlockError, ErrorKind};
use iscsi::Lun;
use iscsi::scsi::{Sense, SenseKey, Status};
use rt::BufMut;
use std::time::Duration;

/// Time between the first two tries; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a command is made again at once: attentions are told one by one.
const AT_ONCE: u32 = 16;
/// How often one that was broken off is made again.
const BROKEN_OFF: u32 = 5;

/// Whether a session is in use, or is being made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A new session is told of a reset first: there is nothing to be done about it.
    Beginning,
    /// Something may be written and not durable.
    InUse,
}

/// A command: what it is called, and its block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    pub what: &'static str,
    pub block: [u8; 16],
    /// Byte offset of what it is about, for errors.
    pub offset: Option<u64>,
    /// The unit that it is for; that of the connection, if absent.
    pub lun: Option<Lun>,
    /// How much longer than others it may take.
    pub work: Duration,
}

impl Command {
    /// One that is about no place.
    pub fn of(what: &'static str, block: [u8; 16]) -> Self {
        Self { what, block, offset: None, lun: None, work: Duration::ZERO }
    }

    /// One that is about a place.
    pub fn at(what: &'static str, block: [u8; 16], offset: u64) -> Self {
        Self { offset: Some(offset), ..Self::of(what, block) }
    }
}

enum Verdict {
    Done,
    AtOnce,
    Later,
    Reset,
    Failed(ErrorKind),
}

/// Carries a command out.
pub(super) async fn execute(
    connection: &Connection,
    command: &Command,
    payload: Payload,
    phase: Phase,
) -> Outcome {
    let Payload { data, mut buf } = payload;
    let longest = connection.patience().answer.saturating_add(command.work);
    let lun = command.lun.unwrap_or(connection.lun());
    let mut refused_ns = None;
    let (mut pause, mut at_once, mut broken_off) = (FIRST_PAUSE, 0, 0);
    loop {
        let room = buf.as_ref().map(BufMut::len);
        let payload = Payload { data: data.clone(), buf };
        let (back, result) = connection.call(lun, command.block, payload, longest).await;
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => return (back, Err(error)),
        };
        let error = |kind| refused(connection, command, &reply, kind);
        match judge(&reply, phase) {
            Verdict::Done => return (back, Ok(reply)),
            Verdict::Failed(kind) => return (back, Err(error(kind))),
            Verdict::Reset => {
                connection.lose(&Broken::Reset);
                return (back, Err(error(ErrorKind::Io)));
            }
            Verdict::AtOnce if at_once < AT_ONCE => {
                at_once += 1;
                if let Some(sense) = reply.sense {
                    tracing::warn!(unit = connection.name(), %sense, "the iSCSI unit reports a change");
                }
            }
            Verdict::AtOnce => return (back, Err(error(ErrorKind::Io))),
            Verdict::Later => {
                let (now, first) = (rt::now_ns(), *refused_ns.get_or_insert_with(rt::now_ns));
                let waited = Duration::from_nanos(now.saturating_sub(first));
                if is_broken_off(&reply) {
                    broken_off += 1;
                }
                if waited >= longest || broken_off > BROKEN_OFF {
                    return (back, Err(error(ErrorKind::Io)));
                }
                rt::sleep(pause.min(longest - waited)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        buf = back.or_else(|| room.map(BufMut::zeroed));
    }
}

fn is_broken_off(reply: &Reply) -> bool {
    let aborted = reply.sense.is_some_and(|sense| sense.key == SenseKey::Aborted);
    reply.status == Status::TaskAborted || aborted
}

fn judge(reply: &Reply, phase: Phase) -> Verdict {
    match (reply.status, &reply.sense) {
        (Status::Good, _) => Verdict::Done,
        (Status::Busy | Status::TaskSetFull | Status::TaskAborted, _) => Verdict::Later,
        (Status::ReservationConflict, _) => Verdict::Failed(ErrorKind::Busy),
        (Status::CheckCondition, Some(sense)) => judge_sense(sense, phase),
        (Status::CheckCondition | Status::Other(_), _) => Verdict::Failed(ErrorKind::Io),
    }
}

fn judge_sense(sense: &Sense, phase: Phase) -> Verdict {
    if sense.deferred {
        return if phase == Phase::InUse { Verdict::Reset } else { Verdict::AtOnce };
    }
    match (sense.key, sense.code) {
        (SenseKey::NoSense | SenseKey::Recovered, _) => Verdict::Done,
        (SenseKey::UnitAttention, _) if sense.is_reset() && phase == Phase::InUse => Verdict::Reset,
        (SenseKey::UnitAttention, _) => Verdict::AtOnce,
        // Becoming ready, or busy with itself.
        (SenseKey::NotReady, (0x04, 0x01 | 0x07 | 0x0a | 0x14)) | (SenseKey::Aborted, _) => Verdict::Later,
        (SenseKey::DataProtect, (0x27, 0x07)) => Verdict::Failed(ErrorKind::NoSpace),
        (SenseKey::DataProtect, _) => Verdict::Failed(ErrorKind::ReadOnly),
        (SenseKey::IllegalRequest, (0x25, _)) => Verdict::Failed(ErrorKind::NotFound),
        (SenseKey::IllegalRequest, _) if sense.is_unknown() => Verdict::Failed(ErrorKind::Unsupported),
        _ => Verdict::Failed(ErrorKind::Io),
    }
}

/// The error of a command that was not carried out.
fn refused(connection: &Connection, command: &Command, reply: &Reply, kind: ErrorKind) -> BlockError {
    let why = match (reply.status, reply.sense) {
        (Status::CheckCondition, Some(sense)) => sense.to_string(),
        (Status::CheckCondition, None) => "for a reason that it does not tell".to_owned(),
        (Status::Busy, _) => "it is busy".to_owned(),
        (Status::TaskSetFull, _) => "it has no room for commands".to_owned(),
        (Status::TaskAborted, _) => "another initiator aborted it".to_owned(),
        (Status::ReservationConflict, _) => "another initiator has reserved the unit".to_owned(),
        (Status::Good, _) => "it came to nothing".to_owned(),
        (Status::Other(status), _) => format!("with the status {status:#04x}"),
    };
    let error = BlockError::new(kind, format!("'{}' refused a {}: {why}", connection.name(), command.what));
    match command.offset {
        Some(offset) => error.at(offset),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iscsi::Residual;

    #[test]
    fn every_answer_has_its_verdict() {
        let of = |status: u8, sense: Option<[u8; 4]>, phase| {
            let sense = sense.and_then(|sense| Sense::parse(&sense));
            let reply = Reply { status: Status::of(status), sense, received: 0, residual: Residual::None };
            match judge(&reply, phase) {
                Verdict::Done => "done".to_owned(),
                Verdict::AtOnce => "at once".to_owned(),
                Verdict::Later => "later".to_owned(),
                Verdict::Reset => "reset".to_owned(),
                Verdict::Failed(kind) => format!("{kind:?}"),
            }
        };
        let sense = |key, code, qualifier| of(2, Some([0x72, key, code, qualifier]), Phase::InUse);
        assert_eq!(of(0, None, Phase::InUse), "done");
        assert_eq!([8, 0x28, 0x40].map(|status| of(status, None, Phase::InUse)), ["later", "later", "later"]);
        assert_eq!(of(0x18, None, Phase::InUse), "Busy");
        assert_eq!(of(2, None, Phase::InUse), "Io");
        assert_eq!(of(2, Some([0x72, 6, 0x29, 0]), Phase::Beginning), "at once");
        for (key, code, qualifier, verdict) in [
            (0, 0, 0, "done"),
            (1, 0x17, 1, "done"),
            (2, 4, 1, "later"),
            (2, 4, 3, "Io"),
            (2, 0x3a, 0, "Io"),
            (3, 0x11, 0, "Io"),
            (4, 0x44, 0, "Io"),
            (5, 0x20, 0, "Unsupported"),
            (5, 0x24, 0, "Unsupported"),
            (5, 0x21, 0, "Io"),
            (5, 0x25, 0, "NotFound"),
            (6, 0x29, 7, "reset"),
            (6, 0x2a, 9, "at once"),
            (7, 0x27, 0, "ReadOnly"),
            (7, 0x27, 7, "NoSpace"),
            (0xb, 0x47, 5, "later"),
            (0xe, 0x1d, 0, "Io"),
        ] {
            assert_eq!(sense(key, code, qualifier), verdict, "{key:x} {code:02x}/{qualifier:02x}");
        }
    }
}
