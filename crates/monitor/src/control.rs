//! What commands work on: the graph, jobs, exports, objects; and the orderly end of the program.
use crate::descriptors::Descriptors;
use crate::events::Events;
use crate::generation;
use crate::human::Human;
use crate::options;
use crate::outbox::Outbox;
use api::{Dict, QmpError, RunState, Shutdown, ShutdownCause, Value};
use block::{BlockError, Graph, Registry};
use event_listener::{Event, IntoNotification};
use exports::{Exports, NbdService};
use jobs::Jobs;
use machine::Machine;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, OnceLock};

/// Commands that begin a job on a device or node.
const BEGIN_JOBS: [&str; 6] =
    ["block-commit", "block-stream", "blockdev-backup", "blockdev-mirror", "drive-backup", "drive-mirror"];

/// The state that all sessions share; a handle, cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Inner>, Arc<Descriptors>);

struct Inner {
    graph: Graph,
    jobs: Jobs,
    exports: Exports,
    nbd: NbdService,
    machine: Machine,
    human: OnceLock<Box<dyn Human>>,
    events: Arc<Events>,
    /// The program is ending; no command is accepted.
    ending: AtomicBool,
    end_begins: Event,
    /// Held during the end; its result.
    end: futures_util::lock::Mutex<Option<Result<(), BlockError>>>,
    /// `quit` was answered.
    left: AtomicBool,
    has_left: Event,
}

impl Control {
    /// An empty graph over `registry`, no jobs, no exports.
    pub fn new(registry: Arc<Registry>) -> Self {
        let events = Arc::new(Events::default());
        let graph = Graph::new(registry, options::from_json);
        let (deleted, alarmed) = (events.clone(), events.clone());
        graph.on_poison(move |node, error| alarmed.poisoned(node, error));
        let inner = Inner {
            jobs: Jobs::new(events.clone()),
            exports: Exports::new(graph.clone(), move |id| deleted.export_deleted(id)),
            nbd: NbdService::default(),
            machine: Machine::new(graph.clone(), RunState::Running),
            human: OnceLock::new(),
            graph,
            events,
            ending: AtomicBool::new(false),
            end_begins: Event::new(),
            end: futures_util::lock::Mutex::new(None),
            left: AtomicBool::new(false),
            has_left: Event::new(),
        };
        Self(Arc::new(inner), Arc::default())
    }

    /// A handle for a session, which has descriptors of its own.
    pub(crate) fn for_session(&self) -> Self {
        Self(self.0.clone(), Arc::default())
    }

    /// The descriptors of the session.
    pub(crate) fn descriptors(&self) -> &Descriptors {
        &self.1
    }

    /// Adds to the error of a driver's name that the schema does not have that it is a known format, where it is one.
    pub(crate) fn tell_of_known_format(&self, mut error: QmpError) -> QmpError {
        let name = error
            .desc
            .strip_suffix('\'')
            .and_then(|text| text.rsplit_once("driver' does not accept value '"));
        if let Some(known) = name.and_then(|(_, name)| self.graph().registry().known_only(name)) {
            error.desc.push_str(&format!(" ({known})"));
        }
        error
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.0.graph
    }

    /// The jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    /// The exports.
    pub fn exports(&self) -> &Exports {
        &self.0.exports
    }

    /// The NBD server.
    pub fn nbd(&self) -> &NbdService {
        &self.0.nbd
    }

    /// The machine: in a daemon one that runs and has no devices until some are added.
    pub fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// Sets the monitor for people. Only the first one counts.
    pub fn set_human(&self, human: Box<dyn Human>) {
        if self.0.human.set(human).is_err() {
            tracing::warn!("there is a monitor for people already");
        }
    }

    /// Whether this program is a machine to its clients: it has a monitor for people.
    pub(crate) fn is_machine(&self) -> bool {
        self.human().is_some()
    }

