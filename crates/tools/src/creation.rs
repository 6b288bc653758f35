//! Creating images: the `-o` options by the tables of the format and of the protocol below it, backing files, and the
//! line that tells what is about to be made.

use crate::console::Console;
use crate::failure::Failure;
use crate::image::{self, Source};
use crate::size::{self, SizeError};
use crate::{out, outln};
use api::keyval;
use block::{
    Backend, BlockError, CreateOption, DriverKind, DriverType, Graph, Measured, Node, Opt, OptionKind,
    Options,
};
use std::sync::Arc;

/// Virtual sizes of new images are rounded up to this.
const SECTOR: u64 = 512;

/// An `-o` list that grows with each `-o`.
#[derive(Clone, Debug, Default)]
pub struct OptionList(String);

impl OptionList {
    /// Adds what one `-o` gives.
    pub fn add(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() || text.starts_with(',') || keyval::split(text).iter().any(String::is_empty) {
            return Err(Failure::new(format_args!("Invalid option list: {text}")));
        }
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(text);
        Ok(())
    }

    /// All that was given, as one `-o` would.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether help is asked for.
    pub fn wants_help(&self) -> bool {
        keyval::split(&self.0).iter().any(|part| part == "help" || part == "?")
    }

    /// Those of them that an encrypted image is opened with again: which secret, and what it is for.
    pub fn to_open(&self) -> Result<Options, Failure> {
        let mut options = Options::new();
        for (name, text) in self.pairs()? {
            if name.ends_with("key-secret") || name == "encrypt.format" {
                options.set(name, Opt::Str(text));
            }
        }
        Ok(options)
    }

    fn pairs(&self) -> Result<Vec<(String, String)>, Failure> {
        keyval::pairs(&self.0, None).map_err(Failure::new)
    }
}

/// What is to be made.
pub struct Creation {
    format: &'static DriverType,
    protocol: &'static DriverType,
    filename: String,
    options: Options,
}

/// The drivers that make an image of this format under this name.
fn drivers(
    graph: &Graph,
    format: &str,
    filename: &str,
) -> Result<(&'static DriverType, &'static DriverType), Failure> {
    let driver = graph.registry().find_or(format, |format| format!("Unknown file format '{format}'"))?;
    if filename.starts_with("json:") {
        return Err(Failure::new(
            "a new image needs a plain file name or URI: 'json:' describes what exists",
        ));
    }
    let (protocol, _) = graph.protocol_options(filename)?;
    let protocol = graph.registry().need(&protocol)?;
    if driver.create.is_none() {
        let kind = if driver.kind == DriverKind::Format { "Format" } else { "Protocol" };
        return Err(Failure::new(format_args!("{kind} driver '{format}' does not support image creation")));
    }
    if protocol.create.is_none() {
        return Err(Failure::new(format_args!(
            "Protocol driver '{}' does not support image creation",
            protocol.name
        )));
    }
    if driver.kind == DriverKind::Protocol && driver != protocol && !filename.is_empty() {
        return Err(Failure::new(format_args!("'{filename}' is no name that protocol '{format}' knows")));
    }
    Ok((driver, protocol))
}

impl Creation {
    /// Reads the options for an image of `format` called `filename`.
    pub fn new(graph: &Graph, format: &str, filename: &str, list: &OptionList) -> Result<Creation, Failure> {
        let (format, protocol) = drivers(graph, format, filename)?;
        let mut creation =
            Creation { format, protocol, filename: filename.to_owned(), options: Options::new() };
        for (name, text) in list.pairs()? {
            creation.set(&name, &text)?;
        }
        Ok(creation)
    }

    /// An image of which all options are known.
    pub fn described(
        graph: &Graph,
        format: &str,
        filename: &str,
        options: Options,
    ) -> Result<Creation, Failure> {
        let (format, protocol) = drivers(graph, format, filename)?;
        Ok(Creation { format, protocol, filename: filename.to_owned(), options })
    }

    /// Whether it is written as one stream.
    pub fn streams(&self) -> bool {
        (self.format.streams)(&self.options)
    }

