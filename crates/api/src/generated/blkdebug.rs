// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! The filter that fails and holds back requests at steps.

use super::*;
use crate::Dict;
use crate::codec::*;

/// The steps of drivers and of the core that rules can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlkdebugEvent {
    /// Entries of the L1 table are written.
    L1Update,
    /// Space for a longer L1 table is sought.
    L1GrowAllocTable,
    /// The longer L1 table is written.
    L1GrowWriteTable,
    /// The header is led to the longer L1 table.
    L1GrowActivateTable,
    /// An L2 table is read.
    L2Load,
    /// Entries of an L2 table are written.
    L2Update,
    /// The entry of a compressed cluster is written.
    L2UpdateCompressed,
    /// An L2 table is read that a new one takes the place of.
    L2AllocCowRead,
    /// A new L2 table is written.
    L2AllocWrite,
    /// Data are read.
    ReadAio,
    /// Data are read from the backing image.
    ReadBackingAio,
    /// Compressed data are read.
    ReadCompressed,
    /// Data are written.
    WriteAio,
    /// Compressed data are written.
    WriteCompressed,
    /// A saved machine state is read.
    VmstateLoad,
    /// A saved machine state is written.
    VmstateSave,
    /// Old data around a write are read for their new cluster.
    CowRead,
    /// Old data around a write are written to their new cluster.
    CowWrite,
    /// The refcount table is read.
    ReftableLoad,
    /// A longer refcount table is made.
    ReftableGrow,
    /// An entry of the refcount table is written.
    ReftableUpdate,
    /// A refcount block is read.
    RefblockLoad,
    /// A refcount block is written.
    RefblockUpdate,
    /// A part of a refcount block is written.
    RefblockUpdatePart,
    /// Space for a refcount block is sought.
    RefblockAlloc,
    /// The refcount table is led to a new refcount block.
    RefblockAllocHookup,
    /// A new refcount block is written.
    RefblockAllocWrite,
    /// The refcount blocks of a longer refcount table are written.
    RefblockAllocWriteBlocks,
    /// A longer refcount table is written.
    RefblockAllocWriteTable,
    /// The header is led to a longer refcount table.
    RefblockAllocSwitchTable,
    /// Clusters are allocated.
    ClusterAlloc,
    /// Bytes for compressed data are allocated.
    ClusterAllocBytes,
    /// Clusters are freed.
    ClusterFree,
    /// What is held in memory is written.
    FlushToOs,
    /// What was written is made durable.
    FlushToDisk,
    /// The bytes before an unaligned write are read.
    PwritevRmwHead,
    /// They were read.
    PwritevRmwAfterHead,
    /// The bytes behind an unaligned write are read.
    PwritevRmwTail,
    /// They were read.
    PwritevRmwAfterTail,
    /// A write is carried out.
    Pwritev,
    /// Zeros are written.
    PwritevZero,
    /// A write has ended.
    PwritevDone,
    /// An image is emptied.
    EmptyImagePrepare,
    /// The unused end of the L1 table is cleared.
    L1ShrinkWriteTable,
    /// The L2 tables that it led to are freed.
    L1ShrinkFreeL2Clusters,
    /// What was read from a backing image is stored.
    CorWrite,
    /// Space for clusters is sought in the file.
    ClusterAllocSpace,
    /// The node is made: the one event that comes once and at once.
    None,
}

