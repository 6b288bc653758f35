//! What nodes and devices have done, as the schema's types.
use crate::events::int;
use api::{BlockDeviceStats, BlockDeviceTimedStats, BlockLatencyHistogramInfo};
use block::{Account, BackendStats, IntervalFigures, IoKind, LatencyHistogram, Node, OpCount};
use std::sync::Arc;

/// The figures of a device, and of the node in it.
pub(crate) fn of_device(node: Option<&Node>, account: &Arc<Account>) -> BlockDeviceStats {
    let histogram = |kind| {
        account
            .histogram(kind)
            .map(|LatencyHistogram { boundaries, bins }| BlockLatencyHistogramInfo { boundaries, bins })
    };
    let accounting = account.accounting();
    BlockDeviceStats {
        account_failed: accounting.failed,
        account_invalid: accounting.invalid,
        timed_stats: account.interval_figures().iter().map(interval).collect(),
        rd_latency_histogram: histogram(IoKind::Read),
        wr_latency_histogram: histogram(IoKind::Write),
        zone_append_latency_histogram: histogram(IoKind::ZoneAppend),
        flush_latency_histogram: histogram(IoKind::Flush),
        ..figures(node, std::slice::from_ref(account))
    }
}

/// The figures of several accounts together, and of the node they are for.
pub(crate) fn figures(node: Option<&Node>, accounts: &[Arc<Account>]) -> BlockDeviceStats {
    let all: Vec<_> = accounts.iter().map(|account| account.stats()).collect();
    let sum = |pick: fn(&BackendStats) -> OpCount| {
        all.iter().map(pick).fold(OpCount::default(), |a, b| OpCount {
            ops: a.ops + b.ops,
            bytes: a.bytes + b.bytes,
            ns: a.ns + b.ns,
            failed: a.failed + b.failed,
            invalid: a.invalid + b.invalid,
        })
    };
    let (read, write, flush, unmap) = (sum(|s| s.read), sum(|s| s.write), sum(|s| s.flush), sum(|s| s.unmap));
    BlockDeviceStats {
        rd_bytes: int(read.bytes),
        wr_bytes: int(write.bytes),
        unmap_bytes: int(unmap.bytes),
        rd_operations: int(read.ops),
        wr_operations: int(write.ops),
        flush_operations: int(flush.ops),
        unmap_operations: int(unmap.ops),
        rd_total_time_ns: int(read.ns),
        wr_total_time_ns: int(write.ns),
        flush_total_time_ns: int(flush.ns),
        unmap_total_time_ns: int(unmap.ns),
        wr_highest_offset: node.map_or(0, |node| int(node.highest_offset())),
        idle_time_ns: all.iter().filter_map(|s| s.idle_ns).min().map(int),
        failed_rd_operations: int(read.failed),
        failed_wr_operations: int(write.failed),
        failed_flush_operations: int(flush.failed),
        failed_unmap_operations: int(unmap.failed),
        invalid_rd_operations: int(read.invalid),
        invalid_wr_operations: int(write.invalid),
        invalid_flush_operations: int(flush.invalid),
        invalid_unmap_operations: int(unmap.invalid),
        account_failed: false,
        account_invalid: false,
        ..BlockDeviceStats::default()
    }
}

fn interval(figures: &IntervalFigures) -> BlockDeviceTimedStats {
    let [read, write, flush, append] =
        [IoKind::Read, IoKind::Write, IoKind::Flush, IoKind::ZoneAppend].map(|kind| figures.of(kind));
    BlockDeviceTimedStats {
        interval_length: i64::from(figures.seconds),
        min_rd_latency_ns: int(read.min_ns),
        max_rd_latency_ns: int(read.max_ns),
        avg_rd_latency_ns: int(read.average_ns),
        min_wr_latency_ns: int(write.min_ns),
        max_wr_latency_ns: int(write.max_ns),
        avg_wr_latency_ns: int(write.average_ns),
        min_zone_append_latency_ns: int(append.min_ns),
        max_zone_append_latency_ns: int(append.max_ns),
        avg_zone_append_latency_ns: int(append.average_ns),
        min_flush_latency_ns: int(flush.min_ns),
        max_flush_latency_ns: int(flush.max_ns),
        avg_flush_latency_ns: int(flush.average_ns),
        avg_rd_queue_depth: read.queue_depth,
        avg_wr_queue_depth: write.queue_depth,
        avg_zone_append_queue_depth: append.queue_depth,
    }
}
