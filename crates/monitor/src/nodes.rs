//! Nodes as the schema's types: descriptions and statistics.
use crate::events::int;
use crate::statistics;
use api::{
    BlockDeviceInfo, BlockDirtyInfo, BlockInfo, BlockStats, BlockdevCacheInfo, BlockdevChild,
    BlockdevDetectZeroesOptions, ImageInfo,
};
use block::{
    Backend, Child, Common, Device, DriverInfo, IoLimits, NamedBitmap, Node, Rate, ThrottleGroup,
    resolve_filename,
};
use std::sync::Arc;

/// Most layers in one description.
const MAX_LAYERS: usize = 256;

/// A node as `query-named-block-nodes` lists it; `flat` leaves out the images below it.
pub fn device_info(node: &Arc<Node>, flat: bool) -> BlockDeviceInfo {
    let layers = if flat { vec![node.clone()] } else { chain(node) };
    described(node, &layers, None)
}

/// The node in a device, without filters of jobs that nobody named.
fn medium(node: &Arc<Node>, group: Option<&ThrottleGroup>) -> BlockDeviceInfo {
    let layers = named_chain(node);
    described(layers.first().unwrap_or(node), &layers, group)
}

/// A node with what is below it, and the limits of the device that it is in.
fn described(node: &Arc<Node>, layers: &[Arc<Node>], group: Option<&ThrottleGroup>) -> BlockDeviceInfo {
    let IoLimits { bytes, requests, request_size } = group.map(|group| group.limits()).unwrap_or_default();
    let burst = |rate: Rate| (rate.burst != 0).then_some(rate.burst);
    let length = |rate: Rate| burst(rate).map(|_| rate.burst_seconds);
    let common = node.common();
    let file = node.told_filename();
    let image = ImageInfo { filename: file.clone(), ..image_of(layers) };
    BlockDeviceInfo {
        file,
        node_name: Some(node.name().to_owned()),
        ro: node.read_only(),
        drv: node.driver_name().to_owned(),
        backing_file: node.backing().map(|backing| backing.told_filename()),
        backing_file_depth: int(layers.len() as u64 - 1),
        active: node.is_active(),
        encrypted: node.driver().info().encrypted,
        detect_zeroes: detect_zeroes(&common),
        bps: bytes.total.average,
        bps_rd: bytes.read.average,
        bps_wr: bytes.write.average,
        iops: requests.total.average,
        iops_rd: requests.read.average,
        iops_wr: requests.write.average,
        bps_max: burst(bytes.total),
        bps_rd_max: burst(bytes.read),
        bps_wr_max: burst(bytes.write),
        iops_max: burst(requests.total),
        iops_rd_max: burst(requests.read),
        iops_wr_max: burst(requests.write),
        bps_max_length: length(bytes.total),
        bps_rd_max_length: length(bytes.read),
        bps_wr_max_length: length(bytes.write),
        iops_max_length: length(requests.total),
        iops_rd_max_length: length(requests.read),
        iops_wr_max_length: length(requests.write),
        iops_size: (request_size != 0).then_some(request_size),
        group: group.map(|group| group.name().to_owned()),
        image,
        cache: BlockdevCacheInfo {
            writeback: !common.write_through,
            direct: common.direct,
            no_flush: common.no_flush,
        },
        write_threshold: int(node.write_threshold()),
        dirty_bitmaps: dirty_bitmaps(node),
        children: Some(children(node)),
        encryption_key_missing: None,
    }
}

/// A device as `query-block` lists it.
pub fn device(device: &Arc<Device>) -> BlockInfo {
    let model = device.model();
    let tray = model.as_ref().and_then(|model| model.tray);
    BlockInfo {
        device: device.name().to_owned(),
        qdev: model.as_ref().map(|model| model.id.clone()),
        r#type: "unknown".to_owned(),
        removable: device.is_removable(),
        locked: tray.is_some_and(|tray| tray.locked),
        inserted: device.node().map(|node| medium(&node, device.throttle_group().as_deref())),
        tray_open: tray.map(|tray| tray.open),
        io_status: device.io_status(),
        dirty_bitmaps: None,
    }
}

/// A device's statistics, with those of the nodes below it.
pub fn device_stats(device: &Device, entries: &[Arc<Backend>]) -> BlockStats {
    let model = device.model();
    let of_device = BlockStats {
        device: Some(device.name().to_owned()),
        qdev: model.map(|model| model.id),
        ..BlockStats::default()
    };
    let Some(node) = device.node() else {
        return BlockStats { stats: statistics::of_device(None, device.account()), ..of_device };
    };
    let mut stats = with_backing(&named_chain(&node), entries);
    stats.stats = statistics::of_device(Some(&node), device.account());
    BlockStats { device: of_device.device, qdev: of_device.qdev, ..stats }
}

