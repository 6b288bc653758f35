//! A cluster that is configured, then connected, and a pool of it.
use crate::functions::Handle;
use crate::library::{Library, checked, too_old};
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::ptr::{null, null_mut};
use std::sync::Arc;

/// A handle of librados; shut down when it is dropped.
struct Rados {
    library: &'static Library,
    handle: Handle,
}

// SAFETY: librados locks by itself: a handle may be used and shut down by any thread.
unsafe impl Send for Rados {}
// SAFETY: as above.
unsafe impl Sync for Rados {}

impl Drop for Rados {
    fn drop(&mut self) {
        // SAFETY: `rados_create` gave the handle, and nothing made from it is left: all of that holds this.
        unsafe { (self.library.rados.rados_shutdown)(self.handle) };
    }
}

/// A cluster that is being configured.
pub struct Cluster(Rados);

impl Cluster {
    /// One that a user logs in to: the name without `client.`; the default user if `None`.
    pub fn new(library: &'static Library, user: Option<&str>) -> io::Result<Self> {
        let user = user.map(CString::new).transpose()?;
        let mut handle = null_mut();
        // SAFETY: the name ends with a zero byte and lives during the call; the handle is stored on success.
        checked(unsafe { (library.rados.rados_create)(&mut handle, pointer(user.as_deref())) })?;
        Ok(Self(Rados { library, handle }))
    }

    /// Reads a file of configuration; `None`: the first that is found in the usual places.
    pub fn read_configuration(&mut self, path: Option<&str>) -> io::Result<()> {
        let path = path.map(CString::new).transpose()?;
        let rados = &self.0.library.rados;
        // SAFETY: the handle is open, not yet connected; the path lives during the call.
        checked(unsafe { (rados.rados_conf_read_file)(self.0.handle, pointer(path.as_deref())) }).map(drop)
    }

    /// Sets an option of the configuration.
    pub fn set(&mut self, name: &str, value: &str) -> io::Result<()> {
        let (name, value) = (CString::new(name)?, CString::new(value)?);
        let rados = &self.0.library.rados;
        // SAFETY: the handle is open, and both texts live during the call.
        checked(unsafe { (rados.rados_conf_set)(self.0.handle, name.as_ptr(), value.as_ptr()) }).map(drop)
    }

    /// The number that an option of the configuration has; `None` if it has none that can be read.
    pub fn number(&self, name: &str) -> Option<f64> {
        let name = CString::new(name).ok()?;
        let mut text = [0u8; 64];
        let rados = &self.0.library.rados;
        let room = text.as_mut_ptr().cast::<c_char>();
        // SAFETY: the handle is open; at most `text.len()` bytes are stored, with their zero byte.
        checked(unsafe { (rados.rados_conf_get)(self.0.handle, name.as_ptr(), room, text.len()) }).ok()?;
        CStr::from_bytes_until_nul(&text).ok()?.to_str().ok()?.trim().parse().ok()
    }

    /// Connects. Waits for a monitor, at most as long as the option `client_mount_timeout` says.
    pub fn connect(self) -> io::Result<Connection> {
        // SAFETY: the handle is open, and not yet connected: connecting takes it away.
        checked(unsafe { (self.0.library.rados.rados_connect)(self.0.handle) })?;
        Ok(Connection(Arc::new(self.0)))
    }
}

/// A connection to a cluster. The last handle of it ends it.
#[derive(Clone)]
pub struct Connection(Arc<Rados>);

impl Connection {
    /// The id of the cluster, whatever its addresses; `None` if it can't be told.
    pub fn cluster_id(&self) -> Option<String> {
        // 36 characters and a zero byte.
        let mut text = [0u8; 64];
        let fsid = self.0.library.rados.rados_cluster_fsid;
        // SAFETY: the connection is up; at most `text.len()` bytes are stored, with their zero byte.
        checked(unsafe { fsid(self.0.handle, text.as_mut_ptr().cast::<c_char>(), text.len()) }).ok()?;
        Some(CStr::from_bytes_until_nul(&text).ok()?.to_str().ok()?.to_owned())
    }

    /// Opens a pool. Without a namespace it is the nameless one.
    pub fn pool(&self, name: &str, namespace: Option<&str>) -> io::Result<Pool> {
        let (name, namespace) = (CString::new(name)?, namespace.map(CString::new).transpose()?);
        let rados = &self.0.library.rados;
        let mut handle = null_mut();
        // SAFETY: the connection is up, the name lives during the call, and the handle is stored on success.
        checked(unsafe { (rados.rados_ioctx_create)(self.0.handle, name.as_ptr(), &mut handle) })?;
        let pool = Pool { connection: self.clone(), handle };
        if let Some(namespace) = &namespace {
            // SAFETY: nobody else has the pool's handle yet; the library copies the name.
            unsafe { (rados.rados_ioctx_set_namespace)(handle, namespace.as_ptr()) };
        }
        Ok(pool)
    }
}

/// A pool, and a namespace in it.
pub struct Pool {
    connection: Connection,
    pub(crate) handle: Handle,
}

// SAFETY: librbd uses the handle of a pool from its own threads and copies it; it is not changed once it is made.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    pub(crate) fn library(&self) -> &'static Library {
        self.connection.0.library
    }

    /// Whether there is a namespace of this name for images.
    pub fn has_namespace(&self, name: &str) -> io::Result<bool> {
        let name = CString::new(name)?;
        let exists = self.library().rbd.rbd_namespace_exists.ok_or_else(|| too_old("namespaces"))?;
        let mut found = false;
        // SAFETY: the pool is open, the name lives during the call, and a bool is stored.
        checked(unsafe { exists(self.handle, name.as_ptr(), &mut found) })?;
        Ok(found)
    }

    /// Makes an image of this size in bytes. `order`: its objects have `1 << order` bytes; as the cluster says if `None`.
    pub fn create(&self, name: &str, size: u64, order: Option<u8>) -> io::Result<()> {
        let name = CString::new(name)?;
        let mut order = order.map_or(0, i32::from);
        let create = self.library().rbd.rbd_create;
        // SAFETY: the pool is open, the name lives during the call; the order is read, and what it came to be is stored.
        checked(unsafe { create(self.handle, name.as_ptr(), size, &mut order) }).map(drop)
    }

    /// Removes an image.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: the pool is open, the name lives during the call.
        checked(unsafe { (self.library().rbd.rbd_remove)(self.handle, name.as_ptr()) }).map(drop)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: `rados_ioctx_create` gave the handle; images that were opened by it hold this.
        unsafe { (self.library().rados.rados_ioctx_destroy)(self.handle) };
    }
}

/// The pointer that C functions take for a text that may be absent.
pub(crate) fn pointer(text: Option<&CStr>) -> *const c_char {
    text.map_or(null(), CStr::as_ptr)
}
