//! Events: from where they happen to every session.
use crate::outbox::Outbox;
use crate::wire::MessageLayout;
use api::{
    BlockErrorAction, BlockExportDeleted, BlockImageCorrupted, BlockIoError, BlockWriteThreshold,
    IoOperationType, QuorumFailure, QuorumOpType, QuorumReportBad,
};
use block::{BlockError, Damage, ErrorKind, GuestFailure, Node};
use futures_util::future::join_all;
use jobs::EventSink;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long after one event the next of its kind about the same device waits. Of those that come meanwhile the last is sent.
const APART: Duration = Duration::from_secs(1);

/// Bytes of a sector, in which some events count.
const SECTOR: u64 = 512;

/// All clients that receive events.
#[derive(Default)]
pub(crate) struct Events {
    clients: Mutex<Vec<Weak<Outbox>>>,
    /// About which devices nothing is sent at once, each with what waits and when it happened.
    storms: Mutex<HashMap<String, Option<(api::Event, Duration)>>>,
}

impl Events {
    /// Adds a client.
    pub(crate) fn join(&self, outbox: &Arc<Outbox>) {
        self.clients.lock().push(Arc::downgrade(outbox));
    }

    /// Sends an event to every client.
    pub(crate) fn emit(&self, event: &api::Event) {
        self.send(event, now());
    }

    /// Sends an event that is one of many about a device: at most one in a second.
    fn emit_of_storm(self: &Arc<Self>, device: String, event: api::Event) {
        {
            let mut storms = self.storms.lock();
            if let Some(waiting) = storms.get_mut(&device) {
                *waiting = Some((event, now()));
                return;
            }
            storms.insert(device.clone(), None);
        }
        self.emit(&event);
        let events = Arc::downgrade(self);
        let calm_down = async move {
            loop {
                rt::sleep(APART).await;
                let Some(events) = events.upgrade() else { return };
                let Some((event, at)) = events.next_of_storm(&device) else { return };
                events.send(&event, at);
            }
        };
        rt::spawn_on(rt::Target::Control, calm_down).detach();
    }

    /// The event that waits; without one the storm is over.
    fn next_of_storm(&self, device: &str) -> Option<(api::Event, Duration)> {
        let mut storms = self.storms.lock();
        let waiting = storms.get_mut(device).and_then(Option::take);
        if waiting.is_none() {
            storms.remove(device);
        }
        waiting
    }

    fn send(&self, event: &api::Event, since_epoch: Duration) {
        tracing::debug!(name = event.name(), "event");
        let (line, pretty) =
            (MessageLayout::Line.event(event, since_epoch), MessageLayout::Pretty.event(event, since_epoch));
        self.clients.lock().retain(|client| {
            let Some(outbox) = client.upgrade() else { return false };
            outbox.event(match outbox.layout() {
                MessageLayout::Line => &line,
                MessageLayout::Pretty => &pretty,
            })
        });
    }

    /// Queues nothing more for any client, and waits until they have received what was queued.
    pub(crate) async fn end_clients(&self) {
        let clients: Vec<_> = std::mem::take(&mut *self.clients.lock());
        let outboxes: Vec<_> = clients.iter().filter_map(Weak::upgrade).collect();
        outboxes.iter().for_each(|outbox| outbox.end());
        join_all(outboxes.iter().map(|outbox| outbox.sent())).await;
    }

    /// Reports that a node takes no more writes: its image is corrupt, or a flush of it failed.
    pub(crate) fn poisoned(&self, node: &Node, error: &BlockError) {
        if error.kind() == ErrorKind::Corrupt {
            let told = || Damage::from(error.message());
            let damage = error.source().and_then(|cause| cause.downcast_ref().cloned()).unwrap_or_else(told);
            return self.damaged(node, &damage, true);
        }
        self.emit(&api::Event::BlockIoError(BlockIoError {
            qom_path: String::new(),
            device: String::new(),
            node_name: Some(node.name().to_owned()),
            operation: IoOperationType::Write,
            action: BlockErrorAction::Report,
            nospace: Some(error.kind() == ErrorKind::NoSpace),
            reason: error.message(),
        }));
    }

    /// Reports that a guest's request failed, and what is done about it.
    pub(crate) fn guest_failed(self: &Arc<Self>, failure: &GuestFailure<'_>) {
        let GuestFailure { device, node, read, action, error } = failure;
        let path = device.model().map(|model| model.path).unwrap_or_default();
        let about = if path.is_empty() { device.name().to_owned() } else { path.clone() };
        let event = api::Event::BlockIoError(BlockIoError {
            qom_path: path,
            device: device.name().to_owned(),
            node_name: Some(node.name().to_owned()),
            operation: if *read { IoOperationType::Read } else { IoOperationType::Write },
            action: *action,
            nospace: device.io_status().map(|_| error.kind() == ErrorKind::NoSpace),
            reason: error.strerror(),
        });
        self.emit_of_storm(about, event);
    }

    /// Reports that an image contradicts itself; `fatal`: and takes no more writes.
    pub(crate) fn damaged(&self, node: &Node, damage: &Damage, fatal: bool) {
        self.emit(&api::Event::BlockImageCorrupted(BlockImageCorrupted {
            device: String::new(),
            node_name: Some(node.name().to_owned()),
            msg: damage.what.clone(),
            offset: damage.bytes.as_ref().map(|bytes| int(bytes.start)),
            size: damage.bytes.as_ref().map(|bytes| int(bytes.end - bytes.start)),
            fatal,
        }));
    }

    /// Reports that a write went beyond a node's threshold.
    pub(crate) fn beyond_threshold(&self, node: &Node, threshold: u64, exceeded: u64) {
        self.emit(&api::Event::BlockWriteThreshold(BlockWriteThreshold {
            node_name: node.name().to_owned(),
            amount_exceeded: exceeded,
            write_threshold: threshold,
        }));
    }

    /// Reports a child of a quorum that has failed, or was outvoted.
    pub(crate) fn quorum_bad(
        self: &Arc<Self>,
        operation: QuorumOpType,
        node: &Node,
        bytes: (u64, u64),
        error: Option<&BlockError>,
    ) {
        let (sector_num, sectors_count) = sectors(bytes);
        let event = api::Event::QuorumReportBad(QuorumReportBad {
            r#type: operation,
            error: error.map(BlockError::strerror),
            node_name: node.name().to_owned(),
            sector_num,
            sectors_count,
        });
        self.emit_of_storm(format!("child of a quorum: {}", node.name()), event);
    }

    /// Reports that too few children of a quorum agree.
    pub(crate) fn quorum_failed(self: &Arc<Self>, reference: String, bytes: (u64, u64)) {
        let (sector_num, sectors_count) = sectors(bytes);
        let event = api::Event::QuorumFailure(QuorumFailure { reference, sector_num, sectors_count });
        self.emit_of_storm("quorums".to_owned(), event);
    }

    /// Reports that an export is gone.
    pub(crate) fn export_deleted(&self, id: &str) {
        self.emit(&api::Event::BlockExportDeleted(BlockExportDeleted { id: id.to_owned() }));
    }
}

/// The sectors that a range of bytes touches: the first, and how many.
fn sectors((offset, len): (u64, u64)) -> (i64, i64) {
    let first = offset / SECTOR;
    (int(first), int(offset.saturating_add(len).div_ceil(SECTOR) - first))
}

/// The time since the epoch.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// Bytes as the schema counts them.
pub(crate) fn int(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl EventSink for Events {
    fn tell(&self, event: api::Event) {
        self.emit(&event);
    }
}
