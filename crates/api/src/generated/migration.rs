// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Handing over a machine's part of the block layer to another program.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// How far a hand-over has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigrationStatus {
    /// None was begun.
    None,
    /// It is prepared.
    Setup,
    /// It is being given up.
    Cancelling,
    /// It was given up.
    Cancelled,
    /// What changes seldom is sent.
    Active,
    /// The other machine runs already, and something is still sent.
    PostcopyActive,
    /// The same, interrupted.
    PostcopyPaused,
    /// The same, about to be mended.
    PostcopyRecoverSetup,
    /// The same, being mended.
    PostcopyRecover,
    /// The other program has it.
    Completed,
    /// It failed.
    Failed,
    /// Never here.
    Colo,
    /// The machine is stopped, and its images are still here.
    PreSwitchover,
    /// The rest is sent.
    Device,
    /// Never here.
    WaitUnplug,
}

impl Enumeration for MigrationStatus {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("setup", Self::Setup),
        ("cancelling", Self::Cancelling),
        ("cancelled", Self::Cancelled),
        ("active", Self::Active),
        ("postcopy-active", Self::PostcopyActive),
        ("postcopy-paused", Self::PostcopyPaused),
        ("postcopy-recover-setup", Self::PostcopyRecoverSetup),
        ("postcopy-recover", Self::PostcopyRecover),
        ("completed", Self::Completed),
        ("failed", Self::Failed),
        ("colo", Self::Colo),
        ("pre-switchover", Self::PreSwitchover),
        ("device", Self::Device),
        ("wait-unplug", Self::WaitUnplug),
    ];
}
enumeration_codec!(MigrationStatus);

/// What was sent, in the shape that memory has elsewhere.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrationRAMStats {
    /// Bytes sent.
    pub transferred: i64,
    /// Bytes still to be sent.
    pub remaining: i64,
    /// Bytes of memory; there is none.
    pub total: i64,
    /// Always 0.
    pub duplicate: i64,
    /// Always 0.
    pub normal: i64,
    /// Always 0.
    pub normal_bytes: i64,
    /// Always 0.
    pub dirty_pages_rate: i64,
    /// Megabits a second.
    pub mbps: f64,
    /// Passes so far.
    pub dirty_sync_count: i64,
    /// Always 0.
    pub postcopy_requests: i64,
    /// Bytes of a page.
    pub page_size: i64,
    /// Always 0.
    pub multifd_bytes: u64,
    /// Always 0.
    pub pages_per_second: u64,
    /// Bytes sent while the machine ran.
    pub precopy_bytes: u64,
    /// Bytes sent while it was stopped.
    pub downtime_bytes: u64,
    /// Always 0.
    pub postcopy_bytes: u64,
    /// Always 0.
    pub dirty_sync_missed_zero_copy: u64,
}

impl Object for MigrationRAMStats {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            transferred: from.required("transferred")?,
            remaining: from.required("remaining")?,
            total: from.required("total")?,
            duplicate: from.required("duplicate")?,
            normal: from.required("normal")?,
            normal_bytes: from.required("normal-bytes")?,
            dirty_pages_rate: from.required("dirty-pages-rate")?,
            mbps: from.required("mbps")?,
            dirty_sync_count: from.required("dirty-sync-count")?,
            postcopy_requests: from.required("postcopy-requests")?,
            page_size: from.required("page-size")?,
            multifd_bytes: from.required("multifd-bytes")?,
            pages_per_second: from.required("pages-per-second")?,
            precopy_bytes: from.required("precopy-bytes")?,
            downtime_bytes: from.required("downtime-bytes")?,
            postcopy_bytes: from.required("postcopy-bytes")?,
            dirty_sync_missed_zero_copy: from.required("dirty-sync-missed-zero-copy")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("transferred", &self.transferred);
        to.put("remaining", &self.remaining);
        to.put("total", &self.total);
        to.put("duplicate", &self.duplicate);
        to.put("normal", &self.normal);
        to.put("normal-bytes", &self.normal_bytes);
        to.put("dirty-pages-rate", &self.dirty_pages_rate);
        to.put("mbps", &self.mbps);
        to.put("dirty-sync-count", &self.dirty_sync_count);
        to.put("postcopy-requests", &self.postcopy_requests);
        to.put("page-size", &self.page_size);
        to.put("multifd-bytes", &self.multifd_bytes);
        to.put("pages-per-second", &self.pages_per_second);
        to.put("precopy-bytes", &self.precopy_bytes);
        to.put("downtime-bytes", &self.downtime_bytes);
        to.put("postcopy-bytes", &self.postcopy_bytes);
        to.put("dirty-sync-missed-zero-copy", &self.dirty_sync_missed_zero_copy);
    }
}
object_codec!(MigrationRAMStats);

