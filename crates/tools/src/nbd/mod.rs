//! The `nbd` face: serves one image over NBD, or lists what a server has.

mod list;
mod serve;
#[cfg(test)]
mod tests;

use crate::cache::{self, Cache};
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, has_parts};
use crate::getopt::{Flag, Operands, Table};
use crate::image::{self, Source};
use crate::usage::{CommandLine, Manual};
use crate::{object, size, trace};
use ::tls::{Authorizer, Credentials, Endpoint};
use block::{Opt, Share};
use exports::ServerTls;
use rt::net::Address;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The port where none is given.
const DEFAULT_PORT: u16 = 10809;

const FLAGS: Table<Args> = &[
    &[
        Flag::take("-p --port", "PORT", "TCP port to listen on (10809)", |s, text| {
            s.port = Some(number("port", text)?);
            Ok(())
        }),
        Flag::take("-b --bind", "ADDRESS", "address to listen on (0.0.0.0)", |s, text| {
            s.host = Some(text.to_owned());
            Ok(())
        }),
        Flag::take("-k --socket", "PATH", "UNIX socket to listen on; an absolute path", |s, text| {
            s.socket = Some(socket_path(text)?);
            Ok(())
        }),
        Flag::take("-e --shared", "NUMBER", "clients at a time (1; 0: any number)", |s, text| {
            s.shared = number::<u32>("shared device number", text)? as usize;
            Ok(())
        }),
        Flag::set("-t --persistent", "go on when the last client has left", |s| s.persistent = true),
        Flag::take("-x --export-name", "NAME", "name of the export (empty)", |s, text| {
            s.name = text.to_owned();
            Ok(())
        }),
        Flag::take("-D --description", "TEXT", "what clients are told about the export", |s, text| {
            s.description = text.to_owned();
            Ok(())
        }),
        Flag::set("-A --allocation-depth", "show clients which layer of a chain holds what", |s| {
            s.allocation_depth = true;
        }),
        Flag::take("-B --bitmap", "NAME", "show clients a dirty bitmap; may be repeated", |s, name| {
            s.bitmaps.push(name.to_owned());
            Ok(())
        }),
        Flag::take(
            "--handshake-limit",
            "SECONDS",
            "time a client has to choose an export (10; 0: any)",
            |s, text| {
                let seconds = number("handshake limit", text)?;
                s.deadline = (seconds > 0).then(|| Duration::from_secs(seconds));
                Ok(())
            },
        ),
    ],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        Flag::take("-o --offset", "OFFSET", "serve what follows so many bytes", |s, text| {
            s.source.offset = number("offset", text)?;
            Ok(())
        }),
        flags::read_only("refuse writes"),
        Flag::set("-s --snapshot", "writes go to a temporary overlay", |s| s.snapshot = true),
        Flag::take("-l --load-snapshot", "SNAPSHOT", "serve an internal snapshot, read-only", |s, text| {
            s.source.snapshot = Some(image::snapshot_name(text)?);
            s.source.writable = false;
            Ok(())
        }),
        Flag::attempt("-n --nocache", "pass the page cache by, as --cache=none", |s| {
            s.set_cache(Cache::NONE)
        }),
        Flag::take("--cache", cache::MODES, "cache mode (writeback)", |s, mode| {
            s.set_cache(Cache::parse_for("Invalid cache mode", mode).map_err(Failure::new)?)
        }),
        Flag::take("--aio", "threads|native|io_uring", "how requests reach the kernel", |s, mode| {
            let aio = cache::parse_aio(mode).map_err(Failure::new)?;
            once(s.source.aio.replace(aio).is_some(), "--aio")
        }),
        Flag::take("--discard", "ignore|unmap", "what becomes of discards", |s, mode| {
            s.source.discard = cache::parse_discard(mode).map_err(Failure::new)?;
            once(std::mem::replace(&mut s.discard_given, true), "--discard")
        }),
        Flag::take("--detect-zeroes", "off|on|unmap", "what becomes of data that are zeroes", |s, mode| {
            s.source.options.set("detect-zeroes", Opt::Str(mode.to_owned()));
            Ok(())
        }),
        Flag::set("--fork", "serve in the background; return when clients can connect", |s| s.fork = true),
        Flag::take("--pid-file", "PATH", "store the process id there", |s, path| {
            s.pid_file = Some(rt::fs::path(path));
            Ok(())
        }),
        Flag::set("-L --list", "list what another server exports", |s| s.list = true),
        flags::object(),
        Flag::take("--tls-creds", "ID", "begin TLS with these credentials; clients have to", |s, id| {
            s.tls_creds = Some(id.to_owned());
            Ok(())
        }),
        Flag::take("--tls-authz", "ID", "let in only those whom this object allows", |s, id| {
            s.tls_authz = Some(id.to_owned());
            Ok(())
        }),
        Flag::take(
            "--tls-hostname",
            "NAME",
            "with --list: the name of the server's certificate",
            |s, name| {
                s.tls_hostname = Some(name.to_owned());
                Ok(())
            },
        ),
        Flag::attempt("-v --verbose", "tell what goes wrong with clients, also from the background", |s| {
            s.verbose = true;
            trace::start("exports=warn")
        }),
        flags::trace("log what matches, for example exports=debug"),
        Flag::help(),
        Flag::version(),
    ],
    // What these are for is not here.
    &[
        Flag::refused("--selinux-label", Some("LABEL"), "", "labels for SELinux are not supported"),
        Flag::refused(
            "-c --connect",
            Some("DEVICE"),
            "",
            "kernel devices (-c) are not supported; use nbd-client on the socket",
        ),
        Flag::refused(
            "-d --disconnect",
            None,
            "",
            "kernel devices (-d) are not supported; use nbd-client -d",
        ),
    ],
];

