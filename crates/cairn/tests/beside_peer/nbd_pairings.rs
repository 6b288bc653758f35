//! Our NBD client and server and the peer's, in all pairings: each pair agrees on extended headers, what it stores and
//! shows is the same, and a range of gibibytes is one request.
use crate::pair::peer_is_here;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Side {
    Ours,
    Peers,
}

impl Side {
    fn program(self, name: &str) -> Command {
        match self {
            Side::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
                command.arg(name.trim_start_matches("qemu-"));
                command
            }
            Side::Peers => Command::new(name),
        }
    }

    fn output(self, name: &str, args: &[&str]) -> String {
        let output = self.program(name).args(args).output().unwrap();
        let (told, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{self:?} {name} {args:?}: {told}{errors}");
        told.into_owned()
    }
}

/// A server's process, ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(side: Side, image: &Path, socket: &Path) -> Server {
    let mut command = side.program("qemu-nbd");
    command.args(["-t", "-e", "0", "-f", "qcow2", "-x", "disk", "-k"]).arg(socket).arg(image);
    let server = Server(command.spawn().unwrap());
    for _ in 0..12_000 {
        if UnixStream::connect(socket).is_ok() {
            return server;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{side:?} does not listen");
}

/// Stands between clients and a server, and keeps what clients say.
fn listen_in(front: &Path, back: &Path) -> Arc<Mutex<Vec<u8>>> {
    let listener = UnixListener::bind(front).unwrap();
    let (back, said) = (back.to_owned(), Arc::new(Mutex::new(Vec::new())));
    let heard = said.clone();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&back).unwrap());
            let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || pass(from, to, |_| {}));
            let heard = heard.clone();
            thread::spawn(move || pass(client, server, |bytes| heard.lock().unwrap().extend(bytes)));
        }
    });
    said
}

fn pass(mut from: UnixStream, mut to: UnixStream, mut see: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 65536];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        see(&bytes[..n]);
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Offset and length of the extended requests for `command` among the bytes that clients have sent.
fn requests(said: &[u8], command: u16) -> Vec<(u64, u64)> {
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    said.windows(32)
        .filter(|window| window[..4] == [0x21, 0xe4, 0x1c, 0x71] && window[6..8] == command.to_be_bytes())
        .map(|window| (number(&window[16..24]), number(&window[24..32])))
        .collect()
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("cairn-pairings-{}", std::process::id()));
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).unwrap();
    folder
}

const GIB: u64 = 1 << 30;

#[test]
fn every_client_and_server_use_64_bit_lengths() {
    if !peer_is_here() {
        return;
    }
    let folder = folder();
    let mut maps = Vec::new();
    for (n, server) in [Side::Ours, Side::Peers].into_iter().enumerate() {
        for (m, client) in [Side::Ours, Side::Peers].into_iter().enumerate() {
            let pair = format!("server {server:?}, client {client:?}");
            let place = |kind: &str| folder.join(format!("{kind}-{n}-{m}"));
            let (image, front, back) = (place("image"), place("front"), place("back"));
            let image_name = image.to_str().unwrap();
            Side::Peers.output("qemu-img", &["create", "-q", "-f", "qcow2", image_name, "1T"]);
            let running = serve(server, &image, &back);
            let said = listen_in(&front, &back);
            let list = client.output("qemu-nbd", &["--list", "-k", front.to_str().unwrap()]);
            assert!(list.contains("transaction size: 64-bit"), "{pair}: {list}");
            assert!(list.contains("block-status-payload"), "{pair}: {list}");
            let uri = format!("nbd+unix:///disk?socket={}", front.display());
            let commands = [
                "write -P 7 1M 64k",
                "write -P 8 9G 64k",
                "write -z -n 8G 8G",
                "discard 20G 1G",
                "read -P 7 1M 64k",
                "read -P 0 9G 1M",
            ];
            let mut args = vec!["-f", "raw"];
            commands.iter().for_each(|command| args.extend(["-c", command]));
            args.push(&uri);
            let told = client.output("qemu-io", &args);
            assert!(!told.contains("failed"), "{pair}: {told}");
            maps.push((
                pair.clone(),
                client.output("qemu-img", &["map", "--output=json", "-f", "raw", &uri]),
            ));
            let said = said.lock().unwrap();
            assert_eq!(requests(&said, 6), [(8 * GIB, 8 * GIB)], "{pair}: zeroes");
            assert_eq!(requests(&said, 4), [(20 * GIB, GIB)], "{pair}: trims");
            // The map is asked for in more than a compact request can mean.
            let longest = requests(&said, 7).into_iter().map(|(_, len)| len).max();
            assert!(longest > Some(4 * GIB), "{pair}: status of {longest:?} bytes");
            drop(running);
            Side::Peers.output("qemu-img", &["check", "-q", image_name]);
        }
    }
    let (first, expected) = &maps[0];
    assert_eq!(expected.lines().count(), 3, "{expected}");
    for (pair, map) in &maps[1..] {
        assert_eq!(map, expected, "{pair} beside {first}");
    }
    fs::remove_dir_all(folder).ok();
}
