//! The `nbd` face: serves one image over NBD, or lists what a server has.

mod list;
mod serve;

use crate::cache::{self, Cache};
use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{self, Flag, Operands, Parsed};
use crate::image::Source;
use crate::usage::{self, Manual};
use crate::{face, object, size};
use block::{Opt, Share};
use rt::net::Address;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a server listens that was not told otherwise.
const DEFAULT_PORT: u16 = 10809;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Help,
    Version,
    Port,
    Bind,
    Socket,
    Shared,
    Persistent,
    Verbose,
    Name,
    Description,
    HandshakeLimit,
    Offset,
    AllocationDepth,
    Bitmap,
    List,
    Object,
    TlsCreds,
    TlsAuthz,
    TlsHostname,
    Trace,
    Fork,
    PidFile,
    SelinuxLabel,
    Connect,
    Disconnect,
    Format,
    ReadOnly,
    Snapshot,
    LoadSnapshot,
    NoCache,
    Cache,
    Aio,
    Discard,
    DetectZeroes,
    ImageOpts,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::valued(Id::Port, Some('p'), Some("port"), "PORT", "TCP port to listen on (10809)"),
    Flag::valued(Id::Bind, Some('b'), Some("bind"), "ADDRESS", "address to listen on (0.0.0.0)"),
    Flag::valued(Id::Socket, Some('k'), Some("socket"), "PATH", "UNIX socket to listen on; an absolute path"),
    Flag::valued(Id::Shared, Some('e'), Some("shared"), "NUMBER", "clients at a time (1; 0: any number)"),
    Flag::bare(Id::Persistent, Some('t'), Some("persistent"), "go on when the last client has left"),
    Flag::valued(Id::Name, Some('x'), Some("export-name"), "NAME", "name of the export (empty)"),
    Flag::valued(
        Id::Description,
        Some('D'),
        Some("description"),
        "TEXT",
        "what clients are told about the export",
    ),
    Flag::valued(
        Id::HandshakeLimit,
        None,
        Some("handshake-limit"),
        "SECONDS",
        "time a client has to choose an export (10; 0: any)",
    ),
    Flag::valued(
        Id::Format,
        Some('f'),
        Some("format"),
        "FMT",
        "format of the image; found by its content if left out",
    ),
    Flag::bare(Id::ImageOpts, None, Some("image-opts"), "FILE is a list of options, not a name"),
    Flag::valued(Id::Offset, Some('o'), Some("offset"), "OFFSET", "serve what follows so many bytes"),
    Flag::bare(Id::ReadOnly, Some('r'), Some("read-only"), "refuse writes"),
    Flag::bare(Id::Snapshot, Some('s'), Some("snapshot"), "writes go to a temporary overlay"),
    Flag::bare(Id::NoCache, Some('n'), Some("nocache"), "pass the page cache by, as --cache=none"),
    Flag::valued(
        Id::Cache,
        None,
        Some("cache"),
        "MODE",
        "none, writeback, writethrough, directsync or unsafe",
    ),
    Flag::valued(Id::Aio, None, Some("aio"), "MODE", "threads, native or io_uring"),
    Flag::valued(Id::Discard, None, Some("discard"), "MODE", "ignore or unmap"),
    Flag::valued(Id::DetectZeroes, None, Some("detect-zeroes"), "MODE", "off, on or unmap"),
    Flag::bare(Id::Fork, None, Some("fork"), "serve in the background; return when clients can connect"),
    Flag::valued(Id::PidFile, None, Some("pid-file"), "PATH", "store the process id there"),
    Flag::bare(Id::List, Some('L'), Some("list"), "list what another server exports"),
    Flag::valued(Id::Object, None, Some("object"), "TYPE,id=ID,...", "make an object, such as a secret"),
    Flag::bare(Id::Verbose, Some('v'), Some("verbose"), "tell what goes wrong with clients"),
    Flag::valued(
        Id::Trace,
        Some('T'),
        Some("trace"),
        "FILTER",
        "log what matches, for example exports=debug",
    ),
    Flag::bare(Id::Help, Some('h'), Some("help"), "print this help"),
    Flag::bare(Id::Version, Some('V'), Some("version"), "print the version"),
    Flag::bare(Id::AllocationDepth, Some('A'), Some("allocation-depth"), ""),
    Flag::valued(Id::Bitmap, Some('B'), Some("bitmap"), "NAME", ""),
    Flag::valued(Id::TlsCreds, None, Some("tls-creds"), "ID", ""),
    Flag::valued(Id::TlsAuthz, None, Some("tls-authz"), "ID", ""),
    Flag::valued(Id::TlsHostname, None, Some("tls-hostname"), "NAME", ""),
    Flag::valued(Id::SelinuxLabel, None, Some("selinux-label"), "LABEL", ""),
    Flag::valued(Id::Connect, Some('c'), Some("connect"), "DEVICE", ""),
    Flag::bare(Id::Disconnect, Some('d'), Some("disconnect"), ""),
    Flag::valued(Id::LoadSnapshot, Some('l'), Some("load-snapshot"), "SNAPSHOT", ""),
];