impl Enumeration for BlkdebugEvent {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("l1_update", Self::L1Update),
        ("l1_grow_alloc_table", Self::L1GrowAllocTable),
        ("l1_grow_write_table", Self::L1GrowWriteTable),
        ("l1_grow_activate_table", Self::L1GrowActivateTable),
        ("l2_load", Self::L2Load),
        ("l2_update", Self::L2Update),
        ("l2_update_compressed", Self::L2UpdateCompressed),
        ("l2_alloc_cow_read", Self::L2AllocCowRead),
        ("l2_alloc_write", Self::L2AllocWrite),
        ("read_aio", Self::ReadAio),
        ("read_backing_aio", Self::ReadBackingAio),
        ("read_compressed", Self::ReadCompressed),
        ("write_aio", Self::WriteAio),
        ("write_compressed", Self::WriteCompressed),
        ("vmstate_load", Self::VmstateLoad),
        ("vmstate_save", Self::VmstateSave),
        ("cow_read", Self::CowRead),
        ("cow_write", Self::CowWrite),
        ("reftable_load", Self::ReftableLoad),
        ("reftable_grow", Self::ReftableGrow),
        ("reftable_update", Self::ReftableUpdate),
        ("refblock_load", Self::RefblockLoad),
        ("refblock_update", Self::RefblockUpdate),
        ("refblock_update_part", Self::RefblockUpdatePart),
        ("refblock_alloc", Self::RefblockAlloc),
        ("refblock_alloc_hookup", Self::RefblockAllocHookup),
        ("refblock_alloc_write", Self::RefblockAllocWrite),
        ("refblock_alloc_write_blocks", Self::RefblockAllocWriteBlocks),
        ("refblock_alloc_write_table", Self::RefblockAllocWriteTable),
        ("refblock_alloc_switch_table", Self::RefblockAllocSwitchTable),
        ("cluster_alloc", Self::ClusterAlloc),
        ("cluster_alloc_bytes", Self::ClusterAllocBytes),
        ("cluster_free", Self::ClusterFree),
        ("flush_to_os", Self::FlushToOs),
        ("flush_to_disk", Self::FlushToDisk),
        ("pwritev_rmw_head", Self::PwritevRmwHead),
        ("pwritev_rmw_after_head", Self::PwritevRmwAfterHead),
        ("pwritev_rmw_tail", Self::PwritevRmwTail),
        ("pwritev_rmw_after_tail", Self::PwritevRmwAfterTail),
        ("pwritev", Self::Pwritev),
        ("pwritev_zero", Self::PwritevZero),
        ("pwritev_done", Self::PwritevDone),
        ("empty_image_prepare", Self::EmptyImagePrepare),
        ("l1_shrink_write_table", Self::L1ShrinkWriteTable),
        ("l1_shrink_free_l2_clusters", Self::L1ShrinkFreeL2Clusters),
        ("cor_write", Self::CorWrite),
        ("cluster_alloc_space", Self::ClusterAllocSpace),
        ("none", Self::None),
    ];
}
enumeration_codec!(BlkdebugEvent);

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlkdebugIOType {
    /// Data are read.
    Read,
    /// Data are written.
    Write,
    /// Zeros are written the quick way.
    WriteZeroes,
    /// Space is given back.
    Discard,
    /// What was written is made durable.
    Flush,
    /// It is asked what is stored.
    BlockStatus,
}

impl Enumeration for BlkdebugIOType {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("read", Self::Read),
        ("write", Self::Write),
        ("write-zeroes", Self::WriteZeroes),
        ("discard", Self::Discard),
        ("flush", Self::Flush),
        ("block-status", Self::BlockStatus),
    ];
}
enumeration_codec!(BlkdebugIOType);

/// A rule that fails requests.
#[derive(Debug, Clone, PartialEq)]
pub struct BlkdebugInjectErrorOptions {
    /// The step from which on it is in force, until another step brings other rules in force.
    pub event: BlkdebugEvent,
    /// The state in which that is so; any, if absent or 0.
    pub state: Option<i64>,
    /// The kind of requests that it fails; all but block-status if absent.
    pub iotype: Option<BlkdebugIOType>,
    /// The error; 5 (EIO) if absent. With 0 they do not fail.
    pub errno: Option<i64>,
    /// Only requests that touch this sector of 512 bytes fail; all, if absent.
    pub sector: Option<i64>,
    /// Only one request fails; not if absent.
    pub once: Option<bool>,
    /// It fails before anything else runs; not if absent.
    pub immediately: Option<bool>,
    /// How long the request waits before it fails, or goes on, in nanoseconds; not if absent. (Since QEMU 11.1)
    pub delay_ns: Option<i64>,
}

impl Object for BlkdebugInjectErrorOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            event: from.required("event")?,
            state: from.optional("state")?,
            iotype: from.optional("iotype")?,
            errno: from.optional("errno")?,
            sector: from.optional("sector")?,
            once: from.optional("once")?,
            immediately: from.optional("immediately")?,
            delay_ns: from.optional("delay-ns")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("event", &self.event);
        to.put_optional("state", &self.state);
        to.put_optional("iotype", &self.iotype);
        to.put_optional("errno", &self.errno);
        to.put_optional("sector", &self.sector);
        to.put_optional("once", &self.once);
        to.put_optional("immediately", &self.immediately);
        to.put_optional("delay-ns", &self.delay_ns);
    }
}
object_codec!(BlkdebugInjectErrorOptions);

/// A rule that changes the state, which is 1 at first.
#[derive(Debug, Clone, PartialEq)]
pub struct BlkdebugSetStateOptions {
    /// The step at which it does.
    pub event: BlkdebugEvent,
    /// The state in which that is so; any, if absent or 0.
    pub state: Option<i64>,
    /// The new state.
    pub new_state: i64,
}

impl Object for BlkdebugSetStateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            event: from.required("event")?,
            state: from.optional("state")?,
            new_state: from.required("new_state")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("event", &self.event);
        to.put_optional("state", &self.state);
        to.put("new_state", &self.new_state);
    }
}
object_codec!(BlkdebugSetStateOptions);

/// What a user of a node does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockPermission {
    /// Reads see consistent data.
    ConsistentRead,
    /// It writes.
    Write,
    /// It writes what is there already.
    WriteUnchanged,
    /// It changes the size.
    Resize,
}

impl Enumeration for BlockPermission {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("consistent-read", Self::ConsistentRead),
        ("write", Self::Write),
        ("write-unchanged", Self::WriteUnchanged),
        ("resize", Self::Resize),
    ];
}
enumeration_codec!(BlockPermission);

