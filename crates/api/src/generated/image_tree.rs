// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Which image stands on which, as the tool tells it of folders.

use crate::Dict;
use crate::codec::*;

/// A process that has an image open.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageTreeUser {
    /// Its number.
    pub pid: u32,
    /// Its command line, as far as it is short.
    pub command: String,
    /// It has it open for writing.
    pub writes: bool,
}

impl Object for ImageTreeUser {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            pid: from.required("pid")?,
            command: from.required("command")?,
            writes: from.required("writes")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("pid", &self.pid);
        to.put("command", &self.command);
        to.put("writes", &self.writes);
    }
}
object_codec!(ImageTreeUser);

/// An image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageTreeEntry {
    /// Its name, as it was found.
    pub filename: String,
    /// Its format; nothing where it could not be looked at.
    pub format: Option<String>,
    /// Bytes of its disk.
    pub virtual_size: Option<u64>,
    /// Bytes that its file takes.
    pub actual_size: Option<u64>,
    /// Bytes of the disk that this image itself says something of; what is missing is shown from its backing image, or as
    /// zeroes.
    pub held: Option<u64>,
    /// It is encrypted.
    pub encrypted: Option<bool>,
    /// Snapshots inside of it.
    pub snapshots: Option<i64>,
    /// The name of its backing image, as stored.
    pub backing_filename: Option<String>,
    /// Where that leads.
    pub full_backing_filename: Option<String>,
    /// The image of this list that it stands on.
    pub backing: Option<String>,
    /// Other files that its data are in.
    pub files: Option<Vec<String>>,
    /// Processes that have its file open, as far as they may be looked at.
    pub users: Vec<ImageTreeUser>,
    /// Images of this list that can't be read any more, or change, when this one is deleted or changed.
    pub breaks: Vec<String>,
    /// What is wrong.
    pub problem: Option<String>,
}

impl Object for ImageTreeEntry {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            format: from.optional("format")?,
            virtual_size: from.optional("virtual-size")?,
            actual_size: from.optional("actual-size")?,
            held: from.optional("held")?,
            encrypted: from.optional("encrypted")?,
            snapshots: from.optional("snapshots")?,
            backing_filename: from.optional("backing-filename")?,
            full_backing_filename: from.optional("full-backing-filename")?,
            backing: from.optional("backing")?,
            files: from.optional("files")?,
            users: from.required("users")?,
            breaks: from.required("breaks")?,
            problem: from.optional("problem")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put_optional("format", &self.format);
        to.put_optional("virtual-size", &self.virtual_size);
        to.put_optional("actual-size", &self.actual_size);
        to.put_optional("held", &self.held);
        to.put_optional("encrypted", &self.encrypted);
        to.put_optional("snapshots", &self.snapshots);
        to.put_optional("backing-filename", &self.backing_filename);
        to.put_optional("full-backing-filename", &self.full_backing_filename);
        to.put_optional("backing", &self.backing);
        to.put_optional("files", &self.files);
        to.put("users", &self.users);
        to.put("breaks", &self.breaks);
        to.put_optional("problem", &self.problem);
    }
}
object_codec!(ImageTreeEntry);
