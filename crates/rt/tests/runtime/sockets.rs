//! Sockets, pipes and signals.

use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use rt::Target;
use rt::net::{Datagrams, Listener, Stream};
use rt::stdio::Lines;

use crate::support::{Folder, on_each_engine};

#[test]
fn a_stale_socket_file_is_replaced_and_a_live_one_refused() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let path = folder.path("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind_unix(&path).await.unwrap();
        let second = Listener::bind_unix(&path).await.err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        let client = Stream::connect_unix(&path).await.unwrap();
        let _probe = listener.accept().await.unwrap();
        let server = listener.accept().await.unwrap();
        client.send_all(b"ping").await.unwrap();
        let mut buf = [0; 4];
        server.recv_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"ping");
        drop(listener);
        assert!(!path.exists(), "a listener takes its file with it");
    });
}

#[test]
fn a_file_in_the_sockets_place_is_left_alone() {
    on_each_engine(|| async {
        let folder = Folder::new();
        let path = folder.path("precious");
        std::fs::write(&path, b"data").unwrap();
        let error = Listener::bind_unix(&path).await.err().unwrap();
        assert_eq!(
            (error.kind(), std::fs::read(&path).unwrap()),
            (io::ErrorKind::AlreadyExists, b"data".to_vec())
        );
        assert!(Listener::bind_unix(&folder.path(&"x".repeat(200))).await.is_err());
    });
}

#[test]
fn a_stream_that_is_let_go_is_watched_where_it_is_waited_for_next() {
    on_each_engine(|| async {
        let (here, there) = Stream::pair().unwrap();
        let (here, mut buf) = (Arc::new(here), [0; 4]);
        there.send_all(b"ping").await.unwrap();
        here.recv_exact(&mut buf).await.unwrap();
        // Waited for in vain, both ways: this worker watches it.
        let mut filled = 0;
        while let Ok(n) = here.try_send(&[7; 4096]) {
            filled += n;
        }
        let nothing = Duration::from_millis(1);
        assert!(here.try_recv(&mut buf).is_err());
        assert!(rt::timeout(nothing, here.readable()).await.is_err());
        assert!(rt::timeout(nothing, here.writable()).await.is_err());
        let (told, tells) = std::sync::mpsc::channel();
        let stream = here.clone();
        let moved = rt::spawn_on(Target::Worker(0), async move {
            stream.let_go();
            told.send("watched").unwrap();
            let mut buf = [0; 4];
            stream.recv_exact(&mut buf).await.unwrap();
            stream.writable().await.unwrap();
            told.send("done").unwrap();
            buf
        });
        // This worker stands still meanwhile: it is not what takes the events.
        let wait = || tells.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(wait(), "watched");
        there.try_send(b"pong").unwrap();
        let mut rest = vec![0; filled];
        let mut came = 0;
        while let Ok(n) = there.try_recv(&mut rest[came..]) {
            came += n;
            if came == filled {
                break;
            }
        }
        assert_eq!((wait(), came), ("done", filled));
        assert_eq!(&moved.await.unwrap(), b"pong");
    });
}

/// Serves one connection: everything comes back.
async fn echo(stream: Stream) -> io::Result<()> {
    let mut buf = vec![0; 65536];
    loop {
        match stream.recv(&mut buf).await? {
            0 => return Ok(()),
            n => stream.send_all(&buf[..n]).await?,
        }
    }
}

async fn exchange(client: Stream) {
    let client = Arc::new(client);
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n / 3) as u8).collect();
    let (sender, sent) = (client.clone(), data.clone());
    let sending = rt::spawn(async move {
        let (a, b) = sent.split_at(1_000_000);
        sender.send_all_vectored(&mut [IoSlice::new(a), IoSlice::new(&[]), IoSlice::new(b)]).await?;
        sender.shutdown_write()
    });
    let mut back = Vec::new();
    let mut buf = vec![0; 10_000];
    loop {
        match client.recv(&mut buf).await.unwrap() {
            0 => break,
            n => back.extend_from_slice(&buf[..n]),
        }
    }
    sending.await.unwrap().unwrap();
    assert!(back == data);
}

