//! What commands work on: the graph, jobs, exports, objects; and the orderly end of the program.
use crate::chardev::Connections;
use crate::descriptors::Descriptors;
use crate::events::Events;
use crate::generation::{self, Generation};
use crate::human::{Human, NewImage};
use crate::migration::Migration;
use crate::options;
use crate::outbox::Outbox;
use api::{BlockErrorAction, Dict, QmpError, RunState, Shutdown, ShutdownCause, Value};
use block::{BlockError, Device, Graph, Node, Options, Registry};
use event_listener::{Event, IntoNotification};
use exports::{Exports, NbdService};
use futures_channel::oneshot;
use jobs::Jobs;
use machine::Machine;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, OnceLock};

/// The state that all sessions share; a handle, cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Inner>, Arc<OfSession>);

/// What each session has of its own.
#[derive(Default)]
struct OfSession {
    descriptors: Descriptors,
    /// What follows the answer of the command under way.
    after_answer: Mutex<Vec<Following>>,
}

/// What follows the answer of a command.
enum Following {
    Event(api::Event),
    /// Work that waits for it.
    Work(oneshot::Sender<()>),
}

struct Inner {
    graph: Graph,
    jobs: Jobs,
    exports: Exports,
    nbd: NbdService,
    machine: Machine,
    migration: Migration,
    human: OnceLock<Box<dyn Human>>,
    generation: OnceLock<Generation>,
    /// Of the monitors, for as long as the program runs.
    connections: Mutex<Vec<Arc<Connections>>>,
    events: Arc<Events>,
    /// The program is ending; no command is accepted.
    ending: AtomicBool,
    end_begins: Event,
    /// Held during the end; its result.
    end: futures_util::lock::Mutex<Option<Result<(), BlockError>>>,
    /// Why it ends, if that is a failure.
    failure: OnceLock<String>,
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
        let machine = Machine::new(graph.clone(), RunState::Running);
        let (told, state) = (events.clone(), machine.state().clone());
        graph.on_guest_failure(move |failure| {
            told.guest_failed(failure);
            if failure.action == BlockErrorAction::Stop {
                state.stop(RunState::IoError, || told.emit(&api::Event::Stop));
            }
        });
        let inner = Inner {
            jobs: Jobs::new(events.clone()),
            exports: Exports::new(graph.clone(), move |id| deleted.export_deleted(id)),
            nbd: NbdService::default(),
            machine,
            migration: Migration::new(events.clone()),
            human: OnceLock::new(),
            generation: OnceLock::new(),
            connections: Mutex::default(),
            graph,
            events,
            ending: AtomicBool::new(false),
            end_begins: Event::new(),
            end: futures_util::lock::Mutex::new(None),
            failure: OnceLock::new(),
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
        &self.1.descriptors
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

    /// The hand-over under way.
    pub(crate) fn migration(&self) -> &Migration {
        &self.0.migration
    }

    /// Ends the program, which has failed.
    pub(crate) async fn fail(&self, text: String) {
        if self.0.failure.set(text).is_ok() {
            if let Err(error) = self.end().await {
                tracing::error!(%error, "not everything was written back");
            }
            self.leave();
        }
    }

    /// As [`Control::fail`], for who must not wait, nor keep the program's state alive.
    pub(crate) fn failing(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let inner = Arc::downgrade(&self.0);
        move |text| {
            if let Some(inner) = inner.upgrade() {
                let (control, text) = (Self(inner, Arc::default()), text.to_owned());
                rt::spawn_on(rt::Target::Control, async move { control.fail(text).await }).detach();
            }
        }
    }

    /// What tells the name of the device that a node is the medium of, else the node's.
    pub(crate) fn naming(&self) -> impl Fn(&Node) -> String + Send + Sync + 'static {
        let inner = Arc::downgrade(&self.0);
        move |node| {
            let devices = inner.upgrade().map(|inner| inner.graph.devices()).unwrap_or_default();
            let has = |device: &Device| device.node().is_some_and(|medium| std::ptr::eq(&*medium, node));
            let device = devices.iter().find(|device| !device.name().is_empty() && has(device));
            device.map_or(node.name(), |device| device.name()).to_owned()
        }
    }

    /// Why it ends, if that is a failure.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.0.failure.get().map(String::as_str)
    }

    /// Sets the monitor for people. Only the first one counts.
    pub fn set_human(&self, human: Box<dyn Human>) {
        if self.0.human.set(human).is_err() {
            tracing::warn!("there is a monitor for people already");
        }
    }

    /// What is answered where the generations contradict each other: today's if it was never said.
    pub(crate) fn generation(&self) -> Generation {
        self.0.generation.get().copied().unwrap_or_default()
    }

    /// Says what is answered where the generations contradict each other. Only the first one counts.
    pub(crate) fn speak(&self, generation: Generation) {
        if self.0.generation.set(generation).is_err() {
            tracing::warn!("a generation was chosen already");
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

    /// The connections of a character device can be given up from now on.
    pub(crate) fn add_connections(&self, connections: &Arc<Connections>) {
        self.0.connections.lock().push(connections.clone());
    }

    /// The connections of the character devices.
    pub(crate) fn connections(&self) -> Vec<Arc<Connections>> {
        self.0.connections.lock().clone()
    }

    pub(crate) fn human(&self) -> Option<&dyn Human> {
        self.0.human.get().map(Box::as_ref)
    }

    /// Makes an image for a command.
    pub(crate) async fn make_image(
        &self,
        format: &'static str,
        filename: &str,
        size: u64,
        options: Options,
    ) -> Result<(), BlockError> {
        let graph = self.graph();
        if let Some(human) = self.human() {
            human.tell_of_image(&NewImage { graph, format, filename, size, options: &options });
        }
        graph.create(format, filename, size, options).await
    }

    /// Sends an event when the command under way has been answered: see [`Control::answered`].
    pub(crate) fn after_answer(&self, event: api::Event) {
        self.1.after_answer.lock().push(Following::Event(event));
    }

    /// Ends when the command under way has been answered: for work that goes on by itself, whose first events follow the answer.
    pub(crate) fn until_answered(&self) -> impl Future<Output = ()> + use<> {
        let (answered, wait) = oneshot::channel();
        self.1.after_answer.lock().push(Following::Work(answered));
        async move { wait.await.unwrap_or_default() }
    }

    /// A command of this session has been answered: what is to follow the answer begins.
    pub(crate) fn answered(&self) {
        for following in std::mem::take(&mut *self.1.after_answer.lock()) {
            match following {
                Following::Event(event) => self.events().emit(&event),
                Following::Work(answered) => answered.send(()).unwrap_or_default(),
            }
        }
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
        let arguments = generation::todays(command, arguments);
        if let Some(name) = self.generation().device_to_find(command, &arguments)
            && self.graph().device(name).is_none()
            && self.graph().node(name).is_none()
        {
            return Err(QmpError::device_not_found(name));
        }
        api::dispatch(self, command, arguments).await
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
        self.0.migration.cancel();
        self.0.migration.ended().await;
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
