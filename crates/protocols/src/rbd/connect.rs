//! From options to a pool and an open image: what waits for the cluster, and is called where waiting is allowed.
use super::location::{namespace, shown};
use api::{BlockdevOptionsRbd, RbdAuthMode, RbdEncryptionOptions, RbdEncryptionOptionsBranch};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use block::{BlockError, ErrorKind, Objects, Result, Secret};
use ceph::{Cluster, Encryption, Format, Image, Library, Pool};
use std::io;
use std::time::Duration;
use zeroize::Zeroizing;

/// Seconds for which a request waits, where nobody says anything.
const PATIENCE: u32 = 300;

/// The options of Ceph's configuration that say how long something waits: requests to storage, to monitors, and connecting.
const OSD_TIMEOUT: &str = "rados_osd_op_timeout";
const MON_TIMEOUT: &str = "rados_mon_op_timeout";
const MOUNT_TIMEOUT: &str = "client_mount_timeout";

/// Where an image is, with the secrets that its options name.
#[derive(Clone)]
pub(super) struct Place {
    pub location: BlockdevOptionsRbd,
    /// The user's key.
    key: Option<Zeroizing<String>>,
    /// How the image is encrypted, then what it is a clone of.
    layers: Vec<(Format, Secret)>,
}

impl Place {
    /// Finds the secrets that the options name.
    pub fn of(location: BlockdevOptionsRbd, objects: &Objects) -> Result<Self> {
        let key = location.key_secret.as_deref().map(|id| objects.hold::<Secret>(id)).transpose()?;
        let key = key.map(|secret| Zeroizing::new(STANDARD.encode(secret.bytes())));
        let mut layers = Vec::new();
        let mut layer = location.encrypt.as_ref();
        while let Some(encrypt) = layer {
            let (format, id) = header(encrypt);
            layers.push((format, Secret::clone(&*objects.hold::<Secret>(id)?)));
            layer = encrypt.parent.as_deref();
        }
        Ok(Self { location, key, layers })
    }

    /// How the image itself is encrypted.
    pub fn encryption(&self) -> Option<Format> {
        self.layers.first().map(|(format, _)| *format)
    }

    /// Connects, and opens the pool. `cached`: librbd may keep what is read and written for a while.
    pub fn connect(&self, cached: bool) -> Result<Connected> {
        let location = &self.location;
        let library = Library::system().map_err(|e| BlockError::of(ErrorKind::Unsupported, e))?;
        let mut cluster =
            Cluster::new(library, location.user.as_deref()).map_err(os("error initializing"))?;
        match &location.conf {
            Some(file) => cluster
                .read_configuration(Some(file))
                .map_err(|e| BlockError::os(format!("error reading conf file {file}"), &e))?,
            // There need not be one in the usual places.
            None => _ = cluster.read_configuration(None),
        }
        for setting in location.x_config.iter().flatten() {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            cluster
                .set(name, value)
                .map_err(|e| BlockError::os(format!("invalid conf option {name}"), &e))?;
        }
        self.configure(&mut cluster, cached)?;
        let patience = self.patience(&mut cluster)?;
        let connection = cluster.connect().map_err(os("error connecting"))?;
        let cluster_id = connection.cluster_id();
        let pool = connection
            .pool(&location.pool, namespace(location))
            .map_err(|e| BlockError::os(format!("error opening pool {}", location.pool), &e))?;
        if let Some(name) = namespace(location) {
            let found = pool.has_namespace(name).map_err(os("could not look for the namespace"))?;
            if !found {
                return Err(BlockError::new(
                    ErrorKind::NotFound,
                    format!("namespace '{name}' does not exist"),
                ));
            }
        }
        Ok(Connected { pool, cluster_id, patience })
    }

