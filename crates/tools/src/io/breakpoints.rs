//! `break` and its like: requests that are held back at a step, by a filter below the image that can do so.

use super::Session;
use super::arguments::Refused;
use super::command::Outcome;
use crate::outln;
use api::Enumeration;
use block::{Breakpoints, Node, Step};
use std::sync::Arc;

const NONE: &str = "No such file or directory";
const UNSUPPORTED: &str = "Operation not supported";

/// The nodes from the image down to its storage.
fn layers(top: Arc<Node>) -> Vec<Arc<Node>> {
    std::iter::successors(Some(top), |node| node.primary()).collect()
}

fn filter(layers: &[Arc<Node>]) -> Option<&dyn Breakpoints> {
    layers.iter().find_map(|node| node.driver().breakpoints())
}

/// What `command` and its words could not do, and why.
fn failed(session: &mut Session<'_>, what: &str, why: &str) -> Refused {
    session.refuse(format_args!("Could not {what}: {why}"))
}

fn word(args: &[String], at: usize) -> &str {
    args.get(at).map_or("", String::as_str)
}

/// `break event tag`.
pub async fn set(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let layers = layers(session.backend()?.node());
    let Some(filter) = filter(&layers) else { return Err(failed(session, "set breakpoint", UNSUPPORTED)) };
    let Some(step) = Step::from_name(&word(args, 0).replace('.', "_")) else {
        return Err(failed(session, "set breakpoint", NONE));
    };
    filter.set(step, word(args, 1));
    Ok(Outcome::Done)
}

/// `resume tag`.
pub async fn resume(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (layers, tag) = (layers(session.backend()?.node()), word(args, 0));
    match filter(&layers).map(|filter| filter.resume(tag)) {
        None => Err(failed(session, "resume request", UNSUPPORTED)),
        Some(false) => Err(failed(session, "resume request", NONE)),
        Some(true) => {
            outln!(session.console, "blkdebug: Resuming request '{tag}'");
            // What it has waited for comes next, not after the next command.
            rt::yield_now().await;
            Ok(Outcome::Done)
        }
    }
}

/// `remove_break tag`.
pub async fn remove(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (layers, tag) = (layers(session.backend()?.node()), word(args, 0));
    let what = format!("remove breakpoint {tag}");
    match filter(&layers).map(|filter| filter.remove(tag)) {
        None => Err(failed(session, &what, UNSUPPORTED)),
        Some(false) => Err(failed(session, &what, NONE)),
        Some(true) => Ok(Outcome::Done),
    }
}

/// `wait_break tag`.
pub async fn wait(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (layers, tag) = (layers(session.backend()?.node()), word(args, 0));
    let Some(filter) = filter(&layers) else { return Err(failed(session, "wait for request", UNSUPPORTED)) };
    filter.held(tag).await;
    outln!(session.console, "blkdebug: Suspended request '{tag}'");
    Ok(Outcome::Done)
}
