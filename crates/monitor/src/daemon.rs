//! The storage daemon: options in the order given, then QMP until `quit` or a signal, then an orderly end.
//!
//! ```text
//!   fork (--daemonize) ─▶ runtime ─▶ options one by one ─▶ pid file ─▶ … ─▶ exports · jobs · nodes closed ─▶ exit
//! ```
//!
//! An option that fails ends the program with status 1, after an orderly end of what was set up before. So does an
//! end at which something could not be written back.
use crate::chardev::{Chardev, Language, Service};
use crate::control::Control;
use crate::events::Events;
use crate::generation::Generation;
use crate::metrics;
use crate::wire::MessageLayout;
use api::{
    BlockExportCommands, BlockExportOptions, BlockNodesCommands, BlockdevOptions, ChardevOptions,
    MonitorMode, MonitorOptions, NbdServerOptions, ObjectOptions, QmpError, QomCommands, ShutdownCause,
    keyval,
};
use block::{BlockError, Node, Notice, Registry};
use futures_util::future::{Either, join_all, select};
use rt::process::ReadyHandle;
use rt::signal;
use rt::{BoxFuture, JoinHandle};
use std::any::Any;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long clients have to receive the last answers and events.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Signals that end the daemon in order.
const SIGNALS: [i32; 3] = [signal::INTERRUPT, signal::TERMINATE, signal::HANGUP];

/// One option of the command line, in either form: `key=value,…` or JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonOption {
    /// `--blockdev`: adds a node.
    Blockdev(String),
    /// `--chardev`: opens a stream for a monitor.
    Chardev(String),
    /// `--export`: exports a node.
    Export(String),
    /// `--job-state`: the directory where jobs note what they have copied.
    JobState(PathBuf),
    /// `--monitor`: serves QMP on a chardev.
    Monitor(String),
    /// `--metrics`: serves figures for a monitoring system.
    Metrics(String),
    /// `--nbd-server`: starts the NBD server.
    NbdServer(String),
    /// `--object`: makes a user object.
    Object(String),
    /// `--pidfile`: where to write the process id when all is set up.
    Pidfile(PathBuf),
    /// `--compat`: answers as that version of QEMU did where later ones contradict it.
    Compat(String),
    /// `--daemonize`: goes to the background when all is set up.
    Daemonize,
}

/// Something that a command line asks for before clients are served.
pub trait StartOption: Sync {
    /// As it was given, for messages.
    fn shown(&self) -> String;

    /// Does it. What is to be served or released later goes into `set_up`.
    fn carry_out<'a>(
        &'a self,
        control: &'a Control,
        set_up: &'a mut SetUp,
    ) -> BoxFuture<'a, Result<(), QmpError>>;
}

impl StartOption for DaemonOption {
    fn shown(&self) -> String {
        match self {
            Self::Blockdev(text) => format!("--blockdev {text}"),
            Self::Chardev(text) => format!("--chardev {text}"),
            Self::Export(text) => format!("--export {text}"),
            Self::JobState(path) => format!("--job-state {}", path.display()),
            Self::Monitor(text) => format!("--monitor {text}"),
            Self::Metrics(text) => format!("--metrics {text}"),
            Self::NbdServer(text) => format!("--nbd-server {text}"),
            Self::Object(text) => format!("--object {text}"),
            Self::Pidfile(path) => format!("--pidfile {}", path.display()),
            Self::Compat(version) => format!("--compat {version}"),
            Self::Daemonize => "--daemonize".to_owned(),
        }
    }

    fn carry_out<'a>(
        &'a self,
        control: &'a Control,
        set_up: &'a mut SetUp,
    ) -> BoxFuture<'a, Result<(), QmpError>> {
        Box::pin(carry_out(control, set_up, self))
    }
}

