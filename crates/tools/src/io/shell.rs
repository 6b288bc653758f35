//! Commands that touch no image.

use super::Session;
use super::arguments::{self, Refused};
use super::command::{self, COMMANDS, Outcome};
use crate::{outln, size};
use std::time::Duration;

/// The largest number of a signal.
const LAST_SIGNAL: i32 = 64;

/// `help [command]`.
pub async fn help(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let Some(name) = args.first() else {
        for command in COMMANDS {
            outln!(session.console, "{}", command.usage());
        }
        outln!(session.console, "\nUse 'help commandname' for extended help.");
        return Ok(Outcome::Done);
    };
    let Some(command) = command::find(name) else {
        return Err(session.refuse(format_args!("command {name} not found")));
    };
    outln!(session.console, "{}", command.usage_as(name));
    let more = command.more();
    if !more.is_empty() {
        outln!(session.console, "\n{more}");
    }
    Ok(Outcome::Done)
}

/// `abort`: what a crash leaves can be looked at then.
pub async fn abort(session: &mut Session<'_>, _: &[String]) -> Result<Outcome, Refused> {
    session.console.flush();
    std::process::abort()
}

/// `quit`.
pub async fn quit(_: &mut Session<'_>, _: &[String]) -> Result<Outcome, Refused> {
    Ok(Outcome::Quit)
}

/// `sleep milliseconds`.
pub async fn sleep(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let text = args.first().map(String::as_str).unwrap_or_default();
    let Some(milliseconds) = size::whole(text).and_then(|number| u32::try_from(number).ok()) else {
        return Err(session.refuse(format_args!("{text} is not a valid number")));
    };
    rt::sleep(Duration::from_millis(u64::from(milliseconds))).await;
    Ok(Outcome::Done)
}

/// `sigraise signal`.
pub async fn sigraise(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let text = args.first().map(String::as_str).unwrap_or_default();
    let number = session.or_refuse(arguments::number(text))?;
    let Some(signal) = i32::try_from(number).ok().filter(|signal| *signal <= LAST_SIGNAL) else {
        return Err(
            session.refuse(format_args!("signal argument '{text}' is too large to be a valid signal"))
        );
    };
    // A signal that ends the program leaves no time for it later.
    session.console.flush();
    match rt::signal::raise(signal) {
        Ok(()) => Ok(Outcome::Done),
        Err(error) => Err(session.refuse(format_args!("could not send the signal {signal}: {error}"))),
    }
}
