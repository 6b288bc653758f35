//! The `demo` face: Cairn's main job on an image of its own, step by step, with every command shown.
//!
//! ```text
//! mkfs.ext4 ─▶ base.qcow2 ◀─ overlay.qcow2 ◀─ snap.qcow2      (made while the client writes, committed back again)
//!                                 ▲ daemon: QMP, NBD ◀── a client that writes stamped blocks without a pause
//! ```
//!
//! The client keeps what it wrote last in memory; at the end the export, the file on disk and the file system are
//! compared with it. Any difference ends the demonstration with exit code 1.

mod picture;
mod qmp;
mod stage;
mod writer;

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{self, Asked, Flag, Operands, Table};
use crate::usage::{self, Manual};
use crate::{out, outln, runtime};
use stage::Stage;
use std::time::Duration;
use writer::Writer;

/// The setting is the folder to work in.
const FLAGS: Table<Option<String>> = &[&[
    Flag::take("-d --dir", "DIR", "work in DIR and leave everything there", |folder, dir| {
        *folder = Some(dir.to_owned());
        Ok(())
    }),
    Flag::help(),
]];

const MANUAL: Manual = Manual {
    synopsis: "[-d DIR]",
    about: "Shows the main job on an image of its own: a live snapshot and a commit while a client writes.",
    operands: &[],
    examples: &[
        ("", "in a temporary folder"),
        ("-d /tmp/cairn", "keep the images and look at them afterwards"),
    ],
    notes: "It needs mkfs.ext4 and e2fsck (Debian: e2fsprogs).",
};

/// The file system's size; the client writes behind it.
const FS_MIB: u64 = 64;
/// The disk's size.
const DISK_MIB: u64 = 256;
/// Commit copies at most this many bytes a second, so that there is something to see.
const SPEED: u64 = 64 << 20;

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> u8 {
    let folder = match getopt::read(FLAGS, args, Operands::Anywhere, None) {
        Ok(Asked::Work(folder, _)) => folder,
        Ok(Asked::Help | Asked::Version) => {
            let program = console.program().to_owned();
            usage::help(console, &program, &MANUAL, FLAGS);
            return 0;
        }
        Err(failure) => {
            console.fail(&failure);
            return failure.code();
        }
    };
    let shown = Stage::new(folder).and_then(|stage| runtime::run(show(console, &stage))?);
    match shown {
        Ok(()) => 0,
        Err(failure) => {
            console.flush();
            console.fail(&failure);
            failure.code()
        }
    }
}

async fn show(console: &mut Console, stage: &Stage) -> Result<(), Failure> {
    make_images(console, stage)?;
    heading(console, "A daemon serves the overlay: QMP on one socket, NBD on another");
    let mut daemon = stage.daemon(console)?;
    let mut client = qmp::connect(&stage.path("qmp.sock"), &mut daemon).await?;

    heading(console, "A client writes stamped blocks over NBD, hundreds a second");
    let writer = Writer::start(&stage.url(), FS_MIB << 20, DISK_MIB << 20).await?;
    rt::sleep(Duration::from_millis(700)).await;
    outln!(console, "  {} blocks written so far", writer.written());

    heading(console, "A live snapshot, while it writes");
    let snapshot = [
        ("node-name", "disk".into()),
        ("snapshot-file", stage.path("snap.qcow2").into()),
        ("snapshot-node-name", "snap".into()),
    ];
    qmp::show(&mut client, console, "blockdev-snapshot-sync", &snapshot).await?;
    rt::sleep(Duration::from_millis(700)).await;
    draw(console, &mut client).await?;

    heading(console, "Commit the snapshot back into the overlay, while it writes");
    let speed = i64::try_from(SPEED).unwrap_or(i64::MAX);
    let commit = [
        ("job-id", "commit".into()),
        ("device", "snap".into()),
        ("base-node", "disk".into()),
        ("speed", speed.into()),
    ];
    qmp::show(&mut client, console, "block-commit", &commit).await?;
    follow(console, &mut client).await?;
    qmp::show(&mut client, console, "block-job-complete", &[("device", "commit".into())]).await?;
    let done = client.event("BLOCK_JOB_COMPLETED").await?;
    if let Some(error) = done.get("error").and_then(api::Value::as_str) {
        return Err(Failure::new(format_args!("the commit failed: {error}")));
    }
    rt::sleep(Duration::from_millis(300)).await;
    draw(console, &mut client).await?;

    heading(console, "What the client wrote last is what the export serves");
    let (blocks, writes) = writer.verify().await?;
    outln!(console, "  {writes} writes, {blocks} blocks compared: all the same");
    qmp::show(&mut client, console, "quit", &[]).await?;
    daemon.ended()?;
    check_on_disk(console, stage, writer).await?;
    outln!(console, "\nAll of it is as it should be.\n");
    what_next(console, stage);
    Ok(())
}

