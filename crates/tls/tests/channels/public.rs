//! Servers that anybody may run, played by OpenSSL in threads of their own: both versions, whom a client believes, and sessions
//! that go on.

use crate::authority::{Authority, Folder, SERVER};
use crate::run;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslSessionCacheMode, SslVersion};
use rt::net::Stream;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;
use tls::{Authorities, Channel, TlsError, Trust, reach};

const V12: SslVersion = SslVersion::TLS1_2;
const V13: SslVersion = SslVersion::TLS1_3;

/// A server that says whether a session went on, and sends back what comes until the end.
struct Echo {
    port: u16,
    thread: JoinHandle<Vec<Option<bool>>>,
}

impl Echo {
    /// For so many clients, one after the other.
    fn start(authority: &Authority, version: SslVersion, clients: usize) -> Self {
        let issued = authority.issue(SERVER);
        let mut terms = SslContext::builder(SslMethod::tls_server()).unwrap();
        terms.set_certificate(&issued.certificate).unwrap();
        terms.set_private_key(&issued.key).unwrap();
        terms.set_min_proto_version(Some(version)).unwrap();
        terms.set_max_proto_version(Some(version)).unwrap();
        terms.set_session_id_context(b"echo").unwrap();
        terms.set_session_cache_mode(SslSessionCacheMode::SERVER);
        terms.clear_options(SslOptions::NO_TICKET);
        let terms = terms.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let serve = |_| {
                let (socket, _) = listener.accept().unwrap();
                let mut tls = Ssl::new(&terms).unwrap().accept(socket).ok()?;
                let mut buf = vec![0; 100_000];
                while let Ok(n @ 1..) = tls.read(&mut buf) {
                    tls.write_all(&buf[..n]).ok()?;
                }
                let resumed = tls.ssl().session_reused();
                let _ = tls.shutdown();
                Some(resumed)
            };
            (0..clients).map(serve).collect()
        });
        Self { port, thread }
    }

    async fn reach(&self, trust: &Trust, host: &str, earlier: Option<&Channel>) -> Result<Channel, TlsError> {
        let channel = Channel::from(Stream::connect_tcp("127.0.0.1", self.port).await.unwrap());
        reach(&channel, trust, host, earlier).await?;
        Ok(channel)
    }
}

fn file_of(authority: &Authority) -> Folder {
    let folder = Folder::new();
    folder.put("ca.pem", &authority.own().certificate.to_pem().unwrap());
    folder
}

fn trust(folder: &Folder, resumes: bool) -> Trust {
    Trust::load(Authorities::File(&folder.path().join("ca.pem")), resumes).unwrap()
}

/// Sends much and small, and receives the same.
async fn talk(channel: &Channel) {
    let data: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for part in [&data[..1], &data[1..17_000], &data[17_000..]] {
        let mut back = vec![0; part.len()];
        let receive = async {
            let mut at = 0;
            while at < back.len() {
                let n = channel.recv(&mut back[at..]).await.unwrap();
                assert!(n > 0);
                at += n;
            }
        };
        let (sent, ()) = futures_util::future::join(channel.send_all(part), receive).await;
        sent.unwrap();
        assert!(back == part);
    }
}

#[test]
fn servers_of_both_versions_are_spoken_to_and_their_end_is_seen() {
    let authority = Authority::new("public");
    let folder = file_of(&authority);
    for version in [V12, V13] {
        for resumes in [false, true] {
            run(async || {
                let server = Echo::start(&authority, version, 1);
                let channel = server.reach(&trust(&folder, resumes), "disk.example", None).await.unwrap();
                assert!(channel.is_secured());
                talk(&channel).await;
                channel.shutdown_write().unwrap();
                assert_eq!(channel.recv(&mut [0; 10]).await.unwrap(), 0);
                assert_eq!(server.thread.join().unwrap(), [Some(false)]);
            });
        }
    }
}

#[test]
fn a_session_goes_on_in_another_channel_where_that_is_asked_for() {
    let authority = Authority::new("public");
    let folder = file_of(&authority);
    for version in [V12, V13] {
        for resumes in [false, true] {
            run(async || {
                let server = Echo::start(&authority, version, 2);
                let trust = trust(&folder, resumes);
                let first = server.reach(&trust, "disk.example", None).await.unwrap();
                talk(&first).await;
                first.shutdown_write().unwrap();
                assert_eq!(first.recv(&mut [0; 10]).await.unwrap(), 0);
                let second = server.reach(&trust, "disk.example", Some(&first)).await.unwrap();
                talk(&second).await;
                second.shutdown().unwrap();
                assert_eq!(server.thread.join().unwrap(), [Some(false), Some(resumes)], "{version:?}");
            });
        }
    }
}

#[test]
fn a_session_is_not_offered_by_whoever_trusts_others() {
    let authority = Authority::new("public");
    let folder = file_of(&authority);
    run(async || {
        let server = Echo::start(&authority, V12, 2);
        let first = server.reach(&trust(&folder, true), "disk.example", None).await.unwrap();
        talk(&first).await;
        first.shutdown().unwrap();
        let second = server.reach(&trust(&folder, true), "disk.example", Some(&first)).await.unwrap();
        second.shutdown().unwrap();
        assert_eq!(server.thread.join().unwrap(), [Some(false), Some(false)]);
    });
}

#[test]
fn a_server_that_is_not_trusted_or_somebody_else_is_refused_unless_nobody_is_asked() {
    let (authority, other) = (Authority::new("public"), Authority::new("other"));
    let (ours, others) = (file_of(&authority), file_of(&other));
    for version in [V12, V13] {
        run(async || {
            let server = Echo::start(&authority, version, 5);
            let refused = |result: Result<Channel, TlsError>| match result {
                Err(TlsError::Certificate(why)) => why,
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("it was believed"),
            };
            let why = refused(server.reach(&trust(&ours, false), "another.example", None).await);
            assert_eq!(why, "it does not match the hostname another.example");
            refused(server.reach(&trust(&others, false), "disk.example", None).await);
            refused(
                server.reach(&Trust::load(Authorities::System, false).unwrap(), "disk.example", None).await,
            );
            let unasked = Trust::load(Authorities::Unasked, false).unwrap();
            let channel = server.reach(&unasked, "another.example", None).await.unwrap();
            talk(&channel).await;
            channel.shutdown().unwrap();
            // By its address, which the certificate has too.
            let channel = server.reach(&trust(&ours, false), "127.0.0.1", None).await.unwrap();
            talk(&channel).await;
            channel.shutdown().unwrap();
            server.thread.join().unwrap();
        });
    }
}

#[test]
fn a_file_without_certificates_is_refused_by_its_name() {
    let folder = Folder::new();
    let path = folder.path().join("ca.pem");
    let error = |path: &std::path::Path| match Trust::load(Authorities::File(path), false) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was taken"),
    };
    assert!(error(&path).contains("No such file"), "{}", error(&path));
    folder.put("ca.pem", b"nothing");
    assert!(error(&path).contains("no certificates"), "{}", error(&path));
}
