//! Rules: which requests fail, from which step on, and where requests are held back.
//!
//! The engine has a state, a number that is 1 at first. At a step all rules of it whose state is the engine's, or that ask
//! for none, take effect:
//! - rules that fail requests are in force from now on, in the place of those that were before. A step without such rules
//!   leaves those in force that are;
//! - one that changes the state does so when all rules of the step were looked at;
//! - a breakpoint is used up, and holds back the request that came to it; where there are several, the request goes on when
//!   each of them has let it go.
use api::{BlkdebugIOType, BlkdebugInjectErrorOptions, BlkdebugSetStateOptions};
use block::{BlockError, Result, Step};
use event_listener::Event;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

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
    /// 0: it goes on.
    errno: i32,
    /// Byte offset of the sector that a request must touch.
    at: Option<u64>,
    once: bool,
    /// Before anything else runs.
    immediately: bool,
    delay: Duration,
}

/// What a rule does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The error; `None`: it goes on.
    pub errno: Option<i32>,
    /// Before anything else runs.
    pub immediately: bool,
    /// How long it waits first.
    pub delay: Duration,
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
    /// Tags of those that nobody has asked for; at most one for each breakpoint that was set.
    arrived: Vec<String>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            next_id: 0,
            in_force: Vec::new(),
            state: 1,
            held: Vec::new(),
            arrived: Vec::new(),
        }
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
            Some(errno @ 0..=MAX_ERRNO) => errno as i32,
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
        let delay = u64::try_from(rule.delay_ns.unwrap_or(0))
            .map_err(|_| BlockError::invalid("delay-ns can't be less than 0"))?;
        let fault = Fault {
            kind: rule.iotype,
            errno,
            at,
            once: rule.once.unwrap_or(false),
            immediately: rule.immediately.unwrap_or(false),
            delay: Duration::from_nanos(delay),
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
        for rule in here.iter() {
            if let Effect::Become(state) = rule.effect {
                inner.state = state;
            }
        }
        // The newest first, as they are told of elsewhere.
        for rule in here.iter().rev() {
            let Effect::Hold(tag) = &rule.effect else { continue };
            let stay =
                stay.get_or_insert_with(|| Stay { engine: self, go: Arc::new(Event::new()), id: rule.id });
            inner.rules.retain(|other| other.id != rule.id);
            inner.arrived.push(tag.clone());
            inner.held.push((tag.clone(), stay.go.clone(), stay.id));
        }
        drop(inner);
        if stay.is_some() {
            self.arrived.notify(usize::MAX);
        }
        stay
    }

    /// What the first rule in force for a request does with it.
    pub fn fault(&self, kind: BlkdebugIOType, offset: u64, len: u64) -> Option<Verdict> {
        let mut inner = self.inner.lock();
        let (id, fault) = inner.in_force.iter().find(|(_, fault)| fault.hits(kind, offset, len)).copied()?;
        if fault.once {
            inner.in_force.retain(|(other, _)| *other != id);
            inner.rules.retain(|rule| rule.id != id);
        }
        let Fault { errno, immediately, delay, .. } = fault;
        Some(Verdict { errno: (errno != 0).then_some(errno), immediately, delay })
    }

    /// Lets the first request of this tag go on.
    pub fn resume(&self, tag: &str) -> bool {
        let mut inner = self.inner.lock();
        let Some(at) = inner.held.iter().position(|(held, ..)| held == tag) else { return false };
        let (_, go, _) = inner.held.remove(at);
        go.notify(usize::MAX);
        true
    }

    /// Takes back the breakpoints of this tag, and lets go what they hold: how many requests; `None` if there was nothing.
    pub fn remove(&self, tag: &str) -> Option<usize> {
        let of_tag = |rule: &Rule| matches!(&rule.effect, Effect::Hold(mine) if mine == tag);
        let taken_back = {
            let mut inner = self.inner.lock();
            let before = inner.rules.len();
            inner.rules.retain(|rule| !of_tag(rule));
            before > inner.rules.len()
        };
        let mut resumed = 0;
        while self.resume(tag) {
            resumed += 1;
        }
        (taken_back || resumed > 0).then_some(resumed)
    }

    /// The tags of the requests that were held back since the last call.
    pub fn arrived(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().arrived)
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

#[cfg(test)]
mod tests {
    use super::*;
    use BlkdebugIOType::*;
    use futures_util::FutureExt;

    fn fault(event: Step) -> BlkdebugInjectErrorOptions {
        BlkdebugInjectErrorOptions {
            event,
            state: None,
            iotype: None,
            errno: None,
            sector: None,
            once: None,
            immediately: None,
            delay_ns: None,
        }
    }

    fn fails(errno: i32) -> Option<Verdict> {
        Some(Verdict { errno: Some(errno), immediately: false, delay: Duration::ZERO })
    }

    fn with(faults: &[BlkdebugInjectErrorOptions]) -> Engine {
        let engine = Engine::default();
        faults.iter().for_each(|rule| engine.add_fault(rule).unwrap());
        engine
    }

