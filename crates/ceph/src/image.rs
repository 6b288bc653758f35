//! An open image: its facts, snapshots and block status, and the operations on its content.
use crate::cluster::{Pool, pointer};
use crate::functions::{self, Handle, ImageInfo, Rbd};
use crate::library::{Library, checked, too_old};
use crate::operation::Operation;
use std::ffi::{CStr, CString, c_int, c_void};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{from_mut, null, null_mut};
use std::sync::Arc;

/// `RBD_FEATURE_STRIPINGV2`.
const STRIPING: u64 = 1 << 1;
/// `RBD_FEATURE_FAST_DIFF`.
const FAST_DIFF: u64 = 1 << 4;
/// `RBD_FLAG_FAST_DIFF_INVALID`.
const FAST_DIFF_INVALID: u64 = 1 << 1;
/// `RBD_WRITE_ZEROES_FLAG_THICK_PROVISION`.
const THICK: c_int = 1;
/// Most snapshots that are listed.
const MOST_SNAPSHOTS: c_int = 1 << 16;

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// The size in bytes that the image had.
    pub size: u64,
}

/// Whether a range holds something: the first `len` bytes of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Bytes, never 0.
    pub len: u64,
    /// They may hold data; else they read as zeroes.
    pub data: bool,
}

/// An image that is open, with the pool it is in. Closed by a thread of its own when nothing holds it any more: what holds it last
/// may be a completion, on a thread of librbd that closing would wait for.
pub(crate) struct Open {
    library: &'static Library,
    /// Taken when it is closed.
    closable: Option<Closable>,
}

struct Closable {
    image: Handle,
    pool: Pool,
}

// SAFETY: librbd locks by itself: an image may be used and closed by any thread.
unsafe impl Send for Closable {}
// SAFETY: as above.
unsafe impl Sync for Closable {}

impl Closable {
    /// Closes the image, then lets the pool and the connection go. Waits for all of it.
    fn close(self) -> io::Result<()> {
        // SAFETY: `rbd_open` gave the handle, and no operation has it any more: each holds what this was in.
        checked(unsafe { (self.pool.library().rbd.rbd_close)(self.image) }).map(drop)
    }
}