/// Runs the daemon from its first option to its end. `program` is the name that messages begin with. Must be called
/// before there is any other thread.
pub fn run(program: &str, registry: Arc<Registry>, options: &[DaemonOption]) -> ExitCode {
    run_with(program, registry, options, options.contains(&DaemonOption::Daemonize))
}

/// As [`run`], with options of another command line. `daemonize`: it goes to the background when all is set up.
pub fn run_with<O: StartOption>(
    program: &str,
    registry: Arc<Registry>,
    options: &[O],
    daemonize: bool,
) -> ExitCode {
    let mut waiting = None;
    if daemonize {
        match rt::process::daemonize() {
            Ok(handle) => waiting = Some(handle),
            Err(e) => {
                eprintln!("{program}: {}", BlockError::os("could not go to the background", &e));
                return ExitCode::FAILURE;
            }
        }
    }
    signal::ignore_sigpipe();
    if let Err(e) = signal::raise_nofile() {
        tracing::warn!(error = %e, "the limit of open files stays as it is");
    }
    let program = program.to_owned();
    rt::block_on_control(async move { live(&program, registry, options, waiting).await })
}

/// Prints a notice, or reports it as an event where there is one for it. If standard error fails, there is no other place
/// for it.
fn tell(
    program: &str,
    events: &Arc<Events>,
    naming: impl Fn(&Node) -> String,
    fail: impl Fn(&str),
    notice: Notice<'_>,
) {
    let mut to = std::io::stderr().lock();
    match notice {
        Notice::Damaged { node, damage } => return events.damaged(node, damage, false),
        Notice::BeyondThreshold { node, threshold, exceeded } => {
            return events.beyond_threshold(node, threshold, exceeded);
        }
        Notice::QuorumBad { operation, node, offset, len, error } => {
            return events.quorum_bad(operation, node, (offset, len), error);
        }
        Notice::QuorumFailed { node, offset, len } => {
            return events.quorum_failed(naming(node), (offset, len));
        }
        // In order: other images have nothing to do with it.
        Notice::Diverged(text) => {
            drop(to);
            return fail(text);
        }
        Notice::Warning(text) => writeln!(to, "{program}: warning: {text}"),
        Notice::Repaired { image, report } => writeln!(
            to,
            "{program}: warning: '{image}' was not closed after its last use and has been repaired: {} corruptions, {} \
             leaked clusters",
            report.corruptions_fixed, report.leaks_fixed
        ),
    }
    .ok();
}

async fn live<O: StartOption>(
    program: &str,
    registry: Arc<Registry>,
    options: &[O],
    waiting: Option<ReadyHandle>,
) -> ExitCode {
    let control = Control::new(registry);
    let name = program.to_owned();
    let events = control.events().clone();
    let (fail, naming) = (control.failing(), control.naming());
    control.graph().on_notice(move |notice| tell(&name, &events, &naming, &fail, notice));
    let mut signalled = pin!(signal::next_signal(&SIGNALS));
    let started = match select(&mut signalled, pin!(start(&control, options))).await {
        Either::Left(_) => Ok(None),
        Either::Right((started, _)) => started.map(Some),
    };
    let (running, mut code) = match started {
        Ok(Some(running)) => {
            tell_of_untaken_sockets(program);
            if let Some(handle) = waiting
                && let Err(e) = handle.ready()
            {
                tracing::warn!(error = %e, "the parent process could not be notified");
            }
            tracing::info!(pid = std::process::id(), engine = rt::engine_name(), "ready");
            if let Either::Left(_) = select(&mut signalled, pin!(control.left())).await {
                control.shut_down(ShutdownCause::HostSignal);
            }
            let code = match control.failure() {
                None => ExitCode::SUCCESS,
                Some(text) => {
                    eprintln!("{program}: {text}");
                    ExitCode::FAILURE
                }
            };
            (running, code)
        }
        Ok(None) => (Running::default(), ExitCode::SUCCESS),
        Err(text) => {
            match waiting {
                Some(handle) => handle.fail(&format!("{program}: {text}")),
                None => eprintln!("{program}: {text}"),
            }
            (Running::default(), ExitCode::FAILURE)
        }
    };
    match select(pin!(control.end()), pin!(signal::next_signal(&SIGNALS))).await {
        Either::Left((Ok(()), _)) => {}
        Either::Left((Err(e), _)) => {
            eprintln!("{program}: not everything was written back: {e}");
            code = ExitCode::FAILURE;
        }
        Either::Right(_) => {
            eprintln!("{program}: ended by a second signal before everything was written back");
            code = ExitCode::FAILURE;
        }
    }
    if rt::timeout(LAST_WORDS, control.dismiss_clients()).await.is_err() {
        tracing::warn!("a QMP client did not receive its last messages");
    }
    // Sockets and pid file are removed before the process ends, so that others see that it has.
    if rt::timeout(LAST_WORDS, join_all(running.doors)).await.is_err() {
        tracing::warn!("a QMP socket is left behind");
    }
    drop(running.pid_file);
    drop(running.kept);
    code
}