const MANUAL: Manual = Manual {
    synopsis: "[OPTIONS] FILE\n   or: [OPTIONS] --list",
    about: "Serves an image over NBD, until the last client has left.",
    operands: &[("FILE", "the image")],
    examples: &[
        ("-k /tmp/disk.sock -f qcow2 disk.qcow2", "to one client on a UNIX socket"),
        ("-t -e 0 -r -x disk -f raw disk.raw", "to any number of readers on TCP port 10809, as 'disk'"),
        ("--list -k /tmp/disk.sock", "what is to be had there"),
        (
            "--object tls-creds-x509,id=t,endpoint=server,dir=/etc/pki/disk --tls-creds t -f raw disk.raw",
            "to clients that come in TLS and have a certificate",
        ),
    ],
    notes: "Sockets that a service manager hands over (LISTEN_FDS, LISTEN_PID) are served on, and no other.",
};

/// Where to serve.
enum Place {
    Address(Address),
    /// On sockets that a service manager has opened, and on no other.
    HandedOver(Vec<OwnedFd>),
}

/// What the command line says.
#[derive(Debug)]
struct Args {
    source: Source,
    /// A cache mode was given.
    cache_given: bool,
    /// What becomes of discards was given.
    discard_given: bool,
    host: Option<String>,
    port: Option<u16>,
    socket: Option<PathBuf>,
    list: bool,
    /// Clients at a time; 0 stands for any number.
    shared: usize,
    persistent: bool,
    name: String,
    description: String,
    /// Clients are shown which layer of a chain holds what.
    allocation_depth: bool,
    /// Names of the bitmaps that clients are shown.
    bitmaps: Vec<String>,
    deadline: Option<Duration>,
    snapshot: bool,
    fork: bool,
    verbose: bool,
    pid_file: Option<PathBuf>,
    /// Ids of objects.
    tls_creds: Option<String>,
    tls_authz: Option<String>,
    tls_hostname: Option<String>,
}

has_parts!(Args { source: Source });

impl Args {
    fn new() -> Args {
        // Clients were told a size: nobody may change it.
        let share = Share::ALL.without(Share::RESIZE);
        Args {
            source: Source { discard: false, share, ..Source::named("").writable() },
            cache_given: false,
            discard_given: false,
            host: None,
            port: None,
            socket: None,
            list: false,
            shared: 1,
            persistent: false,
            name: String::new(),
            description: String::new(),
            allocation_depth: false,
            bitmaps: Vec::new(),
            deadline: Some(Duration::from_secs(10)),
            snapshot: false,
            fork: false,
            verbose: false,
            pid_file: None,
            tls_creds: None,
            tls_authz: None,
            tls_hostname: None,
        }
    }

