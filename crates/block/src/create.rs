//! Creating images: a place for them is claimed first, then they are made in it.
//!
//! ```text
//! claim: the file exists and is locked ─▶ format: options checked ─▶ emptied ─▶ written ─▶ claim released
//!                                                    └ refused: what the claim made is removed
//! ```
//!
//! An image may consist of several files: its driver claims places for the further ones ([`Places::further`]) under the
//! same laws.
//!
//! Laws:
//! - an existing file is changed only after everything that can be refused was checked;
//! - a failed create removes the files that it made itself, and those that were empty and like such a file, and no others; what
//!   was empty and stays is empty again;
//! - from the claim to the end the file is locked: no other process can make an image in it, or open it for writing.
pub(crate) mod creator;
mod described;
mod measure;
mod option;
mod plain;

pub use creator::{
    Claim, ClaimLocation, ClaimPlace, Claimer, Claiming, Create, CreateRequest, Creator, PlaceRequest,
};
pub use measure::{MeasureRequest, Measured, data_in_units};
pub use option::{CreateOption, OptionKind};
pub use plain::PLAIN;

use crate::backend::Backend;
use crate::common::Common;
use crate::driver::DriverInfo;
use crate::error::{BlockError, ErrorKind, Result};
use crate::graph::{BackendRequest, Graph};
use crate::identity::Identity;
use crate::naming::resolve_filename;
use crate::node::Node;
use crate::options::{Opt, Options};
use crate::perm::{Perms, Share};
use crate::policy::Policy;
use crate::registry::{DriverKind, DriverType};
use std::path::Path;
use std::sync::Arc;

/// The permissions of the code that makes an image, on its file.
pub const MAKER: Perms =
    Perms { need: Share::WRITE.union(Share::RESIZE), share: Share::READ.union(Share::WRITE_UNCHANGED) };

/// The places of an image that is being made: first that of its file, then those of further files it consists of.
pub struct Places {
    graph: Graph,
    filename: String,
    /// The name of the image below, as it is stored.
    backing: Option<String>,
    /// What the create asks of each file.
    options: Options,
    taken: Vec<Place>,
    /// The further file, where it is a node already, that whoever gave it keeps for the making.
    given: Option<Arc<Node>>,
}

#[derive(Default)]
struct Place {
    claim: Option<Box<dyn Claim>>,
    file: Option<Arc<Node>>,
    /// Locks a place that can't be claimed by its name.
    entry: Option<Arc<Backend>>,
}

impl Places {
    /// The objects that options may refer to by id.
    pub fn objects(&self) -> &crate::objects::Objects {
        self.graph.objects()
    }

    /// Claims a place for a further file of the image, under the name by which the image refers to it, and opens it.
    pub async fn further(&mut self, name: &str) -> Result<Arc<Node>> {
        if let Some(node) = self.given.take() {
            return Ok(node);
        }
        let filename = resolve_filename(&self.filename, name);
        self.claim(&filename).await
    }

    /// What the image is that is to be below, by the name that the image will store and its format.
    pub async fn backing_info(&self, name: &str, format: &str) -> Result<DriverInfo> {
        let filename = resolve_filename(&self.filename, name);
        let common = Common { read_only: true, without_content: true, ..Common::default() };
        let opened = self.graph.open_image(&filename, Some(format), common, Policy::ALONE).await;
        let node = opened.map_err(|e| e.context_of_file("Could not open backing file", &filename))?;
        let info = node.driver().info();
        self.graph.release(&node).await.map(|()| info)
    }

    async fn claim(&mut self, filename: &str) -> Result<Arc<Node>> {
        let graph = self.graph.clone();
        let (name, mut file) = graph.protocol_options(filename)?;
        let protocol = graph.registry().need(&name)?;
        check_can_create(protocol)?;
        let mut place = Place::default();
        match protocol.claim {
            Some(claimer) => {
                let (location, options) = (protocol.adapted(file.clone())?, self.options.clone());
                let claim =
                    claimer.claim(PlaceRequest { filename, location, objects: graph.objects(), options });
                let claim = claim.await?;
                claim.opened_with().iter().for_each(|(name, value)| file.set(name, value.clone()));
                place.claim = Some(claim);
            }
            None => self.options.clone().finish()?,
        }
        // Noted before anything can fail, so that it is given back.
        self.taken.push(place);
        let file = graph.open(file.with_str("driver", &name), Policy::ALONE).await?;
        let entry = match protocol.claim {
            Some(_) => None,
            None => Some(graph.enter_to_make(&file).await?),
        };
        if let Some(place) = self.taken.last_mut() {
            (place.file, place.entry) = (Some(file.clone()), entry);
        }
        self.check(filename, &file).await?;
        Ok(file)
    }