/// A hand-over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrationInfo {
    /// How far it has come.
    pub status: Option<MigrationStatus>,
    /// What was sent.
    pub ram: Option<MigrationRAMStats>,
    /// Milliseconds since it began, or that it took.
    pub total_time: Option<i64>,
    /// Milliseconds that the machine is expected to stand still.
    pub expected_downtime: Option<i64>,
    /// Milliseconds that it stood still.
    pub downtime: Option<i64>,
    /// Milliseconds that preparing it took.
    pub setup_time: Option<i64>,
    /// Why it failed.
    pub error_desc: Option<String>,
}

impl Object for MigrationInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            status: from.optional("status")?,
            ram: from.optional("ram")?,
            total_time: from.optional("total-time")?,
            expected_downtime: from.optional("expected-downtime")?,
            downtime: from.optional("downtime")?,
            setup_time: from.optional("setup-time")?,
            error_desc: from.optional("error-desc")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("status", &self.status);
        to.put_optional("ram", &self.ram);
        to.put_optional("total-time", &self.total_time);
        to.put_optional("expected-downtime", &self.expected_downtime);
        to.put_optional("downtime", &self.downtime);
        to.put_optional("setup-time", &self.setup_time);
        to.put_optional("error-desc", &self.error_desc);
    }
}
object_codec!(MigrationInfo);

/// What a hand-over can do. Where nothing is said, it is about memory and has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigrationCapability {
    /// Without effect.
    Xbzrle,
    /// Without effect.
    RdmaPinAll,
    /// Without effect.
    AutoConverge,
    /// Without effect.
    ZeroBlocks,
    /// Each step is told by MIGRATION.
    Events,
    /// Without effect.
    PostcopyRam,
    /// Without effect.
    XColo,
    /// Without effect.
    ReleaseRam,
    /// Without effect.
    ReturnPath,
    /// It waits for migrate-continue when the machine is stopped, before its images are let go.
    PauseBeforeSwitchover,
    /// Without effect.
    Multifd,
    /// Dirty bitmaps are handed over.
    DirtyBitmaps,
    /// Without effect.
    PostcopyBlocktime,
    /// The machine that takes over takes its images over only when it is told to run.
    LateBlockActivate,
    /// Without effect.
    XIgnoreShared,
    /// Without effect.
    ValidateUuid,
    /// Without effect.
    BackgroundSnapshot,
    /// Without effect.
    ZeroCopySend,
    /// Without effect.
    PostcopyPreempt,
    /// Without effect.
    SwitchoverAck,
    /// Without effect.
    DirtyLimit,
    /// Without effect.
    MappedRam,
}

