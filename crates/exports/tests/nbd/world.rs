//! A server on a disk in a folder of its own, and clients that may misbehave.

use block::{BlockError, Graph, Opt, Options, Registry};
use exports::{ExportSpec, Exports, NbdOptions, NbdServer, NbdService, ServerOptions};
use nbd::client::{Export, Header, Outcome, Part, Step, Tracker};
use nbd::{BASE_ALLOCATION, Command, CommandFlags, Headers, Request};
use parking_lot::Mutex;
use rt::net::{Address, Stream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the disk.
pub const SIZE: usize = 8 << 20;

/// What a test works with.
pub struct World {
    folder: PathBuf,
    pub graph: Graph,
    pub exports: Exports,
    pub service: NbdService,
    /// Ids of exports whose end was reported.
    pub deleted: Arc<Mutex<Vec<String>>>,
}

/// Runs a test in a world of its own.
pub fn run<T>(test: impl AsyncFnOnce(&World) -> T) -> T {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("cairn-exports-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let runtime = rt::Runtime::new(rt::Config { workers: Some(2), ..rt::Config::default() }).unwrap();
    let answer = runtime.block_on(async {
        let no_json = |_: &str| Err(BlockError::invalid("no JSON here"));
        let graph = Graph::new(Registry::new(&[protocols::DRIVERS, formats::DRIVERS]), no_json);
        let deleted = Arc::new(Mutex::new(Vec::new()));
        let told = deleted.clone();
        let exports = Exports::new(graph.clone(), move |id| told.lock().push(id.to_owned()));
        let world = World { folder: folder.clone(), graph, exports, service: NbdService::default(), deleted };
        let answer = test(&world).await;
        world.service.end(&world.exports).await;
        world.exports.close_all().await;
        world.graph.close_all().await.unwrap();
        answer
    });
    std::fs::remove_dir_all(folder).unwrap();
    answer
}

impl World {
    pub fn image(&self) -> PathBuf {
        self.folder.join("disk.raw")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("nbd.sock")
    }

    pub fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }

    /// Starts a server on the socket.
    pub async fn start(&self, options: ServerOptions) -> Arc<NbdServer> {
        let listeners = NbdServer::listen(&Address::Unix(self.socket())).await.unwrap();
        self.service.start(listeners, options).unwrap()
    }

    /// Makes the image `disk.raw` and its node `disk`.
    pub async fn disk(&self, read_only: bool) {
        if !self.image().exists() {
            std::fs::File::create(self.image()).unwrap().set_len(SIZE as u64).unwrap();
        }
        let file = Options::new()
            .with_str("driver", "file")
            .with_str("filename", &self.image().display().to_string());
        let options = Options::new()
            .with_str("driver", "raw")
            .with_str("node-name", "disk")
            .with("read-only", Opt::Bool(read_only))
            .with_str("discard", "unmap")
            .with("file", Opt::Dict(file.with_str("discard", "unmap")));
        self.graph.add(options).await.unwrap();
    }

    /// Makes the node `slow`, each request of which takes a while.
    pub async fn slow(&self, latency_ns: u64, size: u64) {
        let options = Options::new()
            .with_str("driver", "null-co")
            .with_str("node-name", "slow")
            .with("latency-ns", Opt::Uint(latency_ns))
            .with("size", Opt::Uint(size));
        self.graph.add(options).await.unwrap();
    }

    /// Exports a node under its own name, with the id `e-NODE`.
    pub async fn export(&self, node: &str, writable: bool) {
        let spec = ExportSpec {
            id: format!("e-{node}"),
            node_name: node.to_owned(),
            writable,
            ..ExportSpec::default()
        };
        self.exports.add(spec, self.service.export(NbdOptions::default())).await.unwrap();
    }

    /// The usual start: a server, and the disk exported writable as `disk`.
    pub async fn serve_disk(&self) -> Arc<NbdServer> {
        let server = self.start(ServerOptions::default()).await;
        self.disk(false).await;
        self.export("disk", true).await;
        server
    }

    pub async fn connect(&self) -> Stream {
        Stream::connect_unix(&self.socket()).await.unwrap()
    }

    /// A client that has chosen an export.
    pub async fn client(&self, export: &str) -> Client {
        self.client_with(export, Headers::Extended).await
    }

    /// A client that has chosen an export, and these headers.
    pub async fn client_with(&self, export: &str, headers: Headers) -> Client {
        let client = Client::negotiate(self.connect().await, export, headers).await;
        client.expect("the server lets the client in")
    }
}

/// A client without checks: it sends whatever it is given.
pub struct Client {
    pub stream: Stream,
    pub export: Export,
    pub cookie: u64,
}

impl Client {
    pub async fn negotiate(stream: Stream, export: &str, headers: Headers) -> Option<Self> {
        let handshake = nbd::client::Handshake::connect(export, &[BASE_ALLOCATION]).unwrap();
        let mut handshake = handshake.at_most(headers);
        let mut out = Vec::new();
        loop {
            let mut byte = [0];
            if stream.recv(&mut byte).await.ok()? == 0 {
                return None;
            }
            out.clear();
            let (_, step) = handshake.advance(&byte, &mut out).ok()?;
            stream.send_all(&out).await.ok()?;
            if let Step::Ready(export) = step {
                assert_eq!(export.headers, headers);
                return Some(Self { stream, export, cookie: 0 });
            }
        }
    }

    pub fn request(&mut self, command: Command, offset: u64, length: u64) -> Request {
        self.cookie += 1;
        Request { flags: CommandFlags::NONE, command, cookie: self.cookie, offset, length }
    }

    pub async fn send(&self, request: &Request, payload: &[u8]) {
        self.stream.send_all(&request.encode(self.export.headers)).await.unwrap();
        self.stream.send_all(payload).await.unwrap();
    }

    /// Receives the whole reply to `request`, which is the only one in flight, and the data of a read.
    pub async fn receive(&self, request: &Request) -> (Outcome, Vec<u8>) {
        self.receive_behind(request, &[]).await
    }

    /// Receives the whole reply to `request`, of which the first bytes have come.
    pub async fn receive_behind(&self, request: &Request, first: &[u8]) -> (Outcome, Vec<u8>) {
        let mut first = first.to_vec();
        let mut tracker = Tracker::new(*request, self.export.headers, 0);
        let reads = request.command == Command::READ;
        // No more than this is ever served.
        let bytes = request.length.min(nbd::limits::PAYLOAD.into()) as usize;
        let mut data = vec![0xee; if reads { bytes } else { 0 }];
        while !tracker.is_done() {
            match tracker.accept(self.header_behind(std::mem::take(&mut first)).await).unwrap() {
                Part::Nothing => {}
                Part::Data { start, len } => {
                    self.stream.recv_exact(&mut data[start..start + len]).await.unwrap()
                }
                Part::Zeroes { start, len } => data[start..start + len].fill(0),
                Part::Payload(len) => {
                    let mut payload = vec![0; len];
                    self.stream.recv_exact(&mut payload).await.unwrap();
                    tracker.payload(&payload).unwrap();
                }
            }
        }
        (tracker.settle().unwrap(), data)
    }

    /// The header of the next reply.
    pub async fn header(&self) -> Header {
        self.header_behind(Vec::new()).await
    }

    async fn header_behind(&self, mut bytes: Vec<u8>) -> Header {
        loop {
            if let Some((header, taken)) = Header::parse(&bytes, self.export.headers).unwrap() {
                assert_eq!(taken, bytes.len());
                return header;
            }
            let mut byte = [0];
            self.stream.recv_exact(&mut byte).await.unwrap();
            bytes.push(byte[0]);
        }
    }

    /// One request and its reply.
    pub async fn ask(
        &mut self,
        command: Command,
        offset: u64,
        length: u64,
        payload: &[u8],
    ) -> (Outcome, Vec<u8>) {
        let told = self.export.headers.extended() && command == Command::WRITE;
        let request = self.request(command, offset, length);
        let request = Request { flags: CommandFlags::when(told, CommandFlags::PAYLOAD_LEN), ..request };
        self.send(&request, payload).await;
        self.receive(&request).await
    }

    /// The server has closed the connection.
    pub async fn is_closed(&self) -> bool {
        matches!(self.stream.recv(&mut [0]).await, Ok(0) | Err(_))
    }
}

/// Whether the program is installed; prints a note if not.
pub fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// Runs a program off the worker; what it printed, if it succeeded.
pub async fn output(program: &str, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    let output = rt::blocking(move || command.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Bytes that depend on their offset.
pub fn pattern(offset: usize, len: usize) -> Vec<u8> {
    (offset..offset + len).map(|at| (at / 512 * 7 + at) as u8).collect()
}

/// Writes the pattern to all of an image.
pub fn fill(image: &Path) {
    std::fs::write(image, pattern(0, SIZE)).unwrap();
}
