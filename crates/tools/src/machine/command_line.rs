//! The command line of a machine: which words there are, which take an argument, and what is made of them.
//!
//! What has nothing to do with the block layer is accepted and without effect, so that scripts written for whole machines
//! run; `-d unimp` says what it was.

use super::drive::{Drive, Interface};
use super::option::MachineOption;
use crate::failure::Failure;
use monitor::daemon::DaemonOption;
use std::path::PathBuf;

/// Words without effect that take an argument.
const IGNORED_WITH: &[&str] = &[
    "accel",
    "acpitable",
    "action",
    "append",
    "audio",
    "audiodev",
    "bios",
    "boot",
    "chroot",
    "cpu",
    "debugcon",
    "device-id",
    "display",
    "dtb",
    "echr",
    "fsdev",
    "fw_cfg",
    "gdb",
    "global",
    "icount",
    "initrd",
    "k",
    "kernel",
    "L",
    "m",
    "M",
    "machine",
    "mem-path",
    "msg",
    "name",
    "net",
    "netdev",
    "nic",
    "numa",
    "option-rom",
    "parallel",
    "plugin",
    "prom-env",
    "qtest-log",
    "rtc",
    "runas",
    "run-with",
    "sandbox",
    "serial",
    "set",
    "smbios",
    "smp",
    "spice",
    "tb-size",
    "tpmdev",
    "usbdevice",
    "uuid",
    "vga",
    "virtfs",
    "vnc",
    "watchdog-action",
];

/// Words without effect that stand alone.
const IGNORED: &[&str] = &[
    "enable-kvm",
    "full-screen",
    "mem-prealloc",
    "no-acpi",
    "no-fd-bootchk",
    "no-hpet",
    "no-reboot",
    "no-shutdown",
    "no-user-config",
    "nodefaults",
    "nodefconfig",
    "nographic",
    "only-migratable",
    "usb",
    "win2k-hack",
];

/// Drives by their places: the word, what they hang on, the number, and whether it is a CD.
const PLACES: &[(&str, Interface, u32, bool)] = &[
    ("hda", Interface::Ide, 0, false),
    ("hdb", Interface::Ide, 1, false),
    ("hdc", Interface::Ide, 2, false),
    ("hdd", Interface::Ide, 3, false),
    ("cdrom", Interface::Ide, 2, true),
    ("fda", Interface::Floppy, 0, false),
    ("fdb", Interface::Floppy, 1, false),
    ("sd", Interface::Sd, 0, false),
    ("pflash", Interface::Pflash, 0, false),
];

/// What a command line asks for.
#[derive(Default)]
pub struct Asked {
    /// Its options, in the order in which they are carried out.
    pub options: Vec<MachineOption>,
    /// It begins stopped.
    pub stopped: bool,
    /// It goes to the background when all is set up.
    pub daemonize: bool,
    /// Only what this prints.
    pub only: Option<Only>,
    /// What is logged.
    pub trace: Option<String>,
    /// Words that have no effect.
    pub ignored: Vec<String>,
}

/// What is printed instead of running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// The help.
    Help,
    /// The version.
    Version,
    /// What there is of a kind: models of devices.
    Devices,
    /// Drivers of images.
    Formats,
    /// Nothing but that there is one kind.
    Nothing,
}

/// Reads a command line.
pub fn read(args: &[String]) -> Result<Asked, Failure> {
    let mut reader = Reader {
        rest: args.iter(),
        asked: Asked::default(),
        snapshot: false,
        monitors: 0,
        places: Vec::new(),
    };
    while let Some(arg) = reader.rest.next() {
        match arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|word| !word.is_empty()) {
            Some(word) => reader.word(arg, word)?,
            None => {
                let drive = Drive::with_image(Interface::Ide, 0, false, arg);
                reader.drive(drive, arg.clone())?;
            }
        }
    }
    let Reader { mut asked, snapshot, .. } = reader;
    if snapshot {
        asked.options.iter_mut().for_each(MachineOption::overlay);
    }
    // Objects are there before what refers to them, nodes before drives, both before devices; monitors come last.
    asked.options.sort_by_key(MachineOption::rank);
    Ok(asked)
}

struct Reader<'a> {
    rest: std::slice::Iter<'a, String>,
    asked: Asked,
    snapshot: bool,
    /// Places that drives have.
    places: Vec<(Interface, u32)>,
    /// Monitors that were given without a character device of their own.
    monitors: u32,
}

