//! The two generations of the interface: what commands of QEMU 2.1 look like, in today's shape.
//!
//! ```text
//! {"options": {"driver": …, "id": "d0", "aio": "native", "file": {…}}}   of blockdev-add, then
//! {"driver": …, "id": "d0", "file": {"aio": "native", …}}                today
//! ```
//! Where the two contradict each other, a program speaks today's, unless it is told otherwise ([`Generation`]).
use api::{Dict, Value};
use jobs::JobError;

/// What is answered where the generations contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Generation {
    /// What QEMU 2.1 answered.
    First,
    /// What QEMU answers today.
    #[default]
    Todays,
}

/// Commands of the first generation that told a device that is not there by the class of the error.
const OF_DEVICES: [&str; 5] =
    ["block_resize", "blockdev-snapshot-sync", "block-stream", "drive-backup", "drive-mirror"];

impl Generation {
    /// The one of that version of QEMU.
    pub fn of_version(version: &str) -> Option<Self> {
        match version {
            "2.1" => Some(Self::First),
            "10.0" => Some(Self::Todays),
            _ => None,
        }
    }

    /// The device that the command is about, where one that is not there has a class of its own.
    pub(crate) fn device_to_find<'a>(self, command: &str, arguments: &'a Dict) -> Option<&'a str> {
        let told = self == Self::First && OF_DEVICES.contains(&command);
        arguments.get("device").filter(|_| told)?.as_str()
    }

    /// A verb that changes nothing, for the job does what it says already, was no mistake.
    pub(crate) fn of_verb(self, result: Result<(), JobError>) -> Result<(), JobError> {
        match result {
            Err(JobError::AlreadyPaused | JobError::NotPaused) if self == Self::First => Ok(()),
            result => result,
        }
    }
}

/// The arguments of a command in today's shape.
pub(crate) fn todays(command: &str, mut arguments: Dict) -> Dict {
    if command != "blockdev-add" || arguments.len() != 1 {
        return arguments;
    }
    match arguments.remove("options") {
        Some(Value::Dict(options)) => aio_of_the_file(options),
        Some(other) => [("options", other)].into_iter().collect(),
        None => arguments,
    }
}

/// How requests reach the kernel was said of any node then, and is said of the file now.
fn aio_of_the_file(mut options: Dict) -> Dict {
    let is_image = options.get("file").is_some_and(|file| file.as_dict().is_some());
    if let Some(aio) = options.get("aio").cloned().filter(|_| is_image)
        && let Some(Value::Dict(file)) = options.get_mut("file")
    {
        if !file.contains("aio") {
            file.insert("aio", aio);
        }
        options.remove("aio");
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn today(command: &str, text: &str) -> String {
        let Ok(Value::Dict(arguments)) = api::json::parse(text) else { return String::new() };
        Value::Dict(todays(command, arguments)).to_string()
    }

    #[test]
    fn a_node_of_the_first_generation_is_one_of_today() {
        let old =
            r#"{"options": {"driver": "qcow2", "id": "d", "aio": "native", "file": {"driver": "file"}}}"#;
        let new = r#"{"driver": "qcow2", "id": "d", "file": {"aio": "native", "driver": "file"}}"#;
        assert_eq!(api::json::parse(&today("blockdev-add", old)), api::json::parse(new));
        let nested = r#"{"options": {"driver": "raw", "file": "n", "aio": "native"}}"#;
        assert!(today("blockdev-add", nested).contains("aio"), "it is refused later, by its name");
        for (command, same) in [("blockdev-add", new), ("blockdev-reopen", r#"{"options": [1]}"#)] {
            assert_eq!(api::json::parse(&today(command, same)), api::json::parse(same));
        }
    }
}
