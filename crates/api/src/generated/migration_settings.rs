// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What a hand-over does, and how.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

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

/// The handlers of section `migration-settings`.
pub trait MigrationSettingsCommands: Send + Sync {
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
}