impl Reader<'_> {
    fn argument(&mut self, word: &str) -> Result<String, Failure> {
        let next = self.rest.next().cloned();
        next.ok_or_else(|| Failure::new(format_args!("{word}: requires an argument")))
    }

    fn push(&mut self, option: MachineOption) {
        self.asked.options.push(option);
    }

    fn drive(&mut self, drive: Drive, text: String) -> Result<(), Failure> {
        let drive = drive.placed(&mut self.places)?;
        self.push(MachineOption::Drive(Box::new(drive), text));
        Ok(())
    }

    fn word(&mut self, given: &str, word: &str) -> Result<(), Failure> {
        match word {
            "h" | "help" => self.asked.only = Some(Only::Help),
            "version" => self.asked.only = Some(Only::Version),
            "S" => self.asked.stopped = true,
            "snapshot" => self.snapshot = true,
            "daemonize" => self.asked.daemonize = true,
            "T" | "trace" | "d" | "D" => {
                let what = self.argument(given)?;
                if word == "T" {
                    self.asked.trace = Some(what);
                }
            }
            // QEMU's own word, which is about how members are deprecated, has no effect.
            "compat" => match self.argument(given)? {
                version if version.contains('=') => self.asked.ignored.push(format!("-compat {version}")),
                version => self.push(MachineOption::Daemon(DaemonOption::Compat(version))),
            },
            "blockdev" => {
                let text = self.argument(given)?;
                self.push(MachineOption::Daemon(DaemonOption::Blockdev(text)));
            }
            "object" => {
                let text = self.argument(given)?;
                self.push(MachineOption::Daemon(DaemonOption::Object(text)));
            }
            "metrics" => {
                let text = self.argument(given)?;
                self.push(MachineOption::Daemon(DaemonOption::Metrics(text)));
            }
            "chardev" => {
                let text = self.argument(given)?;
                self.push(MachineOption::Chardev(spelt_out(&text)));
            }
            "job-state" => {
                let dir = self.argument(given)?;
                self.push(MachineOption::Daemon(DaemonOption::JobState(rt::fs::path(dir))));
            }
            "pidfile" => {
                let path = self.argument(given)?;
                self.push(MachineOption::Daemon(DaemonOption::Pidfile(PathBuf::from(path))));
            }
            "mon" => {
                let text = self.argument(given)?;
                self.push(MachineOption::Monitor(text));
            }
            "qmp" | "qmp-pretty" | "monitor" => {
                let place = self.argument(given)?;
                self.monitor(word, &place)?;
            }
            "qtest" => {
                let place = self.argument(given)?;
                self.push(MachineOption::Qtest(place));
            }
            "drive" => {
                let text = self.argument(given)?;
                if text == "format=help" {
                    self.asked.only = Some(Only::Formats);
                    return Ok(());
                }
                self.drive(Drive::parse(&text)?, text)?;
            }
            "device" => {
                let text = self.argument(given)?;
                if matches!(text.as_str(), "help" | "?") {
                    self.asked.only = Some(Only::Devices);
                    return Ok(());
                }
                self.push(MachineOption::Device(text));
            }
            "incoming" => {
                let from = self.argument(given)?;
                self.push(MachineOption::Incoming(from));
            }
            "add-fd" => {
                let text = self.argument(given)?;
                self.push(MachineOption::AddFd(text));
            }
            word => return self.other(given, word),
        }
        Ok(())
    }

    fn other(&mut self, given: &str, word: &str) -> Result<(), Failure> {
        if let Some((_, interface, index, cd)) = PLACES.iter().find(|(name, ..)| *name == word) {
            let file = self.argument(given)?;
            let drive = Drive::with_image(*interface, *index, *cd, &file);
            return self.drive(drive, file);
        }
        if IGNORED_WITH.contains(&word) {
            let argument = self.argument(given)?;
            if argument == "help" {
                self.asked.only = Some(Only::Nothing);
            }
            self.asked.ignored.push(format!("-{word} {argument}"));
        } else if IGNORED.contains(&word) {
            self.asked.ignored.push(format!("-{word}"));
        } else {
            return Err(Failure::new(format_args!("{given}: invalid option")));
        }
        Ok(())
    }

    /// A monitor on a character device that is described in a word: `stdio`, `unix:PATH,server=on,wait=off`,
    /// `tcp:HOST:PORT,…`, `none`, or `chardev:ID`.
    fn monitor(&mut self, word: &str, place: &str) -> Result<(), Failure> {
        let mode = if word == "monitor" { "readline" } else { "control" };
        let pretty = if word == "qmp-pretty" { ",pretty=on" } else { "" };
        if matches!(place, "none" | "null" | "vc") {
            return Ok(());
        }
        if let Some(id) = place.strip_prefix("chardev:") {
            self.push(MachineOption::Monitor(format!("chardev={id},mode={mode}{pretty}")));
            return Ok(());
        }
        let id = format!("compat_monitor{}", self.monitors);
        self.monitors += 1;
        let (what, more) =
            place.split_once(',').map_or((place, String::new()), |(a, b)| (a, format!(",{b}")));
        let chardev = match what.split_once(':') {
            None if what == "stdio" => "stdio".to_owned(),
            Some(("unix", path)) => format!("socket,path={path}"),
            Some(("tcp", address)) => match address.rsplit_once(':') {
                Some((host, port)) => format!("socket,host={host},port={port}"),
                None => return Err(Failure::new(format_args!("'{place}': a port is missing"))),
            },
            _ => return Err(Failure::new(format_args!("could not parse device address '{place}'"))),
        };
        self.push(MachineOption::Chardev(spelt_out(&format!("{chardev},id={id}{more}"))));
        self.push(MachineOption::Monitor(format!("chardev={id},mode={mode}{pretty}")));
        Ok(())
    }
}

