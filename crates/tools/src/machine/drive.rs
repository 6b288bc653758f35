//! Drives: a device with the image that is in it, as `-drive` and `drive_add` describe them.

use super::limits::Limits;
use crate::cache::{self, Cache};
use crate::failure::Failure;
use crate::image::{self, Source};
use api::{BlockdevOnError, Enumeration, keyval};
use block::{Accounting, BlockError, Device, Graph, IoLimits, Node, Opt, Options};
use std::sync::Arc;

/// What a drive hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Nothing: a device of its own is named by its id.
    None,
    /// An IDE controller, with two places on each.
    Ide,
    /// A SCSI controller, with seven places.
    Scsi,
    /// A floppy controller.
    Floppy,
    /// A device of its own.
    Virtio,
    /// Flash memory.
    Pflash,
    /// A card reader.
    Sd,
    /// Flash memory of a board.
    Mtd,
    /// A device of another hypervisor.
    Xen,
}

const INTERFACES: &[(&str, Interface)] = &[
    ("none", Interface::None),
    ("ide", Interface::Ide),
    ("scsi", Interface::Scsi),
    ("floppy", Interface::Floppy),
    ("virtio", Interface::Virtio),
    ("pflash", Interface::Pflash),
    ("sd", Interface::Sd),
    ("mtd", Interface::Mtd),
    ("xen", Interface::Xen),
];

impl Interface {
    fn word(self) -> &'static str {
        INTERFACES.iter().find(|(_, interface)| *interface == self).map_or("", |(word, _)| word)
    }

    /// Places on one bus; 0: there are no buses.
    fn places(self) -> u32 {
        match self {
            Self::Ide => 2,
            Self::Scsi => 7,
            _ => 0,
        }
    }
}

/// A drive.
#[derive(Debug, Clone)]
pub struct Drive {
    /// Its name.
    pub id: String,
    /// The image; empty for none.
    pub file: Option<String>,
    /// It is a CD.
    pub cd: bool,
    /// Writes go to a temporary overlay.
    pub snapshot: bool,
    interface: Interface,
    /// Where it is on its interface, counted over all buses.
    place: u32,
    /// It was said where.
    is_placed: bool,
    /// It has a name of its own.
    is_named: bool,
    format: Option<String>,
    options: Options,
    cache: Cache,
    aio: Option<String>,
    read_only: bool,
    on_error: (Option<BlockdevOnError>, Option<BlockdevOnError>),
    copy_on_read: bool,
    accounting: Accounting,
    limits: IoLimits,
    group: Option<String>,
}

impl Drive {
    fn at(interface: Interface, index: u32) -> Drive {
        Drive {
            id: String::new(),
            file: None,
            cd: false,
            snapshot: false,
            interface,
            place: index,
            is_placed: true,
            is_named: false,
            format: None,
            options: Options::new(),
            cache: Cache::WRITEBACK,
            aio: None,
            read_only: false,
            on_error: (None, None),
            copy_on_read: false,
            accounting: Accounting::default(),
            limits: IoLimits::default(),
            group: None,
        }
        .named()
    }

    /// A drive at a place of an interface, with an image in it.
    pub fn with_image(interface: Interface, index: u32, cd: bool, file: &str) -> Drive {
        Drive { file: Some(file.to_owned()), cd, ..Drive::at(interface, index) }.named()
    }