/// The statistics of the first of `layers`, with those of the others below it.
fn with_backing(layers: &[Arc<Node>], entries: &[Arc<Backend>]) -> BlockStats {
    let below = |backing, node: &Arc<Node>| Some(Box::new(BlockStats { backing, ..stats(node, entries) }));
    layers.iter().rev().fold(None, below).map_or_else(BlockStats::default, |stats| *stats)
}

fn dirty_bitmaps(node: &Node) -> Option<Vec<BlockDirtyInfo>> {
    let info = |bitmap: &Arc<NamedBitmap>| {
        let bits = bitmap.bits();
        BlockDirtyInfo {
            name: Some(bitmap.name().to_owned()),
            count: int(bits.dirty_chunks().saturating_mul(bits.granularity())),
            granularity: u32::try_from(bits.granularity()).unwrap_or(u32::MAX),
            recording: bitmap.is_enabled(),
            busy: bitmap.is_busy(),
            persistent: bitmap.is_persistent(),
            inconsistent: (!bitmap.is_consistent()).then_some(true),
        }
    };
    let bitmaps = node.bitmaps().all();
    (!bitmaps.is_empty()).then(|| bitmaps.iter().rev().map(info).collect())
}

fn children(node: &Node) -> Vec<BlockdevChild> {
    let child = |child: Child| BlockdevChild {
        child: child.name.to_string(),
        node_name: child.node.name().to_owned(),
    };
    node.edges().all().into_iter().map(child).collect()
}

fn detect_zeroes(common: &Common) -> BlockdevDetectZeroesOptions {
    match (common.detect_zeroes, common.detect_zeroes_unmap) {
        (false, _) => BlockdevDetectZeroesOptions::Off,
        (true, false) => BlockdevDetectZeroesOptions::On,
        (true, true) => BlockdevDetectZeroesOptions::Unmap,
    }
}

/// The node and what is below it in its chain.
fn chain(node: &Arc<Node>) -> Vec<Arc<Node>> {
    std::iter::successors(Some(node.clone()), |n| n.next_in_chain()).take(MAX_LAYERS).collect()
}

/// The same without filters of jobs that nobody named.
fn named_chain(node: &Arc<Node>) -> Vec<Arc<Node>> {
    chain(node).into_iter().filter(|node| !node.is_implicit()).collect()
}

/// The first of `layers`, with the others below it.
fn image_of(layers: &[Arc<Node>]) -> ImageInfo {
    let below = |below: Option<Box<ImageInfo>>, node: &Arc<Node>| {
        Some(Box::new(ImageInfo { backing_image: below, ..single_image(node) }))
    };
    layers.iter().rev().fold(None, below).map_or_else(ImageInfo::default, |info| *info)
}

fn single_image(node: &Arc<Node>) -> ImageInfo {
    let DriverInfo {
        cluster_size,
        dirty,
        encrypted,
        compressed,
        backing_filename,
        backing_format,
        specific,
        ..
    } = node.driver().info();
    // A node that shows its file unchanged tells of the snapshots that the file has.
    let snapshots = node.snapshot_keeper().map(|keeper| keeper.driver().info().snapshots);
    let filename = node.filename();
    ImageInfo {
        format: node.driver_name().to_owned(),
        dirty_flag: dirty.or_else(|| dirty_below(node)),
        actual_size: node.allocated_size().map(int),
        // A disk consists of whole sectors, whatever its file's length is.
        virtual_size: int(node.length().next_multiple_of(512)),
        cluster_size: cluster_size.or_else(|| cluster_size_below(node)).map(int),
        encrypted: encrypted.then_some(true),
        compressed,
        full_backing_filename: backing_filename
            .as_ref()
            .map(|stored| resolve_filename(&node.place(), stored)),
        backing_filename,
        backing_filename_format: backing_format,
        snapshots: snapshots.filter(|snapshots| !snapshots.is_empty()),
        format_specific: specific,
        // As the interface has it whose version this is; the image tool tells.
        limits: None,
        backing_image: None,
        filename,
    }
}

/// What the image below answers for a filter.
fn cluster_size_below(node: &Arc<Node>) -> Option<u64> {
    node.filtered()?.skip_filters().driver().info().cluster_size
}

/// What the file answers for a raw node, which shows it unchanged.
fn dirty_below(node: &Node) -> Option<bool> {
    node.primary().filter(|_| node.facts().transparent)?.driver().info().dirty
}

/// A node's statistics: the requests of the entries that lead to it, and its highest offset.
pub fn stats(node: &Arc<Node>, entries: &[Arc<Backend>]) -> BlockStats {
    let of_node = entries.iter().filter(|e| Arc::ptr_eq(&e.node(), node));
    let of_node: Vec<_> = of_node.map(|entry| entry.account().clone()).collect();
    BlockStats {
        device: None,
        qdev: None,
        node_name: Some(node.name().to_owned()),
        stats: statistics::figures(Some(node), &of_node),
        driver_specific: node.driver().statistics(),
        parent: node.primary().map(|file| Box::new(stats(&file, entries))),
        backing: None,
    }
}
