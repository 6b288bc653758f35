//! One crash, named: a failure tells its name, and `--point` takes it.

use crate::failure::Failure;
use sim::Cut;
use std::fmt;
use std::str::FromStr;

/// One crash: `SEED:MOMENT:CUT`, the cut being `keep-HEX`, `seed-HEX` or `kill-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The seed of its run.
    pub seed: u64,
    /// The number of its moment.
    pub moment: u64,
    /// What survives.
    pub cut: Cut,
}

impl Point {
    /// What happens, in words.
    pub fn kind(&self) -> &'static str {
        match self.cut {
            Cut::Keeping(_) => "a power cut that keeps some writes whole and loses others",
            Cut::Seeded(_) => "a power cut that keeps, loses and tears writes",
            Cut::Killed(_) => "a kill of the process",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Point { seed, moment, cut } = self;
        match cut {
            Cut::Keeping(mask) => write!(f, "{seed}:{moment}:keep-{mask:x}"),
            Cut::Seeded(choice) => write!(f, "{seed}:{moment}:seed-{choice:x}"),
            Cut::Killed(count) => write!(f, "{seed}:{moment}:kill-{count}"),
        }
    }
}

impl FromStr for Point {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Point, Failure> {
        let read = || {
            let mut parts = text.split(':');
            let (seed, moment, cut) = (parts.next()?, parts.next()?, parts.next()?);
            let (kind, value) = cut.split_once('-').filter(|_| parts.next().is_none())?;
            let hex = u64::from_str_radix(value, 16).ok();
            let cut = match kind {
                "keep" => Cut::Keeping(hex?),
                "seed" => Cut::Seeded(hex?),
                "kill" => Cut::Killed(value.parse().ok()?),
                _ => return None,
            };
            let seed = seed.parse().ok().filter(|seed| *seed < u64::MAX)?;
            Some(Point { seed, moment: moment.parse().ok()?, cut })
        };
        read().ok_or_else(|| {
            Failure::usage(format_args!(
                "--point expects SEED:MOMENT:CUT as a failure names it, such as 1:7:keep-5, not '{text}'"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_crash() {
        for cut in [Cut::Keeping(0x5), Cut::Seeded(0x3fa), Cut::Killed(12)] {
            let point = Point { seed: 3, moment: 37, cut };
            assert_eq!(point.to_string().parse::<Point>().ok(), Some(point));
        }
        for text in ["", "1:2", "1:2:keep", "1:2:keep-x", "1:2:frob-1", "x:2:kill-1", "1:2:kill-1:4"] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
    }
}