    /// Reads the options of `-drive`.
    pub fn parse(text: &str) -> Result<Drive, Failure> {
        let pairs = keyval::pairs(text, None).map_err(|error| Failure::new(error.to_string()))?;
        let mut drive = Drive::at(Interface::Ide, 0);
        let (mut index, mut bus, mut unit) = (None, None, None);
        let (mut rest, mut limits, mut intervals) = (Vec::new(), Limits::default(), Vec::new());
        for (name, value) in pairs {
            match name.as_str() {
                "if" => drive.interface = interface(&value)?,
                "index" => index = Some(number(&name, &value)?),
                "bus" => bus = Some(number(&name, &value)?),
                "unit" => unit = Some(number(&name, &value)?),
                "id" => (drive.id, drive.is_named) = (value, true),
                "media" => drive.cd = is_cd(&value)?,
                "file" => drive.file = Some(value),
                "format" => drive.format = Some(value),
                "snapshot" => drive.snapshot = switch(&name, &value)?,
                "readonly" | "read-only" => drive.read_only = switch(&name, &value)?,
                "cache" => {
                    let cache = Cache::parse_for("invalid cache option", &value);
                    drive.cache = cache.map_err(|error| Failure::new(error.to_string()))?;
                }
                "aio" => drive.aio = Some(value),
                "rerror" => drive.on_error.0 = Some(on_error(&name, &value)?),
                "werror" => drive.on_error.1 = Some(on_error(&name, &value)?),
                "copy-on-read" => drive.copy_on_read = switch(&name, &value)?,
                "stats-account-invalid" => drive.accounting.invalid = switch(&name, &value)?,
                "stats-account-failed" => drive.accounting.failed = switch(&name, &value)?,
                // They say nothing of the image.
                "serial" | "addr" | "cyls" | "heads" | "secs" | "trans" | "boot" => {}
                _ if limits.take(&name, &value)? => {}
                _ => match name.strip_prefix("stats-intervals.") {
                    Some(place) => intervals.push((place.to_owned(), value)),
                    None => rest.push((name, value)),
                },
            }
        }
        if index.is_some() && (bus.is_some() || unit.is_some()) {
            return Err(Failure::new("index cannot be used with bus and unit"));
        }
        drive.accounting.intervals = read_intervals(intervals)?;
        (drive.limits, drive.group) = (limits.checked()?, limits.group);
        let places = drive.interface.places();
        drive.is_placed = index.is_some() || unit.is_some();
        drive.place =
            index.unwrap_or(bus.unwrap_or(0).saturating_mul(places).saturating_add(unit.unwrap_or(0)));
        for (name, value) in rest {
            image::set_nested(&mut drive.options, &name, Opt::Str(value));
        }
        Ok(drive.named())
    }

    /// Gives it the next free place, unless it was said where it is; `taken` gets it.
    pub fn placed(mut self, taken: &mut Vec<(Interface, u32)>) -> Result<Drive, Failure> {
        while taken.contains(&(self.interface, self.place)) {
            if self.is_placed {
                let Drive { interface, place, .. } = self;
                let places = interface.places().max(1);
                let (bus, unit) = if places > 1 { (place / places, place % places) } else { (0, place) };
                return Err(Failure::new(format_args!(
                    "drive with bus={bus}, unit={unit} (index={place}) exists"
                )));
            }
            self = self.at_next_place();
        }
        taken.push((self.interface, self.place));
        Ok(self)
    }

    /// The same at the next place.
    fn at_next_place(self) -> Drive {
        Drive { place: self.place.saturating_add(1), ..self }.named()
    }

    /// Gives it the name that it has by its place, unless it has one of its own.
    fn named(self) -> Drive {
        if self.is_named {
            return self;
        }
        let (word, place) = (self.interface.word(), self.place);
        let id = match self.interface.places() {
            0 => format!("{word}{place}"),
            places => {
                let kind = if self.cd { "cd" } else { "hd" };
                format!("{word}{}-{kind}{}", place / places, place % places)
            }
        };
        Drive { id, ..self }
    }

    /// The same at the first place from its own on whose name is free.
    pub fn where_free(self, graph: &Graph) -> Drive {
        let mut drive = self;
        while !drive.is_named && !drive.is_placed && graph.device(&drive.id).is_some() {
            drive = drive.at_next_place();
        }
        drive
    }

