//! Making an image that options describe whole, as a client of the control interface does: a file by its name, a format in
//! a node.
use super::{MAKER, Places};
use crate::backend::Backend;
use crate::error::{BlockError, ErrorKind, Result};
use crate::graph::{BackendRequest, Graph};
use crate::node::Node;
use crate::open::{Reference, take_child};
use crate::options::{Opt, Options};
use crate::policy::Policy;
use crate::registry::{DriverKind, DriverType};
use std::sync::Arc;

impl Graph {
    /// Makes an image of the driver. `options` have its `size`, and where it is made: of a protocol `filename`, of a format
    /// `file`, which nobody else writes to meanwhile; further files are nodes too.
    pub async fn create_described(&self, driver: &str, mut options: Options) -> Result<()> {
        let driver = self.registry().need(driver)?;
        let size = options.take_u64("size")?.unwrap_or(0);
        if driver.kind == DriverKind::Protocol {
            return self.create_file(driver, size, options).await;
        }
        let creator = driver.creator()?;
        let mut entries = Vec::new();
        let made = async {
            let file = self.maker(&mut options, "file", &mut entries).await?;
            let header = self.maker(&mut options, "header", &mut entries).await?;
            if header.is_some() {
                options.set("detached-header", Opt::Bool(true));
            }
            let place = match (file, header) {
                (Some(file), None) => file,
                (None, Some(header)) => header,
                (None, None) => {
                    let text = "Either the parameter 'header' or 'file' must be specified";
                    return Err(BlockError::invalid(text));
                }
                (Some(_), Some(_)) => {
                    let text = "a header of its own is made without the file that it will be used with; leave out 'file'";
                    return Err(BlockError::unsupported(text));
                }
            };
            let given = self.maker(&mut options, "data-file", &mut entries).await?;
            if let Some(data) = &given {
                options.set("data-file", Opt::Str(data.filename()));
            }
            creator.judge(size, options.clone())?;
            if !size.is_multiple_of(512) {
                return Err(BlockError::invalid("Image size must be a multiple of 512 bytes"));
            }
            let mut places = Places {
                graph: self.clone(),
                filename: place.filename(),
                backing: None,
                options: Options::new(),
                taken: Vec::new(),
                given,
            };
            let made = creator.create(place, size, options, &mut places).await;
            places.end(made).await
        };
        let mut result = made.await;
        for entry in entries {
            result = result.and(self.detach(&entry).await);
        }
        result
    }

    async fn create_file(&self, driver: &'static DriverType, size: u64, mut options: Options) -> Result<()> {
        let filename = match options.take_dict("location")? {
            Some(location) => format!("json:{}", location.with_str("driver", driver.name).to_json()),
            None => options
                .take_str("filename")?
                .ok_or_else(|| BlockError::invalid("Parameter 'filename' is missing"))?,
        };
        // How much is reserved is what the driver makes of the place; all else concerns the place itself.
        let mut made = Options::new();
        if let Some(preallocation) = options.take("preallocation") {
            made.set("preallocation", preallocation);
        }
        self.create_at(driver, &filename, size, (made, options)).await
    }

    /// The node that an option names or describes, with an entry for whoever makes an image in it.
    async fn maker(
        &self,
        options: &mut Options,
        name: &'static str,
        entries: &mut Vec<Arc<Backend>>,
    ) -> Result<Option<Arc<Node>>> {
        let node = match take_child(options, name.into())? {
            None | Some(Reference::None) => return Ok(None),
            Some(Reference::Node(name)) => self.need_node(&name)?,
            Some(Reference::Options(options)) => self.open(options, Policy::FOLLOW).await?,
        };
        let request = BackendRequest {
            label: "the creation of an image".to_owned(),
            node: node.clone(),
            perms: MAKER,
            pinned: true,
        };
        match self.attach(request).await {
            Ok(entry) => entries.push(entry),
            Err(e) => {
                self.dispose(&node).await;
                return Err(e);
            }
        }
        if node.read_only() {
            let text = format!("Block node '{}' is read-only", node.name());
            return Err(BlockError::new(ErrorKind::ReadOnly, text));
        }
        Ok(Some(node))
    }
}