/// A service manager that passes sockets expects them to be used.
fn tell_of_untaken_sockets(program: &str) {
    match rt::handed::untaken() {
        Ok(untaken) => {
            for socket in untaken {
                let (number, name) = (socket.number, socket.name);
                eprintln!(
                    "{program}: warning: descriptor {number} ('{name}') was handed over (LISTEN_FDS), and no option \
                     uses it: --nbd-server addr.type=fd,addr.str={number} would, or --chardev socket,fd={number}"
                );
            }
        }
        Err(error) => eprintln!("{program}: warning: sockets of the service manager can't be used: {error}"),
    }
}

/// What is released last.
#[derive(Default)]
struct Running {
    pid_file: Option<PidFile>,
    /// The tasks that accept clients of monitors, and scrapers.
    doors: Vec<JoinHandle<()>>,
    kept: Vec<Box<dyn Any + Send>>,
}

/// What the options have set up so far.
#[derive(Default)]
pub struct SetUp {
    chardevs: Vec<(String, Chardev)>,
    /// Served after the last option: clients that connect earlier wait.
    monitors: Vec<(Chardev, Language)>,
    /// The tasks that accept scrapers.
    scraped: Vec<JoinHandle<()>>,
    pid_file: Option<PathBuf>,
    kept: Vec<Box<dyn Any + Send>>,
}

/// Applies the options in order, then serves clients. An error names the option that failed.
async fn start<O: StartOption>(control: &Control, options: &[O]) -> Result<Running, String> {
    let mut set_up = SetUp::default();
    for option in options {
        let result = option.carry_out(control, &mut set_up).await;
        result.map_err(|e| format!("{}: {e}", option.shown()))?;
    }
    let pid_file = set_up.pid_file.map(|path| PidFile::write(&path)).transpose();
    let pid_file = pid_file.map_err(|e| format!("cannot create PID file: {e}"))?;
    if let Some(server) = control.nbd().server() {
        server.let_in();
    }
    let mut doors = set_up.scraped;
    for (chardev, language) in set_up.monitors {
        doors.extend(chardev.serve(control, language).map_err(|e| e.to_string())?);
    }
    Ok(Running { pid_file, doors, kept: set_up.kept })
}

