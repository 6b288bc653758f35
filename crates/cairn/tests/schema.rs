//! What commands print as JSON is what the schema says: every command that can print some has a row here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

use api::{
    BlockMeasureInfo, CrashTestReport, Decode, DecodeError, ImageCheck, ImageDescription, ImageDigest,
    ImageInspection, ImageTreeEntry, MapEntry, TopLook, Value, json,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder to work in.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn place(name: &str) -> Place {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("schema-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    Place(folder)
}

impl Place {
    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(words(line)).current_dir(&self.0).stdin(Stdio::null()).output().unwrap()
    }

    fn done(&self, line: &str) {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What a command prints; an exit code of its own is none of a failure.
    fn printed(&self, line: &str) -> String {
        let output = self.run(line);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(!printed.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        printed
    }
}

/// The words of a line; a quoted one holds blanks.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let word = |(at, part): (usize, &str)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    };
    parts.flat_map(word).collect()
}

/// Whether a value is of a type of the schema.
type Check = fn(Value) -> Result<(), DecodeError>;

fn one<T: Decode>(value: Value) -> Result<(), DecodeError> {
    api::decode::<T>(value).map(|_| ())
}

fn many<T: Decode>(value: Value) -> Result<(), DecodeError> {
    api::decode::<Vec<T>>(value).map(|_| ())
}

/// A command with its arguments, and what it prints.
const ROWS: &[(&str, &str, Check)] = &[
    ("check", "a.qcow2", one::<ImageCheck>),
    ("check", "-r all leaky.qcow2", one::<ImageCheck>),
    ("check", "a.vdi", one::<ImageCheck>),
    ("crashtest", "-c 'write 0 64k' -c flush -c 'write 1M 64k' a.qcow2", one::<CrashTestReport>),
    ("crashtest", "-c 'write 0 64k' flat.raw", one::<CrashTestReport>),
    ("hash", "a.qcow2 full.raw", many::<ImageDigest>),
    ("hash", "--blkhash a.qcow2", many::<ImageDigest>),
    ("hash", "--check digests", many::<ImageDigest>),
    ("info", "a.qcow2", one::<ImageDescription>),
    ("info", "--limits --partitions full.raw", one::<ImageDescription>),
    ("info", "--backing-chain top.qcow2", many::<ImageDescription>),
    ("info", "--limits a.vmdk", one::<ImageDescription>),
    ("info", "a.vdi", one::<ImageDescription>),
    ("info", "--object secret,id=s,data=abc a.luks", one::<ImageDescription>),
    ("inspect", "top.qcow2", one::<ImageInspection>),
    ("inspect", "-f qcow2 a.vmdk", one::<ImageInspection>),
    ("inspect", "--policy=./policy.json full.raw", one::<ImageInspection>),
    ("map", "top.qcow2", many::<MapEntry>),
    ("map", "a.vmdk", many::<MapEntry>),
    ("map", "full.raw", many::<MapEntry>),
    ("measure", "-O qcow2 --size 1G", one::<BlockMeasureInfo>),
    ("measure", "-O qcow2 a.qcow2", one::<BlockMeasureInfo>),
    ("tree", "-a .", many::<ImageTreeEntry>),
];

/// Counts a reference to a cluster that nothing refers to.
fn leak(image: &Path) {
    let mut bytes = std::fs::read(image).unwrap();
    let number = |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let block = number(&bytes, number(&bytes, 48));
    let end = bytes.len().div_ceil(65536);
    bytes[block + 2 * end + 1] = 1;
    bytes.resize((end + 1) * 65536, 0);
    std::fs::write(image, bytes).unwrap();
}

/// The folder of the commands in [`ROWS`].
fn images() -> Place {
    let place = place("images");
    let mut disk = vec![7; 4 << 20];
    // A master boot record with a partition.
    disk[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(place.0.join("full.raw"), disk).unwrap();
    std::fs::write(place.0.join("flat.raw"), vec![0; 1 << 20]).unwrap();
    let policy = r#"{"base": "nova", "formats": ["raw"], "refuse": ["snapshots"], "allow": ["dirty"]}"#;
    std::fs::write(place.0.join("policy.json"), policy).unwrap();
    for line in [
        "img create -q -f qcow2 a.qcow2 4M",
        "img bitmap --add a.qcow2 marks",
        "io -f qcow2 -c 'write -q -P 1 64k 200k' a.qcow2",
        "img snapshot -c one a.qcow2",
        "img create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2",
        "io -f qcow2 -c 'write -q -P 2 1M 64k' top.qcow2",
        "img create -q -f vmdk a.vmdk 4M",
        "io -f vmdk -c 'write -q -P 2 1M 64k' a.vmdk",
        "img create -q -f vdi a.vdi 4M",
        "img create -q -f luks --object secret,id=s,data=abc -o key-secret=s,iter-time=10 a.luks 1M",
        "img convert -O qcow2 full.raw leaky.qcow2",
    ] {
        place.done(line);
    }
    leak(&place.0.join("leaky.qcow2"));
    let mut digests = place.printed("img hash a.qcow2 full.raw");
    digests.push_str(&digests.lines().next().unwrap().replace("a.qcow2", "none.qcow2"));
    std::fs::write(place.0.join("digests"), digests).unwrap();
    place
}

#[test]
fn what_is_printed_as_json_is_of_the_types_of_the_schema() {
    let place = images();
    for (command, arguments, check) in ROWS {
        let line = format!("img {command} --output=json {arguments}");
        let printed = place.printed(&line);
        let value = json::parse(&printed).unwrap_or_else(|error| panic!("{line}: {error}\n{printed}"));
        check(value).unwrap_or_else(|error| panic!("{line}: {error}\n{printed}"));
    }
}

#[test]
fn every_command_that_prints_json_has_a_row() {
    let place = place("help");
    let help = place.printed("img --help");
    let list = help.lines().skip_while(|line| !line.starts_with("Commands")).skip(1);
    let commands = list.map_while(|line| line.split_whitespace().next());
    let help_of = |command: &str| place.printed(&format!("img {command} --help"));
    let printing: BTreeSet<_> =
        commands.filter(|command| help_of(command).contains("--output=human|json")).collect();
    assert_eq!(printing, ROWS.iter().map(|(command, ..)| *command).collect());
}

/// A daemon in a folder, which ends with its test.
struct Daemon<'a>(&'a Place);

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.0.run("qmp q quit");
    }
}

#[test]
fn looks_of_top_are_of_their_type() {
    let place = place("top");
    place.done("img create -q -f raw a.raw 1M");
    place.done(
        "daemon --daemonize --chardev socket,id=c,path=q,server=on,wait=off --monitor chardev=c \
         --blockdev driver=file,node-name=a,filename=a.raw \
         --nbd-server addr.type=unix,addr.path=n --export type=nbd,id=e,node-name=a,name=a",
    );
    let daemon = Daemon(&place);
    place.done("io -r -f raw -c 'read -q 0 64k' nbd+unix:///a?socket=n");
    let printed = place.printed("top --json -i 0.1 -n 2 q");
    drop(daemon);
    assert_eq!(printed.lines().count(), 2, "{printed}");
    for line in printed.lines() {
        let look = api::decode::<TopLook>(json::parse(line).unwrap());
        let look = look.unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!((look.exports.len(), look.nodes.len()), (1, 1), "{line}");
    }
}
