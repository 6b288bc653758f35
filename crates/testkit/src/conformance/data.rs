//! Laws of data: what is written is read, and the map agrees with it.

use block::{Flags, Request};

use super::{Desk, sectors};

/// Fills a part of the disk so that every kind of range is beside every other: data, zeroes, holes, discarded.
async fn mixed(mirror: &mut super::Mirror) -> Result<(), String> {
    let cluster = mirror.cluster();
    for n in 0..mirror.len().div_ceil(cluster).min(24) {
        let at = n * cluster;
        match n % 5 {
            0 => mirror.write(at, cluster, false).await?,
            1 => mirror.write(at + cluster / 3, cluster / 4 + 1, false).await?,
            2 => mirror.zero(at, cluster, Request::GUEST).await?,
            3 => mirror.discard(at, cluster).await?,
            _ => {}
        }
    }
    Ok(())
}

pub(super) async fn first_content(desk: Desk) -> Result<(), String> {
    let mirror = desk.mirror().await?;
    let found = sectors(&mirror.bytes);
    if desk.stack.keeps_data && found != desk.initial {
        let at = found.iter().zip(&desk.initial).position(|(a, b)| a != b);
        return Err(format!("{} sectors; the first that differs: {at:?}", found.len()));
    }
    mirror.close().await
}

pub(super) async fn alignment_matrix(desk: Desk) -> Result<(), String> {
    let mut mirror = desk.mirror().await?;
    let cluster = mirror.cluster();
    let offsets = [0, 1, 511, 512, 513, 4095, 4096, cluster - 1, cluster, cluster + 1, 3 * cluster + 7];
    let lens = [1, 2, 511, 512, 513, 4096, cluster - 1, cluster, cluster + 1, 3 * cluster + 3];
    for (n, offset) in offsets.into_iter().enumerate() {
        for len in lens {
            mirror.write(offset, len, n % 4 == 3).await?;
            mirror.agrees(offset.saturating_sub(600), len + 1200).await?;
        }
    }
    // The end of the disk, which need not be the end of a cluster.
    let len = mirror.len();
    for back in [1, 511, 512, 513, cluster.min(len)] {
        mirror.write(len - back, back, false).await?;
    }
    mirror.agrees_whole().await?;
    mirror.flush().await?;
    mirror.agrees_whole().await?;
    mirror.close().await
}

pub(super) async fn zeroes_and_discards(desk: Desk) -> Result<(), String> {
    let mut mirror = desk.mirror().await?;
    let cluster = mirror.cluster();
    for unmap in [false, true] {
        let flags = Request::GUEST.with_if(unmap, Flags::MAY_UNMAP);
        for (offset, len) in
            [(0, 1), (700, 100), (cluster - 5, 10), (cluster, cluster), (cluster / 2, 3 * cluster)]
        {
            mirror.write(offset.saturating_sub(100), len + 200, false).await?;
            mirror.zero(offset, len, flags).await?;
            mirror.agrees_whole().await?;
            // Zeroes over zeroes, and over a hole.
            mirror.zero(offset, 2 * len, flags.with(Flags::FUA)).await?;
            mirror.agrees_whole().await?;
        }
    }
    for (offset, len) in
        [(3, 9), (0, cluster), (cluster + 1, cluster), (cluster / 2, 4 * cluster), (0, mirror.len())]
    {
        mirror.write(offset, len.min(6 * cluster), false).await?;
        mirror.discard(offset, len).await?;
        mirror.agrees_whole().await?;
        mirror.write(offset + len / 2, cluster.min(600), false).await?;
        mirror.agrees_whole().await?;
    }
    mirror.close().await
}

pub(super) async fn map_agrees_with_reads(desk: Desk) -> Result<(), String> {
    let mut mirror = desk.mirror().await?;
    mixed(&mut mirror).await?;
    for flushed in [false, true] {
        if flushed {
            mirror.flush().await?;
        }
        walk_map(&desk, &mirror).await?;
        one_by_one_or_many_at_once(&desk, &mirror).await?;
    }
    mirror.close().await
}

/// What is told of many extents in one request is what is told of each, from any offset on, however many are wanted.
async fn one_by_one_or_many_at_once(desk: &Desk, mirror: &super::Mirror) -> Result<(), String> {
    let backend = &mirror.session.backend;
    let failed = |at: u64| move |e: block::BlockError| format!("statuses from {at:#x} on: {e}");
    let start = desk.world.choose(mirror.len());
    let end = start + 1 + desk.world.choose(mirror.len() - start);
    let mut at = start;
    while at < end {
        let wanted = 1 + desk.world.choose(8);
        let mut told = Vec::new();
        let told_to = backend
            .statuses(at..end, |status| {
                told.push(format!("{status:?}"));
                (told.len() as u64) < wanted
            })
            .await
            .map_err(failed(at))?;
        if told.is_empty() || told.len() as u64 > wanted {
            return Err(format!("{wanted} statuses were wanted of {at:#x}..{end:#x}, {} came", told.len()));
        }
        for many in told {
            let alone = backend.status(at, end - at).await.map_err(failed(at))?;
            if many != format!("{alone:?}") {
                return Err(format!("{at:#x}..{end:#x}: {many} among several, {alone:?} alone"));
            }
            at += alone.len;
        }
        if at != told_to {
            return Err(format!("the statuses told end at {at:#x}, not at {told_to:#x}"));
        }
    }
    Ok(())
}

async fn walk_map(desk: &Desk, mirror: &super::Mirror) -> Result<(), String> {
    let mut at = 0;
    while at < mirror.len() {
        let asked = (mirror.len() - at).min(1 + desk.world.choose(mirror.len()));
        let status =
            mirror.session.backend.status(at, asked).await.map_err(|e| format!("status of {at:#x}: {e}"))?;
        if status.len == 0 || status.len > asked {
            return Err(format!("the status of {at:#x}+{asked:#x} has {} bytes", status.len));
        }
        let bytes = mirror.read(at, status.len).await?;
        if status.zero && bytes.iter().any(|byte| *byte != 0) {
            return Err(format!("{at:#x}+{:#x} is said to be zero and is not", status.len));
        }
        if let Some((node, host)) = status.host.filter(|_| status.data && desk.stack.keeps_data) {
            let (there, result) = node.read(host, rt::BufMut::with_len(bytes.len())).await;
            result.map_err(|e| format!("read of '{}' at {host:#x}: {e}", node.name()))?;
            if there[..] != bytes[..] {
                return Err(format!(
                    "{at:#x}+{:#x} is not what '{}' has at {host:#x}",
                    status.len,
                    node.name()
                ));
            }
        }
        at += status.len;
    }
    Ok(())
}

pub(super) async fn closed_and_opened_again(desk: Desk) -> Result<(), String> {
    let mut mirror = desk.mirror().await?;
    for _ in 0..2 {
        mixed(&mut mirror).await?;
        let bytes = mirror.bytes.clone();
        mirror.close().await?;
        mirror = desk.mirror().await?;
        if desk.stack.keeps_data && mirror.bytes != bytes {
            return Err("it holds other bytes than when it was closed".to_owned());
        }
    }
    mirror.close().await
}
