//! Creating images: a place for them is claimed first, then they are made in it.
//!
//! ```text
//! claim: the file is there, others are kept away ─▶ format: options judged ─▶ emptied ─▶ written ─▶ claim given back
//!                                                            └ refused: what the claim made goes again
//! ```
//!
//! Laws:
//! - what is there is changed only when all that can be refused was judged;
//! - a failed create removes the file that it made itself, and no other;
//! - from the claim to the end nobody else can make an image in the same place, or open what is there for writing.
use crate::backend::Backend;
use crate::error::{BlockError, ErrorKind, Result};
use crate::graph::{BackendRequest, Graph};
use crate::identity::Identity;
use crate::node::Node;
use crate::open::{Policy, resolve_filename};
use crate::options::{Opt, Options};
use crate::perm::{Perms, Share};
use crate::registry::{CreateRequest, DriverKind, DriverType};
use crate::request::Request;
use rt::{BoxFuture, BufMut};
use std::path::Path;
use std::sync::Arc;

/// A place for an image, which others are kept away from until it is given back.
pub trait Claim: Send + Sync {
    /// Gives the place back with what was made in it, its name durable; or else as [`Claim::undo`] does.
    fn done(self: Box<Self>) -> BoxFuture<'static, Result<()>>;

    /// Gives the place back after a failure; a file that the claim made is removed.
    fn undo(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

/// What whoever makes an image needs of its place, and leaves to others.
pub const MAKER: Perms =
    Perms { need: Share::WRITE.and(Share::RESIZE), share: Share::READ.and(Share::WRITE_UNCHANGED) };

impl Graph {
    /// Creates an image: a place for it is claimed, then the format is made in it.
    pub async fn create(&self, format: &str, filename: &str, size: u64, mut options: Options) -> Result<()> {
        let driver = self.registry().need(format)?;
        let (protocol, _) = self.protocol_options(filename)?;
        let protocol = self.registry().need(&protocol)?;
        if protocol.create.is_none() {
            return Err(BlockError::unsupported(format!(
                "Protocol driver '{}' does not support image creation",
                protocol.name
            )));
        }
        let create = driver.create.ok_or_else(|| {
            BlockError::unsupported(format!("Format driver '{format}' does not support image creation"))
        })?;
        let mut place_options = protocol_options(driver, protocol, &mut options);
        let claim = match protocol.claim {
            Some(claim) => Some(claim(filename, &mut place_options).await?),
            None => None,
        };
        let result = async {
            place_options.finish()?;
            let (name, file) = self.protocol_options(filename)?;
            let file = self.open(file.with_str("driver", &name), Policy::ALONE).await?;
            // What can't be claimed by its name is kept from others by an entry that writes to it.
            let entry = match protocol.claim {
                Some(_) => None,
                None => Some(self.enter_to_make(&file).await?),
            };
            let result = match self.check_place(filename, &file, &options).await {
                Ok(()) => create(CreateRequest { file: file.clone(), size, options }).await,
                Err(e) => Err(e),
            };
            result.and(match entry {
                Some(entry) => self.detach(&entry).await,
                None => self.release(&file).await,
            })
        }
        .await;
        match (result, claim) {
            (Ok(()), Some(claim)) => claim.done().await,
            (Err(e), Some(claim)) => {
                // Half an image is no image: nobody shall take it for one.
                if let Err(left) = claim.undo().await {
                    tracing::warn!(filename, cause = %e, error = %left, "a half-made image could not be removed");
                }
                Err(e)
            }
            (result, None) => result,
        }
    }

    /// An entry for whoever makes an image in a node; the node goes with it.
    async fn enter_to_make(&self, file: &Arc<Node>) -> Result<Arc<Backend>> {
        let request = BackendRequest {
            label: "the making of an image".to_owned(),
            node: file.clone(),
            perms: MAKER,
            pinned: true,
        };
        match self.attach(request).await {
            Ok(entry) => Ok(entry),
            Err(e) => {
                self.dispose(file).await;
                Err(e)
            }
        }
    }

    /// Refuses a size and options with which no image of `format` can be made under any name of `protocol`.
    pub fn judge(&self, format: &str, protocol: &str, size: u64, mut options: Options) -> Result<()> {
        let (driver, protocol) = (self.registry().need(format)?, self.registry().need(protocol)?);
        protocol_options(driver, protocol, &mut options);
        driver.judge.map_or(Ok(()), |judge| judge(size, options))
    }

    /// Refuses to make an image in a file that is in use here, or that the image is to stand on.
    async fn check_place(&self, filename: &str, file: &Arc<Node>, options: &Options) -> Result<()> {
        let Some(place) = file.driver().identity() else { return Ok(()) };
        if let Some(backing) = options.get_str("backing_file") {
            let backing = resolve_filename(filename, backing);
            if self.storage_of(&backing).await == Some(place.clone()) {
                let text = "an image can't be made in the file that is to be its backing file";
                return Err(BlockError::invalid(format!("{text} ('{backing}')")));
            }
        }
        let same =
            |node: &&Arc<Node>| !Arc::ptr_eq(node, file) && node.driver().identity().as_ref() == Some(&place);
        if let Some(user) = self.nodes().iter().find(same) {
            let text = format!("'{filename}' is in use: it is the file of node '{}'", user.name());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        Ok(())
    }

    /// The file or device of this machine that an image's name leads to, if it is there.
    pub async fn storage_of(&self, filename: &str) -> Option<Identity> {
        let (_, named) = self.protocol_options(filename).ok()?;
        let mut options = &named;
        while let Some(Opt::Dict(file)) = options.get("file") {
            options = file;
        }
        let path = options.get_str("filename").or_else(|| options.get_str("file.filename"))?;
        let stat = rt::fs::stat(Path::new(path)).await.ok()?;
        Some(Identity::of_file(&stat))
    }
}

/// Takes the options that concern the protocol: all of its own, less those which the format has too.
fn protocol_options(driver: &DriverType, protocol: &DriverType, options: &mut Options) -> Options {
    let mut taken = Options::new();
    if driver.kind != DriverKind::Protocol {
        let theirs = |name: &str| driver.create_options.iter().any(|o| o.name == name);
        for option in protocol.create_options.iter().filter(|o| !theirs(o.name)) {
            if let Some(value) = options.take(option.name) {
                taken.set(option.name, value);
            }
        }
    }
    taken
}

/// Makes what has no metadata: an empty file of the size asked for, in whole sectors. A device or an export keeps the
/// size it has; one that is large enough will do, and nothing that was in it is found at its begin any more.
pub fn create_plain(request: CreateRequest) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let CreateRequest { file, size, options } = request;
        let (size, preallocation) = plain(size, options)?;
        if !file.facts().grows_with_zeroes {
            return take_over(&file, size, &preallocation).await;
        }
        file.driver().resize(0, "off").await?;
        file.driver().resize(size, &preallocation).await?;
        file.flush().await
    })
}