    fn configure(&self, cluster: &mut Cluster, cached: bool) -> Result<()> {
        let location = &self.location;
        if let Some(servers) = &location.server {
            let place = |host: &str, port: &str| match host.contains(':') && !host.starts_with('[') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            };
            let servers: Vec<_> = servers.iter().map(|server| place(&server.host, &server.port)).collect();
            cluster.set("mon_host", &servers.join(";")).map_err(os("could not set the monitors"))?;
        }
        if let Some(key) = &self.key {
            cluster.set("key", key).map_err(os("could not set the key"))?;
        }
        if let Some(modes) = &location.auth_client_required {
            let modes: Vec<_> = modes
                .iter()
                .map(|mode| match mode {
                    RbdAuthMode::Cephx => "cephx",
                    RbdAuthMode::None => "none",
                })
                .collect();
            cluster
                .set("auth_client_required", &modes.join(";"))
                .map_err(os("could not set the ways to log in"))?;
        }
        cluster
            .set("rbd_cache", if cached { "true" } else { "false" })
            .map_err(os("could not set librbd's cache"))
    }

    /// Sets how long requests wait; tells what that came to be, unless it is for ever.
    fn patience(&self, cluster: &mut Cluster) -> Result<Option<Duration>> {
        for name in [OSD_TIMEOUT, MON_TIMEOUT] {
            match self.location.timeout {
                Some(seconds) => set_seconds(cluster, name, seconds)?,
                None if cluster.number(name).is_none_or(|seconds| seconds == 0.0) => {
                    set_seconds(cluster, name, PATIENCE)?;
                }
                None => {}
            }
        }
        // Connecting never waits for ever.
        if let Some(seconds) = self.location.timeout.filter(|seconds| *seconds > 0) {
            set_seconds(cluster, MOUNT_TIMEOUT, seconds)?;
        }
        let seconds = cluster.number(OSD_TIMEOUT).filter(|seconds| *seconds > 0.0);
        Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
    }

    /// Opens the image. A client that may only read opens it read-only, if that will do.
    pub fn open(&self, pool: Pool, read_only: bool) -> Result<OpenImage> {
        let location = &self.location;
        let failed =
            |e: io::Error| BlockError::os(format!("error reading header from {}", location.image), &e);
        let (image, writable) = match pool.open(&location.image, location.snapshot.as_deref(), false) {
            Ok(image) => (image, location.snapshot.is_none()),
            Err((pool, e)) if read_only && is_refusal(&e) => {
                let image = pool.open(&location.image, location.snapshot.as_deref(), true);
                (image.map_err(|(_, e)| failed(e))?, false)
            }
            Err((_, e)) => return Err(failed(e)),
        };
        let stored = image.size().map_err(failed)?;
        if !self.layers.is_empty() {
            let layers: Vec<_> = self
                .layers
                .iter()
                .map(|(format, secret)| Encryption { format: *format, passphrase: secret.bytes() })
                .collect();
            image.load(&layers).map_err(os("encryption load fail"))?;
        }
        let size = image.size().map_err(failed)?;
        let header = stored.checked_sub(size).ok_or_else(|| {
            BlockError::corrupt(format!("'{}' is larger decrypted than it is stored", shown(location)))
        })?;
        let object_size = image.object_size().map_err(failed)?;
        let snapshots = image.snapshots().map_err(os("could not list the snapshots"))?;
        Ok(OpenImage { image, writable, size, header, object_size, snapshots })
    }
}

/// What connecting gives.
pub(super) struct Connected {
    pub pool: Pool,
    pub cluster_id: Option<String>,
    /// How long a request waits for the cluster.
    pub patience: Option<Duration>,
}

/// An open image, and what is known of it.
pub(super) struct OpenImage {
    pub image: Image,
    /// It can be written to.
    pub writable: bool,
    /// Bytes that it shows.
    pub size: u64,
    /// Bytes of its encryption's header, which are not shown.
    pub header: u64,
    pub object_size: u64,
    pub snapshots: Vec<ceph::Snapshot>,
}

/// The header of a layer, and the id of its passphrase.
fn header(encrypt: &RbdEncryptionOptions) -> (Format, &str) {
    match &encrypt.branch {
        RbdEncryptionOptionsBranch::Luks(luks) => (Format::Luks1, &luks.key_secret),
        RbdEncryptionOptionsBranch::Luks2(luks) => (Format::Luks2, &luks.key_secret),
        RbdEncryptionOptionsBranch::LuksAny(luks) => (Format::AnyLuks, &luks.key_secret),
    }
}

fn set_seconds(cluster: &mut Cluster, name: &str, seconds: u32) -> Result<()> {
    cluster
        .set(name, &seconds.to_string())
        .map_err(|e| BlockError::os(format!("could not set Ceph's option {name}"), &e))
}

fn is_refusal(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// An error of the system, with what failed in front.
pub(super) fn os(what: &'static str) -> impl Fn(io::Error) -> BlockError {
    move |e| BlockError::os(what, &e)
}
