//! The commands of the monitor for people.

use super::line::{LineError, Words};
use super::{Answer, Asked, Told, commit, help, info, migration, snapshots};
use crate::image::Image;
use crate::io;
use crate::machine::drive::Drive;
use crate::machine::option::properties;
use api::{Dict, Value};
use block::{BackendRequest, Perms, Share};
use std::sync::Arc;

/// One command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// A shorter name.
    pub short: Option<&'static str>,
    /// Its words.
    pub synopsis: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Does it.
    pub run: for<'a> fn(&'a Asked<'a>) -> Answer<'a>,
}

impl Command {
    /// Whether this is one of its names.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.short == Some(name)
    }

    /// Its words by their names.
    pub fn words(&self, rest: &[String]) -> Result<Words, LineError> {
        Words::by(self.synopsis, rest)
    }
}

/// All commands, in the order of their names.
pub const COMMANDS: &[Command] = &[
    command("block_job_cancel", "[-f] device", "cancel a job", |asked| {
        asked.qmp("block-job-cancel", &[("device", "device")], |add| add.flag("force", 'f'))
    }),
    command("block_job_complete", "device", "let a job come to its end", |asked| {
        asked.qmp("block-job-complete", &[("device", "device")], |_| {})
    }),
    command("block_job_pause", "device", "let a job pause", |asked| {
        asked.qmp("block-job-pause", &[("device", "device")], |_| {})
    }),
    command("block_job_resume", "device", "let a job go on", |asked| {
        asked.qmp("block-job-resume", &[("device", "device")], |_| {})
    }),
    command("block_job_set_speed", "device speed", "limit a job, in bytes per second", |asked| {
        asked.qmp("block-job-set-speed", &[("device", "device")], |add| add.number("speed", "speed"))
    }),
    command("block_resize", "device size", "change the size of a device, in bytes", |asked| {
        asked.qmp("block_resize", &[("device", "device")], |add| add.size("size", "size"))
    }),
    command(
        "block_set_io_throttle",
        "device bps bps_rd bps_wr iops iops_rd iops_wr",
        "limit the requests of a device",
        |asked| {
            asked.qmp("block_set_io_throttle", &[("device", "device")], |add| {
                ["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"]
                    .into_iter()
                    .for_each(|name| add.number(name, name));
            })
        },
    ),
    command("block_stream", "device [speed] [base]", "copy what backing images hold up", |asked| {
        asked.qmp("block-stream", &[("device", "device"), ("base", "base")], |add| {
            add.number("speed", "speed");
        })
    }),
    command(
        "change",
        "[-f] device target [format] [read-only-mode]",
        "put another image into a device",
        |asked| {
            let names = [
                ("device", "device"),
                ("filename", "target"),
                ("format", "format"),
                ("read-only-mode", "read-only-mode"),
            ];
            asked.qmp("blockdev-change-medium", &names, |add| add.flag("force", 'f'))
        },
    ),
    command(
        "commit",
        "device",
        "move what an image holds to the one below: of one device, or of all",
        |asked| Box::pin(commit::commit(asked)),
    ),
    Command {
        short: Some("c"),
        ..command("cont", "", "let the machine run", |asked| asked.qmp("cont", &[], |_| {}))
    },
    command("delvm", "tag", "delete a snapshot of all images", |asked| Box::pin(snapshots::delete(asked))),
    command("device_add", "device…", "add a device", |asked| Box::pin(device_add(asked))),
    command("device_del", "id", "take a device away", |asked| {
        asked.qmp("device_del", &[("id", "id")], |_| {})
    }),
    command("drive_add", "[-n] place options", "add a drive", |asked| Box::pin(drive_add(asked))),
    command("drive_backup", "[-n] [-f] [-c] device target [format]", "copy a device as it is now", |asked| {
        let names = [("device", "device"), ("target", "target"), ("format", "format")];
        asked.qmp("drive-backup", &names, |add| {
            add.copy_mode();
            add.flag("compress", 'c');
        })
    }),
    command("drive_del", "id", "delete a drive", |asked| Box::pin(drive_del(asked))),
    command("drive_mirror", "[-n] [-f] device target [format]", "copy a device and go on copying", |asked| {
        let names = [("device", "device"), ("target", "target"), ("format", "format")];
        asked.qmp("drive-mirror", &names, |add| add.copy_mode())
    }),
    command("eject", "[-f] device", "take the medium out of a device", |asked| {
        asked.qmp("eject", &[("device", "device")], |add| add.flag("force", 'f'))
    }),
    Command {
        short: Some("?"),
        ..command("help", "[command]", "tell of the commands", |asked| {
            Box::pin(async { Ok(help(asked.words.get("command"))) })
        })
    },
    command(
        "info",
        "[-v] [-n] what [device]",
        "tell of block, blockstats, block-jobs, migrate, status, version",
        |asked| Box::pin(info::tell(asked)),
    ),
    command("loadvm", "tag", "go back to a snapshot of all images", |asked| Box::pin(snapshots::load(asked))),
    command("migrate", "[-d] [-r] uri", "hand the machine over", |asked| Box::pin(migration::migrate(asked))),
    command("migrate_cancel", "", "give up handing the machine over", |asked| {
        asked.qmp("migrate_cancel", &[], |_| {})
    }),
    command("migrate_continue", "state", "go on with handing the machine over", |asked| {
        asked.qmp("migrate-continue", &[("state", "state")], |_| {})
    }),
    command("migrate_incoming", "uri", "wait for a machine", |asked| {
        asked.qmp("migrate-incoming", &[("uri", "uri")], |_| {})
    }),
    command("migrate_set_capability", "capability state", "say what handing over does", |asked| {
        Box::pin(migration::set_capability(asked))
    }),
    command("migrate_set_parameter", "parameter value", "say how handing over is done", |asked| {
        Box::pin(migration::set_parameter(asked))
    }),
    command("migrate_start_postcopy", "", "let the other machine run early", |asked| {
        asked.qmp("migrate-start-postcopy", &[], |_| {})
    }),
    command("nbd_server_add", "[-w] device [name]", "export a device", |asked| {
        asked
            .qmp("nbd-server-add", &[("device", "device"), ("name", "name")], |add| add.flag("writable", 'w'))
    }),
    command("nbd_server_remove", "[-f] name", "end an export", |asked| {
        asked.qmp("nbd-server-remove", &[("name", "name")], |add| {
            if add.has('f') {
                add.text("mode", "hard");
            }
        })
    }),
    command("nbd_server_stop", "", "end the NBD server", |asked| asked.qmp("nbd-server-stop", &[], |_| {})),
    command("object_del", "id", "delete an object", |asked| asked.qmp("object-del", &[("id", "id")], |_| {})),
    command("qemu-io", "[-d] device command…", "do a command of io on a device or node", |asked| {
        Box::pin(qemu_io(asked))
    }),
    command("savevm", "[tag]", "make a snapshot of all images", |asked| Box::pin(snapshots::save(asked))),
    command(
        "snapshot_blkdev",
        "[-n] device [snapshot-image-file] [format]",
        "put an overlay over a device",
        |asked| {
            let names =
                [("device", "device"), ("snapshot-file", "snapshot-image-file"), ("format", "format")];
            asked.qmp("blockdev-snapshot-sync", &names, |add| {
                if add.has('n') {
                    add.text("mode", "existing");
                }
            })
        },
    ),
    command("snapshot_blkdev_internal", "device name", "make a snapshot in the image", |asked| {
        let names = [("device", "device"), ("name", "name")];
        asked.qmp("blockdev-snapshot-internal-sync", &names, |_| {})
    }),
    command(
        "snapshot_delete_blkdev_internal",
        "device name [id]",
        "delete a snapshot in the image",
        |asked| {
            let names = [("device", "device"), ("name", "name"), ("id", "id")];
            asked.qmp("blockdev-snapshot-delete-internal-sync", &names, |_| {})
        },
    ),
    Command {
        short: Some("s"),
        ..command("stop", "", "stop the machine", |asked| asked.qmp("stop", &[], |_| {}))
    },
    command("system_reset", "", "nothing: there is no processor", |_| Box::pin(async { Ok(String::new()) })),
];

