//! The way to a file: ports, folders, links, and what stands in it.

use super::server::Asked;
use super::*;
use nfs::mount::{Mount, MountStatus, Mounted, Root};
use nfs::portmap::{GetAddress, GetPort};
use nfs::rpc::{AuthStatus, Refusal, ReplyHead};
use nfs::v3::{Handle, Target};
use nfs::xdr::Text;

/// Opens a path at a server that answers some calls in its own way.
async fn opened(
    disk: &Disk,
    path: &'static str,
    act: impl FnMut(&Asked, &[u8]) -> Act + Send + 'static,
) -> Result<NfsDriver> {
    let (listener, port) = bound().await;
    rt::spawn(disk.clone().serve(listener, act)).detach();
    Wanted { path, patience: impatient(), ..Wanted::at(port) }.open().await
}

fn answer(_: &Asked, _: &[u8]) -> Act {
    Act::Answer
}

/// The error of an open that must fail.
fn failure(opened: Result<NfsDriver>) -> BlockError {
    opened.err().expect("it can't be opened")
}

#[test]
fn links_are_followed_to_the_file_and_not_for_ever() {
    run(async {
        let disk = Disk::new();
        for target in ["disk", "./disk", "../exp/disk", "/exp/disk"] {
            disk.with(|content| content.target = target.to_owned());
            let driver = opened(&disk, "/exp/link", answer).await.unwrap();
            assert_eq!(driver.identity(), opened(&disk, "/exp/disk", answer).await.unwrap().identity());
            assert!(driver.link.name().contains("/exp/link"));
        }
        disk.with(|content| content.target = "link".to_owned());
        let error = failure(opened(&disk, "/exp/link", answer).await);
        assert!(error.to_string().contains("symbolic links"), "{error}");
        assert!(disk.with(|content| content.calls) < 400);
        disk.with(|content| content.target = "gone".to_owned());
        assert_eq!(failure(opened(&disk, "/exp/link", answer).await).kind(), ErrorKind::NotFound);
        // It names itself with ever longer paths.
        disk.with(|content| content.target = format!("{}link", "x/".repeat(500)));
        failure(opened(&disk, "/exp/link", answer).await);
        let long = |asked: &Asked, _: &[u8]| match asked.is::<v3::ReadLink>() {
            true => Act::Send(asked.reply::<v3::ReadLink>(&Outcome(Ok(Target {
                attributes: None,
                path: Text("y".repeat(1025)),
            })))),
            false => Act::Answer,
        };
        let error = failure(opened(&disk, "/exp/link", long).await);
        assert!(error.to_string().contains("makes no sense"), "{error}");
    });
}

#[test]
fn a_folder_above_is_mounted_where_only_that_is_exported() {
    run(async {
        let disk = Disk::new();
        // The only folder there is, by three names.
        opened(&disk, "/exp/folder/folder/disk", answer).await.unwrap();
        disk.with(|content| content.export = "/".to_owned());
        disk.with(|content| content.names.insert("exp".to_owned(), 1));
        opened(&disk, "/exp/disk", answer).await.unwrap();
        let error = failure(opened(&disk, "/exp/none/disk", answer).await);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    });
}

