//! What a session is carried out by, and how both ends agree on it (section 13).
use crate::keys::Keys;
use crate::limits;
use crate::login::LoginError;

/// Which digests are offered, the better liked first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DigestOffer {
    /// CRC-32C only.
    Crc32c,
    /// None only.
    None,
    /// CRC-32C before none.
    Crc32cNone,
    /// None before CRC-32C.
    #[default]
    NoneCrc32c,
}

impl DigestOffer {
    fn text(self) -> &'static str {
        match self {
            Self::Crc32c => "CRC32C",
            Self::None => "None",
            Self::Crc32cNone => "CRC32C,None",
            Self::NoneCrc32c => "None,CRC32C",
        }
    }

    /// Whether an answer means a digest.
    fn answered(self, key: &'static str, answer: Option<&str>) -> Result<bool, LoginError> {
        let wrong = |value: &str| LoginError::value(key, value);
        match answer {
            None if self == Self::Crc32c => Err(wrong("nothing")),
            None => Ok(false),
            Some(value) if !self.text().split(',').any(|offered| offered == value) => Err(wrong(value)),
            Some(value) => Ok(value == "CRC32C"),
        }
    }
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Headers have digests.
    pub header_digest: bool,
    /// Data have digests.
    pub data_digest: bool,
    /// Data may come with a command.
    pub immediate_data: bool,
    /// No data in PDUs of their own before the target asks for them.
    pub wait_for_ready: bool,
    /// Most data that nobody asked for, in bytes.
    pub first_burst: u32,
    /// Most data that a target asks for at once, in bytes.
    pub burst: u32,
    /// Longest data segment that the target takes, in bytes.
    pub segment: u32,
    /// Most requests for data of one task that may be open.
    pub outstanding: u32,
}

impl Default for Agreed {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            immediate_data: true,
            wait_for_ready: true,
            first_burst: 64 << 10,
            burst: 256 << 10,
            segment: 8 << 10,
            outstanding: 1,
        }
    }
}

/// Keys about data, which a session without any has no use for.
const OF_DATA: [&str; 8] = [
    "InitialR2T",
    "ImmediateData",
    "MaxBurstLength",
    "FirstBurstLength",
    "MaxOutstandingR2T",
    "MaxConnections",
    "DataPDUInOrder",
    "DataSequenceInOrder",
];

/// The keys of the operational stage; whether the session is one in which data move.
pub(crate) fn offer(header: DigestOffer, data: DigestOffer, moves_data: bool) -> Keys {
    let mut keys = Keys::default();
    let number = |n: u32| n.to_string();
    for (key, value) in [
        ("HeaderDigest", header.text().to_owned()),
        ("DataDigest", data.text().to_owned()),
        ("InitialR2T", "No".to_owned()),
        ("ImmediateData", "Yes".to_owned()),
        ("MaxBurstLength", number(limits::BURST)),
        ("FirstBurstLength", number(limits::FIRST_BURST)),
        ("MaxOutstandingR2T", number(limits::OUTSTANDING_R2T)),
        ("MaxRecvDataSegmentLength", number(limits::SEGMENT)),
        ("MaxConnections", number(1)),
        ("DefaultTime2Wait", number(0)),
        ("DefaultTime2Retain", number(0)),
        ("DataPDUInOrder", "Yes".to_owned()),
        ("DataSequenceInOrder", "Yes".to_owned()),
        ("ErrorRecoveryLevel", number(0)),
    ] {
        if moves_data || !OF_DATA.contains(&key) {
            keys.set(key, value);
        }
    }
    keys
}

/// What becomes of the offer with the target's keys.
pub(crate) fn agree(header: DigestOffer, data: DigestOffer, answer: &Keys) -> Result<Agreed, LoginError> {
    let rules = Agreed::default();
    let get = |key: &str| {
        let value = answer.get(key);
        // A target without the key is taken to have its default.
        value.filter(|value| !matches!(*value, "NotUnderstood" | "Irrelevant"))
    };
    let yes = |key, default| match get(key) {
        None => Ok(default),
        Some("Yes") => Ok(true),
        Some("No") => Ok(false),
        Some(value) => Err(LoginError::value(key, value)),
    };
    let number = |key, default: u32, least: u32, most: u32| match get(key) {
        None => Ok(default),
        Some(value) => {
            let parsed = match value.strip_prefix("0x").or(value.strip_prefix("0X")) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => value.parse(),
            };
            parsed.ok().filter(|n| (least..=most).contains(n)).ok_or_else(|| LoginError::value(key, value))
        }
    };
    for key in ["DataPDUInOrder", "DataSequenceInOrder"] {
        if !yes(key, true)? {
            return Err(LoginError::value(key, "No"));
        }
    }
    number("ErrorRecoveryLevel", 0, 0, 0)?;
    number("MaxConnections", 1, 1, 1)?;
    let burst = number("MaxBurstLength", rules.burst, 512, limits::BURST)?;
    Ok(Agreed {
        header_digest: header.answered("HeaderDigest", get("HeaderDigest"))?,
        data_digest: data.answered("DataDigest", get("DataDigest"))?,
        immediate_data: yes("ImmediateData", rules.immediate_data)?,
        wait_for_ready: yes("InitialR2T", rules.wait_for_ready)?,
        first_burst: number("FirstBurstLength", rules.first_burst, 512, limits::FIRST_BURST)?.min(burst),
        burst,
        segment: number("MaxRecvDataSegmentLength", rules.segment, 512, (1 << 24) - 1)?,
        outstanding: number("MaxOutstandingR2T", rules.outstanding, 1, limits::OUTSTANDING_R2T)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(text: &[u8]) -> Result<Agreed, LoginError> {
        agree(DigestOffer::NoneCrc32c, DigestOffer::None, &Keys::parse(text).unwrap())
    }

    #[test]
    fn a_target_that_says_nothing_has_the_defaults() {
        assert_eq!(agreed(b""), Ok(Agreed::default()));
        assert_eq!(agreed(b"MaxBurstLength=Irrelevant\0InitialR2T=NotUnderstood\0"), Ok(Agreed::default()));
    }

    #[test]
    fn what_is_answered_holds_and_no_burst_begins_with_more_than_it_may_have() {
        let text = b"HeaderDigest=CRC32C\0InitialR2T=No\0ImmediateData=No\0MaxBurstLength=0x400\0FirstBurstLength=2048\0\
            MaxRecvDataSegmentLength=65536\0";
        let agreed = agreed(text).unwrap();
        assert!(
            agreed.header_digest && !agreed.data_digest && !agreed.immediate_data && !agreed.wait_for_ready
        );
        assert_eq!((agreed.burst, agreed.first_burst, agreed.segment), (1024, 1024, 65536));
    }

    #[test]
    fn an_answer_beyond_the_offer_is_refused() {
        for text in [
            "HeaderDigest=SHA",
            "DataDigest=CRC32C",
            "InitialR2T=Maybe",
            "MaxBurstLength=16777216",
            "MaxBurstLength=1",
            "FirstBurstLength=0",
            "MaxRecvDataSegmentLength=16777216",
            "MaxOutstandingR2T=17",
            "ErrorRecoveryLevel=1",
            "DataPDUInOrder=No",
            "MaxBurstLength=x",
            "MaxConnections=0",
            "HeaderDigest=Reject",
        ] {
            let key = text.split('=').next().unwrap();
            let error = agreed(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        let strict = agree(DigestOffer::Crc32c, DigestOffer::None, &Keys::default());
        assert!(strict.is_err(), "digests that were demanded are not given up silently");
    }
}