const fn command(
    name: &'static str,
    synopsis: &'static str,
    about: &'static str,
    run: for<'a> fn(&'a Asked<'a>) -> Answer<'a>,
) -> Command {
    Command { name, short: None, synopsis, about, run }
}

/// The arguments of a command of QMP while they are put together.
pub struct Arguments<'a> {
    words: &'a Words,
    dict: Dict,
    mistake: Option<String>,
}

impl Arguments<'_> {
    fn has(&self, letter: char) -> bool {
        self.words.has(letter)
    }

    fn text(&mut self, member: &str, text: &str) {
        self.dict.insert(member, text);
    }

    /// True if the switch is given.
    fn flag(&mut self, member: &str, letter: char) {
        if self.words.has(letter) {
            self.dict.insert(member, true);
        }
    }

    fn number(&mut self, member: &str, word: &str) {
        self.value(member, word, |word| word.parse().ok());
    }

    /// A number of bytes; one without a unit counts megabytes, as in the monitor of old.
    fn size(&mut self, member: &str, word: &str) {
        self.value(member, word, |word| {
            let scaled = word.parse::<i64>().ok().and_then(|n| n.checked_mul(1 << 20));
            scaled.or_else(|| api::parse_size(word).ok().and_then(|n| i64::try_from(n).ok()))
        });
    }

    fn value(&mut self, member: &str, word: &str, read: impl Fn(&str) -> Option<i64>) {
        let Some(text) = self.words.get(word) else { return };
        match read(text) {
            Some(number) => self.dict.insert(member, number),
            None => self.mistake = Some(format!("{}: '{text}' is not a number", word)),
        }
    }

    /// Which layers are copied, and whether the target is there already.
    fn copy_mode(&mut self) {
        self.text("sync", if self.has('f') { "full" } else { "top" });
        if self.has('n') {
            self.text("mode", "existing");
        }
    }
}

