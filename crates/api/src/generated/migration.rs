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

/// The handlers of section `migration`.
pub trait MigrationCommands: Send + Sync {
    /// The hand-over under way, or the last one.
    fn query_migrate(&self) -> impl Future<Output = Result<MigrationInfo, QmpError>> + Send;

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
}
