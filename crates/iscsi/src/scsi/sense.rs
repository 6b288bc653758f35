//! Sense data: why a command was not carried out (SPC-4, section 4.5).
use std::fmt;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenseKey {
    /// None.
    NoSense,
    /// The command was carried out, with trouble on the way.
    Recovered,
    /// The unit can't be used, yet.
    NotReady,
    /// The medium can't hold or give the data.
    Medium,
    /// The unit is broken.
    Hardware,
    /// The command makes no sense to the unit.
    IllegalRequest,
    /// Something happened that everybody has to know of, and the command was not looked at.
    UnitAttention,
    /// The blocks must not be read or written.
    DataProtect,
    /// The command was broken off.
    Aborted,
    /// Anything else.
    Other(u8),
}

impl SenseKey {
    fn of(number: u8) -> Self {
        match number & 0xf {
            0 => Self::NoSense,
            1 => Self::Recovered,
            2 => Self::NotReady,
            3 => Self::Medium,
            4 => Self::Hardware,
            5 => Self::IllegalRequest,
            6 => Self::UnitAttention,
            7 => Self::DataProtect,
            0xb => Self::Aborted,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSense => "no sense",
            Self::Recovered => "recovered error",
            Self::NotReady => "not ready",
            Self::Medium => "medium error",
            Self::Hardware => "hardware error",
            Self::IllegalRequest => "illegal request",
            Self::UnitAttention => "unit attention",
            Self::DataProtect => "data protect",
            Self::Aborted => "aborted command",
            Self::Other(number) => return write!(f, "sense key {number:#x}"),
        })
    }
}

/// What sense data say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    /// What kind of trouble.
    pub key: SenseKey,
    /// What it is: the additional code and its qualifier.
    pub code: (u8, u8),
    /// It is of an earlier command, whose data the unit had taken already; the one that it comes with was not carried out.
    pub deferred: bool,
}

/// Codes that are told in words.
const CODES: &[((u8, u8), &str)] = &[
    ((0x04, 0x00), "the unit is not ready"),
    ((0x04, 0x01), "the unit is becoming ready"),
    ((0x04, 0x02), "the unit has to be started"),
    ((0x04, 0x03), "the unit needs somebody to look after it"),
    ((0x04, 0x04), "the unit is being formatted"),
    ((0x0c, 0x00), "a block could not be written"),
    ((0x10, 0x00), "a block is damaged"),
    ((0x11, 0x00), "a block could not be read"),
    ((0x1a, 0x00), "the parameters have a wrong length"),
    ((0x20, 0x00), "the command is unknown"),
    ((0x21, 0x00), "there is no such block"),
    ((0x24, 0x00), "a field of the command makes no sense"),
    ((0x25, 0x00), "there is no such unit"),
    ((0x26, 0x00), "a field of the parameters makes no sense"),
    ((0x27, 0x00), "the unit is write-protected"),
    ((0x27, 0x07), "the pool behind the unit is full"),
    ((0x29, 0x00), "the unit was switched on or reset"),
    ((0x29, 0x07), "the session was lost"),
    ((0x2a, 0x01), "mode parameters were changed"),
    ((0x2a, 0x03), "reservations were preempted"),
    ((0x2a, 0x09), "the capacity has changed"),
    ((0x2c, 0x00), "the commands are out of order"),
    ((0x38, 0x07), "the pool behind the unit is almost full"),
    ((0x3a, 0x00), "there is no medium"),
    ((0x3f, 0x0e), "the list of units has changed"),
    ((0x44, 0x00), "the target failed inside"),
    ((0x47, 0x00), "the bus failed"),
    ((0x55, 0x04), "the unit has not enough registrations"),
];

impl Sense {
    /// What sense data in either form say; `None` where they say nothing.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let code = |at: usize| (data.get(at).copied().unwrap_or(0), data.get(at + 1).copied().unwrap_or(0));
        let form = data.first()? & 0x7f;
        let deferred = matches!(form, 0x71 | 0x73);
        match form {
            0x70 | 0x71 => Some(Self { key: SenseKey::of(*data.get(2)?), code: code(12), deferred }),
            0x72 | 0x73 => Some(Self { key: SenseKey::of(*data.get(1)?), code: code(2), deferred }),
            _ => None,
        }
    }

    /// That of a response's data: a length in front of it (RFC 7143, section 11.4.7).
    pub fn of_response(data: &[u8]) -> Option<Self> {
        let (len, sense) = data.split_first_chunk::<2>()?;
        Self::parse(sense.get(..usize::from(u16::from_be_bytes(*len))).unwrap_or(sense))
    }

    /// The unit does not know the command, or not in this form.
    pub fn is_unknown(&self) -> bool {
        self.key == SenseKey::IllegalRequest && matches!(self.code.0, 0x20 | 0x24 | 0x26)
    }

    /// The unit was started anew: what was in its memory is gone.
    pub fn is_reset(&self) -> bool {
        self.key == SenseKey::UnitAttention && self.code.0 == 0x29
    }

    /// What the unit had taken before may be lost: it was started anew, or tells that it could not store it.
    pub fn is_loss(&self) -> bool {
        self.is_reset() || self.deferred
    }

    /// How the unit works has changed: it may have a cache now that it did not have.
    pub fn is_mode_change(&self) -> bool {
        self.key == SenseKey::UnitAttention && self.code == (0x2a, 0x01)
    }

    /// What it is, in words.
    fn words(&self) -> Option<&'static str> {
        let find = |code| CODES.iter().find(|(known, _)| *known == code).map(|(_, words)| *words);
        find(self.code).or_else(|| find((self.code.0, 0)))
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, qualifier) = self.code;
        match self.words() {
            Some(words) => write!(f, "{words} ({}, {code:02x}/{qualifier:02x})", self.key),
            None => write!(f, "{}, {code:02x}/{qualifier:02x}", self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_of_earlier_commands_are_losses_in_either_form() {
        for (form, deferred) in [(0x70, false), (0xf1, true), (0x72, false), (0x73, true)] {
            let mut data = [0; 18];
            data[0] = form;
            (data[1], data[2]) = (3, 3);
            let sense = Sense::parse(&data).unwrap();
            assert_eq!((sense.deferred, sense.is_loss(), sense.is_reset()), (deferred, deferred, false));
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        let mut fixed = [0; 18];
        (fixed[0], fixed[2], fixed[12], fixed[13]) = (0xf0, 0x66, 0x29, 0x01);
        let sense = Sense::parse(&fixed).unwrap();
        assert_eq!(Sense::parse(&[0x72, 6, 0x29, 1, 0, 0, 0, 0]), Some(sense));
        assert_eq!(sense.to_string(), "the unit was switched on or reset (unit attention, 29/01)");
        assert!(sense.is_reset() && !sense.is_unknown());
        let response: Vec<u8> = [&[0, 18][..], &fixed].concat();
        assert_eq!(Sense::of_response(&response), Some(sense));
        assert_eq!(
            Sense::of_response(&[0xff, 0xff, 0x72, 5, 0x20]).map(|sense| sense.is_unknown()),
            Some(true)
        );
    }

    proptest! {
        #[test]
        fn no_sense_is_too_strange(data in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Sense::of_response(&data).map(|sense| sense.to_string());
        }
    }
}