impl Asked<'_> {
    /// Does a command of QMP: `names` says which of its members are which words, `more` adds others.
    fn qmp<'a>(
        &'a self,
        command: &'static str,
        names: &[(&'static str, &'static str)],
        more: impl FnOnce(&mut Arguments<'a>),
    ) -> Answer<'a> {
        let mut arguments = Arguments { words: &self.words, dict: Dict::new(), mistake: None };
        for (member, word) in names {
            if let Some(text) = self.words.get(word) {
                arguments.dict.insert(*member, text);
            }
        }
        more(&mut arguments);
        let Arguments { dict, mistake, .. } = arguments;
        Box::pin(async move {
            if let Some(mistake) = mistake {
                return Err(Told::error(mistake));
            }
            self.ask(command, dict).await?;
            Ok(String::new())
        })
    }

    /// Asks a command of QMP.
    pub(super) async fn ask(&self, command: &str, arguments: Dict) -> Result<Value, Told> {
        let answered = self.control.execute(command, arguments).await;
        answered.map(Option::unwrap_or_default).map_err(|error| Told::error(error.desc))
    }

    pub(super) fn word(&self, name: &str) -> &str {
        self.words.get(name).unwrap_or_default()
    }
}

async fn device_add(asked: &Asked<'_>) -> Result<String, Told> {
    let properties = properties(asked.word("device")).map_err(|error| Told::error(error.desc))?;
    asked.control.machine().add(properties).await.map_err(Told::error)?;
    Ok(String::new())
}

async fn drive_add(asked: &Asked<'_>) -> Result<String, Told> {
    let text = asked.word("options");
    let drive = Drive::parse(text).map_err(|failure| Told(format!("{}\n", failure.message())))?;
    let graph = asked.control.graph();
    drive.where_free(graph).add(graph).await.map_err(|error| Told(format!("{error}\n")))?;
    Ok("OK\n".to_owned())
}

async fn drive_del(asked: &Asked<'_>) -> Result<String, Told> {
    let (id, graph) = (asked.word("id"), asked.control.graph());
    let device = graph.device(id).ok_or_else(|| Told(format!("Device '{id}' not found\n")))?;
    graph.remove_device(&device).await.map_err(Told::error)?;
    Ok(String::new())
}

/// Does a command of `io` on a device or node; what it prints goes to standard output.
async fn qemu_io(asked: &Asked<'_>) -> Result<String, Told> {
    let (name, line, graph) = (asked.word("device"), asked.word("command"), asked.control.graph());
    let device = asked.control.machine().device(name).or_else(|| graph.device(name));
    let node = match &device {
        Some(device) => device.need_node().map_err(Told::error)?,
        None => graph
            .node(name)
            .ok_or_else(|| Told::error(format!("Cannot find device='' nor node-name='{name}'")))?,
    };
    // Through the device's own entry, where there is one, so that its statistics count.
    let own = device.and_then(|device| device.medium());
    // A look at a node that others write to is allowed.
    let writes = !node.read_only() && node.is_active() && io::changes(line);
    let backend = match own {
        Some(backend) => backend,
        None => {
            let need = if writes { Perms::WRITER.need } else { Share::READ };
            let perms = Perms { need, share: Share::ALL };
            let request = BackendRequest { label: "qemu-io".to_owned(), node, perms, pinned: false };
            graph.attach(request).await.map_err(Told::error)?
        }
    };
    let is_own = asked
        .control
        .graph()
        .devices()
        .iter()
        .any(|device| device.medium().is_some_and(|medium| Arc::ptr_eq(&medium, &backend)));
    let image =
        Image { graph: graph.clone(), backend: backend.clone(), node: backend.node(), guessed_raw: false };
    let mut console = asked.monitor.console();
    let mut pending = asked.monitor.pending.lock().await;
    io::monitor_command(&mut console, &mut pending, image, line).await;
    console.flush();
    if !is_own {
        graph.detach(&backend).await.map_err(Told::error)?;
    }
    Ok(String::new())
}