    #[test]
    fn a_rule_is_in_force_from_its_step_on_until_another_step_brings_others() {
        let other = BlkdebugInjectErrorOptions { errno: Some(28), ..fault(Step::L2Load) };
        let engine = with(&[fault(Step::ReadAio), other]);
        assert_eq!(engine.fault(Read, 0, 512), None);
        assert!(engine.step(Step::ReadAio).is_none());
        engine.step(Step::WriteAio);
        assert_eq!(engine.fault(Write, 0, 512), fails(5));
        assert_eq!(engine.fault(BlockStatus, 0, 512), None, "only if it is asked for");
        engine.step(Step::L2Load);
        assert_eq!(engine.fault(Flush, 0, 0), fails(28));
    }

    #[test]
    fn sector_kind_and_once_narrow_a_rule() {
        let rule = BlkdebugInjectErrorOptions {
            sector: Some(3),
            iotype: Some(Discard),
            once: Some(true),
            immediately: Some(true),
            ..fault(Step::None)
        };
        let engine = with(&[rule]);
        engine.step(Step::None);
        assert_eq!(engine.fault(Discard, 0, 1536), None);
        assert_eq!(engine.fault(Discard, 2048, 512), None);
        assert_eq!(engine.fault(Read, 0, 4096), None);
        let at_once = fails(5).map(|verdict| Verdict { immediately: true, ..verdict });
        assert_eq!(engine.fault(Discard, 1536, 1), at_once);
        engine.step(Step::None);
        assert_eq!(engine.fault(Discard, 1536, 1), None, "it was used up");
    }

    #[test]
    fn without_an_error_a_rule_delays_or_keeps_others_off() {
        let slow = BlkdebugInjectErrorOptions { errno: Some(0), delay_ns: Some(7), ..fault(Step::None) };
        let once = BlkdebugInjectErrorOptions { once: Some(true), ..slow.clone() };
        let engine = with(&[once, fault(Step::None)]);
        engine.step(Step::None);
        let waits = Some(Verdict { errno: None, immediately: false, delay: Duration::from_nanos(7) });
        assert_eq!(engine.fault(Read, 0, 512), waits);
        assert_eq!(engine.fault(Read, 0, 512), fails(5));
        let negative = BlkdebugInjectErrorOptions { delay_ns: Some(-1), ..slow };
        assert!(Engine::default().add_fault(&negative).is_err());
    }

    #[test]
    fn the_second_write_fails_by_a_change_of_state() {
        let engine = with(&[BlkdebugInjectErrorOptions { state: Some(2), ..fault(Step::WriteAio) }]);
        engine.add_change(&BlkdebugSetStateOptions { event: Step::WriteAio, state: Some(1), new_state: 2 });
        engine.step(Step::WriteAio);
        assert_eq!(engine.fault(Write, 0, 1), None);
        engine.step(Step::WriteAio);
        assert_eq!(engine.fault(Write, 0, 1), fails(5));
    }

    #[test]
    fn a_breakpoint_holds_one_request_until_it_is_resumed_or_removed() {
        let engine = Engine::default();
        assert!(!engine.resume("a") && engine.remove("a").is_none());
        engine.add_breakpoint(Step::CowRead, "a");
        assert!(engine.held("a").now_or_never().is_none());
        let first = engine.step(Step::CowRead).unwrap();
        assert!(engine.step(Step::CowRead).is_none(), "it was used up");
        assert!(engine.held("a").now_or_never().is_some());
        assert!(first.over().now_or_never().is_none());
        assert_eq!(engine.arrived(), ["a"]);
        assert!(engine.resume("a"));
        assert!(first.over().now_or_never().is_some());
        engine.add_breakpoint(Step::CowRead, "b");
        let second = engine.step(Step::CowRead).unwrap();
        engine.add_breakpoint(Step::CowRead, "b");
        assert_eq!(engine.remove("b"), Some(1));
        assert_eq!(engine.arrived(), ["b"], "each is told once, also if it has gone on");
        assert!(second.over().now_or_never().is_some());
        assert!(engine.step(Step::CowRead).is_none());
    }

    #[test]
    fn a_request_that_meets_several_breakpoints_goes_on_when_each_has_let_it_go() {
        let engine = Engine::default();
        ["a", "b"].iter().for_each(|tag| engine.add_breakpoint(Step::CowRead, tag));
        let stay = engine.step(Step::CowRead).unwrap();
        assert!(engine.step(Step::CowRead).is_none());
        assert_eq!(engine.arrived(), ["b", "a"]);
        assert!(engine.resume("b") && stay.over().now_or_never().is_none());
        assert!(engine.resume("a") && stay.over().now_or_never().is_some());
    }

    #[test]
    fn errors_and_sectors_that_there_are_not_are_refused() {
        for wrong in [
            BlkdebugInjectErrorOptions { errno: Some(-1), ..fault(Step::None) },
            BlkdebugInjectErrorOptions { errno: Some(1 << 40), ..fault(Step::None) },
            BlkdebugInjectErrorOptions { sector: Some(-2), ..fault(Step::None) },
            BlkdebugInjectErrorOptions { sector: Some(i64::MAX), ..fault(Step::None) },
        ] {
            assert!(Engine::default().add_fault(&wrong).is_err());
        }
    }
}