    /// Tells that a machine ends.
    pub(crate) fn shut_down(&self, reason: ShutdownCause) {
        if self.is_machine() && !self.0.ending.load(Acquire) {
            self.events().emit(&api::Event::Shutdown(Shutdown { guest: false, reason }));
        }
    }

    pub(crate) fn human(&self) -> Option<&dyn Human> {
        self.0.human.get().map(Box::as_ref)
    }

    /// Sends an event when the command under way has been answered.
    pub(crate) fn after_answer(&self, event: api::Event) {
        let events = self.0.events.clone();
        rt::spawn(async move { events.emit(&event) }).detach();
    }

    /// Where events go to all clients.
    pub(crate) fn events(&self) -> &Arc<Events> {
        &self.0.events
    }

    pub(crate) fn join(&self, outbox: &Arc<Outbox>) {
        self.0.events.join(outbox);
    }

    /// Carries out a command, in the shape of either generation.
    ///
    /// # Errors
    /// What the command's handler answers; what of its arguments the schema refuses.
    pub async fn execute(&self, command: &str, arguments: Dict) -> Result<Option<Value>, QmpError> {
        let mut arguments = generation::todays(command, arguments);
        self.node_of_device(command, &mut arguments)?;
        let result = api::dispatch(self, command, arguments).await;
        result.map_err(|error| self.tell_of_known_format(error))
    }

    /// Jobs know nodes: a device's name stands for the node in it, and is the job's where that has none of its own.
    fn node_of_device(&self, command: &str, arguments: &mut Dict) -> Result<(), QmpError> {
        if !BEGIN_JOBS.contains(&command) {
            return Ok(());
        }
        let Some(device) = arguments.get("device").and_then(Value::as_str) else { return Ok(()) };
        let Some(device) = self.graph().device(device) else { return Ok(()) };
        let node = device.need_node().map_err(|error| QmpError::generic(error.to_string()))?;
        if !arguments.contains("job-id") {
            arguments.insert("job-id", device.name());
        }
        arguments.insert("device", node.name());
        Ok(())
    }

    /// Refuses commands once the program is ending.
    pub(crate) fn admit(&self) -> Result<(), QmpError> {
        if self.0.ending.load(Acquire) {
            return Err(QmpError::generic("the program is ending"));
        }
        Ok(())
    }

    /// Ends everything, once: exports with their last requests, then jobs, then nodes with their last flush.
    pub async fn end(&self) -> Result<(), BlockError> {
        self.0.ending.store(true, Release);
        self.0.end_begins.notify(usize::MAX.additional());
        let mut end = self.0.end.lock().await;
        if let Some(result) = &*end {
            return result.clone();
        }
        let _letting_go = self.0.graph.let_go();
        self.0.nbd.end(&self.0.exports).await;
        self.0.exports.close_all().await;
        self.0.jobs.cancel_all().await;
        let emptied = self.0.machine.end().await;
        let result = emptied.and(self.0.graph.close_all().await);
        *end = Some(result.clone());
        result
    }

    /// Waits until the end begins.
    pub(crate) async fn ending(&self) {
        loop {
            let listener = self.0.end_begins.listen();
            if self.0.ending.load(Acquire) {
                return;
            }
            listener.await;
        }
    }

    /// Whether [`Control::end`] has returned.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.end.try_lock().is_some_and(|end| end.is_some())
    }

    /// `quit` was answered: the program may exit.
    pub(crate) fn leave(&self) {
        self.0.left.store(true, Release);
        self.0.has_left.notify(usize::MAX.additional());
    }

    /// Sends all clients what waits for them.
    pub(crate) async fn dismiss_clients(&self) {
        self.0.events.end_clients().await;
    }

    /// Waits until a `quit` has been answered.
    pub async fn left(&self) {
        loop {
            let listener = self.0.has_left.listen();
            if self.0.left.load(Acquire) {
                return;
            }
            listener.await;
        }
    }
}