impl Enumeration for MigrationCapability {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("xbzrle", Self::Xbzrle),
        ("rdma-pin-all", Self::RdmaPinAll),
        ("auto-converge", Self::AutoConverge),
        ("zero-blocks", Self::ZeroBlocks),
        ("events", Self::Events),
        ("postcopy-ram", Self::PostcopyRam),
        ("x-colo", Self::XColo),
        ("release-ram", Self::ReleaseRam),
        ("return-path", Self::ReturnPath),
        ("pause-before-switchover", Self::PauseBeforeSwitchover),
        ("multifd", Self::Multifd),
        ("dirty-bitmaps", Self::DirtyBitmaps),
        ("postcopy-blocktime", Self::PostcopyBlocktime),
        ("late-block-activate", Self::LateBlockActivate),
        ("x-ignore-shared", Self::XIgnoreShared),
        ("validate-uuid", Self::ValidateUuid),
        ("background-snapshot", Self::BackgroundSnapshot),
        ("zero-copy-send", Self::ZeroCopySend),
        ("postcopy-preempt", Self::PostcopyPreempt),
        ("switchover-ack", Self::SwitchoverAck),
        ("dirty-limit", Self::DirtyLimit),
        ("mapped-ram", Self::MappedRam),
    ];
}
enumeration_codec!(MigrationCapability);

/// Whether a hand-over does something.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationCapabilityStatus {
    /// What.
    pub capability: MigrationCapability,
    /// Whether it does.
    pub state: bool,
}

impl Object for MigrationCapabilityStatus {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { capability: from.required("capability")?, state: from.required("state")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("capability", &self.capability);
        to.put("state", &self.state);
    }
}
object_codec!(MigrationCapabilityStatus);

/// Arguments of `migrate-set-capabilities`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrateSetCapabilitiesArguments {
    /// What changes.
    pub capabilities: Vec<MigrationCapabilityStatus>,
}

impl Object for MigrateSetCapabilitiesArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { capabilities: from.required("capabilities")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("capabilities", &self.capabilities);
    }
}
object_codec!(MigrateSetCapabilitiesArguments);

/// What becomes of a bitmap that is handed over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BitmapMigrationBitmapAliasTransform {
    /// Whether it is kept in the image; as it is here if absent.
    pub persistent: Option<bool>,
}

impl Object for BitmapMigrationBitmapAliasTransform {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { persistent: from.optional("persistent")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("persistent", &self.persistent);
    }
}
object_codec!(BitmapMigrationBitmapAliasTransform);

/// The name by which a bitmap is handed over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BitmapMigrationBitmapAlias {
    /// Its name here.
    pub name: String,
    /// Its name on the way.
    pub alias: String,
    /// What becomes of it, where it is taken over.
    pub transform: Option<BitmapMigrationBitmapAliasTransform>,
}

impl Object for BitmapMigrationBitmapAlias {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            alias: from.required("alias")?,
            transform: from.optional("transform")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("alias", &self.alias);
        to.put_optional("transform", &self.transform);
    }
}
object_codec!(BitmapMigrationBitmapAlias);

/// The name by which the bitmaps of a node are handed over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BitmapMigrationNodeAlias {
    /// The node.
    pub node_name: String,
    /// Its name on the way.
    pub alias: String,
    /// Its bitmaps: no others are handed over.
    pub bitmaps: Vec<BitmapMigrationBitmapAlias>,
}

impl Object for BitmapMigrationNodeAlias {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node_name: from.required("node-name")?,
            alias: from.required("alias")?,
            bitmaps: from.required("bitmaps")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node-name", &self.node_name);
        to.put("alias", &self.alias);
        to.put("bitmaps", &self.bitmaps);
    }
}
object_codec!(BitmapMigrationNodeAlias);

/// What a hand-over is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigMode {
    /// Another program takes over.
    Normal,
    /// Without effect.
    CprReboot,
    /// Without effect.
    CprTransfer,
}

impl Enumeration for MigMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("normal", Self::Normal), ("cpr-reboot", Self::CprReboot), ("cpr-transfer", Self::CprTransfer)];
}
enumeration_codec!(MigMode);

/// How memory would be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MultiFDCompression {
    /// Without effect.
    None,
    /// Without effect.
    Zlib,
    /// Without effect.
    Zstd,
    /// Without effect.
    Qatzip,
    /// Without effect.
    Qpl,
    /// Without effect.
    Uadk,
}

impl Enumeration for MultiFDCompression {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("zlib", Self::Zlib),
        ("zstd", Self::Zstd),
        ("qatzip", Self::Qatzip),
        ("qpl", Self::Qpl),
        ("uadk", Self::Uadk),
    ];
}
enumeration_codec!(MultiFDCompression);