impl Open {
    pub(crate) fn library(&self) -> &'static Library {
        self.library
    }

    pub(crate) fn handle(&self) -> Handle {
        self.closable.as_ref().map_or(null_mut(), |open| open.image)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(open) = self.closable.take() else { return };
        // Where there is no thread for it, it stays open: its cluster must not be shut down under it.
        let open = ManuallyDrop::new(open);
        let close = move || {
            if let Err(error) = ManuallyDrop::into_inner(open).close() {
                tracing::warn!(%error, "an RBD image was left, and could not be closed");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("rbd-close".into()).spawn(close) {
            tracing::warn!(%error, "an RBD image could not be closed: there is no thread for it");
        }
    }
}

/// An open image; cheap to clone.
#[derive(Clone)]
pub struct Image(Arc<Open>);

impl Pool {
    /// Opens an image as it is, or as a snapshot shows it. One that is opened read-only is not told of changes of its size and
    /// snapshots; clients that may not write can open no other. After a failure the pool comes back.
    pub fn open(
        self,
        name: &str,
        snapshot: Option<&str>,
        read_only: bool,
    ) -> Result<Image, (Self, io::Error)> {
        let names = CString::new(name).and_then(|name| Ok((name, snapshot.map(CString::new).transpose()?)));
        let (name, snapshot) = match names {
            Ok(names) => names,
            Err(e) => return Err((self, e.into())),
        };
        let functions = &self.library().rbd;
        let open = if read_only { functions.rbd_open_read_only } else { functions.rbd_open };
        let mut image = null_mut();
        // SAFETY: the pool is open, the names live during the call, and the handle is stored on success.
        let opened = unsafe { open(self.handle, name.as_ptr(), &mut image, pointer(snapshot.as_deref())) };
        if let Err(e) = checked(opened) {
            return Err((self, e));
        }
        let library = self.library();
        Ok(Image(Arc::new(Open { library, closable: Some(Closable { image, pool: self }) })))
    }
}

impl Image {
    /// The library it was opened by.
    pub fn library(&self) -> &'static Library {
        self.0.library()
    }

    pub(crate) fn functions(&self) -> &'static Rbd {
        &self.library().rbd
    }

    pub(crate) fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// Closes it, with what was cached written, and its locks given up. If operations are under way that nobody waits for any
    /// more, it returns at once, and the image is closed when they have ended.
    pub fn close(self) -> io::Result<()> {
        match Arc::into_inner(self.0).and_then(|mut open| open.closable.take()) {
            Some(open) => open.close(),
            None => Ok(()),
        }
    }

    /// Its size in bytes.
    pub fn size(&self) -> io::Result<u64> {
        self.number(self.functions().rbd_get_size)
    }

    /// Bytes of one of its objects.
    pub fn object_size(&self) -> io::Result<u64> {
        let mut info = ImageInfo {
            size: 0,
            object_size: 0,
            objects: 0,
            order: 0,
            block_name_prefix: [0; 24],
            parent_pool: 0,
            parent_name: [0; 96],
        };
        // SAFETY: the image is open, and the structure is the one whose size is told.
        checked(unsafe { (self.functions().rbd_stat)(self.handle(), &mut info, size_of::<ImageInfo>()) })?;
        Ok(info.object_size)
    }

    fn number(&self, function: unsafe extern "C" fn(Handle, *mut u64) -> c_int) -> io::Result<u64> {
        let mut number = 0;
        // SAFETY: the functions that are passed here store one number of 64 bits about an open image.
        checked(unsafe { function(self.handle(), &mut number) })?;
        Ok(number)
    }

    /// Changes its size; what is cut off is lost.
    pub fn resize(&self, size: u64) -> io::Result<()> {
        // SAFETY: the image is open.
        checked(unsafe { (self.functions().rbd_resize)(self.handle(), size) }).map(drop)
    }

    /// Drops what is cached of its content, after it is written.
    pub fn invalidate_cache(&self) -> io::Result<()> {
        // SAFETY: the image is open.
        checked(unsafe { (self.functions().rbd_invalidate_cache)(self.handle()) }).map(drop)
    }

    /// Its snapshots, in the order in which they were made; at most 65,536.
    pub fn snapshots(&self) -> io::Result<Vec<Snapshot>> {
        let mut room: c_int = 16;
        loop {
            let mut infos: Vec<functions::SnapshotInfo> = Vec::with_capacity(room as usize);
            // SAFETY: there is room for as many entries as are told; the number that it takes is stored.
            let found =
                unsafe { (self.functions().rbd_snap_list)(self.handle(), infos.as_mut_ptr(), &mut room) };
            match checked(found) {
                // What it takes was stored in `room`; more may have come until it is asked again.
                Err(e) if e.raw_os_error() == Some(ERANGE) && room < MOST_SNAPSHOTS => {
                    room = room.max(16).saturating_mul(2).min(MOST_SNAPSHOTS);
                }
                Err(e) => return Err(e),
                Ok(0) => return Ok(Vec::new()),
                Ok(count) => {
                    // SAFETY: so many entries were stored, each with a name that lives until the list is given back.
                    let snapshots = unsafe {
                        infos.set_len(count as usize);
                        infos.iter().map(|info| snapshot(info)).collect()
                    };
                    // SAFETY: it gives back the names of the list that was stored there, up to its end mark.
                    unsafe { (self.functions().rbd_snap_list_end)(infos.as_mut_ptr()) };
                    return Ok(snapshots);
                }
            }
        }
    }

    /// Makes a snapshot.
    pub fn create_snapshot(&self, name: &str) -> io::Result<()> {
        self.by_name(self.functions().rbd_snap_create, name)
    }

    /// Removes a snapshot.
    pub fn remove_snapshot(&self, name: &str) -> io::Result<()> {
        self.by_name(self.functions().rbd_snap_remove, name)
    }

    /// Makes the image what a snapshot shows. Takes time: all objects are looked at.
    pub fn roll_back(&self, name: &str) -> io::Result<()> {
        self.by_name(self.functions().rbd_snap_rollback, name)
    }

    /// Shows a snapshot in place of the image from now on.
    pub fn show_snapshot(&self, name: &str) -> io::Result<()> {
        self.by_name(self.functions().rbd_snap_set, name)
    }

    fn by_name(
        &self,
        function: unsafe extern "C" fn(Handle, *const std::ffi::c_char) -> c_int,
        name: &str,
    ) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: the functions that are passed here take an open image and a name, which lives during the call.
        checked(unsafe { function(self.handle(), name.as_ptr()) }).map(drop)
    }

    /// Whether the start of a range holds something, by whole objects. `None`: the image does not know; then it may hold data
    /// everywhere.
    pub fn status(&self, offset: u64, len: u64) -> io::Result<Option<Status>> {
        let features = self.number(self.functions().rbd_get_features)?;
        if features & FAST_DIFF == 0 || self.number(self.functions().rbd_get_flags)? & FAST_DIFF_INVALID != 0
        {
            return Ok(None);
        }
        let mut from = offset;
        if !self.library().is_at_least(1, 17) {
            // Up to Ceph 16 offsets come out wrong that are not on the border of an object; and borders are known of simple images
            // only (Ceph's issue 53784).
            let overlap = self.number(self.functions().rbd_get_overlap).unwrap_or(0);
            if features & STRIPING != 0 || overlap > 0 {
                return Ok(None);
            }
            from -= offset % self.object_size()?.max(1);
        }
        let end = offset.saturating_add(len);
        let mut found = Found { from: offset, end, to: offset, data: None, stopped: false };
        let argument = from_mut(&mut found).cast::<c_void>();
        // SAFETY: the image is open; `differs` is called during the call only, with the argument, which lives as long.
        let answer = unsafe {
            let iterate = self.functions().rbd_diff_iterate2;
            iterate(self.handle(), null(), from, end - from, 1, 1, differs, argument)
        };
        if answer != ENOUGH {
            checked(answer)?;
        }
        Ok(Some(found.status()))
    }

    /// Reads into all of the buffer. What is behind the bytes that it tells to have read is untouched.
    pub fn read<B: DerefMut<Target = [u8]> + Send + 'static>(&self, offset: u64, buffer: B) -> Operation<B> {
        let read = |rbd: &Rbd, image, buffer: &mut B, completion| {
            let bytes: &mut [u8] = buffer;
            // SAFETY: the image is open, and the bytes are the buffer's, which stays where it is until the completion is called.
            unsafe { (rbd.rbd_aio_read)(image, offset, bytes.len(), bytes.as_mut_ptr().cast(), completion) }
        };
        // SAFETY: `rbd_aio_read` calls the completion once, unless it returns an error, and has done with the bytes by then.
        unsafe { Operation::begin(&self.0, buffer, read) }
    }

    /// Writes all of the buffer.
    pub fn write<B: Deref<Target = [u8]> + Send + 'static>(&self, offset: u64, buffer: B) -> Operation<B> {
        let write = |rbd: &Rbd, image, buffer: &mut B, completion| {
            let bytes: &[u8] = buffer;
            // SAFETY: as for reads.
            unsafe { (rbd.rbd_aio_write)(image, offset, bytes.len(), bytes.as_ptr().cast(), completion) }
        };
        // SAFETY: as for reads.
        unsafe { Operation::begin(&self.0, buffer, write) }
    }

    /// Gives up a range; what it reads as then is not said.
    pub fn discard(&self, offset: u64, len: u64) -> Operation<()> {
        // SAFETY: the image is open.
        let discard = |rbd: &Rbd, image, _: &mut (), completion| unsafe {
            (rbd.rbd_aio_discard)(image, offset, len, completion)
        };
        // SAFETY: `rbd_aio_discard` calls the completion once, unless it returns an error.
        unsafe { Operation::begin(&self.0, (), discard) }
    }

    /// Makes a range read as zeroes; with `thick` it keeps its space.
    pub fn write_zeroes(&self, offset: u64, len: u64, thick: bool) -> io::Result<Operation<()>> {
        let function = self.functions().rbd_aio_write_zeroes.ok_or_else(|| too_old("writing zeroes"))?;
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let flags = if thick { THICK } else { 0 };
        // SAFETY: the image is open.
        let zero = |_: &Rbd, image, _: &mut (), completion| unsafe {
            function(image, offset, len, completion, flags, 0)
        };
        // SAFETY: `rbd_aio_write_zeroes` calls the completion once, unless it returns an error.
        Ok(unsafe { Operation::begin(&self.0, (), zero) })
    }

    /// Makes durable what was written before.
    pub fn flush(&self) -> Operation<()> {
        // SAFETY: the image is open.
        let flush =
            |rbd: &Rbd, image, _: &mut (), completion| unsafe { (rbd.rbd_aio_flush)(image, completion) };
        // SAFETY: `rbd_aio_flush` calls the completion once, unless it returns an error.
        unsafe { Operation::begin(&self.0, (), flush) }
    }
}