    /// The model of the device that the machine has for it; none if the command line says what uses it.
    pub fn model(&self) -> Option<&'static str> {
        match (self.interface, self.cd) {
            (Interface::Ide, false) => Some("ide-hd"),
            (Interface::Ide, true) => Some("ide-cd"),
            (Interface::Scsi, false) => Some("scsi-hd"),
            (Interface::Scsi, true) => Some("scsi-cd"),
            (Interface::Floppy, _) => Some("floppy"),
            (Interface::Virtio, _) => Some("virtio-blk"),
            (Interface::Pflash, _) => Some("cfi.pflash01"),
            _ => None,
        }
    }

    /// Makes its device, with the image in it.
    pub async fn add(&self, graph: &Graph) -> Result<(), BlockError> {
        if graph.device(&self.id).is_some() {
            return Err(BlockError::invalid(format!("Duplicate ID '{}' for drive", self.id)));
        }
        let device = graph.add_device(&self.id)?;
        device.go_with_model();
        device.set_on_error(self.on_error.0, self.on_error.1);
        device.account().set_accounting(&self.accounting);
        let filled = async {
            monitor::limit_device(graph, &device, self.group.as_deref(), self.limits)?;
            self.fill(graph, &device).await
        };
        let filled = filled.await;
        if filled.is_err() {
            graph.remove_device(&device).await?;
        }
        filled
    }

    /// Opens the image, if there is one, and puts it in.
    async fn fill(&self, graph: &Graph, device: &Arc<Device>) -> Result<(), BlockError> {
        let is_empty = self.file.as_ref().is_none_or(String::is_empty) && self.options.is_empty();
        if is_empty && self.format.is_none() {
            return Ok(());
        }
        let mut node = self.open(graph).await?;
        if self.copy_on_read && node.read_only() {
            graph.notices().warn("disabling copy-on-read on read-only drive");
        } else if self.copy_on_read {
            let copying = image::copying_node(graph, &node).await;
            if copying.is_err() {
                graph.release(&node).await?;
            }
            device.copy_on_read();
            node = copying?;
        }
        let inserted = graph.put_in(device, node.clone()).await;
        if inserted.is_err() {
            graph.release(&node).await?;
        }
        inserted
    }

    async fn open(&self, graph: &Graph) -> Result<Arc<Node>, BlockError> {
        let writable = !self.read_only && !self.cd;
        let mut options = self.options.clone();
        let mut cache = self.cache;
        if let Some(mut given) = options.take_dict("cache")? {
            cache.direct = given.take_bool("direct")?.unwrap_or(cache.direct);
            cache.no_flush = given.take_bool("no-flush")?.unwrap_or(cache.no_flush);
            cache.writeback = given.take_bool("writeback")?.unwrap_or(cache.writeback);
            given.finish()?;
        }
        let aio = self.aio.as_deref().map(cache::parse_aio).transpose();
        let source = Source {
            format: self.format.clone(),
            options,
            writable: writable && !self.snapshot,
            discard: false,
            cache,
            aio: aio.map_err(|error| BlockError::invalid(error.to_string()))?,
            ..Source::named(self.file.as_deref().unwrap_or_default())
        };
        let opened = image::open_node(graph, &source).await;
        let node = opened.map_err(|error| match &self.file {
            Some(file) if !file.is_empty() => error.context(format!("Could not open '{file}'")),
            _ => error,
        })?;
        if !self.snapshot {
            return Ok(node);
        }
        let overlaid = image::overlay_node(graph, &node, &source).await;
        if overlaid.is_err() {
            graph.release(&node).await?;
        }
        overlaid
    }
}

fn interface(word: &str) -> Result<Interface, Failure> {
    let found = INTERFACES.iter().find(|(name, _)| *name == word).map(|(_, interface)| *interface);
    found.ok_or_else(|| Failure::new(format_args!("unsupported bus type '{word}'")))
}

fn is_cd(word: &str) -> Result<bool, Failure> {
    match word {
        "disk" => Ok(false),
        "cdrom" => Ok(true),
        _ => Err(Failure::new(format_args!("'{word}' invalid media"))),
    }
}

/// Reads a list whose places were given one by one.
fn read_intervals(mut given: Vec<(String, String)>) -> Result<Vec<u32>, Failure> {
    let mut intervals = Vec::new();
    while let Some(at) = given.iter().position(|(place, _)| *place == intervals.len().to_string()) {
        let (_, value) = given.swap_remove(at);
        let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
        intervals
            .push(seconds.ok_or_else(|| Failure::new(format_args!("Invalid interval length: {value}")))?);
    }
    match given.first() {
        None => Ok(intervals),
        Some((place, _)) => Err(Failure::new(format_args!("Invalid option stats-intervals.{place}"))),
    }
}

fn number(name: &str, value: &str) -> Result<u32, Failure> {
    value.parse().map_err(|_| Failure::new(format_args!("Parameter '{name}' expects a number")))
}

fn switch(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(Failure::new(format_args!("Parameter '{name}' expects 'on' or 'off'"))),
    }
}

fn on_error(name: &str, value: &str) -> Result<BlockdevOnError, Failure> {
    let reads = name == "rerror";
    let possible = |value: &BlockdevOnError| match value {
        BlockdevOnError::Auto => false,
        BlockdevOnError::Enospc => !reads,
        _ => true,
    };
    let found = BlockdevOnError::from_name(value).filter(possible);
    let kind = if reads { "read" } else { "write" };
    found.ok_or_else(|| Failure::new(format_args!("'{value}' invalid {kind} error action")))
}