/// Refuses what [`create_plain`] would refuse, whatever file it is for.
pub fn judge_plain(size: u64, options: Options) -> Result<()> {
    plain(size, options).map(drop)
}

/// The size in whole sectors, and how space is reserved.
fn plain(size: u64, mut options: Options) -> Result<(u64, String)> {
    options.take("size");
    let preallocation = options.take_str("preallocation")?.unwrap_or_else(|| "off".to_owned());
    options.finish()?;
    if !["off", "falloc", "full"].contains(&preallocation.as_str()) {
        return Err(BlockError::invalid(format!(
            "Parameter 'preallocation' does not accept value '{preallocation}'"
        )));
    }
    let size =
        size.checked_next_multiple_of(512).ok_or_else(|| BlockError::invalid("Image size is too large"))?;
    crate::size::check_length(size)?;
    Ok((size, preallocation))
}

/// What is there already and has a size of its own.
async fn take_over(file: &Arc<Node>, size: u64, preallocation: &str) -> Result<()> {
    let (name, room) = (file.filename(), file.length());
    if preallocation != "off" {
        let text = format!("preallocation '{preallocation}' is not possible: '{name}' has a size of its own");
        return Err(BlockError::unsupported(text));
    }
    if room < size {
        let text = format!("'{name}' has {room} bytes, fewer than the {size} of the image");
        return Err(BlockError::new(ErrorKind::NoSpace, text));
    }
    let head = room.min(u64::from(file.facts().alignment).max(512));
    if head > 0 {
        file.write(0, BufMut::zeroed(head as usize).freeze(), Request::GUEST).await?;
    }
    file.flush().await
}
