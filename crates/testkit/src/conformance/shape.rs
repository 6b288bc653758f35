//! Laws of shape: where a disk ends, how its size changes, and that a read-only one does not change.

use block::{ErrorKind, Request};
use rt::{Buf, BufMut};

use super::Desk;

/// Whether a request was refused as out of range.
fn refused<T>(what: &str, result: block::Result<T>) -> Result<(), String> {
    match result {
        Err(e) if e.kind() == ErrorKind::Invalid => Ok(()),
        Err(e) => Err(format!("{what} behind the end fails with {:?}: {e}", e.kind())),
        Ok(_) => Err(format!("{what} behind the end is not refused")),
    }
}

pub(super) async fn end_of_disk(desk: Desk) -> Result<(), String> {
    let mirror = desk.mirror().await?;
    let (len, backend) = (mirror.len(), mirror.session.backend.clone());
    for (offset, more) in
        [(len, 1), (len - 1, 2), (0, len + 1), (len + 4096, 512), (u64::MAX - 1, 1), (u64::MAX, 4)]
    {
        let bytes = usize::try_from(more).unwrap_or(4);
        refused(
            "an inline read",
            backend.try_read(offset, &mut vec![0; bytes]).and_then(|n| stuck(n, offset)),
        )?;
        refused("a read", backend.read(offset, BufMut::with_len(bytes)).await.1)?;
        refused("a write", backend.write(offset, Buf::from_slice(&vec![1; bytes]), Request::GUEST).await)?;
        refused("a write of zeroes", backend.write_zeroes(offset, more, Request::GUEST).await)?;
        refused("a discard", backend.discard(offset, more, Request::GUEST).await)?;
        refused("a status", backend.status(offset, more).await)?;
    }
    mirror.agrees(len - 1, 1).await?;
    mirror.agrees_whole().await?;
    mirror.close().await
}

/// An inline read may leave everything to the waiting one, which then refuses.
fn stuck(n: usize, offset: u64) -> block::Result<usize> {
    if n == 0 { Err(block::BlockError::invalid("left to the waiting read").at(offset)) } else { Ok(n) }
}

pub(super) async fn resizing(desk: Desk) -> Result<(), String> {
    let mut mirror = desk.mirror().await?;
    let (len, cluster) = (mirror.len(), mirror.cluster());
    mirror.write(len - 700, 700, false).await?;
    let odd = |n: u64| n.next_multiple_of(512);
    for size in [
        len + 512,
        len + odd(2 * cluster) + 512,
        odd(len / 2) + 512,
        len + odd(5 * cluster),
        odd(cluster),
        len,
        0,
        len,
    ] {
        mirror.resize(size).await?;
        mirror.agrees_whole().await?;
        if size > 0 {
            mirror.write(size - 600.min(size), 600, false).await?;
            mirror.write(size / 2, 3 * cluster, false).await?;
        }
        mirror.agrees_whole().await?;
    }
    let bytes = mirror.bytes.clone();
    mirror.close().await?;
    let mirror = desk.mirror().await?;
    if desk.stack.keeps_data && mirror.bytes != bytes {
        return Err("it holds other bytes than when it was closed".to_owned());
    }
    mirror.close().await
}

pub(super) async fn read_only(desk: Desk) -> Result<(), String> {
    let files = || -> Vec<_> {
        let disk = desk.world.disk();
        let paths: Vec<_> = disk.paths().map(|path| path.to_owned()).collect();
        paths.iter().map(|path| disk.content(path).map(|content| content.to_vec())).collect()
    };
    let before = files();
    let session = desk.stack.open_read_only().await.map_err(|e| format!("open: {e}"))?;
    let backend = &session.backend;
    let bytes = session.read(0, backend.length()).await.map_err(|e| format!("read: {e}"))?;
    if desk.stack.keeps_data && super::sectors(&bytes) != desk.initial {
        return Err("it reads other bytes than the writable one".to_owned());
    }
    let attempts = [
        ("a write", backend.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await),
        ("a write of zeroes", backend.write_zeroes(0, 512, Request::GUEST).await),
        ("a discard", backend.discard(0, 512, Request::GUEST).await),
        ("a resize", session.resize(backend.length() + 512).await),
    ];
    for (what, result) in attempts {
        match result {
            Err(e) if e.kind() == ErrorKind::ReadOnly => {}
            other => return Err(format!("{what} gives {other:?}")),
        }
    }
    backend.flush().await.map_err(|e| format!("flush: {e}"))?;
    session.close().await.map_err(|e| format!("close: {e}"))?;
    if files() == before { Ok(()) } else { Err("its files have changed".to_owned()) }
}