/// What a filter of faults is opened with, beside its image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlkdebugOptions {
    /// A file with rules.
    pub config: Option<String>,
    /// What requests are aligned to, in bytes.
    pub align: Option<i64>,
    /// The most bytes of one read or write.
    pub max_transfer: Option<i32>,
    /// What quick zeros are aligned to, in bytes.
    pub opt_write_zero: Option<i32>,
    /// The most bytes of quick zeros at once.
    pub max_write_zero: Option<i32>,
    /// What discards are aligned to, in bytes.
    pub opt_discard: Option<i32>,
    /// The most bytes of one discard.
    pub max_discard: Option<i32>,
    /// Rules that fail requests.
    pub inject_error: Option<Vec<BlkdebugInjectErrorOptions>>,
    /// Rules that change the state.
    pub set_state: Option<Vec<BlkdebugSetStateOptions>>,
    /// Permissions to take on the image beside those of the users above.
    pub take_child_perms: Option<Vec<BlockPermission>>,
    /// Permissions to leave to no other user of the image.
    pub unshare_child_perms: Option<Vec<BlockPermission>>,
}

impl Object for BlkdebugOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            config: from.optional("config")?,
            align: from.optional("align")?,
            max_transfer: from.optional("max-transfer")?,
            opt_write_zero: from.optional("opt-write-zero")?,
            max_write_zero: from.optional("max-write-zero")?,
            opt_discard: from.optional("opt-discard")?,
            max_discard: from.optional("max-discard")?,
            inject_error: from.optional("inject-error")?,
            set_state: from.optional("set-state")?,
            take_child_perms: from.optional("take-child-perms")?,
            unshare_child_perms: from.optional("unshare-child-perms")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("config", &self.config);
        to.put_optional("align", &self.align);
        to.put_optional("max-transfer", &self.max_transfer);
        to.put_optional("opt-write-zero", &self.opt_write_zero);
        to.put_optional("max-write-zero", &self.max_write_zero);
        to.put_optional("opt-discard", &self.opt_discard);
        to.put_optional("max-discard", &self.max_discard);
        to.put_optional("inject-error", &self.inject_error);
        to.put_optional("set-state", &self.set_state);
        to.put_optional("take-child-perms", &self.take_child_perms);
        to.put_optional("unshare-child-perms", &self.unshare_child_perms);
    }
}
object_codec!(BlkdebugOptions);

/// A filter of faults.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsBlkdebug {
    /// A file with rules.
    pub config: Option<String>,
    /// What requests are aligned to, in bytes.
    pub align: Option<i64>,
    /// The most bytes of one read or write.
    pub max_transfer: Option<i32>,
    /// What quick zeros are aligned to, in bytes.
    pub opt_write_zero: Option<i32>,
    /// The most bytes of quick zeros at once.
    pub max_write_zero: Option<i32>,
    /// What discards are aligned to, in bytes.
    pub opt_discard: Option<i32>,
    /// The most bytes of one discard.
    pub max_discard: Option<i32>,
    /// Rules that fail requests.
    pub inject_error: Option<Vec<BlkdebugInjectErrorOptions>>,
    /// Rules that change the state.
    pub set_state: Option<Vec<BlkdebugSetStateOptions>>,
    /// Permissions to take on the image beside those of the users above.
    pub take_child_perms: Option<Vec<BlockPermission>>,
    /// Permissions to leave to no other user of the image.
    pub unshare_child_perms: Option<Vec<BlockPermission>>,
    /// What is below.
    pub image: BlockdevRef,
}

impl Object for BlockdevOptionsBlkdebug {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            config: from.optional("config")?,
            align: from.optional("align")?,
            max_transfer: from.optional("max-transfer")?,
            opt_write_zero: from.optional("opt-write-zero")?,
            max_write_zero: from.optional("max-write-zero")?,
            opt_discard: from.optional("opt-discard")?,
            max_discard: from.optional("max-discard")?,
            inject_error: from.optional("inject-error")?,
            set_state: from.optional("set-state")?,
            take_child_perms: from.optional("take-child-perms")?,
            unshare_child_perms: from.optional("unshare-child-perms")?,
            image: from.required("image")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("config", &self.config);
        to.put_optional("align", &self.align);
        to.put_optional("max-transfer", &self.max_transfer);
        to.put_optional("opt-write-zero", &self.opt_write_zero);
        to.put_optional("max-write-zero", &self.max_write_zero);
        to.put_optional("opt-discard", &self.opt_discard);
        to.put_optional("max-discard", &self.max_discard);
        to.put_optional("inject-error", &self.inject_error);
        to.put_optional("set-state", &self.set_state);
        to.put_optional("take-child-perms", &self.take_child_perms);
        to.put_optional("unshare-child-perms", &self.unshare_child_perms);
        to.put("image", &self.image);
    }
}
object_codec!(BlockdevOptionsBlkdebug);
