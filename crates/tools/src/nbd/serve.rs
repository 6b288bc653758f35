//! Serving one image until its last client has left, or a signal comes.

use super::{Args, Place};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::image::{self, Image};
use crate::runtime;
use block::BlockError;
use exports::{ExportedBitmap, NbdExportSpec, NbdServer, ServerOptions, ServerTls};
use rt::net::Listener;
use rt::process::ReadyHandle;
use rt::signal::{HANGUP, INTERRUPT, TERMINATE};
use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// Signals that end the service.
const END: [i32; 3] = [TERMINATE, INTERRUPT, HANGUP];

/// Serves; returns when the service has ended. With `--fork` the calling process has returned before.
pub fn serve(
    console: &mut Console,
    args: &Args,
    place: Place,
    tls: Option<ServerTls>,
) -> Result<u8, Failure> {
    // Before anything that a fork does not take along: threads, rings, locks.
    let background = match args.fork {
        true => {
            let forked = rt::process::daemonize();
            let mut handle = forked.map_err(|error| Failure::new(format_args!("--fork: {error}")))?;
            if args.verbose {
                handle.keep_errors();
            }
            Some(handle)
        }
        false => None,
    };
    rt::signal::ignore_sigpipe();
    rt::signal::catch(&END).map_err(|error| Failure::new(format_args!("signals: {error}")))?;
    let mut background = Background { handle: background };
    let result =
        runtime::run(open_and_serve(console, args, (place, tls), &mut background)).and_then(|result| result);
    match (result, background.handle.take()) {
        (Ok(()), _) => Ok(0),
        (Err(failure), Some(handle)) => {
            // The process that the caller waits for reports it.
            handle.fail(&console.line_of(&failure));
            Err(Failure::silent(failure.code()))
        }
        (Err(failure), None) => Err(failure),
    }
}

/// Reports to the process that waits until we are ready, if one does.
struct Background {
    handle: Option<ReadyHandle>,
}

impl Background {
    fn ready(&mut self) -> Result<(), Failure> {
        match self.handle.take() {
            Some(handle) => handle.ready().map_err(|error| Failure::new(format_args!("--fork: {error}"))),
            None => Ok(()),
        }
    }
}

async fn open_and_serve(
    console: &mut Console,
    args: &Args,
    at: (Place, Option<ServerTls>),
    background: &mut Background,
) -> Result<(), Failure> {
    let image = open(console, args).await?;
    let result = serve_image(&image, args, at, background).await;
    let closed = image.close().await;
    result?;
    Ok(closed?)
}

async fn open(console: &mut Console, args: &Args) -> Result<Image, Failure> {
    let source = &args.source;
    let opened = if args.snapshot { Image::open_overlaid(source).await } else { Image::open(source).await };
    let image = opened.map_err(|error| image::cannot_open(&source.name, &error))?;
    if image.guessed_raw && source.writable {
        image::warn_of_guess(console, &source.name);
    }
    Ok(image)
}

async fn serve_image(
    image: &Image,
    args: &Args,
    (place, tls): (Place, Option<ServerTls>),
    background: &mut Background,
) -> Result<(), Failure> {
    let listeners = listen(place).await?;
    let options = ServerOptions {
        max_connections: args.shared,
        handshake_deadline: args.deadline,
        tls,
        on_failed_handshake: |error| console::tell(format_args!("option negotiation failed: {error}")),
        ..ServerOptions::default()
    };
    let writable = args.source.writable || args.snapshot;
    // The one that is named last is told of first.
    let named = args.bitmaps.iter().rev().map(|name| ExportedBitmap { node: None, name: name.clone() });
    let bitmaps = named.map(|bitmap| bitmap.find(&image.graph, &image.node(), writable));
    let bitmaps = bitmaps.collect::<Result<_, BlockError>>()?;
    let server = NbdServer::start(listeners, options);
    let export = NbdExportSpec {
        name: args.name.clone(),
        description: args.description.clone(),
        backend: image.backend.clone(),
        writable,
        allocation_depth: args.allocation_depth,
        bitmaps,
        writethrough: !args.source.cache.writeback,
        // Whole sectors, where the first one is guarded against becoming another format's header.
        minimum_block: if image.guessed_raw && image.backend.length().is_multiple_of(SECTOR) {
            512
        } else {
            1
        },
        multi_conn: args.shared != 1,
    };
    server.add(export).map_err(Failure::new)?;
    if let Some(path) = &args.pid_file {
        write_pid(path)?;
    }
    background.ready()?;
    wait_for_end(&server, args.persistent).await?;
    server.stop().await;
    Ok(())
}

async fn listen(place: Place) -> Result<Vec<Listener>, Failure> {
    match place {
        Place::Address(address) => NbdServer::listen(&address).await.map_err(Failure::new),
        Place::HandedOver(sockets) => {
            let listeners = sockets.into_iter().map(Listener::from_raw_fd);
            listeners.collect::<Result<_, _>>().map_err(Failure::new)
        }
    }
}

fn write_pid(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| {
        Failure::new(format_args!("could not write the process id to '{}': {error}", path.display()))
    })
}

/// Waits for a signal, or until nobody uses the export any more.
async fn wait_for_end(server: &NbdServer, persistent: bool) -> Result<(), Failure> {
    let mut signal = pin!(rt::signal::next_signal(&END));
    let mut left = pin!(server.last_client_left());
    let ended = std::future::poll_fn(|context| {
        if let Poll::Ready(signal) = signal.as_mut().poll(context) {
            return Poll::Ready(signal.map(drop));
        }
        match persistent {
            true => Poll::Pending,
            false => left.as_mut().poll(context).map(Ok),
        }
    });
    ended.await.map_err(|error| Failure::new(format_args!("signals: {error}")))
}