/// Flags that are understood and refused: what they are for is not here.
const REFUSED: &[(Id, &str)] = &[
    (Id::AllocationDepth, "the allocation depth (-A) is not supported yet"),
    (Id::Bitmap, "exporting a bitmap (-B) is not supported yet"),
    (Id::TlsCreds, "TLS is not supported yet"),
    (Id::TlsAuthz, "TLS is not supported yet"),
    (Id::TlsHostname, "TLS is not supported yet"),
    (Id::SelinuxLabel, "labels for SELinux are not supported"),
    (Id::Connect, "kernel devices (-c) are not supported; use nbd-client on the socket"),
    (Id::Disconnect, "kernel devices (-d) are not supported; use nbd-client -d"),
    (Id::LoadSnapshot, "serving an internal snapshot (-l) is not supported yet"),
];

const MANUAL: Manual = Manual {
    synopsis: "[OPTIONS] FILE\n   or: [OPTIONS] --list",
    about: "Serves an image over NBD, until the last client has left.",
    operands: &[("FILE", "the image")],
    examples: &[
        ("-k /tmp/disk.sock -f qcow2 disk.qcow2", "to one client on a UNIX socket"),
        ("-t -e 0 -r -x disk -f raw disk.raw", "to any number of readers on TCP port 10809, as 'disk'"),
        ("--list -k /tmp/disk.sock", "what is to be had there"),
    ],
    notes: "Sockets that a service manager hands over (LISTEN_FDS, LISTEN_PID) are served on, and no other.",
};

/// Where to serve.
enum Place {
    Address(Address),
    /// On sockets that a service manager has opened, and on no other.
    HandedOver(Vec<OwnedFd>),
}

/// What to serve, and how.
struct Service {
    source: Source,
    place: Place,
    shared: usize,
    persistent: bool,
    name: String,
    description: String,
    deadline: Option<Duration>,
    snapshot: bool,
    fork: bool,
    pid_file: Option<PathBuf>,
}

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> u8 {
    let result = getopt::parse(FLAGS, args, Operands::Anywhere)
        .map_err(Failure::usage)
        .and_then(|parsed| act(console, &parsed));
    match result {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message().is_empty() {
                console.error(failure.message());
            }
            if failure.see_help() {
                console.note(format_args!("Try '{} --help' for more information.", console.program()));
            }
            failure.code()
        }
    }
}

fn act(console: &mut Console, parsed: &Parsed<Id>) -> Result<u8, Failure> {
    if parsed.has(Id::Help) {
        let program = console.program().to_owned();
        usage::help(console, &program, &MANUAL, FLAGS);
        return Ok(0);
    }
    if parsed.has(Id::Version) {
        face::version(console, "qemu-nbd");
        return Ok(0);
    }
    if let Some((_, why)) = REFUSED.iter().find(|(id, _)| parsed.has(*id)) {
        return Err(Failure::new(why));
    }
    let handed = rt::handed::sockets().map_err(Failure::new)?;
    if !handed.is_empty() {
        refuse_beside_sockets(parsed)?;
    }
    let mut service = service(parsed)?;
    if parsed.has(Id::List) {
        if !parsed.operands.is_empty() {
            return Err(Failure::new("List mode is incompatible with a file name"));
        }
        let Place::Address(address) = &service.place else { return Err(Failure::new("nothing to list")) };
        return list::list(console, address);
    }
    if parsed.operands.len() != 1 {
        return Err(Failure::usage("Invalid number of arguments"));
    }
    if !handed.is_empty() {
        let taken = handed.iter().map(|handed| rt::handed::take(handed.number));
        service.place = Place::HandedOver(taken.collect::<Result<_, _>>().map_err(Failure::new)?);
    }
    serve::serve(console, service)
}