    /// Sets an option from its text.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let option = self.table().find(|option| option.name == name);
        let Some(option) = option else {
            return Err(Failure::new(format_args!("Invalid parameter '{name}'")));
        };
        self.options.set(name, value(option, text)?);
        Ok(())
    }

    /// All options there are: the format's, then those of the protocol that the format has not.
    fn table(&self) -> impl Iterator<Item = &'static CreateOption> {
        let (format, protocol) = (self.format.create_options, self.protocol.create_options);
        let same = self.format == self.protocol;
        let more = protocol
            .iter()
            .filter(move |option| !same && format.iter().all(|other| other.name != option.name));
        format.iter().chain(more)
    }

    /// The text of an option, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.options.get_str(name)
    }

    /// The number or size that an option has, if it was given.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.options.get(name) {
            Some(Opt::Uint(number)) => Some(*number),
            _ => None,
        }
    }

    /// The size, if it was given.
    pub fn size(&self) -> Option<u64> {
        self.number("size")
    }

    /// Whether what is to be made has a size.
    pub fn has_size(&self) -> bool {
        !self.table().any(|option| option.without_size && self.is_on(option.name))
    }

    /// Whether a switch was given, and on.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.options.get(name), Some(Opt::Bool(true)))
    }

    /// Sets the size.
    pub fn set_size(&mut self, size: u64) {
        self.options.set("size", Opt::Uint(size));
    }

    /// Whether images of the format may have a backing file.
    pub fn supports_backing(&self) -> bool {
        self.format.supports_backing
    }

    /// Sets the backing file and its format.
    pub fn set_backing(&mut self, filename: Option<&str>, format: Option<&str>) -> Result<(), Failure> {
        for (name, text) in [("backing_file", filename), ("backing_fmt", format)] {
            let Some(text) = text else { continue };
            if !self.supports_backing() {
                return Err(Failure::new(format_args!(
                    "Backing {} not supported for file format '{}'",
                    if name == "backing_file" { "file" } else { "format" },
                    self.format.name
                )));
            }
            self.options.set(name, Opt::Str(text.to_owned()));
        }
        Ok(())
    }

    /// Tells what is about to be made.
    pub fn tell(&self, console: &mut Console) {
        let name = block::hide_passwords(&self.filename);
        out!(console, "Formatting '{name}', fmt={}", self.format.name);
        for option in self.table() {
            let name = option.name;
            match (self.options.get(name), option.default) {
                (Some(value), _) => out!(console, " {name}={}", told_value(value)),
                (None, Some(default)) => out!(console, " {name}={default}"),
                (None, None) => {}
            }
        }
        outln!(console);
        console.flush();
    }

    /// How large the image would be with `size` bytes, filled with what `source` holds.
    pub async fn measure(
        &self,
        graph: &Graph,
        size: u64,
        source: Option<&Backend>,
    ) -> Result<Measured, BlockError> {
        let (format, protocol) = (self.format.name, self.protocol.name);
        graph.measure(format, protocol, size, self.options.clone(), source).await
    }

    /// Makes the image.
    pub async fn make(self, graph: &Graph) -> Result<(), BlockError> {
        let mut options = self.options;
        let size = match options.take("size") {
            Some(Opt::Uint(size)) => size,
            _ => 0,
        };
        let Some(size) = size.checked_next_multiple_of(SECTOR).filter(|size| i64::try_from(*size).is_ok())
        else {
            return Err(BlockError::invalid("the image size is too large"));
        };
        graph.create(self.format.name, &self.filename, size, options).await
    }
}

fn told_value(value: &Opt) -> String {
    match value {
        Opt::Bool(on) => (if *on { "on" } else { "off" }).to_owned(),
        Opt::Int(number) => number.to_string(),
        Opt::Uint(number) => number.to_string(),
        Opt::Str(text) => keyval::escape(&block::hide_passwords(text)),
        Opt::Null | Opt::List(_) | Opt::Dict(_) => String::new(),
    }
}

/// Reads an option's text by what its value is.
fn value(option: &CreateOption, text: &str) -> Result<Opt, Failure> {
    let name = option.name;
    match option.kind {
        OptionKind::Str => Ok(Opt::Str(text.to_owned())),
        OptionKind::Bool => match text {
            "on" | "yes" | "true" | "y" => Ok(Opt::Bool(true)),
            "off" | "no" | "false" | "n" => Ok(Opt::Bool(false)),
            _ => Err(Failure::new(format_args!("Parameter '{name}' expects 'on' or 'off'"))),
        },
        OptionKind::Number => match size::whole(text) {
            Some(number) => Ok(Opt::Uint(number)),
            None => Err(Failure::new(format_args!("Parameter '{name}' expects a number"))),
        },
        OptionKind::Size => size_value(name, text).map(Opt::Uint),
    }
}

/// Reads the size that the parameter `name` has.
pub fn size_value(name: &str, text: &str) -> Result<u64, Failure> {
    size::parse(text).map_err(|error| match error {
        SizeError::Range => {
            Failure::new(format_args!("Value '{text}' is out of range for parameter '{name}'"))
        }
        SizeError::Invalid => Failure::new(format_args!(
            "Parameter '{name}' expects a non-negative number below 2^64\n\
             Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n\
             and exabytes, respectively."
        )),
    })
}