#[test]
fn more_data_than_the_sockets_hold_goes_both_ways_and_ends() {
    on_each_engine(|| async {
        let (client, server) = Stream::pair().unwrap();
        let served = rt::spawn_on(Target::Worker(1), echo(server));
        exchange(client).await;
        served.await.unwrap().unwrap();
    });
}

#[test]
fn tcp_connects_by_name_and_both_families_share_a_port() {
    if std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 0)).is_err() {
        println!("left out: this system has no /etc/hosts, and nobody knows the name 'localhost'");
        return;
    }
    on_each_engine(|| async {
        let listeners = Listener::bind_tcp("localhost", 0).await.unwrap();
        let rt::net::Address::Tcp { port, .. } = listeners[0].local_addr().unwrap().clone() else {
            unreachable!()
        };
        for listener in listeners {
            drop(rt::spawn(async move {
                while let Ok(stream) = listener.accept().await {
                    assert!(stream.peer_label().contains(':'));
                    assert!(asks_silent_peers(&stream));
                    drop(rt::spawn_on(Target::LeastLoaded, echo(stream)));
                }
            }));
        }
        exchange(Stream::connect_tcp("localhost", port).await.unwrap()).await;
        exchange(Stream::connect_tcp("127.0.0.1", port).await.unwrap()).await;
    });
}

#[test]
fn the_address_of_all_addresses_is_reached_by_either_family() {
    on_each_engine(|| async {
        let Ok(mut listeners) = Listener::bind_tcp("::", 0).await else {
            println!("left out: no IPv6 here");
            return;
        };
        let listener = listeners.pop().unwrap();
        let rt::net::Address::Tcp { port, .. } = listener.local_addr().unwrap().clone() else {
            unreachable!()
        };
        let accepts = rt::spawn(async move { echo(listener.accept().await.unwrap()).await });
        exchange(Stream::connect_tcp("127.0.0.1", port).await.unwrap()).await;
        accepts.await.unwrap().unwrap();
    });
}

/// Whether the kernel probes a silent peer.
fn asks_silent_peers(stream: &Stream) -> bool {
    let (mut value, mut len): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    let (fd, place) = (stream.as_fd().as_raw_fd(), (&raw mut value).cast());
    // SAFETY: `value` and `len` live during the call, and `len` is the size of `value`.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, place, &raw mut len) };
    done == 0 && value == 1
}

#[test]
fn a_peer_that_sends_without_pause_does_not_starve_other_tasks() {
    on_each_engine(|| async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let talker = std::thread::spawn(move || {
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_secs(120) {
                if theirs.write_all(&[7; 1 << 16]).is_err() {
                    return true;
                }
            }
            false
        });
        let stream = Arc::new(Stream::from_fd(ours.into()).unwrap());
        let heard = stream.clone();
        let listener = rt::spawn(async move { while matches!(heard.recv(&mut [0; 64]).await, Ok(1..)) {} });
        for _ in 0..10 {
            rt::sleep(Duration::from_millis(1)).await;
            rt::spawn(async {}).await.unwrap();
        }
        stream.shutdown().unwrap();
        listener.await.unwrap();
        drop(stream);
        assert!(rt::blocking(move || talker.join().unwrap()).await, "other tasks ran meanwhile");
    });
}