    /// The credentials for TLS, if there is to be TLS.
    fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        let Some(id) = &self.tls_creds else {
            let given =
                [(self.tls_authz.is_some(), "--tls-authz"), (self.tls_hostname.is_some(), "--tls-hostname")];
            return match given.iter().find(|(given, _)| *given) {
                None => Ok(None),
                Some((_, name)) => {
                    Err(Failure::new(format_args!("{name} is not permitted without --tls-creds")))
                }
            };
        };
        let endpoint = match self.list {
            true if self.tls_authz.is_some() => {
                return Err(Failure::new("TLS authorization is incompatible with export list"));
            }
            false if self.tls_hostname.is_some() => {
                return Err(Failure::new("TLS hostname is only supported with export list"));
            }
            true => Endpoint::Client,
            false => Endpoint::Server,
        };
        let found = Credentials::find(object::given().objects(), id, endpoint);
        found.map(Some).map_err(|error| Failure::new(format_args!("Failed to get TLS creds: {error}")))
    }

    /// TLS of the server, if there is to be TLS.
    fn server_tls(&self) -> Result<Option<ServerTls>, Failure> {
        let Some(credentials) = self.credentials()? else { return Ok(None) };
        let authorizer = self.tls_authz.as_ref().map(|id| Authorizer::new(object::given().objects(), id));
        authorizer.iter().try_for_each(Authorizer::check)?;
        Ok(Some(ServerTls { credentials, authorizer }))
    }

    fn set_cache(&mut self, cache: Cache) -> Result<(), Failure> {
        self.source.cache = cache;
        once(std::mem::replace(&mut self.cache_given, true), "-n and --cache")
    }

    /// Where to listen, or which server to ask.
    fn address(&self) -> Address {
        match &self.socket {
            Some(path) => Address::Unix(path.clone()),
            None => Address::Tcp {
                host: self.host.clone().unwrap_or_else(|| "0.0.0.0".to_owned()),
                port: self.port.unwrap_or(DEFAULT_PORT),
            },
        }
    }

    /// Refuses options about an image beside `--list`, which has none.
    fn refuse_beside_list(&self) -> Result<(), Failure> {
        let source = &self.source;
        let about_an_image = source.format.is_some()
            || source.offset > 0
            || source.snapshot.is_some()
            || source.aio.is_some()
            || self.cache_given
            || self.discard_given
            || self.allocation_depth
            || !(self.name.is_empty() && self.description.is_empty() && self.bitmaps.is_empty());
        if about_an_image {
            return Err(Failure::new("List mode is incompatible with per-device settings"));
        }
        if self.fork {
            return Err(Failure::new("List mode is incompatible with forking"));
        }
        Ok(())
    }

    /// Refuses options that say where to listen, or to serve nothing, beside sockets that were handed over.
    fn refuse_beside_sockets(&self) -> Result<(), Failure> {
        let given = [
            (self.port.is_some(), "-p"),
            (self.host.is_some(), "-b"),
            (self.socket.is_some(), "-k"),
            (self.list, "--list"),
        ];
        match given.iter().find(|(given, _)| *given) {
            None => Ok(()),
            Some((_, name)) => Err(Failure::new(format_args!(
                "{name} can't be used when sockets are handed over (LISTEN_FDS); leave it out, or unset LISTEN_FDS"
            ))),
        }
    }
}

/// Refuses an option that was given before.
fn once(again: bool, name: &str) -> Result<(), Failure> {
    if again {
        return Err(Failure::new(format_args!("{name} can only be specified once")));
    }
    Ok(())
}

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> u8 {
    match act(console, args) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message().is_empty() {
                console.fail(&failure);
            }
            if failure.see_help() && !console.forms().errors_as_json {
                console.note(format_args!("Try '{} --help' for more information.", console.program()));
            }
            failure.code()
        }
    }
}

fn act(console: &mut Console, args: &[String]) -> Result<u8, Failure> {
    object::forget();
    let command_line =
        CommandLine { version: "qemu-nbd", manual: &MANUAL, flags: FLAGS, operands: Operands::Anywhere };
    let Some((mut args, operands)) = command_line.read(console, args, Args::new())? else { return Ok(0) };
    if args.source.image_opts && args.source.format.is_some() {
        return Err(Failure::new("--image-opts and -f are mutually exclusive"));
    }
    let handed = rt::handed::sockets().map_err(Failure::new)?;
    if !handed.is_empty() {
        args.refuse_beside_sockets()?;
    }
    if args.list {
        if !operands.is_empty() {
            return Err(Failure::new("List mode is incompatible with a file name"));
        }
        args.refuse_beside_list()?;
        let credentials = args.credentials()?;
        return list::list(console, &args.address(), credentials.as_ref(), args.tls_hostname.as_deref());
    }
    let [name] = operands.as_slice() else { return Err(Failure::usage("Invalid number of arguments")) };
    args.source.name = name.clone();
    let place = if handed.is_empty() {
        Place::Address(args.address())
    } else {
        let taken = handed.iter().map(|handed| rt::handed::take(handed.number));
        Place::HandedOver(taken.collect::<Result<_, _>>().map_err(Failure::new)?)
    };
    let tls = args.server_tls()?;
    serve::serve(console, &args, place, tls)
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