fn service(parsed: &Parsed<Id>) -> Result<Service, Failure> {
    let name = parsed.operands.first().map(String::as_str).unwrap_or_default();
    // Clients were told a size: nobody may change it.
    let share = Share::ALL.without(Share::RESIZE);
    let mut source = Source { discard: false, share, ..Source::named(name).writable() };
    let (mut host, mut port, mut socket) = ("0.0.0.0".to_owned(), DEFAULT_PORT, None);
    let mut service = Service {
        source: source.clone(),
        place: Place::Address(Address::Tcp { host: host.clone(), port }),
        shared: 1,
        persistent: parsed.has(Id::Persistent),
        name: String::new(),
        description: String::new(),
        deadline: Some(Duration::from_secs(10)),
        snapshot: parsed.has(Id::Snapshot),
        fork: parsed.has(Id::Fork),
        pid_file: None,
    };
    refuse_repeated(parsed)?;
    for (id, value) in &parsed.flags {
        match id {
            Id::Port => port = number("port", value)?,
            Id::Bind => host = value.clone(),
            Id::Socket => socket = Some(socket_path(value)?),
            Id::Shared => service.shared = number("shared device number", value)?,
            Id::Name => service.name = value.clone(),
            Id::Description => service.description = value.clone(),
            Id::HandshakeLimit => {
                let seconds = number("handshake limit", value)?;
                service.deadline = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            Id::Object => object::accept(value)?,
            Id::Trace => crate::trace::start(value)?,
            Id::Verbose => crate::trace::start("exports=warn")?,
            Id::PidFile => service.pid_file = Some(rt::fs::path(value)),
            Id::Format => source.format = Some(value.clone()),
            Id::ImageOpts => source.image_opts = true,
            Id::Offset => source.offset = number("offset", value)?,
            Id::ReadOnly => source.writable = false,
            Id::NoCache => source.cache = Cache::NONE,
            Id::Cache => {
                source.cache = Cache::parse_for("Invalid cache mode", value).map_err(Failure::new)?
            }
            Id::Aio => source.aio = Some(cache::parse_aio(value).map_err(Failure::new)?),
            Id::Discard => source.discard = cache::parse_discard(value).map_err(Failure::new)?,
            Id::DetectZeroes => source.options.set("detect-zeroes", Opt::Str(value.clone())),
            _ => {}
        }
    }
    if source.image_opts && source.format.is_some() {
        return Err(Failure::new("--image-opts and -f are mutually exclusive"));
    }
    service.source = source;
    service.place = Place::Address(match socket {
        Some(path) => Address::Unix(path),
        None => Address::Tcp { host, port },
    });
    Ok(service)
}

/// Refuses options that say where to listen, or to serve nothing, beside sockets that were handed over.
fn refuse_beside_sockets(parsed: &Parsed<Id>) -> Result<(), Failure> {
    const CONTRADICT: &[(Id, &str)] =
        &[(Id::Port, "-p"), (Id::Bind, "-b"), (Id::Socket, "-k"), (Id::List, "--list")];
    match CONTRADICT.iter().find(|(id, _)| parsed.has(*id)) {
        None => Ok(()),
        Some((_, name)) => Err(Failure::new(format_args!(
            "{name} can't be used when sockets are handed over (LISTEN_FDS); leave it out, or unset LISTEN_FDS"
        ))),
    }
}

/// Refuses a second word on what can only be said once.
fn refuse_repeated(parsed: &Parsed<Id>) -> Result<(), Failure> {
    const ONCE: &[(&[Id], &str)] = &[
        (&[Id::NoCache, Id::Cache], "-n and --cache"),
        (&[Id::Aio], "--aio"),
        (&[Id::Discard], "--discard"),
    ];
    for (ids, name) in ONCE {
        if parsed.flags.iter().filter(|(id, _)| ids.contains(id)).count() > 1 {
            return Err(Failure::new(format_args!("{name} can only be specified once")));
        }
    }
    Ok(())
}

fn number<T: TryFrom<u64>>(what: &str, text: &str) -> Result<T, Failure> {
    let number = size::whole(text).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| Failure::new(format_args!("Invalid {what} '{text}'")))
}

fn socket_path(text: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(text);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    Err(Failure::new("socket path must be absolute"))
}
