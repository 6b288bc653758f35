//! Servers that go and come back.

use super::super::link::Delays;
use super::*;
use parking_lot::Mutex;
use std::sync::Arc;

/// A disk whose server forgets, when it ends, what was not flushed.
#[derive(Clone)]
struct Disk(Arc<Mutex<Content>>);

struct Content {
    durable: Vec<u8>,
    now: Vec<u8>,
    connections: usize,
}

impl Disk {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Content { durable: vec![0; SIZE], now: vec![0; SIZE], connections: 0 })))
    }

    /// Carries a request out; the reply.
    fn answer(&self, guest: &Guest, request: &Request, payload: &[u8]) -> Vec<u8> {
        let mut content = self.0.lock();
        let range = request.offset as usize..request.offset as usize + request.length as usize;
        let to = guest.reply_to(request);
        match request.command {
            Command::READ => {
                let mut reply = to.data(request.offset, request.length as u32, true).to_vec();
                reply.extend(&content.now[range]);
                return reply;
            }
            Command::WRITE => content.now[range.clone()].copy_from_slice(payload),
            Command::WRITE_ZEROES => content.now[range.clone()].fill(0),
            Command::FLUSH => content.durable = content.now.clone(),
            _ => {}
        }
        if request.flags.contains(CommandFlags::FUA) {
            let Content { durable, now, .. } = &mut *content;
            durable[range.clone()].copy_from_slice(&now[range]);
        }
        to.success().to_vec()
    }

    fn lose_power(&self) {
        let mut content = self.0.lock();
        content.now = content.durable.clone();
    }

    /// Serves one client after another; `lives` tells how many requests each connection answers before it is lost: more than
    /// may have to be written again.
    async fn serve(&self, listener: &Listener, mut lives: impl FnMut() -> usize) {
        loop {
            let guest = greet(listener, ALL).await;
            self.0.lock().connections += 1;
            let mut left = lives();
            while let Some((request, payload)) = guest.next_request().await {
                if request.command == Command::DISC {
                    return;
                }
                let reply = self.answer(&guest, &request, &payload);
                if left == 0 {
                    // Carried out or not, and not answered.
                    break;
                }
                left -= 1;
                if guest.stream.send_all(&reply).await.is_err() {
                    break;
                }
            }
            self.lose_power();
        }
    }
}

fn delays(reconnect: Duration) -> Delays {
    Delays { reconnect, open: Duration::ZERO }
}