/// A character device whose flags have their values: QEMU takes `server` and `nowait` alone too, as older programs write them.
fn spelt_out(chardev: &str) -> String {
    let parts = chardev.split(',').map(|part| match part {
        "server" => "server=on",
        "wait" => "wait=on",
        "nowait" => "wait=off",
        other => other,
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Vec<String> {
        use monitor::daemon::StartOption;
        let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let asked = read(&args).map_err(|failure| failure.message().to_owned());
        asked.map_or_else(
            |mistake| vec![mistake],
            |asked| asked.options.iter().map(StartOption::shown).collect(),
        )
    }

    #[test]
    fn options_are_carried_out_in_the_order_in_which_they_need_each_other() {
        let line = "-device scsi-hd,drive=d -drive if=none,id=d -qmp stdio -object secret,id=s \
                    -blockdev null-co,node-name=n -S -m 1G --nodefaults -machine pc";
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            shown(&line),
            [
                "-object secret,id=s",
                "-blockdev null-co,node-name=n",
                "-drive if=none,id=d",
                "-device scsi-hd,drive=d",
                "-chardev stdio,id=compat_monitor0",
                "-mon chardev=compat_monitor0,mode=control",
            ]
        );
    }

    #[test]
    fn flags_of_a_socket_may_stand_alone() {
        let want = [
            "-chardev socket,path=q,id=compat_monitor0,server=on,wait=off",
            "-mon chardev=compat_monitor0,mode=control",
        ];
        assert_eq!(shown("-qmp unix:q,server,nowait"), want);
        assert_eq!(shown("-qmp unix:q,server=on,wait=off"), want);
    }

    #[test]
    fn a_mistake_is_told_by_its_word() {
        assert_eq!(shown("-nonsense"), ["-nonsense: invalid option"]);
        assert_eq!(shown("-drive"), ["-drive: requires an argument"]);
        assert_eq!(shown("-drive if=foo"), ["unsupported bus type 'foo'"]);
        assert_eq!(shown("-drive index=1,unit=1"), ["index cannot be used with bus and unit"]);
        assert_eq!(shown("-qmp foo"), ["could not parse device address 'foo'"]);
    }

    #[test]
    fn drives_take_the_places_that_are_free() {
        let named = |line: &str| {
            let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let asked = read(&args).map_err(|failure| failure.message().to_owned())?;
            let drives = asked.options.iter().filter_map(|option| match option {
                MachineOption::Drive(drive, _) => Some(drive.id.clone()),
                _ => None,
            });
            Ok::<_, String>(drives.collect::<Vec<_>>())
        };
        let line = "-drive if=none,id=a -drive if=none -drive media=disk -drive index=1 -drive media=disk x -cdrom y";
        assert_eq!(named(line).unwrap_err(), "drive with bus=0, unit=0 (index=0) exists");
        let line = line.replace(" x ", " ").replace("-drive media=disk -cdrom", "-cdrom");
        assert_eq!(named(&line).unwrap(), ["a", "none1", "ide0-hd0", "ide0-hd1", "ide1-cd0"]);
        assert_eq!(named("-drive if=scsi,bus=1 -drive if=scsi,bus=1").unwrap(), ["scsi1-hd0", "scsi1-hd1"]);
    }

    #[test]
    fn a_drive_is_named_by_its_place() {
        for (text, id) in [
            ("if=none", "none0"),
            ("if=ide,index=3", "ide1-hd1"),
            ("media=cdrom,index=2", "ide1-cd0"),
            ("if=scsi,bus=1,unit=2", "scsi1-hd2"),
            ("if=floppy,index=1", "floppy1"),
            ("if=virtio,id=mine", "mine"),
        ] {
            assert_eq!(Drive::parse(text).map(|drive| drive.id).ok().as_deref(), Some(id), "{text}");
        }
    }
}