#[test]
fn a_refused_connection_says_so() {
    on_each_engine(|| async {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = Stream::connect_tcp("127.0.0.1", port).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let folder = Folder::new();
        let error = Stream::connect_unix(&folder.path("nobody")).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn an_aborted_connection_delivers_nothing_that_had_not_arrived() {
    on_each_engine(|| async {
        let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap().remove(0);
        let client = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap();
        // Until neither end has room.
        let mut sent = 0;
        while let Ok(n) = client.try_send(&[7; 1 << 16]) {
            sent += n;
        }
        client.abort().unwrap();
        let (mut received, mut buf) = (0, vec![0; 1 << 16]);
        let end = loop {
            match server.recv(&mut buf).await {
                Ok(n @ 1..) => received += n,
                end => break end,
            }
        };
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(received < sent, "{received} of {sent} bytes");
        assert!(client.recv(&mut buf).await.is_err());
        // What is no TCP connection ends.
        let (client, server) = Stream::pair().unwrap();
        client.abort().unwrap();
        assert_eq!(server.recv(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn data_sent_just_before_the_peer_closes_is_received_in_full() {
    on_each_engine(|| async {
        for _ in 0..50 {
            let (client, server) = Stream::pair().unwrap();
            let reader = rt::spawn_on(Target::Worker(0), async move {
                let mut buf = [0; 100];
                let first = server.recv(&mut buf).await.unwrap();
                let second =
                    rt::timeout(Duration::from_secs(120), server.recv(&mut buf)).await.unwrap().unwrap();
                (first, second)
            });
            client.send_all(b"last words").await.unwrap();
            drop(client);
            assert_eq!(reader.await.unwrap(), (10, 0));
        }
    });
}

#[test]
fn lines_come_from_pipes_and_files_alike() {
    on_each_engine(|| async {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut lines = Lines::new(Stream::from_fd(reader.into()).unwrap());
        let text = b"one\r\ntwo\n\nlast";
        std::thread::spawn(move || {
            for part in text.chunks(3) {
                writer.write_all(part).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let folder = Folder::new();
        std::fs::write(folder.path("lines"), text).unwrap();
        let file = std::fs::File::open(folder.path("lines")).unwrap();
        let mut same = Lines::new(Stream::from_fd(file.into()).unwrap());
        for want in [Some("one"), Some("two"), Some(""), Some("last"), None] {
            let want = want.map(|line| line.as_bytes().to_vec());
            assert_eq!(lines.next().await.unwrap(), want);
            assert_eq!(same.next().await.unwrap(), want);
        }
    });
}

#[test]
fn a_signal_ends_a_wait_and_is_taken_once() {
    on_each_engine(|| async {
        rt::signal::catch(&[libc::SIGHUP, libc::SIGTERM]).unwrap();
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(5));
            // SAFETY: the signal is caught.
            unsafe { libc::kill(libc::getpid(), libc::SIGHUP) };
        });
        let signal = rt::signal::next_signal(&[libc::SIGTERM, libc::SIGHUP]).await.unwrap();
        assert_eq!(signal, libc::SIGHUP);
        let again = rt::timeout(Duration::from_millis(5), rt::signal::next_signal(&[libc::SIGHUP])).await;
        assert!(again.is_err());
    });
}

#[test]
fn a_stream_is_open_until_one_end_has_shut_its_sending_direction() {
    on_each_engine(|| async {
        let (client, server) = Stream::pair().unwrap();
        while server.try_send(&[0; 65536]).is_ok() {}
        assert!(client.is_open() && server.is_open(), "a full socket is an open one");
        // An end that has sent everything may still receive.
        client.shutdown_write().unwrap();
        assert!(!client.is_open() && server.is_open());
        server.shutdown().unwrap();
        assert!(!server.is_open());
        let (client, server) = Stream::pair().unwrap();
        drop(client);
        assert!(!server.is_open());
        let mut listeners = Listener::bind_tcp("127.0.0.1", 0).await.unwrap();
        let listener = listeners.remove(0);
        let client = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap();
        assert!(client.is_open() && server.is_open());
        server.shutdown().unwrap();
        assert!(!server.is_open());
    });
}

#[test]
fn a_packet_comes_with_its_sender_and_with_its_whole_length_also_where_it_does_not_fit() {
    on_each_engine(|| async {
        let one = Datagrams::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let to = one.local_addr().unwrap();
        let other = Datagrams::towards(to).unwrap();
        let mut buf = [0; 4];
        let waiting = rt::spawn(async move { one.recv_from(&mut buf).await.map(|got| (one, buf, got)) });
        other.send_to(b"ping", to).await.unwrap();
        let (one, buf, (n, sender)) = waiting.await.unwrap().unwrap();
        assert_eq!((&buf, n, sender.port()), (b"ping", 4, other.local_addr().unwrap().port()));
        one.send_to(b"a longer answer", sender).await.unwrap();
        one.send_to(b"", sender).await.unwrap();
        let mut buf = [0; 4];
        assert_eq!(other.recv_from(&mut buf).await.unwrap(), (15, to));
        assert_eq!(&buf, b"a lo");
        assert_eq!(other.recv_from(&mut buf).await.unwrap(), (0, to));
    });
}