/// Lists the options for images of `format`, with those of the protocol if a file name tells it.
pub fn option_help(console: &mut Console, format: &str, filename: Option<&str>) -> Result<(), Failure> {
    let graph = image::graph();
    let (driver, protocol) = drivers(&graph, format, filename.unwrap_or_default())?;
    let mut table: Vec<&CreateOption> = driver.create_options.iter().collect();
    if filename.is_some() {
        let known = table.clone();
        let more = protocol.create_options.iter();
        let told = |option: &CreateOption| known.iter().any(|k| k.name == option.name && !k.help.is_empty());
        table.extend(more.filter(|option| !told(option)));
        outln!(console, "Supported options:");
    } else {
        outln!(console, "Supported {format} options:");
    }
    list_options(console, table);
    if filename.is_none() && driver != protocol {
        outln!(console, "\nThe protocol level may support further options.");
        outln!(console, "Specify the target filename to include those options.");
    }
    Ok(())
}

/// The options of a change of an image, by the table of its driver.
pub fn amend_options(node: &Node, list: &OptionList) -> Result<Options, Failure> {
    let table = amend_table(node.driver_type())?;
    let mut options = Options::new();
    for (name, text) in list.pairs()? {
        let option = table.iter().find(|option| option.name == name);
        let Some(option) = option else {
            let at_creation = node.driver_type().create_options.iter().any(|option| option.name == name);
            let hint = if at_creation { "\nThis option is only supported for image creation" } else { "" };
            return Err(Failure::new(format_args!("Invalid parameter '{name}'{hint}")));
        };
        options.set(name, value(option, &text)?);
    }
    Ok(options)
}

fn amend_table(driver: &'static DriverType) -> Result<&'static [CreateOption], Failure> {
    if driver.amend_options.is_empty() {
        return Err(no_amendment(driver.name));
    }
    Ok(driver.amend_options)
}

fn no_amendment(format: &str) -> Failure {
    Failure::new(format_args!("Format driver '{format}' does not support option amendment"))
}

/// Lists the options for changes of images of `format`.
pub fn amend_help(console: &mut Console, format: &str) -> Result<(), Failure> {
    let registry = image::registry();
    let driver = registry.find_or(format, |format| format!("Unknown file format '{format}'"))?;
    let table = amend_table(driver)?;
    outln!(console, "Amend options for '{format}':");
    list_options(console, table.iter().collect());
    Ok(())
}

fn list_options(console: &mut Console, mut table: Vec<&CreateOption>) {
    table.retain(|option| !option.help.is_empty());
    table.sort_by_key(|option| option.name);
    for option in table {
        let kind = match option.kind {
            OptionKind::Str => "str",
            OptionKind::Bool => "bool (on/off)",
            OptionKind::Number => "num",
            OptionKind::Size => "size",
        };
        outln!(console, "  {:<22} - {}", format!("{}=<{kind}>", option.name), option.help);
    }
}

/// Opens a backing file before an overlay of it is made: its size is known then, and that its format was not left to
/// chance. Open it stays until the overlay is made: no image is made in a file that the overlay is to stand on.
pub async fn open_backing(
    graph: &Graph,
    overlay: &str,
    filename: &str,
    format: Option<&str>,
    cannot_open: impl FnOnce(BlockError) -> Failure,
) -> Result<Arc<Node>, Failure> {
    let full = block::resolve_filename(overlay, filename);
    if full == overlay {
        return Err(Failure::new(
            "Error: Trying to create an image with the same filename as the backing file",
        ));
    }
    // Only its header is looked at. A base that a server writes to is looked at too: overlays of running disks are made so.
    let source = Source::named(&full).format(format).force_share(true).without_content();
    let node = image::open_node(graph, &source).await.map_err(cannot_open)?;
    if format.is_some() {
        return Ok(node);
    }
    let driver = node.driver_name();
    graph.release(&node).await?;
    Err(Failure::new(format_args!(
        "Backing file specified without backing format\nDetected format of {driver}."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_something_else_than_the_format_are_refused_before_anything_is_touched() {
        let refused = |format, filename| {
            Creation::new(&image::graph(), format, filename, &OptionList::default()).err().map(|f| f.code())
        };
        assert_eq!(refused("nbd", "disk.raw"), Some(1));
        assert_eq!(refused("qcow2", r#"json:{"driver":"file","filename":"disk"}"#), Some(1));
        assert_eq!(refused("file", "disk.raw"), None);
        assert_eq!(refused("qcow2", "disk.qcow2"), None);
    }
}