/// How pages of zeroes would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ZeroPageDetection {
    /// Without effect.
    None,
    /// Without effect.
    Legacy,
    /// Without effect.
    Multifd,
}

impl Enumeration for ZeroPageDetection {
    const VALUES: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("legacy", Self::Legacy), ("multifd", Self::Multifd)];
}
enumeration_codec!(ZeroPageDetection);

/// How hand-overs are made. Where nothing is said, it is kept and shown, and has no effect.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrationParameters {
    /// Without effect.
    pub announce_initial: Option<u64>,
    /// Without effect.
    pub announce_max: Option<u64>,
    /// Without effect.
    pub announce_rounds: Option<u64>,
    /// Without effect.
    pub announce_step: Option<u64>,
    /// Without effect.
    pub throttle_trigger_threshold: Option<u32>,
    /// Without effect.
    pub cpu_throttle_initial: Option<u32>,
    /// Without effect.
    pub cpu_throttle_increment: Option<u32>,
    /// Without effect.
    pub cpu_throttle_tailslow: Option<bool>,
    /// Without effect.
    pub tls_creds: Option<StrOrNull>,
    /// Without effect.
    pub tls_hostname: Option<StrOrNull>,
    /// Without effect.
    pub tls_authz: Option<StrOrNull>,
    /// Without effect.
    pub max_bandwidth: Option<u64>,
    /// Without effect.
    pub avail_switchover_bandwidth: Option<u64>,
    /// Without effect.
    pub downtime_limit: Option<u64>,
    /// Without effect.
    pub x_checkpoint_delay: Option<u32>,
    /// Without effect.
    pub multifd_channels: Option<u32>,
    /// Without effect.
    pub xbzrle_cache_size: Option<u64>,
    /// Without effect.
    pub max_postcopy_bandwidth: Option<u64>,
    /// Without effect.
    pub max_cpu_throttle: Option<u32>,
    /// Without effect.
    pub multifd_compression: Option<MultiFDCompression>,
    /// Without effect.
    pub multifd_zlib_level: Option<u32>,
    /// Without effect.
    pub multifd_qatzip_level: Option<u32>,
    /// Without effect.
    pub multifd_zstd_level: Option<u32>,
    /// Names by which bitmaps are handed over. If absent, each has its own name, beside that of its device
    /// or node.
    pub block_bitmap_mapping: Option<Vec<BitmapMigrationNodeAlias>>,
    /// Without effect.
    pub x_vcpu_dirty_limit_period: Option<u64>,
    /// Without effect.
    pub vcpu_dirty_limit: Option<u64>,
    /// What it is for.
    pub mode: Option<MigMode>,
    /// Without effect.
    pub zero_page_detection: Option<ZeroPageDetection>,
    /// Without effect.
    pub direct_io: Option<bool>,
}