#[test]
fn what_is_not_exported_not_there_or_no_file_is_refused() {
    run(async {
        let disk = Disk::new();
        for (path, kind, words) in [
            (
                "/other/disk",
                ErrorKind::Permission,
                "'/other' of '127.0.0.1' could not be mounted: MNT3ERR_ACCES",
            ),
            ("/exp/none", ErrorKind::NotFound, "NFS3ERR_NOENT: No such file"),
            ("/exp/folder", ErrorKind::Invalid, "is a folder there"),
            ("/exp/pipe", ErrorKind::Invalid, "is a named pipe there"),
        ] {
            let error = failure(opened(&disk, path, answer).await);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        let kerberos = |asked: &Asked, _: &[u8]| match asked.is::<Mount>() {
            true => {
                let root = Root { handle: Handle::new(&[1]).unwrap(), flavors: vec![390_003] };
                Act::Send(asked.reply::<Mount>(&Mounted(Ok(root))))
            }
            false => Act::Answer,
        };
        let error = failure(opened(&disk, "/exp/disk", kerberos).await);
        assert!(error.kind() == ErrorKind::Permission && error.to_string().contains("Kerberos"), "{error}");
        for status in [MountStatus(10_006), MountStatus(4711)] {
            let fails = move |asked: &Asked, _: &[u8]| match asked.is::<Mount>() {
                true => Act::Send(asked.reply::<Mount>(&Mounted(Err(status)))),
                false => Act::Answer,
            };
            assert_eq!(failure(opened(&disk, "/exp/disk", fails).await).kind(), ErrorKind::Io);
        }
    });
}

#[test]
fn a_file_that_may_not_be_changed_is_found_out_before_it_is_written_to() {
    run(async {
        let disk = Disk::new();
        let only_reads =
            |asked: &Asked, _: &[u8]| match asked.is::<v3::Access>() {
                true => Act::Send(asked.reply::<v3::Access>(&Outcome(Ok(v3::Allowed {
                    attributes: None,
                    allowed: access::READ,
                })))),
                false => Act::Answer,
            };
        let driver = opened(&disk, "/exp/disk", only_reads).await.unwrap();
        let error = driver.need_writable().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        assert!(driver.set_writable(true).await.is_err());
        assert!(driver.set_writable(false).await.is_ok());
        driver.need_readable().await.unwrap();
        let nothing = |asked: &Asked, _: &[u8]| match asked.is::<v3::Access>() {
            true => Act::Send(
                asked.reply::<v3::Access>(&Outcome(Ok(v3::Allowed { attributes: None, allowed: 0 }))),
            ),
            false => Act::Answer,
        };
        let error = opened(&disk, "/exp/disk", nothing).await.unwrap().need_readable().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        assert!(error.to_string().contains("read '"), "{error}");
    });
}

#[test]
fn credentials_that_are_refused_say_so_at_each_step() {
    let refusals = [
        (Refusal::Credentials(AuthStatus::TOO_WEAK), ErrorKind::Permission, "privileged port"),
        (Refusal::Credentials(AuthStatus(1)), ErrorKind::Permission, "AUTH_BADCRED"),
        (Refusal::NoProgram, ErrorKind::Unsupported, "version 3 over TCP is needed"),
        (Refusal::NoVersion(2, 2), ErrorKind::Unsupported, "(2 to 2)"),
        (Refusal::Rpc(3, 3), ErrorKind::Unsupported, "(3 to 3)"),
        (Refusal::Failed, ErrorKind::Io, "SYSTEM_ERR"),
    ];
    run(async {
        for (refusal, kind, words) in refusals {
            for step in [Asked::is::<Mount>, Asked::is::<v3::Lookup>, Asked::is::<v3::FileSystemInfo>] {
                let refuse = move |asked: &Asked, _: &[u8]| {
                    let mut out = Vec::new();
                    ReplyHead { xid: asked.head.xid, outcome: Err(refusal) }.put(&mut out);
                    if step(asked) { Act::Send(server::record(&out)) } else { Act::Answer }
                };
                let error = failure(opened(&Disk::new(), "/exp/disk", refuse).await);
                assert_eq!(error.kind(), kind, "{error}");
                assert!(error.to_string().contains(words), "{error}");
            }
        }
    });
}

#[test]
fn a_server_of_version_4_alone_is_refused_by_that_name() {
    run(async {
        let only_newer = |asked: &Asked, _: &[u8]| {
            if asked.head.program != v3::PROGRAM {
                return Act::HangUp;
            }
            let mut out = Vec::new();
            ReplyHead { xid: asked.head.xid, outcome: Err(Refusal::NoVersion(4, 4)) }.put(&mut out);
            Act::Send(server::record(&out))
        };
        // Its mount service is not there.
        let (listener, port) = bound().await;
        rt::spawn(Disk::new().serve(listener, only_newer)).detach();
        let parameters = format!("?nfsport={port}&mountport=1");
        let error = failure(Wanted { parameters, ..Wanted::at(port) }.open().await);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("only version 4 of NFS"), "{error}");
    });
}

/// Opens with a portmapper that answers a call for a port so.
async fn asked_portmapper(answer: impl Fn(&Asked, u16) -> Vec<u8> + Send + 'static) -> Result<NfsDriver> {
    let (listener, port) = bound().await;
    rt::spawn(Disk::new().serve(listener, |_, _| Act::Answer)).detach();
    let (portmapper, at) = bound().await;
    rt::spawn(async move {
        while let Ok(stream) = portmapper.accept().await {
            while let Some(asked) = server::next_call(&stream).await {
                if stream.send_all(&answer(&asked, port)).await.is_err() {
                    break;
                }
            }
        }
    })
    .detach();
    let parameters = String::new();
    Wanted { parameters, portmapper: Some(at), patience: impatient(), ..Wanted::at(port) }.open().await
}

#[test]
fn ports_are_the_portmappers_in_either_version_of_its_protocol() {
    run(async {
        asked_portmapper(|asked, port| asked.reply::<GetPort>(&port.into())).await.unwrap();
        let newer = |asked: &Asked, port: u16| {
            if asked.head.version == GetAddress::VERSION {
                let [high, low] = port.to_be_bytes();
                return asked.reply::<GetAddress>(&Text(format!("127.0.0.1.{high}.{low}")));
            }
            let mut out = Vec::new();
            ReplyHead { xid: asked.head.xid, outcome: Err(Refusal::NoVersion(3, 4)) }.put(&mut out);
            server::record(&out)
        };
        asked_portmapper(newer).await.unwrap();
        for (port, words) in [(0, "knows no NFS service"), (70_000, "the port 70000")] {
            let error = failure(asked_portmapper(move |asked, _| asked.reply::<GetPort>(&port)).await);
            assert!(error.to_string().contains(words), "{error}");
        }
        let error = failure(asked_portmapper(|_, _| Vec::new()).await);
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let nobody = Wanted { parameters: String::new(), ..Wanted::at(1) };
        let error = failure(nobody.open().await);
        assert!(error.to_string().contains("portmapper at '127.0.0.1:1'"), "{error}");
    });
}

#[test]
fn a_file_that_is_larger_than_any_disk_is_refused() {
    run(async {
        let huge = |asked: &Asked, _: &[u8]| match asked.is::<v3::GetAttributes>() {
            true => Act::Send(
                asked.reply::<v3::GetAttributes>(&Outcome(Ok(Attributes { size: 1 << 63, ..sample() }))),
            ),
            false => Act::Answer,
        };
        let error = failure(opened(&Disk::new(), "/exp/disk", huge).await);
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    });
}

/// Of a file without content.
pub fn sample() -> Attributes {
    let time = || v3::Time { seconds: 0, nanoseconds: 0 };
    Attributes {
        kind: v3::FileType::Regular,
        mode: 0,
        links: 1,
        user: 0,
        group: 0,
        size: 0,
        used: 0,
        device: [0; 8],
        file_system: 0,
        number: 0,
        accessed: time(),
        modified: time(),
        changed: time(),
    }
}
