//! Finding and loading both libraries, once for the program.
use crate::functions::{Rados, Rbd};
use std::ffi::c_int;
use std::io;
use std::sync::OnceLock;

/// The names by which the libraries are loaded: the versions whose interface this is.
const RADOS: &str = "librados.so.2";
const RBD: &str = "librbd.so.1";

/// Why the libraries can't be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// One is not installed, or can't be loaded.
    #[error("{library} can't be loaded: {cause}; RBD needs the client library of Ceph (package 'librbd1')")]
    Missing {
        /// Its file name.
        library: String,
        /// What the loader said.
        cause: String,
    },
    /// One lacks a function: it is another library, or too old.
    #[error(
        "{library} can't be used: {cause}; RBD needs the client library of Ceph 14 or newer (package 'librbd1')"
    )]
    Incomplete {
        /// Its file name.
        library: String,
        /// What the loader said.
        cause: String,
    },
    /// The program is linked so that it can load no library.
    #[error(
        "this program is one static file, which can't load librbd: RBD needs the program as it is built for a system"
    )]
    Static,
}

/// Both libraries, loaded.
pub struct Library {
    pub(crate) rados: Rados,
    pub(crate) rbd: Rbd,
    version: (c_int, c_int),
}

impl Library {
    /// Those of the system. Reads files at the first call, and tells the same for ever after.
    pub fn system() -> Result<&'static Self, LoadError> {
        static SYSTEM: OnceLock<Result<Library, LoadError>> = OnceLock::new();
        // SAFETY: the names with their versions are those of the libraries whose headers these are.
        let load = || unsafe { Self::load(RADOS, RBD) };
        SYSTEM.get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// Those of these names or paths, which need not be two.
    ///
    /// # Safety
    /// What functions of the libraries' names they have are of the types that `rados/librados.h` and `rbd/librbd.h` declare, and
    /// loading them does no harm.
    #[cfg(target_feature = "crt-static")]
    pub unsafe fn load(_: &str, _: &str) -> Result<Self, LoadError> {
        Err(LoadError::Static)
    }

    /// Those of these names or paths, which need not be two.
    ///
    /// # Safety
    /// What functions of the libraries' names they have are of the types that `rados/librados.h` and `rbd/librbd.h` declare, and
    /// loading them does no harm.
    #[cfg(not(target_feature = "crt-static"))]
    pub unsafe fn load(rados: &str, rbd: &str) -> Result<Self, LoadError> {
        // SAFETY: by the caller's word.
        let (rados_file, rbd_file) = unsafe { (open(rados)?, open(rbd)?) };
        let incomplete = |library: &str, e: libloading::Error| LoadError::Incomplete {
            library: library.to_owned(),
            cause: e.to_string(),
        };
        // SAFETY: by the caller's word, and neither is unloaded.
        let loaded = unsafe { Rados::find(&rados_file) }.map_err(|e| incomplete(rados, e))?;
        // SAFETY: as above.
        let functions = unsafe { Rbd::find(&rbd_file) }.map_err(|e| incomplete(rbd, e))?;
        // Their threads run code of theirs as long as the program does.
        std::mem::forget((rados_file, rbd_file));
        let (mut major, mut minor, mut extra) = (0, 0, 0);
        // SAFETY: it only stores three numbers where it is told to.
        unsafe { (functions.rbd_version)(&mut major, &mut minor, &mut extra) };
        Ok(Self { rados: loaded, rbd: functions, version: (major, minor) })
    }

    /// Whether librbd is of this version of its interface or newer. It counts apart from Ceph's releases: 1.16 is of Ceph 16.
    pub fn is_at_least(&self, major: c_int, minor: c_int) -> bool {
        self.version >= (major, minor)
    }

    /// Whether images can be filled with zeroes by one request.
    pub fn writes_zeroes(&self) -> bool {
        self.rbd.rbd_aio_write_zeroes.is_some()
    }
}

/// # Safety
/// Loading the library does no harm: its initialisers run.
#[cfg(not(target_feature = "crt-static"))]
unsafe fn open(name: &str) -> Result<libloading::Library, LoadError> {
    // SAFETY: by the caller's word.
    unsafe { libloading::Library::new(name) }
        .map_err(|e| LoadError::Missing { library: name.to_owned(), cause: e.to_string() })
}

/// What a function answered: a number that is not negative, or an error of the system.
pub(crate) fn checked(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::from_raw_os_error(answer.saturating_neg())) } else { Ok(answer) }
}

/// The error of who asks for a function that the loaded library lacks.
pub(crate) fn too_old(what: &str) -> io::Error {
    let text = format!("the installed librbd is too old for {what}");
    io::Error::new(io::ErrorKind::Unsupported, text)
}
