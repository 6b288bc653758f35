//! Rules: which requests fail, from which step on, and where requests are held back.
//!
//! The engine has a state, a number that is 1 at first. At a step all rules of it whose state is the engine's, or that ask
//! for none, take effect:
//! - rules that fail requests are in force from now on, in the place of those that were before. A step without such rules
//!   leaves those in force that are;
//! - one that changes the state does so when all rules of the step were looked at;
//! - a breakpoint is used up, and holds back the request that came to it.
use api::{BlkdebugIOType, BlkdebugInjectErrorOptions, BlkdebugSetStateOptions};
use block::{BlockError, Result, Step};
use event_listener::Event;
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes of the sectors that rules name.
const SECTOR: u64 = 512;

/// EIO, where a rule names no error.
const DEFAULT_ERRNO: i32 = 5;

/// The largest errno that the kernel has room for.
const MAX_ERRNO: i64 = 4095;

/// A rule that fails requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// `None`: all kinds but questions for what is stored.
    kind: Option<BlkdebugIOType>,
    errno: i32,
    /// Byte offset of the sector that a request must touch.
    at: Option<u64>,
    once: bool,
    /// Before anything else runs.
    immediately: bool,
}

impl Fault {
    fn hits(&self, kind: BlkdebugIOType, offset: u64, len: u64) -> bool {
        let of_kind = self.kind.map_or(kind != BlkdebugIOType::BlockStatus, |mine| mine == kind);
        of_kind && self.at.is_none_or(|at| (offset..offset.saturating_add(len)).contains(&at))
    }
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Effect {
    Fail(Fault),
    Become(i64),
    Hold(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    id: usize,
    step: Step,
    /// The state in which it counts; any, if 0.
    state: i64,
    effect: Effect,
}

/// The rules, and what is in force.
#[derive(Default)]
pub struct Engine {
    inner: Mutex<Inner>,
    /// A request is held back.
    arrived: Event,
}

struct Inner {
    rules: Vec<Rule>,
    next_id: usize,
    /// Of those that fail requests, in the order in which they were given.
    in_force: Vec<(usize, Fault)>,
    state: i64,
    /// Requests that are held back, in the order in which they came.
    held: Vec<(String, Arc<Event>, usize)>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { rules: Vec::new(), next_id: 0, in_force: Vec::new(), state: 1, held: Vec::new() }
    }
}

impl Inner {
    fn add(&mut self, step: Step, state: i64, effect: Effect) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.rules.push(Rule { id, step, state, effect });
    }
}

impl Engine {
    /// Adds a rule that fails requests.
    pub fn add_fault(&self, rule: &BlkdebugInjectErrorOptions) -> Result<()> {
        let errno = match rule.errno {
            None => DEFAULT_ERRNO,
            Some(errno @ 1..=MAX_ERRNO) => errno as i32,
            Some(errno) => {
                return Err(BlockError::invalid(format!("errno {errno} is no error: 1 to {MAX_ERRNO} are")));
            }
        };
        let at = match rule.sector {
            None | Some(-1) => None,
            Some(sector) => Some(
                u64::try_from(sector)
                    .ok()
                    .and_then(|s| s.checked_mul(SECTOR))
                    .ok_or_else(|| BlockError::invalid(format!("sector {sector} is on no disk")))?,
            ),
        };
        let fault = Fault {
            kind: rule.iotype,
            errno,
            at,
            once: rule.once.unwrap_or(false),
            immediately: rule.immediately.unwrap_or(false),
        };
        self.inner.lock().add(rule.event, rule.state.unwrap_or(0), Effect::Fail(fault));
        Ok(())
    }

    /// Adds a rule that changes the state.
    pub fn add_change(&self, rule: &BlkdebugSetStateOptions) {
        self.inner.lock().add(rule.event, rule.state.unwrap_or(0), Effect::Become(rule.new_state));
    }

    /// Adds a breakpoint.
    pub fn add_breakpoint(&self, step: Step, tag: &str) {
        self.inner.lock().add(step, 0, Effect::Hold(tag.to_owned()));
    }

    /// A step comes. What is answered must be waited for.
    pub fn step(&self, step: Step) -> Option<Stay<'_>> {
        let mut inner = self.inner.lock();
        let state = inner.state;
        let here: Vec<_> = inner
            .rules
            .iter()
            .filter(|r| r.step == step && (r.state == 0 || r.state == state))
            .cloned()
            .collect();
        let faults = here.iter().filter_map(|rule| match rule.effect {
            Effect::Fail(fault) => Some((rule.id, fault)),
            _ => None,
        });
        let faults: Vec<_> = faults.collect();
        if !faults.is_empty() {
            inner.in_force = faults;
        }
        let mut stay = None;
        for rule in here {
            match rule.effect {
                Effect::Fail(_) => {}
                Effect::Become(state) => inner.state = state,
                Effect::Hold(tag) if stay.is_none() => {
                    let (id, go) = (rule.id, Arc::new(Event::new()));
                    inner.rules.retain(|rule| rule.id != id);
                    inner.held.push((tag, go.clone(), id));
                    stay = Some(Stay { engine: self, go, id });
                }
                Effect::Hold(_) => {}
            }
        }
        drop(inner);
        if stay.is_some() {
            self.arrived.notify(usize::MAX);
        }
        stay
    }

    /// The errno with which a request fails, and whether it does at once.
    pub fn fault(&self, kind: BlkdebugIOType, offset: u64, len: u64) -> Option<(i32, bool)> {
        let mut inner = self.inner.lock();
        let (id, fault) = inner.in_force.iter().find(|(_, fault)| fault.hits(kind, offset, len)).copied()?;
        if fault.once {
            inner.in_force.retain(|(other, _)| *other != id);
            inner.rules.retain(|rule| rule.id != id);
        }
        Some((fault.errno, fault.immediately))
    }

    /// Lets the first request of this tag go on.
    pub fn resume(&self, tag: &str) -> bool {
        let mut inner = self.inner.lock();
        let Some(at) = inner.held.iter().position(|(held, ..)| held == tag) else { return false };
        let (_, go, _) = inner.held.remove(at);
        go.notify(usize::MAX);
        true
    }

    /// Takes back the breakpoints of this tag, and lets go what they hold.
    pub fn remove(&self, tag: &str) -> bool {
        let of_tag = |rule: &Rule| matches!(&rule.effect, Effect::Hold(mine) if mine == tag);
        let before = {
            let mut inner = self.inner.lock();
            let before = inner.rules.len();
            inner.rules.retain(|rule| !of_tag(rule));
            before > inner.rules.len()
        };
        let mut any = before;
        while self.resume(tag) {
            any = true;
        }
        any
    }

    /// Waits until a request is held back under this tag.
    pub async fn held(&self, tag: &str) {
        loop {
            let arrived = self.arrived.listen();
            if self.inner.lock().held.iter().any(|(held, ..)| held == tag) {
                return;
            }
            arrived.await;
        }
    }
}

/// A request that is held back.
pub struct Stay<'a> {
    engine: &'a Engine,
    go: Arc<Event>,
    id: usize,
}

impl Stay<'_> {
    /// Waits until it may go on.
    pub async fn over(&self) {
        loop {
            let go = self.go.listen();
            if self.engine.inner.lock().held.iter().all(|(.., id)| *id != self.id) {
                return;
            }
            go.await;
        }
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.engine.inner.lock().held.retain(|(.., id)| *id != self.id);
    }
}
