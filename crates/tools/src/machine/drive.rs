//! Drives: a device with the image that is in it, as `-drive` and `drive_add` describe them.

use crate::cache::{self, Cache};
use crate::failure::Failure;
use crate::image::{self, Source};
use api::{BlockdevOnError, Enumeration, keyval};
use block::{BlockError, Graph, Opt, Options};

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
    format: Option<String>,
    options: Options,
    cache: Cache,
    aio: Option<String>,
    read_only: bool,
    on_error: (Option<BlockdevOnError>, Option<BlockdevOnError>),
}

impl Drive {
    fn at(interface: Interface, index: u32) -> Drive {
        Drive {
            id: String::new(),
            file: None,
            cd: false,
            snapshot: false,
            interface,
            format: None,
            options: Options::new(),
            cache: Cache::WRITEBACK,
            aio: None,
            read_only: false,
            on_error: (None, None),
        }
        .named(None, Some(index))
    }

    /// A drive at a place of an interface, with an image in it.
    pub fn with_image(interface: Interface, index: u32, cd: bool, file: &str) -> Drive {
        Drive { file: Some(file.to_owned()), cd, ..Drive::at(interface, index) }.named(None, Some(index))
    }

    /// Reads the options of `-drive`.
    pub fn parse(text: &str) -> Result<Drive, Failure> {
        let pairs = keyval::pairs(text, None).map_err(|error| Failure::new(error.to_string()))?;
        let mut drive = Drive::at(Interface::Ide, 0);
        let (mut index, mut bus, mut unit, mut id) = (None, None, None, None);
        let mut rest = Vec::new();
        for (name, value) in pairs {
            match name.as_str() {
                "if" => drive.interface = interface(&value)?,
                "index" => index = Some(number(&name, &value)?),
                "bus" => bus = Some(number(&name, &value)?),
                "unit" => unit = Some(number(&name, &value)?),
                "id" => id = Some(value),
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
                // They say nothing of the image.
                "serial" | "addr" | "cyls" | "heads" | "secs" | "trans" | "boot" => {}
                _ => rest.push((name, value)),
            }
        }
        if index.is_some() && (bus.is_some() || unit.is_some()) {
            return Err(Failure::new("index cannot be used with bus and unit"));
        }
        let places = drive.interface.places();
        let place =
            index.unwrap_or(bus.unwrap_or(0).saturating_mul(places).saturating_add(unit.unwrap_or(0)));
        for (name, value) in rest {
            image::set_nested(&mut drive.options, &name, Opt::Str(value));
        }
        Ok(drive.named(id, Some(place)))
    }

    /// Gives it the name that it has by its place, unless it has one of its own.
    fn named(self, id: Option<String>, place: Option<u32>) -> Drive {
        let place = place.unwrap_or(0);
        let id = id.unwrap_or_else(|| {
            let word = self.interface.word();
            match self.interface.places() {
                0 => format!("{word}{place}"),
                places => {
                    let kind = if self.cd { "cd" } else { "hd" };
                    format!("{word}{}-{kind}{}", place / places, place % places)
                }
            }
        });
        Drive { id, ..self }
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
        let is_empty = self.file.as_ref().is_none_or(String::is_empty) && self.options.is_empty();
        if is_empty && self.format.is_none() {
            return Ok(());
        }
        let filled = async {
            let node = self.open(graph).await?;
            let inserted = graph.put_in(&device, node.clone()).await;
            if inserted.is_err() {
                graph.release(&node).await?;
            }
            inserted
        };
        let filled = filled.await;
        if filled.is_err() {
            graph.remove_device(&device).await?;
        }
        filled
    }

    async fn open(&self, graph: &Graph) -> Result<std::sync::Arc<block::Node>, BlockError> {
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
    let found = BlockdevOnError::from_name(value).filter(|value| *value != BlockdevOnError::Auto);
    let kind = if name == "rerror" { "read" } else { "write" };
    found.ok_or_else(|| Failure::new(format_args!("'{value}' invalid {kind} error action")))
}