async fn carry_out(control: &Control, set_up: &mut SetUp, option: &DaemonOption) -> Result<(), QmpError> {
    match option {
        DaemonOption::Blockdev(text) => {
            let options = keyval::decode::<BlockdevOptions>(text, Some("driver"));
            control.blockdev_add(options?).await
        }
        DaemonOption::Export(text) => {
            control.block_export_add(keyval::decode::<BlockExportOptions>(text, Some("type"))?).await
        }
        DaemonOption::NbdServer(text) => {
            control.start_nbd_server(keyval::decode::<NbdServerOptions>(text, None)?).await?;
            // As with the monitors: clients that come before the last option wait for it.
            if let Some(server) = control.nbd().server() {
                server.hold();
            }
            Ok(())
        }
        DaemonOption::Object(text) => {
            control.object_add(keyval::decode::<ObjectOptions>(text, Some("qom-type"))?).await
        }
        DaemonOption::Chardev(text) => {
            let options = keyval::decode::<ChardevOptions>(text, Some("backend"))?;
            if set_up.chardevs.iter().any(|(id, _)| *id == options.id) {
                return Err(QmpError::generic(format!("Duplicate ID '{}' for chardev", options.id)));
            }
            let chardev = Chardev::open(control, &options).await?;
            set_up.chardevs.push((options.id, chardev));
            Ok(())
        }
        DaemonOption::JobState(path) => {
            control.jobs().keep_states_in(path.clone()).await.map_err(|e| QmpError::generic(e.to_string()))
        }
        DaemonOption::Monitor(text) => {
            let options = keyval::decode::<MonitorOptions>(text, Some("chardev"))?;
            if options.mode == Some(MonitorMode::Readline) {
                return Err(QmpError::generic("Only QMP is supported"));
            }
            set_up.monitor(&options)
        }
        DaemonOption::Metrics(text) => {
            let served = metrics::serve(control, &metrics::address(text)?).await?;
            set_up.scraped.extend(served);
            Ok(())
        }
        DaemonOption::Pidfile(path) => {
            set_up.pid_file = Some(path.clone());
            Ok(())
        }
        DaemonOption::Compat(version) => {
            let generation = Generation::of_version(version);
            let unknown = || QmpError::generic("there are '2.1' and '10.0'");
            control.speak(generation.ok_or_else(unknown)?);
            Ok(())
        }
        DaemonOption::Daemonize => Ok(()),
    }
}

impl SetUp {
    /// Serves a monitor on a chardev, once all is set up.
    pub fn monitor(&mut self, options: &MonitorOptions) -> Result<(), QmpError> {
        let language = match options.mode {
            Some(MonitorMode::Readline) => Language::Human,
            _ if options.pretty == Some(true) => Language::Qmp(MessageLayout::Pretty),
            _ => Language::Qmp(MessageLayout::Line),
        };
        self.serve(&options.chardev, language)
    }

    /// Keeps something until the end of the program, when all is written back.
    pub fn keep(&mut self, kept: impl Any + Send) {
        self.kept.push(Box::new(kept));
    }

    /// Serves something else than a monitor on a chardev, once all is set up.
    pub fn serve_on(&mut self, chardev: &str, service: Service) -> Result<(), QmpError> {
        self.serve(chardev, Language::Other(service))
    }

    fn serve(&mut self, chardev: &str, language: Language) -> Result<(), QmpError> {
        let at = self.chardevs.iter().position(|(id, _)| id == chardev);
        let at = at.ok_or_else(|| QmpError::generic(format!("chardev \"{chardev}\" not found")))?;
        self.monitors.push((self.chardevs.remove(at).1, language));
        Ok(())
    }
}

/// The file with this process's id; locked while the process lives, removed at its end.
struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    fn write(path: &Path) -> Result<Self, BlockError> {
        let what = |what: &str| format!("Could not {what} '{}'", path.display());
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // Not truncated before it is locked: it may be another daemon's.
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(|e| BlockError::os(what("create"), &e))?;
        if file.try_lock().is_err() {
            let text = format!("'{}' belongs to another process that is alive", path.display());
            return Err(BlockError::new(block::ErrorKind::Locked, text));
        }
        let written = file.set_len(0).and_then(|()| writeln!(&file, "{}", std::process::id()));
        written.map_err(|e| BlockError::os(what("write"), &e))?;
        Ok(Self { path: absolute, _locked: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), error = %e, "the pid file could not be removed");
        }
    }
}
