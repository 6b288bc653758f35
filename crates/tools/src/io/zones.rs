//! `zone_report` and its kin: for devices that are made of zones. No driver has such a device yet: what is asked is read, and refused.

use super::Session;
use super::arguments::{self, Refused};
use super::command::Outcome;
use crate::failure::Failure;

/// `zone_report offset number`.
pub async fn report(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let numbers = numbers(session, args)?;
    if numbers.last().is_some_and(|number| u32::try_from(*number).is_err()) {
        return session.or_refuse(Err(Failure::new("Number of zones must be less than 2^32")));
    }
    unsupported(session, "report")
}

/// `zone_open offset len`.
pub async fn open(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    numbers(session, args)?;
    unsupported(session, "open")
}

/// `zone_close offset len`.
pub async fn close(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    numbers(session, args)?;
    unsupported(session, "close")
}

/// `zone_finish offset len`.
pub async fn finish(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    numbers(session, args)?;
    unsupported(session, "finish")
}

/// `zone_reset offset len`.
pub async fn reset(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    numbers(session, args)?;
    unsupported(session, "reset")
}

/// `zone_append offset len len`.
pub async fn append(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    numbers(session, args)?;
    unsupported(session, "append")
}

fn numbers(session: &mut Session<'_>, args: &[String]) -> Result<Vec<u64>, Refused> {
    let numbers = args.iter().map(|arg| arguments::number(arg)).collect();
    session.or_refuse(numbers)
}

fn unsupported(session: &mut Session<'_>, verb: &str) -> Result<Outcome, Refused> {
    Err(session.refuse(format_args!("zone {verb} failed: Operation not supported")))
}