    /// Refuses to make an image in a file that a node uses, or that is to be its backing file.
    async fn check(&self, filename: &str, file: &Arc<Node>) -> Result<()> {
        let Some(place) = file.driver().identity() else { return Ok(()) };
        if let Some(backing) = &self.backing {
            let backing = resolve_filename(&self.filename, backing);
            if self.graph.storage_of(&backing).await == Some(place.clone()) {
                let text = "an image can't be made in the file that is to be its backing file";
                return Err(BlockError::invalid(format!("{text} ('{backing}')")));
            }
        }
        let same =
            |node: &&Arc<Node>| !Arc::ptr_eq(node, file) && node.driver().identity().as_ref() == Some(&place);
        if let Some(user) = self.graph.nodes_to_be().iter().find(same) {
            let text = format!("'{filename}' is in use: it is the file of node '{}'", user.name());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        Ok(())
    }

    /// Closes all files, the image's own last. Makes the names of new files durable; after a failure it removes them.
    async fn end(mut self, made: Result<()>) -> Result<()> {
        let mut result = made;
        for place in self.taken.iter_mut().rev() {
            let left = match (place.entry.take(), place.file.take()) {
                (Some(entry), _) => self.graph.detach(&entry).await,
                (None, Some(file)) => self.graph.release(&file).await,
                (None, None) => Ok(()),
            };
            result = result.and(left);
        }
        let claims: Vec<_> = self.taken.into_iter().rev().filter_map(|place| place.claim).collect();
        for claim in &claims {
            if result.is_ok() {
                result = claim.settle().await;
            }
        }
        for claim in claims {
            match &result {
                Ok(()) => claim.keep(),
                // A half-made image must not be taken for an image.
                Err(cause) => {
                    if let Err(left) = claim.undo().await {
                        tracing::warn!(%cause, error = %left, "a half-made image could not be removed");
                    }
                }
            }
        }
        result
    }
}

impl Graph {
    /// Creates an image: a place for it is claimed, then the format is made in it.
    pub async fn create(&self, format: &str, filename: &str, size: u64, mut options: Options) -> Result<()> {
        let driver = self.registry().need(format)?;
        let (protocol, _) = self.protocol_options(filename)?;
        let protocol = self.registry().need(&protocol)?;
        check_can_create(protocol)?;
        let place_options = protocol_options(driver, protocol, &mut options);
        self.create_at(driver, filename, size, (options, place_options)).await
    }

    /// Creates an image in a place of this name, with options of its own and of the place.
    async fn create_at(
        &self,
        driver: &'static DriverType,
        filename: &str,
        size: u64,
        (options, place_options): (Options, Options),
    ) -> Result<()> {
        let creator = driver.creator()?;
        let mut places = Places {
            graph: self.clone(),
            filename: filename.to_owned(),
            backing: options.get_str("backing_file").map(str::to_owned),
            options: place_options,
            taken: Vec::new(),
            given: None,
        };
        let made = match places.claim(filename).await {
            Ok(file) => match creator.adapt(options) {
                Ok(options) => creator.create(file, size, options, &mut places).await,
                Err(e) => Err(e),
            },
            Err(e) => Err(e),
        };
        places.end(made).await
    }

    /// An entry for the code that makes an image in a node; the node is closed with it.
    async fn enter_to_make(&self, file: &Arc<Node>) -> Result<Arc<Backend>> {
        let request = BackendRequest {
            label: "the creation of an image".to_owned(),
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

    /// How large the file of an image would be, made with these options and filled with what `source` holds.
    pub async fn measure(
        &self,
        format: &str,
        protocol: &str,
        size: u64,
        options: Options,
        source: Option<&Backend>,
    ) -> Result<Measured> {
        let (driver, protocol) = (self.registry().need(format)?, self.registry().need(protocol)?);
        let mut options = options;
        protocol_options(driver, protocol, &mut options);
        let creator = driver.creator()?;
        creator.measure(size, creator.adapt(options)?, source).await?.ok_or_else(|| {
            BlockError::unsupported(format!("Block driver '{format}' does not support size measurement"))
        })
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

fn check_can_create(protocol: &DriverType) -> Result<()> {
    match protocol.create {
        Some(_) => Ok(()),
        None => Err(BlockError::unsupported(format!(
            "Protocol driver '{}' does not support image creation",
            protocol.name
        ))),
    }
}

impl DriverType {
    fn creator(&self) -> Result<&'static dyn Creator> {
        self.create.ok_or_else(|| {
            BlockError::unsupported(format!("Format driver '{}' does not support image creation", self.name))
        })
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
