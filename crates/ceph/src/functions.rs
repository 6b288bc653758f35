//! The functions of both libraries by name, as their headers declare them: one table.
//!
//! Handles (`rados_t`, `rados_ioctx_t`, `rbd_image_t`, `rbd_completion_t`) are pointers to what only the libraries know.
use libloading::Library;
use std::ffi::{c_char, c_int, c_void};

/// A handle of one of the libraries.
pub(crate) type Handle = *mut c_void;
/// Called when an asynchronous operation has ended: the completion, and the argument it was made with.
pub(crate) type Completed = unsafe extern "C" fn(Handle, *mut c_void);
/// Called for each extent of a difference: offset, length, whether there is something, and the argument. What is not 0 ends it.
pub(crate) type Differs = unsafe extern "C" fn(u64, usize, c_int, *mut c_void) -> c_int;

/// `rbd_image_info_t`.
#[repr(C)]
pub(crate) struct ImageInfo {
    pub size: u64,
    pub object_size: u64,
    pub objects: u64,
    pub order: c_int,
    pub block_name_prefix: [c_char; 24],
    pub parent_pool: i64,
    pub parent_name: [c_char; 96],
}

/// `rbd_snap_info_t`.
#[repr(C)]
pub(crate) struct SnapshotInfo {
    pub id: u64,
    pub size: u64,
    pub name: *const c_char,
}

/// `rbd_encryption_luks1_format_options_t`, and that of luks2.
#[repr(C)]
pub(crate) struct LuksOptions {
    pub algorithm: c_int,
    pub passphrase: *const c_char,
    pub passphrase_size: usize,
}

/// `rbd_encryption_luks_format_options_t`.
#[repr(C)]
pub(crate) struct AnyLuksOptions {
    pub passphrase: *const c_char,
    pub passphrase_size: usize,
}

/// `rbd_encryption_spec_t`.
#[repr(C)]
pub(crate) struct EncryptionSpec {
    pub format: c_int,
    pub options: *mut c_void,
    pub options_size: usize,
}

/// Declares the functions of a library: those that every version has, and those that not all have.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident {
        always { $($name:ident: fn($($arg:ty),*) $(-> $result:ty)?;)* }
        newer { $($newer:ident: fn($($newer_arg:ty),*) $(-> $newer_result:ty)?;)* }
    }) => {
        $(#[$doc])*
        pub(crate) struct $table {
            $(pub $name: unsafe extern "C" fn($($arg),*) $(-> $result)?,)*
            $(pub $newer: Option<unsafe extern "C" fn($($newer_arg),*) $(-> $newer_result)?>,)*
        }

        impl $table {
            /// Finds them in a library.
            ///
            /// # Safety
            /// The library is the one whose header declares them so, and it is never unloaded.
            pub unsafe fn find(library: &Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: by the caller's word the type is that of the header, and outlives the symbol.
                    $($name: *unsafe { library.get(stringify!($name)) }?,)*
                    // SAFETY: as above.
                    $($newer: unsafe { library.get(stringify!($newer)) }.ok().map(|found| *found),)*
                })
            }
        }
    };
}

functions! {
    /// Of librados.
    Rados {
        always {
            rados_create: fn(*mut Handle, *const c_char) -> c_int;
            rados_shutdown: fn(Handle);
            rados_conf_read_file: fn(Handle, *const c_char) -> c_int;
            rados_conf_set: fn(Handle, *const c_char, *const c_char) -> c_int;
            rados_conf_get: fn(Handle, *const c_char, *mut c_char, usize) -> c_int;
            rados_connect: fn(Handle) -> c_int;
            rados_cluster_fsid: fn(Handle, *mut c_char, usize) -> c_int;
            rados_ioctx_create: fn(Handle, *const c_char, *mut Handle) -> c_int;
            rados_ioctx_destroy: fn(Handle);
            rados_ioctx_set_namespace: fn(Handle, *const c_char);
        }
        newer {}
    }
}

functions! {
    /// Of librbd.
    Rbd {
        always {
            rbd_version: fn(*mut c_int, *mut c_int, *mut c_int);
            rbd_create: fn(Handle, *const c_char, u64, *mut c_int) -> c_int;
            rbd_remove: fn(Handle, *const c_char) -> c_int;
            rbd_open: fn(Handle, *const c_char, *mut Handle, *const c_char) -> c_int;
            rbd_open_read_only: fn(Handle, *const c_char, *mut Handle, *const c_char) -> c_int;
            rbd_close: fn(Handle) -> c_int;
            rbd_stat: fn(Handle, *mut ImageInfo, usize) -> c_int;
            rbd_get_size: fn(Handle, *mut u64) -> c_int;
            rbd_get_features: fn(Handle, *mut u64) -> c_int;
            rbd_get_flags: fn(Handle, *mut u64) -> c_int;
            rbd_get_overlap: fn(Handle, *mut u64) -> c_int;
            rbd_resize: fn(Handle, u64) -> c_int;
            rbd_invalidate_cache: fn(Handle) -> c_int;
            rbd_snap_list: fn(Handle, *mut SnapshotInfo, *mut c_int) -> c_int;
            rbd_snap_list_end: fn(*mut SnapshotInfo);
            rbd_snap_create: fn(Handle, *const c_char) -> c_int;
            rbd_snap_remove: fn(Handle, *const c_char) -> c_int;
            rbd_snap_rollback: fn(Handle, *const c_char) -> c_int;
            rbd_snap_set: fn(Handle, *const c_char) -> c_int;
            rbd_diff_iterate2: fn(Handle, *const c_char, u64, u64, u8, u8, Differs, *mut c_void) -> c_int;
            rbd_aio_create_completion: fn(*mut c_void, Completed, *mut Handle) -> c_int;
            rbd_aio_release: fn(Handle);
            rbd_aio_get_return_value: fn(Handle) -> isize;
            rbd_aio_read: fn(Handle, u64, usize, *mut c_char, Handle) -> c_int;
            rbd_aio_write: fn(Handle, u64, usize, *const c_char, Handle) -> c_int;
            rbd_aio_discard: fn(Handle, u64, u64, Handle) -> c_int;
            rbd_aio_flush: fn(Handle, Handle) -> c_int;
        }
        newer {
            rbd_namespace_exists: fn(Handle, *const c_char, *mut bool) -> c_int;
            rbd_aio_write_zeroes: fn(Handle, u64, usize, Handle, c_int, c_int) -> c_int;
            rbd_encryption_format: fn(Handle, c_int, *mut c_void, usize) -> c_int;
            rbd_encryption_load: fn(Handle, c_int, *mut c_void, usize) -> c_int;
            rbd_encryption_load2: fn(Handle, *const EncryptionSpec, usize) -> c_int;
        }
    }
}
