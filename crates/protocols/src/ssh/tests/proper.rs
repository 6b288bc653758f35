//! Servers that do what they should: data, sizes, keys, logins.

use super::*;
use russh::keys::PublicKey;
use std::sync::atomic::Ordering;

const SIZE: usize = 100_000;

#[test]
fn data_are_read_and_written_in_pieces_that_the_server_takes() {
    run(async {
        let server = Server::new(noise(SIZE), Behaviour::default());
        let driver = open(&server, LONG).await.unwrap();
        assert_eq!(driver.length(), SIZE as u64);
        let (buf, result) = driver.read(0, BufMut::with_len(SIZE)).await;
        result.unwrap();
        assert!(buf[..] == noise(SIZE)[..]);
        // Beyond the end there are zeroes.
        let (buf, result) = driver.read(SIZE as u64 - 10, BufMut::with_len(9000)).await;
        result.unwrap();
        assert!(buf[..10] == noise(SIZE)[SIZE - 10..] && buf[10..].iter().all(|byte| *byte == 0));
        let data = Buf::from_slice(&noise(50_000));
        driver.write(99_000, data, Request::GUEST).await.unwrap();
        assert_eq!(driver.length(), 149_000);
        driver.flush().await.unwrap();
        assert!(server.content.lock()[99_000..] == noise(50_000)[..]);
        driver.resize(1000, PreallocMode::Off).await.unwrap();
        assert_eq!((driver.length(), server.content.lock().len()), (1000, 1000));
        assert!(driver.resize(2000, PreallocMode::Full).await.is_err());
        driver.close().await.unwrap();
    });
}