impl Object for MigrationParameters {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            announce_initial: from.optional("announce-initial")?,
            announce_max: from.optional("announce-max")?,
            announce_rounds: from.optional("announce-rounds")?,
            announce_step: from.optional("announce-step")?,
            throttle_trigger_threshold: from.optional("throttle-trigger-threshold")?,
            cpu_throttle_initial: from.optional("cpu-throttle-initial")?,
            cpu_throttle_increment: from.optional("cpu-throttle-increment")?,
            cpu_throttle_tailslow: from.optional("cpu-throttle-tailslow")?,
            tls_creds: from.optional("tls-creds")?,
            tls_hostname: from.optional("tls-hostname")?,
            tls_authz: from.optional("tls-authz")?,
            max_bandwidth: from.optional("max-bandwidth")?,
            avail_switchover_bandwidth: from.optional("avail-switchover-bandwidth")?,
            downtime_limit: from.optional("downtime-limit")?,
            x_checkpoint_delay: from.optional("x-checkpoint-delay")?,
            multifd_channels: from.optional("multifd-channels")?,
            xbzrle_cache_size: from.optional("xbzrle-cache-size")?,
            max_postcopy_bandwidth: from.optional("max-postcopy-bandwidth")?,
            max_cpu_throttle: from.optional("max-cpu-throttle")?,
            multifd_compression: from.optional("multifd-compression")?,
            multifd_zlib_level: from.optional("multifd-zlib-level")?,
            multifd_qatzip_level: from.optional("multifd-qatzip-level")?,
            multifd_zstd_level: from.optional("multifd-zstd-level")?,
            block_bitmap_mapping: from.optional("block-bitmap-mapping")?,
            x_vcpu_dirty_limit_period: from.optional("x-vcpu-dirty-limit-period")?,
            vcpu_dirty_limit: from.optional("vcpu-dirty-limit")?,
            mode: from.optional("mode")?,
            zero_page_detection: from.optional("zero-page-detection")?,
            direct_io: from.optional("direct-io")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("announce-initial", &self.announce_initial);
        to.put_optional("announce-max", &self.announce_max);
        to.put_optional("announce-rounds", &self.announce_rounds);
        to.put_optional("announce-step", &self.announce_step);
        to.put_optional("throttle-trigger-threshold", &self.throttle_trigger_threshold);
        to.put_optional("cpu-throttle-initial", &self.cpu_throttle_initial);
        to.put_optional("cpu-throttle-increment", &self.cpu_throttle_increment);
        to.put_optional("cpu-throttle-tailslow", &self.cpu_throttle_tailslow);
        to.put_optional("tls-creds", &self.tls_creds);
        to.put_optional("tls-hostname", &self.tls_hostname);
        to.put_optional("tls-authz", &self.tls_authz);
        to.put_optional("max-bandwidth", &self.max_bandwidth);
        to.put_optional("avail-switchover-bandwidth", &self.avail_switchover_bandwidth);
        to.put_optional("downtime-limit", &self.downtime_limit);
        to.put_optional("x-checkpoint-delay", &self.x_checkpoint_delay);
        to.put_optional("multifd-channels", &self.multifd_channels);
        to.put_optional("xbzrle-cache-size", &self.xbzrle_cache_size);
        to.put_optional("max-postcopy-bandwidth", &self.max_postcopy_bandwidth);
        to.put_optional("max-cpu-throttle", &self.max_cpu_throttle);
        to.put_optional("multifd-compression", &self.multifd_compression);
        to.put_optional("multifd-zlib-level", &self.multifd_zlib_level);
        to.put_optional("multifd-qatzip-level", &self.multifd_qatzip_level);
        to.put_optional("multifd-zstd-level", &self.multifd_zstd_level);
        to.put_optional("block-bitmap-mapping", &self.block_bitmap_mapping);
        to.put_optional("x-vcpu-dirty-limit-period", &self.x_vcpu_dirty_limit_period);
        to.put_optional("vcpu-dirty-limit", &self.vcpu_dirty_limit);
        to.put_optional("mode", &self.mode);
        to.put_optional("zero-page-detection", &self.zero_page_detection);
        to.put_optional("direct-io", &self.direct_io);
    }
}
object_codec!(MigrationParameters);

/// What a machine is handed over through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigrationAddressType {
    /// A socket.
    Socket,
    /// A program.
    Exec,
    /// Not here.
    Rdma,
    /// A file.
    File,
}

impl Enumeration for MigrationAddressType {
    const VALUES: &'static [(&'static str, Self)] =
        &[("socket", Self::Socket), ("exec", Self::Exec), ("rdma", Self::Rdma), ("file", Self::File)];
}
enumeration_codec!(MigrationAddressType);

/// A program: what it is given, or gives, is the machine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrationExecCommand {
    /// The program, and its arguments.
    pub args: Vec<String>,
}

impl Object for MigrationExecCommand {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { args: from.required("args")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("args", &self.args);
    }
}
object_codec!(MigrationExecCommand);

/// A file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileMigrationArgs {
    /// Its name.
    pub filename: String,
    /// Where the machine begins in it, in bytes.
    pub offset: u64,
}

