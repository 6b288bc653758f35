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
            session.tell_resumed(tag, 1).await;
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
        Some(None) => Err(failed(session, &what, NONE)),
        Some(Some(resumed)) => {
            session.tell_resumed(tag, resumed).await;
            Ok(Outcome::Done)
        }
    }
}

/// `wait_break tag`.
pub async fn wait(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (layers, tag) = (layers(session.backend()?.node()), word(args, 0));
    let Some(filter) = filter(&layers) else { return Err(failed(session, "wait for request", UNSUPPORTED)) };
    filter.held(tag).await;
    Ok(Outcome::Done)
}

impl Session<'_> {
    /// Reports the requests that were held back since.
    pub(super) fn report_held(&mut self) {
        let Some(image) = &self.image else { return };
        for node in layers(image.node()) {
            for tag in node.driver().breakpoints().map(Breakpoints::arrived).unwrap_or_default() {
                outln!(self.console, "blkdebug: Suspended request '{tag}'");
            }
        }
    }

    async fn tell_resumed(&mut self, tag: &str, requests: usize) {
        self.report_held();
        (0..requests).for_each(|_| outln!(self.console, "blkdebug: Resuming request '{tag}'"));
        // What they have waited for comes next, not after the next command.
        rt::yield_now().await;
    }
}