#[test]
fn many_requests_are_in_flight_and_each_has_its_own_answer() {
    run(async {
        let server = Server::new(noise(SIZE), Behaviour::default());
        let driver = Arc::new(open(&server, LONG).await.unwrap());
        let expected = Arc::new(noise(SIZE));
        let tasks = (0..200_usize).map(|n| {
            let (driver, expected) = (driver.clone(), expected.clone());
            rt::spawn(async move {
                let start = n * 457 % 90_000;
                let (buf, result) = driver.read(start as u64, BufMut::with_len(9_000)).await;
                result.unwrap();
                assert!(buf[..] == expected[start..start + 9_000]);
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

#[test]
fn requests_that_nobody_waits_for_disturb_no_others() {
    run(async {
        let server = Server::new(noise(SIZE), Behaviour::default());
        let driver = open(&server, LONG).await.unwrap();
        for _ in 0..100 {
            // Given up when it has been sent, or before.
            let read = driver.read(0, BufMut::with_len(SIZE));
            assert!(rt::timeout(Duration::ZERO, read).await.is_err());
        }
        let (buf, result) = driver.read(7, BufMut::with_len(5000)).await;
        result.unwrap();
        assert!(buf[..] == noise(SIZE)[7..5007]);
    });
}

#[test]
fn a_server_is_known_by_each_digest_of_its_key_and_by_no_other() {
    run(async {
        let server = Server::new(noise(10), Behaviour::default());
        let digest = |kind: SshHostKeyCheckHashType, key: &PublicKey| {
            use sha1::Digest;
            let bytes = key.to_bytes().unwrap();
            let digest = match kind {
                SshHostKeyCheckHashType::Md5 => md5::Md5::digest(&bytes).to_vec(),
                SshHostKeyCheckHashType::Sha1 => sha1::Sha1::digest(&bytes).to_vec(),
                SshHostKeyCheckHashType::Sha256 => sha2::Sha256::digest(&bytes).to_vec(),
            };
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>()
        };
        for kind in
            [SshHostKeyCheckHashType::Md5, SshHostKeyCheckHashType::Sha1, SshHostKeyCheckHashType::Sha256]
        {
            let right = digest(kind, &server.key);
            for (hash, fits) in [
                (right.concat(), true),
                (right.join(":").to_uppercase(), true),
                (right[1..].concat(), false),
                (String::new(), false),
            ] {
                let check = Check::Hash { kind, hash: hash.clone() };
                let location = Location { check, ..location(server.address.port()) };
                let connected = connect_patiently(&location, &Keys::default(), "x", patience(LONG)).await;
                match connected {
                    Ok(_) => assert!(fits, "{kind:?} {hash}"),
                    Err(error) => {
                        assert!(!fits && error.kind() == ErrorKind::Refused, "{error}");
                        let text =
                            format!("' does not match host_key_check '{}:{hash}'", location::kind_name(kind));
                        assert!(error.to_string().ends_with(&text), "{error}");
                    }
                }
            }
        }
    });
}

#[test]
fn a_server_is_known_by_a_list_of_known_hosts() {
    run(async {
        let server = Server::new(noise(10), Behaviour::default());
        let port = server.address.port();
        let file = std::env::temp_dir().join(format!("cairn-known-hosts-{}", std::process::id()));
        let key = server.key.to_openssh().unwrap();
        let check = Check::KnownHosts { file: Some(file.clone()) };
        let location = Location { check, ..location(port) };
        for (list, refused) in [
            (Some(format!("[127.0.0.1]:{port} {key}\n")), None),
            (Some(format!("127.0.0.1 {key}\n")), Some("no host key was found in known_hosts")),
            (Some(format!("@revoked * {key}\n[127.0.0.1]:{port} {key}\n")), Some("is revoked")),
            (None, Some("known_hosts file not found")),
        ] {
            let _ = std::fs::remove_file(&file);
            list.iter().for_each(|list| std::fs::write(&file, list).unwrap());
            let connected = connect_patiently(&location, &Keys::default(), "x", patience(LONG)).await;
            match (connected.map(drop), refused) {
                (Ok(()), None) => {}
                (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
                (result, _) => panic!("{list:?}: {result:?}"),
            }
        }
        let _ = std::fs::remove_file(&file);
    });
}

#[test]
fn a_password_logs_in_however_it_is_asked_for_and_is_in_no_message() {
    const WORD: &str = "5ec4e7-w04d";
    for interactive in [false, true] {
        run(async {
            let behaviour = Behaviour { password: Some(WORD), interactive, ..Behaviour::default() };
            let server = Server::new(noise(10), behaviour);
            let objects = Objects::default();
            objects.add("right", Secret::new(WORD.as_bytes().to_vec())).unwrap();
            objects.add("wrong", Secret::new(b"wr0ng-w04d".to_vec())).unwrap();
            objects.add("binary", Secret::new(vec![0xff, 0xfe])).unwrap();
            for (id, logs_in) in [("right", true), ("wrong", false), ("binary", false)] {
                let proof = Proof { password_secret: Some(id.to_owned()), ..Proof::default() };
                let keys = Keys::find(&objects, &proof).unwrap();
                let location = Location { proof, ..location(server.address.port()) };
                let connected = connect_patiently(&location, &keys, "x", patience(LONG)).await;
                match connected {
                    Ok(_) => assert!(logs_in, "{id}"),
                    Err(error) => {
                        assert!(!logs_in && !error.to_string().contains("w04d"), "{error}");
                    }
                }
            }
            // Without one there is nothing that the server takes.
            let error = connect(server.address.port(), LONG).await.map(drop).unwrap_err();
            assert!(error.to_string().contains("password-secret"), "{error}");
        });
    }
}

#[test]
fn access_is_switched_by_opening_the_file_anew() {
    run(async {
        let server = Server::new(noise(10), Behaviour::default());
        let driver = open(&server, LONG).await.unwrap();
        driver.write(0, Buf::from_slice(b"abc"), Request::GUEST).await.unwrap();
        let _switched = driver.set_writable(false).await.unwrap();
        let undo = driver.set_writable(true).await.unwrap();
        undo();
        let (buf, result) = driver.read(0, BufMut::with_len(4)).await;
        result.unwrap();
        assert_eq!(buf[..3], *b"abc");
        // It is not taken for the same file when it has another size.
        server.content.lock().push(1);
        assert!(driver.set_writable(true).await.is_err());
    });
}

#[test]
fn a_connection_ends_with_its_last_user() {
    run(async {
        let server = Server::new(noise(10), Behaviour::default());
        let gone = || async {
            while server.open.load(Ordering::SeqCst) > 0 {
                rt::sleep(Duration::from_millis(1)).await;
            }
        };
        drop(open(&server, LONG).await.unwrap());
        gone().await;
        let driver = open(&server, LONG).await.unwrap();
        driver.close().await.unwrap();
        gone().await;
        assert!(driver.flush().await.is_err());
    });
}
