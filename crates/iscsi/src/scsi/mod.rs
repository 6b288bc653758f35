//! SCSI: command blocks, and what disks answer (SPC-4, SBC-3).
//!
//! An answer may be shorter than it says, or say that it is longer than it is: what is not there counts as not said.

mod answers;
pub mod command;
mod sense;

pub use answers::{
    BlockLimits, Capacity, Extent, Identification, Inquiry, Provisioning, Units, WriteControl, lba_status,
    pages, serial_number, supports,
};
pub use sense::{Sense, SenseKey};

/// How a command ended (SAM-5, section 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was carried out.
    Good,
    /// It was not, or not quite: sense data say why.
    CheckCondition,
    /// The unit is busy.
    Busy,
    /// Somebody else has reserved the unit.
    ReservationConflict,
    /// There is no room for the command.
    TaskSetFull,
    /// Somebody else aborted the command.
    TaskAborted,
    /// Anything else.
    Other(u8),
}

impl Status {
    /// The one with this number.
    pub fn of(number: u8) -> Self {
        match number {
            0x00 => Self::Good,
            0x02 => Self::CheckCondition,
            0x08 => Self::Busy,
            0x18 => Self::ReservationConflict,
            0x28 => Self::TaskSetFull,
            0x40 => Self::TaskAborted,
            other => Self::Other(other),
        }
    }
}

/// Big-endian numbers of an answer that may be too short.
fn number<const N: usize>(data: &[u8], at: usize) -> Option<u64> {
    let bytes: [u8; N] = data.get(at..at + N)?.try_into().ok()?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