fn make_images(console: &mut Console, stage: &Stage) -> Result<(), Failure> {
    heading(console, "A file system, a qcow2 image of it, and an overlay on top");
    let (raw, base, overlay) = (stage.path("fs.raw"), stage.path("base.qcow2"), stage.path("overlay.qcow2"));
    stage.make_file_system(console, &raw, FS_MIB << 20)?;
    stage.cairn(console, &["img", "convert", "-f", "raw", "-O", "qcow2", &raw, &base])?;
    stage.cairn(console, &["img", "resize", "-q", "-f", "qcow2", &base, &format!("{DISK_MIB}M")])?;
    stage.cairn(console, &["img", "create", "-q", "-f", "qcow2", "-b", &base, "-F", "qcow2", &overlay])?;
    stage.cairn(console, &["img", "info", &overlay])
}

/// The job's progress as a bar, until it is ready.
async fn follow(console: &mut Console, client: &mut Client) -> Result<(), Failure> {
    loop {
        let jobs = client.ask("query-block-jobs", &[]).await?;
        let Some(job) = jobs.as_list().and_then(<[api::Value]>::first) else {
            return Err(Failure::new("the commit job ended before it was ready"));
        };
        let figure = |name| job.get(name).and_then(api::Value::as_i64).unwrap_or(0).max(0).unsigned_abs();
        let ready = job.get("ready").and_then(api::Value::as_bool) == Some(true);
        out!(console, "\r  {}", picture::bar(figure("offset"), figure("len")));
        console.flush();
        if ready {
            outln!(console, "  ready: what is left is what is being written now");
            return Ok(());
        }
        rt::sleep(Duration::from_millis(100)).await;
    }
}

async fn draw(console: &mut Console, client: &mut Client) -> Result<(), Failure> {
    let nodes = client.ask("query-named-block-nodes", &[("flat", true.into())]).await?;
    let exports = client.ask("query-block-exports", &[]).await?;
    outln!(console, "\n{}", picture::graph(&nodes, &exports));
    Ok(())
}

async fn check_on_disk(console: &mut Console, stage: &Stage, writer: Writer) -> Result<(), Failure> {
    heading(console, "The files, after the daemon has gone");
    let (overlay, raw) = (stage.path("overlay.qcow2"), stage.path("after.raw"));
    stage.cairn(console, &["img", "check", &overlay])?;
    let blocks = writer.verify_file(&overlay).await?;
    outln!(console, "  {blocks} blocks of the client compared with {overlay}: all the same");
    stage.cairn(console, &["img", "convert", "-f", "qcow2", "-O", "raw", &overlay, &raw])?;
    stage.check_file_system(console, &raw)
}

fn heading(console: &mut Console, text: &str) {
    outln!(console, "\n── {text}");
}

fn what_next(console: &mut Console, stage: &Stage) {
    outln!(console, "Try next, with an image of yours:");
    outln!(console, "  cairn img info your.qcow2");
    outln!(
        console,
        "  cairn nbd -r -t -k /tmp/disk.sock -f qcow2 your.qcow2    # serve it; nbdcopy, nbdfuse, guests can read it"
    );
    outln!(
        console,
        "  cairn daemon --help                                     # a live graph, as in this demonstration"
    );
    if stage.kept() {
        outln!(console, "The images of this demonstration are in {}.", stage.path(""));
    } else {
        outln!(console, "`cairn demo -d DIR` keeps the images of this demonstration.");
    }
}
