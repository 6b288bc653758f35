//! Limits of a drive's requests, in the words of `-drive`: of today, and of old.
//!
//! ```text
//! throttling.bps-total=N   bps=N       throttling.iops-read-max=N   iops_rd_max=N
//! throttling.group=NAME    group=NAME  throttling.iops-size=N       iops_size=N
//! ```

use crate::failure::Failure;
use api::{Dict, ThrottleLimits, Value};
use block::IoLimits;

/// What the words of today begin with.
const PREFIX: &str = "throttling.";

/// Words of old, each with the limit that it means.
const ALIASES: &[(&str, &str)] = &[
    ("iops", "iops-total"),
    ("iops_rd", "iops-read"),
    ("iops_wr", "iops-write"),
    ("bps", "bps-total"),
    ("bps_rd", "bps-read"),
    ("bps_wr", "bps-write"),
    ("iops_max", "iops-total-max"),
    ("iops_rd_max", "iops-read-max"),
    ("iops_wr_max", "iops-write-max"),
    ("bps_max", "bps-total-max"),
    ("bps_rd_max", "bps-read-max"),
    ("bps_wr_max", "bps-write-max"),
    ("iops_size", "iops-size"),
    ("group", "group"),
];

/// The limits that a drive is given.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    given: Dict,
    /// The word that each was given by.
    words: Vec<(String, String)>,
    /// The group that it is in.
    pub group: Option<String>,
}

impl Limits {
    /// Takes an option if it is one of these; whether it is.
    pub fn take(&mut self, word: &str, value: &str) -> Result<bool, Failure> {
        let alias = ALIASES.iter().find(|(old, _)| *old == word).map(|(_, limit)| *limit);
        let Some(limit) = alias.or_else(|| word.strip_prefix(PREFIX)) else { return Ok(false) };
        let other = self.words.iter().find(|(taken, by)| taken == limit && by != word);
        if let Some((_, other)) = other {
            let (long, short) = if alias.is_some() { (other.as_str(), word) } else { (word, other.as_str()) };
            return Err(Failure::new(format_args!(
                "'{long}' and its alias '{short}' can't be used at the same time"
            )));
        }
        self.words.push((limit.to_owned(), word.to_owned()));
        if limit == "group" {
            self.group = Some(value.to_owned());
            return Ok(true);
        }
        let number = value.parse::<i64>();
        let number =
            number.map_err(|_| Failure::new(format_args!("Parameter '{PREFIX}{limit}' expects a number")))?;
        self.given.insert(limit, number);
        Ok(true)
    }

    /// The limits, checked.
    pub fn checked(&self) -> Result<IoLimits, Failure> {
        let given = api::decode::<ThrottleLimits>(Value::Dict(self.given.clone()));
        let given = given.map_err(|error| Failure::new(error.to_string()))?;
        let limits = IoLimits::default().with(&given);
        limits.check().map_err(|error| Failure::new(error.message()))?;
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Result<IoLimits, String> {
        let mut limits = Limits::default();
        for (word, value) in list.split(',').filter_map(|pair| pair.split_once('=')) {
            limits.take(word, value).map_err(|failure| failure.message().to_owned())?;
        }
        limits.checked().map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn limits_have_a_word_of_today_and_one_of_old() {
        assert_eq!(read("throttling.bps-total=7,iops_rd=5,iops_rd_max=9"), {
            let mut limits = IoLimits::default();
            limits.bytes.total.average = 7;
            (limits.requests.read.average, limits.requests.read.burst) = (5, 9);
            Ok(limits)
        });
        for (list, mistake) in [
            (
                "throttling.bps-total=10,bps=5",
                "'throttling.bps-total' and its alias 'bps' can't be used at the same time",
            ),
            (
                "bps=5,throttling.bps-total=10",
                "'throttling.bps-total' and its alias 'bps' can't be used at the same time",
            ),
            ("bps=x", "Parameter 'throttling.bps-total' expects a number"),
            (
                "bps=1,bps_rd=1",
                "bps/iops/max total values and read/write values cannot be used at the same time",
            ),
            ("iops_max=5", "bps_max/iops_max require corresponding bps/iops values"),
        ] {
            assert_eq!(read(list), Err(mistake.to_owned()), "{list}");
        }
        assert!(!Limits::default().take("file", "x").unwrap_or(true));
    }
}