/// `ERANGE`: the list does not fit.
const ERANGE: i32 = 34;

/// # Safety
/// The entry's name is a text that ends with a zero byte.
unsafe fn snapshot(info: &functions::SnapshotInfo) -> Snapshot {
    // SAFETY: by the caller's word.
    let name = unsafe { CStr::from_ptr(info.name) };
    Snapshot { name: name.to_string_lossy().into_owned(), size: info.size }
}

/// What [`differs`] answers when it has heard enough.
const ENOUGH: c_int = -9000;

/// What was heard of a range so far: from `from` to `to` it holds something, or nothing.
struct Found {
    from: u64,
    end: u64,
    to: u64,
    data: Option<bool>,
    /// At `to` something else begins.
    stopped: bool,
}

impl Found {
    /// Takes the next extent; tells whether the next one matters.
    fn take(&mut self, offset: u64, len: u64, exists: bool) -> bool {
        let end = offset.saturating_add(len);
        // Nothing is told of what holds nothing.
        if offset > self.to {
            self.goes_on(offset, false);
        }
        if end > self.to {
            self.goes_on(end, exists);
        }
        !self.stopped && self.to < self.end
    }

    fn goes_on(&mut self, to: u64, data: bool) {
        if self.stopped || *self.data.get_or_insert(data) != data {
            self.stopped = true;
        } else {
            self.to = to.min(self.end);
        }
    }

    /// The status, when there are no more extents or none that matter.
    fn status(mut self) -> Status {
        self.goes_on(self.end, false);
        Status { len: (self.to - self.from).max(1), data: self.data.unwrap_or(false) }
    }
}

/// Called by librbd for each extent.
///
/// # Safety
/// `argument` is a [`Found`] that nobody else uses meanwhile.
unsafe extern "C" fn differs(offset: u64, len: usize, exists: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: by the caller's word.
    let found = unsafe { &mut *argument.cast::<Found>() };
    if found.take(offset, len as u64, exists != 0) { 0 } else { ENOUGH }
}