impl Object for FileMigrationArgs {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { filename: from.required("filename")?, offset: from.required("offset")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put("offset", &self.offset);
    }
}
object_codec!(FileMigrationArgs);

/// What a machine is handed over through.
#[derive(Debug, Clone, PartialEq)]
pub enum MigrationAddress {
    /// `socket`.
    Socket(SocketAddress),
    /// `exec`.
    Exec(MigrationExecCommand),
    /// `rdma`.
    Rdma(InetSocketAddress),
    /// `file`.
    File(FileMigrationArgs),
}

impl MigrationAddress {
    /// The value of `transport` that goes with this branch.
    pub fn transport(&self) -> MigrationAddressType {
        match self {
            Self::Socket(_) => MigrationAddressType::Socket,
            Self::Exec(_) => MigrationAddressType::Exec,
            Self::Rdma(_) => MigrationAddressType::Rdma,
            Self::File(_) => MigrationAddressType::File,
        }
    }

    fn take_branch(tag: MigrationAddressType, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            MigrationAddressType::Socket => Self::Socket(Object::take(from)?),
            MigrationAddressType::Exec => Self::Exec(Object::take(from)?),
            MigrationAddressType::Rdma => Self::Rdma(Object::take(from)?),
            MigrationAddressType::File => Self::File(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Socket(inner) => inner.put(to),
            Self::Exec(inner) => inner.put(to),
            Self::Rdma(inner) => inner.put(to),
            Self::File(inner) => inner.put(to),
        }
    }
}

impl Object for MigrationAddress {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("transport")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("transport", &self.transport());
        self.put_branch(to);
    }
}
object_codec!(MigrationAddress);

/// What goes through a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigrationChannelType {
    /// The machine.
    Main,
    /// Not here.
    Cpr,
}

impl Enumeration for MigrationChannelType {
    const VALUES: &'static [(&'static str, Self)] = &[("main", Self::Main), ("cpr", Self::Cpr)];
}
enumeration_codec!(MigrationChannelType);

/// A channel.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationChannel {
    /// What goes through it.
    pub channel_type: MigrationChannelType,
    /// Where it is.
    pub addr: MigrationAddress,
}

impl Object for MigrationChannel {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { channel_type: from.required("channel-type")?, addr: from.required("addr")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("channel-type", &self.channel_type);
        to.put("addr", &self.addr);
    }
}
object_codec!(MigrationChannel);

/// Arguments of `migrate`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrateArguments {
    /// Where to: `unix:PATH`, `tcp:HOST:PORT`, `fd:NAME`, `exec:COMMAND` or `file:NAME\[,offset=N\]`.
    pub uri: Option<String>,
    /// The same in members; one channel.
    pub channels: Option<Vec<MigrationChannel>>,
    /// Without effect: it never waits.
    pub detach: Option<bool>,
    /// Goes on with one that was interrupted while the other machine ran; there is none.
    pub resume: Option<bool>,
}

impl Object for MigrateArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            uri: from.optional("uri")?,
            channels: from.optional("channels")?,
            detach: from.optional("detach")?,
            resume: from.optional("resume")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("uri", &self.uri);
        to.put_optional("channels", &self.channels);
        to.put_optional("detach", &self.detach);
        to.put_optional("resume", &self.resume);
    }
}
object_codec!(MigrateArguments);

/// Arguments of `migrate-incoming`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrateIncomingArguments {
    /// Where from.
    pub uri: Option<String>,
    /// The same in members; one channel.
    pub channels: Option<Vec<MigrationChannel>>,
    /// Whether the program ends if it fails; it does if absent.
    pub exit_on_error: Option<bool>,
}

impl Object for MigrateIncomingArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            uri: from.optional("uri")?,
            channels: from.optional("channels")?,
            exit_on_error: from.optional("exit-on-error")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("uri", &self.uri);
        to.put_optional("channels", &self.channels);
        to.put_optional("exit-on-error", &self.exit_on_error);
    }
}
object_codec!(MigrateIncomingArguments);

