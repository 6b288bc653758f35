// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Open descriptors that clients hand over with a command (SCM_RIGHTS).

use crate::codec::*;
use crate::{Dict, QmpError};

/// Arguments of `getfd`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GetfdArguments {
    /// The name; one that exists is replaced. It does not begin with a digit.
    pub fdname: String,
}

impl Object for GetfdArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { fdname: from.required("fdname")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("fdname", &self.fdname);
    }
}
object_codec!(GetfdArguments);

/// Arguments of `closefd`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClosefdArguments {
    /// The name.
    pub fdname: String,
}

impl Object for ClosefdArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { fdname: from.required("fdname")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("fdname", &self.fdname);
    }
}
object_codec!(ClosefdArguments);

/// Where a descriptor was added.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AddfdInfo {
    /// The set.
    pub fdset_id: i64,
    /// The descriptor's number.
    pub fd: i64,
}

impl Object for AddfdInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { fdset_id: from.required("fdset-id")?, fd: from.required("fd")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("fdset-id", &self.fdset_id);
        to.put("fd", &self.fd);
    }
}
object_codec!(AddfdInfo);

/// Arguments of `add-fd`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AddFdArguments {
    /// The set; a new one if absent.
    pub fdset_id: Option<i64>,
    /// Free text to recognise the descriptor by.
    pub opaque: Option<String>,
}

impl Object for AddFdArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { fdset_id: from.optional("fdset-id")?, opaque: from.optional("opaque")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("fdset-id", &self.fdset_id);
        to.put_optional("opaque", &self.opaque);
    }
}
object_codec!(AddFdArguments);

/// Arguments of `remove-fd`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RemoveFdArguments {
    /// The set.
    pub fdset_id: i64,
    /// The descriptor's number; all of the set if absent.
    pub fd: Option<i64>,
}

impl Object for RemoveFdArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { fdset_id: from.required("fdset-id")?, fd: from.optional("fd")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("fdset-id", &self.fdset_id);
        to.put_optional("fd", &self.fd);
    }
}
object_codec!(RemoveFdArguments);

/// A descriptor of a set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FdsetFdInfo {
    /// Its number.
    pub fd: i64,
    /// The text it was added with.
    pub opaque: Option<String>,
}

impl Object for FdsetFdInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { fd: from.required("fd")?, opaque: from.optional("opaque")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("fd", &self.fd);
        to.put_optional("opaque", &self.opaque);
    }
}
object_codec!(FdsetFdInfo);

/// A set of descriptors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FdsetInfo {
    /// Its number.
    pub fdset_id: i64,
    /// Its descriptors.
    pub fds: Vec<FdsetFdInfo>,
}

impl Object for FdsetInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { fdset_id: from.required("fdset-id")?, fds: from.required("fds")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("fdset-id", &self.fdset_id);
        to.put("fds", &self.fds);
    }
}
object_codec!(FdsetInfo);

/// The handlers of section `descriptors`.
pub trait DescriptorsCommands: Send + Sync {
    /// Keeps the descriptor that came with the command under a name, for a later command of the same client.
    fn getfd(&self, arguments: GetfdArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Closes a descriptor that was kept under a name and not used.
    fn closefd(&self, arguments: ClosefdArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Adds the descriptor that came with the command to a set, whose file name is `/dev/fdset/ID`.
    fn add_fd(&self, arguments: AddFdArguments) -> impl Future<Output = Result<AddfdInfo, QmpError>> + Send;

    /// Removes descriptors from a set. Nodes that were opened from it keep theirs.
    fn remove_fd(&self, arguments: RemoveFdArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// All sets of descriptors.
    fn query_fdsets(&self) -> impl Future<Output = Result<Vec<FdsetInfo>, QmpError>> + Send;
}
