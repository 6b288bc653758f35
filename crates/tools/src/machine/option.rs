//! What a machine's command line asks for, and how it is carried out.

use super::drive::Drive;
use super::human::HumanMonitor;
use super::{qtest, refused};
use api::{Dict, MonitorMode, MonitorOptions, QmpError, RunState, Value, keyval};
use machine::Properties;
use migration::Place;
use monitor::Control;
use monitor::daemon::{DaemonOption, SetUp, StartOption};
use rt::BoxFuture;

/// What comes before all options.
pub struct Begin {
    /// The machine begins stopped.
    pub stopped: bool,
    /// Another machine's state is awaited.
    pub incoming: bool,
    /// The name that messages begin with.
    pub program: String,
}

/// An option of the command line.
pub enum MachineOption {
    /// The machine as it begins.
    Begin(Begin),
    /// One that a daemon has too.
    Daemon(DaemonOption),
    /// `-chardev`: opens a stream.
    Chardev(String),
    /// `-mon`: serves a monitor on a stream.
    Monitor(String),
    /// `-drive`, with the text that it was given by.
    Drive(Box<Drive>, String),
    /// `-device`: adds a device.
    Device(String),
    /// `-qtest`: connects to a test that steps the clock.
    Qtest(String),
    /// `-add-fd`: adds a descriptor to a set.
    AddFd(String),
    /// `-incoming`: waits for the state of another machine.
    Incoming(String),
}

impl MachineOption {
    /// When it is carried out: the lower the earlier.
    pub fn rank(&self) -> u32 {
        match self {
            Self::Begin(_) | Self::AddFd(_) => 0,
            Self::Daemon(DaemonOption::Object(_)) => 1,
            Self::Daemon(DaemonOption::Blockdev(_)) => 2,
            Self::Drive(..) => 3,
            Self::Device(_) => 4,
            Self::Chardev(_) => 5,
            Self::Monitor(_) => 6,
            Self::Incoming(_) => 7,
            Self::Qtest(_) => 8,
            Self::Daemon(_) => 9,
        }
    }

    /// A drive writes to a temporary overlay.
    pub fn overlay(&mut self) {
        if let Self::Drive(drive, _) = self {
            drive.snapshot = true;
        }
    }
}

impl StartOption for MachineOption {
    fn shown(&self) -> String {
        match self {
            Self::Daemon(DaemonOption::Blockdev(text)) => format!("-blockdev {text}"),
            Self::Daemon(DaemonOption::Object(text)) => format!("-object {text}"),
            Self::Begin(_) => String::new(),
            Self::Daemon(option) => option.shown(),
            Self::Chardev(text) => format!("-chardev {text}"),
            Self::Monitor(text) => format!("-mon {text}"),
            Self::Drive(_, text) => format!("-drive {text}"),
            Self::Device(text) => format!("-device {text}"),
            Self::Qtest(text) => format!("-qtest {text}"),
            Self::AddFd(text) => format!("-add-fd {text}"),
            Self::Incoming(text) => format!("-incoming {text}"),
        }
    }

    fn carry_out<'a>(
        &'a self,
        control: &'a Control,
        set_up: &'a mut SetUp,
    ) -> BoxFuture<'a, Result<(), QmpError>> {
        Box::pin(async move {
            match self {
                Self::Begin(begin) => {
                    if begin.incoming {
                        control.await_machine();
                    } else if begin.stopped {
                        control.machine().state().set(RunState::Prelaunch);
                    }
                    control.start_later(!begin.stopped);
                    control.set_human(Box::new(HumanMonitor::new(&begin.program)));
                    Ok(())
                }
                Self::Daemon(option) => option.carry_out(control, set_up).await,
                Self::Chardev(text) => {
                    // Other kinds of streams are for what is no monitor.
                    if ["null", "file,", "ringbuf,"].iter().any(|kind| text.starts_with(kind)) {
                        return Ok(());
                    }
                    DaemonOption::Chardev(text.clone()).carry_out(control, set_up).await
                }
                Self::Monitor(text) => set_up.monitor(&monitor_options(text)?),
                Self::Drive(drive, _) => {
                    drive.add(control.graph()).await.map_err(refused)?;
                    match drive.model() {
                        Some(model) => {
                            let added = control.machine().add_for_drive(model, &drive.id).await;
                            added.map_err(refused)
                        }
                        None => Ok(()),
                    }
                }
                Self::Device(text) => control.machine().add(properties(text)?).await.map_err(refused),
                Self::Qtest(place) => {
                    match place.strip_prefix("chardev:") {
                        Some(id) => set_up.serve_on(id, qtest::serve)?,
                        None => qtest::connect(place).await?,
                    }
                    set_up.keep(qtest::Log::open());
                    Ok(())
                }
                Self::AddFd(text) => add_fd(control, text),
                Self::Incoming(from) if from == "defer" => Ok(()),
                Self::Incoming(from) => {
                    let place = Place::parse(from).map_err(refused)?;
                    control.begin_to_take_over(place, true).await
                }
            }
        })
    }
}

/// The options of `-mon`: a monitor for people unless it says otherwise.
fn monitor_options(text: &str) -> Result<MonitorOptions, QmpError> {
    let mut options: MonitorOptions = keyval::decode(text, Some("chardev"))?;
    options.mode = options.mode.or(Some(MonitorMode::Readline));
    Ok(options)
}

/// The properties of a device, as a list or as JSON.
pub fn properties(text: &str) -> Result<Properties, QmpError> {
    if !text.starts_with('{') {
        return Ok(keyval::pairs(text, Some("driver"))?.into_iter().collect());
    }
    let members: Dict = match api::json::parse(text) {
        Ok(Value::Dict(members)) => members,
        Ok(_) => return Err(QmpError::generic("the option is not a JSON object")),
        Err(error) => return Err(QmpError::generic(error.to_string())),
    };
    Ok(monitor::device_properties(members))
}

/// `fd=N,set=S[,opaque=TEXT]`: a descriptor that the program has inherited.
fn add_fd(control: &Control, text: &str) -> Result<(), QmpError> {
    let (mut fd, mut set, mut opaque) = (None, None, None);
    for (name, value) in keyval::pairs(text, None)? {
        match name.as_str() {
            "fd" => fd = value.parse().ok(),
            "set" => set = value.parse().ok(),
            "opaque" => opaque = Some(value),
            other => return Err(QmpError::generic(format!("Invalid parameter '{other}'"))),
        }
    }
    let (Some(fd), Some(set)) = (fd, set) else {
        return Err(QmpError::generic("fd and set numbers are needed"));
    };
    control.add_inherited(fd, set, opaque)
}