async fn connect_again_within(socket: &Path, delays: Delays) -> Result<NbdDriver> {
    let location = Location {
        server: Server::At(Address::Unix(socket.to_owned())),
        export: "disk".into(),
        tls: None,
        context: None,
    };
    NbdDriver::connect(location, None, patient(), delays).await
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_with_servers_that_forget_what_was_not_flushed() {
    for seed in 1..=10 {
        run(async |socket: &Path| {
            let (disk, listener) = (Disk::new(), bound(socket).await);
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
            let served = disk.clone();
            let mut lives = Random(0x2545_f491_4f6c_dd1d ^ seed);
            rt::spawn(async move { served.serve(&listener, || lives.below(40) as usize + 40).await })
                .detach();
            let driver = connect_again_within(socket, delays(LONG)).await.unwrap();
            let mut expected = vec![0; SIZE];
            for step in 0..300 {
                let (at, len) = (random.below(SIZE as u64 - 9000), random.below(9000) + 1);
                let range = at as usize..(at + len) as usize;
                let how = match random.below(3) {
                    0 => block::Request::GUEST.with(Flags::FUA),
                    _ => block::Request::GUEST,
                };
                match random.below(8) {
                    0 => driver.flush().await.unwrap(),
                    1 => {
                        driver.write_zeroes(at, len, how).await.unwrap();
                        expected[range].fill(0);
                    }
                    2 => {
                        let (buf, result) = driver.read(at, BufMut::with_len(len as usize)).await;
                        result.unwrap();
                        assert_eq!(buf[..], expected[range], "seed {seed}, step {step}");
                    }
                    _ => {
                        let data = vec![(step % 255) as u8 + 1; len as usize];
                        driver.write(at, Buf::from_slice(&data), how).await.unwrap();
                        expected[range].copy_from_slice(&data);
                    }
                }
            }
            driver.flush().await.unwrap();
            assert!(disk.0.lock().durable == expected, "seed {seed}");
            assert!(disk.0.lock().connections > 1, "seed {seed}: no connection was lost");
        });
    }
}

#[test]
fn requests_wait_for_a_lost_server_no_longer_than_the_delay_and_succeed_when_it_is_there_again() {
    run(async |socket: &Path| {
        let disk = Disk::new();
        let listener = bound(socket).await;
        let served = disk.clone();
        let first = rt::spawn(async move {
            let guest = greet(&listener, ALL).await;
            let (request, payload) = guest.next_request().await.unwrap();
            let reply = served.answer(&guest, &request, &payload);
            guest.stream.send_all(&reply).await.unwrap();
        });
        let driver = connect_again_within(socket, delays(Duration::from_millis(300))).await.unwrap();
        driver.write(0, Buf::from_slice(b"acknowledged"), block::Request::GUEST).await.unwrap();
        first.await.unwrap();
        let _ = std::fs::remove_file(socket);
        disk.lose_power();
        let error = driver.flush().await.unwrap_err();
        assert!(error.to_string().contains("Failed to connect"), "{error}");
        let (_, result) = driver.read(0, BufMut::with_len(4)).await;
        result.unwrap_err();
        let (served, listener) = (disk.clone(), bound(socket).await);
        rt::spawn(async move { served.serve(&listener, || usize::MAX).await }).detach();
        // The attempts go on.
        while disk.0.lock().connections == 0 {
            rt::sleep(Duration::from_millis(10)).await;
        }
        while driver.flush().await.is_err() {
            rt::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(disk.0.lock().durable[..12], *b"acknowledged");
    });
}

#[test]
fn an_export_that_has_changed_is_not_taken_for_the_old_one() {
    run(async |socket: &Path| {
        let listener = bound(socket).await;
        rt::spawn(async move {
            drop(greet(&listener, ALL).await);
            loop {
                let guest = greet(&listener, TransmissionFlags::HAS_FLAGS).await;
                while guest.next_request().await.is_some_and(|(request, _)| request.command != Command::DISC)
                {
                }
            }
        })
        .detach();
        let driver = connect_again_within(socket, delays(Duration::from_millis(300))).await.unwrap();
        let (_, result) = driver.read(0, BufMut::with_len(4)).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains("has other features"), "{error}");
    });
}

#[test]
fn a_request_that_no_server_survives_fails() {
    run(async |socket: &Path| {
        let (disk, listener) = (Disk::new(), bound(socket).await);
        let served = disk.clone();
        rt::spawn(async move { served.serve(&listener, || 0).await }).detach();
        let driver = connect_again_within(socket, delays(Duration::from_millis(300))).await.unwrap();
        let (_, result) = driver.read(0, BufMut::with_len(4)).await;
        result.unwrap_err();
        assert!(disk.0.lock().connections < 10);
    });
}

#[test]
fn whoever_opens_an_export_can_wait_for_its_server() {
    run(async |socket: &Path| {
        let delays = Delays { open: Duration::from_millis(200), reconnect: Duration::ZERO };
        let refused = connect_again_within(socket, delays).await;
        assert!(refused.err().unwrap().to_string().contains("Failed to connect"));
        let path = socket.to_owned();
        rt::spawn(async move {
            rt::sleep(Duration::from_millis(150)).await;
            let listener = bound(&path).await;
            Disk::new().serve(&listener, || usize::MAX).await;
        })
        .detach();
        let driver = connect_again_within(socket, Delays { open: LONG, ..delays }).await.unwrap();
        driver.flush().await.unwrap();
    });
}

#[test]
fn nobody_connects_again_after_the_end() {
    run(async |socket: &Path| {
        let (disk, listener) = (Disk::new(), bound(socket).await);
        let served = disk.clone();
        rt::spawn(async move { served.serve(&listener, || 2).await }).detach();
        let driver = Arc::new(connect_again_within(socket, delays(LONG)).await.unwrap());
        driver.flush().await.unwrap();
        driver.write(0, Buf::from_slice(b"x"), block::Request::GUEST).await.unwrap();
        driver.cut().unwrap()();
        driver.flush().await.unwrap_err();
        driver.close().await.unwrap();
        assert_eq!(driver.flush().await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(disk.0.lock().connections, 1);
    });
}

#[test]
fn a_server_that_is_gone_owes_nothing_when_all_that_was_written_is_durable() {
    run(async |socket: &Path| {
        let disk = Disk::new();
        let (served, listener) = (disk.clone(), bound(socket).await);
        let server = rt::spawn(async move {
            let guest = greet(&listener, ALL).await;
            for _ in 0..2 {
                let (request, payload) = guest.next_request().await.unwrap();
                guest.stream.send_all(&served.answer(&guest, &request, &payload)).await.unwrap();
            }
        });
        let driver = connect_again_within(socket, delays(Duration::from_millis(100))).await.unwrap();
        driver.write(0, Buf::from_slice(b"x"), block::Request::GUEST).await.unwrap();
        driver.flush().await.unwrap();
        server.await.unwrap();
        // A read finds out that the server is gone.
        driver.read(0, BufMut::with_len(4)).await.1.unwrap_err();
        driver.flush().await.unwrap();
        driver.write(0, Buf::from_slice(b"y"), block::Request::GUEST).await.unwrap_err();
        assert_eq!(disk.0.lock().durable[0], b'x');
    });
}

#[test]
fn what_is_kept_of_unflushed_writes_is_bounded_by_flushes() {
    run(async |socket: &Path| {
        let (disk, listener) = (Disk::new(), bound(socket).await);
        let served = disk.clone();
        rt::spawn(async move { served.serve(&listener, || usize::MAX).await }).detach();
        let driver = connect_again_within(socket, delays(LONG)).await.unwrap();
        let data = Buf::from_slice(&vec![7; SIZE]);
        for _ in 0..66 {
            driver.write(0, data.clone(), block::Request::GUEST).await.unwrap();
        }
        // Nobody has asked for a flush.
        assert_eq!(disk.0.lock().durable[0], 7);
    });
}

#[test]
fn what_was_not_received_over_a_connection_that_is_given_up_never_comes() {
    run(async |_: &Path| {
        let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap().remove(0);
        let location = Location {
            server: Server::At(listener.local_addr().unwrap().clone()),
            export: "disk".into(),
            tls: None,
            context: None,
        };
        let (disk, (told, heard)) = (Disk::new(), futures_channel::oneshot::channel());
        let served = disk.clone();
        rt::spawn(async move {
            // It takes nothing of what it is sent.
            let first = greet(&listener, ALL).await;
            let _ = told.send(first.stream);
            served.serve(&listener, || usize::MAX).await;
        })
        .detach();
        let patience = Patience { silence: Duration::from_secs(1), ..patient() };
        let driver = NbdDriver::connect(location, None, patience, delays(LONG)).await.unwrap();
        // More than the system takes without being read.
        let writes =
            (1..=8).map(|byte| driver.write(0, Buf::from_slice(&vec![byte; SIZE]), block::Request::GUEST));
        for written in futures_util::future::join_all(writes).await {
            written.unwrap();
        }
        assert_eq!(disk.0.lock().connections, 1);
        let (stream, mut received, mut buf) = (heard.await.unwrap(), 0, vec![0; 1 << 16]);
        let end = loop {
            match stream.recv(&mut buf).await {
                Ok(n @ 1..) => received += n,
                end => break end,
            }
        };
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(received < 8 * SIZE);
    });
}