/// Arguments of `migrate-continue`.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrateContinueArguments {
    /// What it waits in: pre-switchover.
    pub state: MigrationStatus,
}

impl Object for MigrateContinueArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { state: from.required("state")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("state", &self.state);
    }
}
object_codec!(MigrateContinueArguments);

/// Data of event `MIGRATION`.
///
/// A hand-over has moved on; told if the capability events is on.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    /// How far it has come.
    pub status: MigrationStatus,
}

impl Object for Migration {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { status: from.required("status")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("status", &self.status);
    }
}
object_codec!(Migration);

/// Data of event `MIGRATION_PASS`.
///
/// A pass over what changes has begun; told if the capability events is on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrationPass {
    /// Its number.
    pub pass: i64,
}

impl Object for MigrationPass {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { pass: from.required("pass")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("pass", &self.pass);
    }
}
object_codec!(MigrationPass);

/// Arguments of `blockdev-set-active`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSetActiveArguments {
    /// The node; all of them if absent.
    pub node_name: Option<String>,
    /// Whether they belong to this program.
    pub active: bool,
}

impl Object for BlockdevSetActiveArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node_name: from.optional("node-name")?, active: from.required("active")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("node-name", &self.node_name);
        to.put("active", &self.active);
    }
}
object_codec!(BlockdevSetActiveArguments);

/// Arguments of `x-blockdev-set-iothread`.
#[derive(Debug, Clone, PartialEq)]
pub struct XBlockdevSetIothreadArguments {
    /// The node.
    pub node_name: String,
    /// The worker; null for the first.
    pub iothread: StrOrNull,
    /// Whether a node that is in use may be put elsewhere too.
    pub force: Option<bool>,
}

impl Object for XBlockdevSetIothreadArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node_name: from.required("node-name")?,
            iothread: from.required("iothread")?,
            force: from.optional("force")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node-name", &self.node_name);
        to.put("iothread", &self.iothread);
        to.put_optional("force", &self.force);
    }
}
object_codec!(XBlockdevSetIothreadArguments);

/// The handlers of section `migration`.
pub trait MigrationCommands: Send + Sync {
    /// The hand-over under way, or the last one.
    fn query_migrate(&self) -> impl Future<Output = Result<MigrationInfo, QmpError>> + Send;

    /// Says what hand-overs do from now on.
    fn migrate_set_capabilities(
        &self,
        arguments: MigrateSetCapabilitiesArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// What hand-overs do.
    fn query_migrate_capabilities(
        &self,
    ) -> impl Future<Output = Result<Vec<MigrationCapabilityStatus>, QmpError>> + Send;

    /// Says how hand-overs are made from now on.
    fn migrate_set_parameters(
        &self,
        arguments: MigrationParameters,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// How hand-overs are made.
    fn query_migrate_parameters(&self) -> impl Future<Output = Result<MigrationParameters, QmpError>> + Send;

    /// Begins to hand the machine over: it is stopped, its images are let go, and whoever reads the other end takes them over.
    /// After a failure, or if it is cancelled, everything is as before.
    fn migrate(&self, arguments: MigrateArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Begins to wait for a machine, of a program that was started with `-incoming defer`.
    fn migrate_incoming(
        &self,
        arguments: MigrateIncomingArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Gives up the hand-over under way: the machine is as before.
    fn migrate_cancel(&self) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Goes on with a hand-over that waits.
    fn migrate_continue(
        &self,
        arguments: MigrateContinueArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lets the other machine run before everything is sent; there is nothing that could be sent later.
    fn migrate_start_postcopy(&self) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Takes images over, or lets them go to another program. A node that is let go writes what it holds back, gives back its
    /// locks, and is only read
    /// until it is taken over; so do those below it that nobody else uses.
    fn blockdev_set_active(
        &self,
        arguments: BlockdevSetActiveArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Puts a node on another worker. Requests go to the least busy one, whichever is named.
    fn x_blockdev_set_iothread(
        &self,
        arguments: XBlockdevSetIothreadArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
