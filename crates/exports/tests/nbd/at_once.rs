//! Operations on exports, server and graph that several sessions begin at once: each of them ends.

use crate::world::{SIZE, World, run};
use api::PreallocMode;
use exports::{ExportSpec, NbdOptions, RemoveMode, ServerOptions};
use nbd::{Command, CommandFlags, Headers, Request};
use rt::Target;
use rt::net::Stream;
use std::time::Duration;

/// Nothing here takes a second; what takes so long never ends.
const NEVER: Duration = Duration::from_secs(120);

/// Requests sent before their replies are read: more than a connection works on at a time, so that it goes on
/// submitting when its socket is closed already.
const PIPELINE: u64 = 300;

/// Sends requests and reads replies until the server hangs up.
async fn submit(stream: Stream) {
    let mut replies = vec![0; 64 << 10];
    for batch in 0u64.. {
        let mut bytes = Vec::new();
        for n in 0..PIPELINE {
            let command = [Command::READ, Command::WRITE, Command::FLUSH][(n % 3) as usize];
            let length = if command == Command::FLUSH { 0 } else { 512 };
            let offset = if length == 0 { 0 } else { (batch + n) * 512 % SIZE as u64 };
            let cookie = batch * PIPELINE + n;
            let request = Request { flags: CommandFlags::NONE, command, cookie, offset, length };
            bytes.extend_from_slice(&request.encode(Headers::Extended));
            bytes.extend_from_slice(&[7; 512][..request.payload(Headers::Extended) as usize]);
        }
        if stream.send_all(&bytes).await.is_err() || !matches!(stream.recv(&mut replies).await, Ok(1..)) {
            return;
        }
    }
}

/// Clients that write to the export of `node` without a pause.
async fn clients(world: &World, node: &str, count: usize) -> Vec<rt::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for _ in 0..count {
        let client = world.client(node).await;
        tasks.push(rt::spawn_on(Target::LeastLoaded, submit(client.stream)));
    }
    tasks
}

#[test]
fn a_server_stops_while_another_session_removes_its_export() {
    run(async |world| {
        world.disk(false).await;
        world.slow(2_000_000, SIZE as u64).await;
        for round in 0..40 {
            let node = if round % 2 == 0 { "slow" } else { "disk" };
            world.start(ServerOptions::default()).await;
            world.export(node, true).await;
            let writers = clients(world, node, 3).await;
            let (service, exports) = (world.service.clone(), world.exports.clone());
            let stopping = rt::spawn(async move { service.stop(&exports).await });
            let id = format!("e-{node}");
            if round % 3 != 0 {
                rt::yield_now().await;
            }
            // It may be gone already.
            let _ = world.exports.remove(&id, RemoveMode::Hard);
            let stopped = rt::timeout(NEVER, stopping).await.expect("the server never stops");
            stopped.unwrap().unwrap();
            rt::timeout(NEVER, world.exports.wait_gone(&[id])).await.expect("the export never ends");
            for writer in writers {
                writer.await.unwrap();
            }
        }
    });
}

#[test]
fn a_server_that_stops_leaves_the_next_one_its_exports() {
    run(async |world| {
        world.disk(false).await;
        world.slow(300_000_000, SIZE as u64).await;
        world.start(ServerOptions::default()).await;
        world.export("slow", true).await;
        let mut client = world.client("slow").await;
        let request = client.request(Command::READ, 0, 4096);
        client.send(&request, &[]).await;
        let backend = world.exports.backend("e-slow").unwrap();
        while backend.in_flight() == 0 {
            rt::sleep(Duration::from_millis(1)).await;
        }
        let (service, exports) = (world.service.clone(), world.exports.clone());
        let stopping = rt::spawn(async move { service.stop(&exports).await });
        while world.service.server().is_some() {
            rt::yield_now().await;
        }
        let socket = world.socket().with_extension("next");
        let listeners = exports::NbdServer::listen(&rt::net::Address::Unix(socket)).await.unwrap();
        world.service.start(listeners, ServerOptions::default()).unwrap();
        world.export("disk", true).await;
        stopping.await.unwrap().unwrap();
        let left: Vec<_> = world.exports.list().into_iter().map(|export| export.id).collect();
        assert_eq!(left, ["e-disk"]);
    });
}

/// What an operation of a session works on.
struct Session {
    exports: exports::Exports,
    service: exports::NbdService,
    graph: block::Graph,
    socket: std::path::PathBuf,
}

impl Session {
    fn of(world: &World) -> Self {
        let World { exports, service, graph, .. } = world;
        Self {
            exports: exports.clone(),
            service: service.clone(),
            graph: graph.clone(),
            socket: world.socket(),
        }
    }

    /// Ends everything, as the program does.
    async fn end(&self) {
        self.service.end(&self.exports).await;
        self.exports.close_all().await;
    }

    /// Every operation that sessions may begin, on one export `e-disk` of the node `disk`. Each may be refused.
    async fn operate(&self, kind: u32) {
        let Self { exports, service, graph, socket } = self;
        match kind {
            0 => drop(exports.remove("e-disk", RemoveMode::Hard)),
            1 => drop(exports.remove("e-disk", RemoveMode::Safe)),
            2 => drop(service.stop(exports).await),
            3 => drop(graph.remove("disk").await),
            4 | 5 => {
                if let Ok(node) = graph.need_node("disk") {
                    drop(
                        graph
                            .resize(&node, SIZE as u64 + u64::from(kind & 1) * 65536, PreallocMode::Off)
                            .await,
                    );
                }
            }
            6 | 7 => {
                if let Ok(node) = graph.need_node("disk") {
                    drop(graph.set_writable(&node, kind == 6).await);
                }
            }
            8 | 9 => {
                let address = rt::net::Address::Unix(socket.clone());
                if let Ok(listeners) = exports::NbdServer::listen(&address).await {
                    drop(service.start(listeners, ServerOptions::default()));
                }
                let spec = ExportSpec {
                    id: "e-disk".to_owned(),
                    node_name: "disk".to_owned(),
                    writable: kind == 8,
                    ..ExportSpec::default()
                };
                drop(exports.add(spec, service.export(NbdOptions::default())).await);
            }
            _ => self.end().await,
        }
    }
}

/// Three sessions, each with an operation of its own, while clients write; every pair comes up.
#[test]
fn whatever_sessions_begin_at_once_ends() {
    const KINDS: u32 = 11;
    for (first, second) in (0..KINDS).flat_map(|first| (0..KINDS).map(move |second| (first, second))) {
        run(async |world| {
            world.serve_disk().await;
            let writers = clients(world, "disk", 2).await;
            let kinds = [first, second, (first * 7 + second * 3) % KINDS];
            let begin = |kind| {
                let session = Session::of(world);
                rt::spawn(async move { session.operate(kind).await })
            };
            for (operation, kind) in kinds.map(begin).into_iter().zip(kinds) {
                let ended = rt::timeout(NEVER, operation).await;
                ended.unwrap_or_else(|_| panic!("{kind} of {kinds:?} never ends")).unwrap();
            }
            let closed = rt::timeout(NEVER, Session::of(world).end()).await;
            closed.unwrap_or_else(|_| panic!("the end after {kinds:?} never comes"));
            for writer in writers {
                writer.await.unwrap();
            }
        });
    }
}
