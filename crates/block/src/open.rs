//! Opening: from options or a file name to a node with its children.
//!
//! Nodes are born unattached: everything slow (opening files, probing, reading headers, taking locks) happens before
//! a graph transaction and outside of closed gates. Every further file that an image names passes the [`Policy`].
use crate::bitmaps::Bitmaps;
use crate::common::Common;
use crate::driver::{Driver, Link};
use crate::edges::{ChildId, ChildName, ChildRole, Edges};
use crate::error::{BlockError, ErrorKind, Result};
use crate::filter::Filtered;
use crate::graph::Domain;
use crate::graph::Graph;
use crate::identity::Identity;
use crate::naming::resolve_filename;
use crate::node::Node;
use crate::notice::Notices;
use crate::options::{Opt, Options};
use crate::policy::{Grant, Limits, Policy};
use crate::registry::{DriverKind, DriverType, Glimpse, PROBE_BYTES};
use rt::{BoxFuture, BufMut, Errno};
use std::sync::Arc;

/// Levels that are opened by one task. Deeper ones get a task of their own, and with it a stack of their own.
const LEVELS_A_TASK: usize = 8;

/// Layers that an error from far below names one by one.
const LEVELS_TOLD: usize = 8;

/// How a driver asks for a child.
pub struct ChildSpec<'a> {
    /// Its name, which is also that of the option that describes it.
    pub name: ChildName,
    /// What it is to the driver's node.
    pub role: ChildRole,
    /// The name and format that the image itself holds for it.
    pub stored: Option<&'a Link>,
}

impl ChildSpec<'_> {
    fn stored_name(&self) -> Option<(&str, Option<&str>)> {
        let Link { filename, format } = self.stored?;
        Some((filename.as_deref()?, format.as_deref()))
    }
}

/// What a driver's open gives back.
pub struct Opened {
    /// The driver.
    pub driver: Arc<dyn Driver>,
    /// The name by which the storage was opened (protocols).
    pub filename: Option<String>,
}

/// What a driver's open is given: its place in the graph to be, and the way to its children.
pub struct OpenContext {
    pub(crate) graph: Graph,
    pub(crate) edges: Arc<Edges>,
    pub(crate) domain: Arc<Domain>,
    pub(crate) bitmaps: Arc<Bitmaps>,
    pub(crate) common: Common,
    pub(crate) policy: Policy,
    pub(crate) probed: bool,
    pub(crate) place: Place,
    /// What the driver's own options are not: those of its children.
    pub(crate) given: Options,
    /// All options, as they were given.
    pub(crate) asked: Options,
    /// How many nodes there had been when the open began.
    pub(crate) since: u64,
}

impl OpenContext {
    /// The options every driver has. `read_only` may be set by the driver when `auto_read_only` allows it.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Falls back to read-only, where `auto-read-only` allows it.
    pub fn fall_back_to_read_only(&mut self) -> bool {
        let allowed = self.common.auto_read_only;
        self.common.read_only |= allowed;
        allowed
    }

    /// All options, as they were given: names that are older than the schema are told from those of today.
    pub fn asked(&self) -> &Options {
        &self.asked
    }

    /// The edges the node will have.
    pub fn edges(&self) -> &Arc<Edges> {
        &self.edges
    }

    /// The requests that can reach the node, for grace periods.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// The dirty bitmaps the node will have.
    pub fn bitmaps(&self) -> &Arc<Bitmaps> {
        &self.bitmaps
    }

    /// A node that options name beside the children.
    pub fn node(&self, name: &str) -> Result<Arc<Node>> {
        let missing = || BlockError::new(ErrorKind::NotFound, format!("Node '{name}' not found"));
        self.graph.node(name).ok_or_else(missing)
    }

    /// Where to tell what a person should know of the image.
    pub fn notices(&self) -> Notices {
        self.graph.notices().clone()
    }

    /// The objects that options may refer to by id.
    pub fn objects(&self) -> &crate::objects::Objects {
        self.graph.objects()
    }

    /// Bounds for parsers.
    pub fn limits(&self) -> Limits {
        Limits::default()
    }

    /// What the image may name.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The format was guessed from the content, not given.
    pub fn probed(&self) -> bool {
        self.probed
    }

    /// The drivers, for a guard that must know what others would take an image for.
    pub fn registry(&self) -> &Arc<crate::registry::Registry> {
        self.graph.registry()
    }

    /// Opens the file of an image: the child that the option `file` describes.
    pub async fn file(&mut self) -> Result<(ChildId, Arc<Node>)> {
        self.needed(ChildSpec { name: "file".into(), role: ChildRole::FILE, stored: None }).await
    }

    /// Opens a child that there must be.
    pub async fn needed(&mut self, spec: ChildSpec<'_>) -> Result<(ChildId, Arc<Node>)> {
        let name = spec.name;
        match self.child(spec).await? {
            (id, Some(node)) => Ok((id, node)),
            (_, None) => Err(BlockError::invalid(format!("A block device must be specified for \"{name}\""))),
        }
    }

    /// How many children the options list under this name.
    pub fn listed(&self, name: &str) -> usize {
        match self.given.get(name) {
            Some(Opt::List(items)) => items.len(),
            Some(Opt::Dict(items)) => items.clone().nested().iter().count(),
            _ => 0,
        }
    }

    /// Opens what a filter filters: the child that the option `file` describes.
    pub async fn filtered(&mut self) -> Result<Filtered> {
        let role = ChildRole::FILTERED.union(ChildRole::PRIMARY);
        let (id, _) = self.needed(ChildSpec { name: "file".into(), role, stored: None }).await?;
        Ok(Filtered::new(self.edges.clone(), id))
    }

    /// Opens the backing image: the option `backing` decides; without it the image's own link does.
    pub async fn backing(&mut self, link: Option<&Link>) -> Result<(ChildId, Option<Arc<Node>>)> {
        self.child(ChildSpec { name: "backing".into(), role: ChildRole::BACKING, stored: link }).await
    }

    /// Declares an edge and opens the child it leads to. The option of its name decides: a node's name, nested options,
    /// or null for none. Without it, or where its options leave the file to the image, the name that the image itself
    /// holds does, through the policy. With neither the edge leads nowhere.
    pub async fn child(&mut self, spec: ChildSpec<'_>) -> Result<(ChildId, Option<Arc<Node>>)> {
        let id = self.edges.declare(spec.name, spec.role);
        let child = match take_child(&mut self.given, spec.name)? {
            Some(Reference::None) => None,
            Some(Reference::Node(name)) => Some(self.graph.need_node(&name)?),
            Some(Reference::Options(given)) => match spec.stored_name() {
                Some(_) if !names_its_file(spec.role, &given) => self.stored_child(&spec, given).await?,
                _ => Some(open(&self.graph, given, self.inherit(spec.role)?).await?),
            },
            None => self.stored_child(&spec, Options::new()).await?,
        };
        self.edges.set(id, child.clone());
        Ok((id, child))
    }

    /// Opens the driver; what of the options it has no use for is refused.
    async fn open(&mut self, driver_type: &'static DriverType) -> Result<Opened> {
        let opened = driver_type.open.open(self)?.await?;
        let unused = std::mem::take(&mut self.given).finish();
        unused.map(|()| opened)
    }

    /// Opens the child that the image names, with further options of it.
    async fn stored_child(&mut self, spec: &ChildSpec<'_>, given: Options) -> Result<Option<Arc<Node>>> {
        let Some((stored, format)) = spec.stored_name() else { return Ok(None) };
        let what = match spec.name.index {
            _ if spec.role.has(ChildRole::BACKING) => "backing file",
            Some(_) => "extent",
            None => "data file",
        };
        match self.policy.grant(spec.name, spec.role) {
            Grant::Skip => return Ok(None),
            Grant::Refuse => {
                let text = format!("the image names the {what} '{stored}', which may not be opened here");
                return Err(BlockError::new(ErrorKind::Refused, text));
            }
            Grant::Open => {}
        }
        let named_by = self.primary().map(|file| file.place()).unwrap_or_default();
        let filename = resolve_filename(&named_by, stored);
        let inherit = self.inherit(spec.role)?;
        // Which layer it was is in the message itself; that it is a thousand layers down needs no thousand words.
        let told = self.place.layers < LEVELS_TOLD;
        let explain = |e: BlockError| {
            if told { e.context_of_file(format_args!("Could not open {what}"), &filename) } else { e }
        };
        let options = if !spec.role.has(ChildRole::BACKING) {
            part_with_name(&self.graph, &filename, given).map_err(explain)?
        } else if given.is_empty() || filename.starts_with("json:") {
            let format = given.get_str("driver").or(format);
            let mut options = self.graph.image_options(&filename, format).map_err(explain)?;
            given.iter().for_each(|(name, value)| options.set(name, value.clone()));
            options
        } else {
            let mut given = given;
            if let (None, Some(format)) = (given.get("driver"), format) {
                given.set("driver", Opt::Str(format.to_owned()));
            }
            image_with_name(&self.graph, &filename, given).map_err(explain)?
        };
        open(&self.graph, options, inherit).await.map(Some).map_err(explain)
    }

    fn primary(&self) -> Option<Arc<Node>> {
        self.edges.get(self.edges.primary()?)
    }

    fn backing_common(&self) -> Common {
        Common {
            read_only: true,
            auto_read_only: false,
            write_through: false,
            detect_zeroes: false,
            detect_zeroes_unmap: false,
            ..self.common.clone()
        }
    }

    /// What a child takes over. A backing image is an image whose format may have to be found; other children are files.
    fn inherit(&self, role: ChildRole) -> Result<Inherit> {
        let backing = role.has(ChildRole::BACKING);
        let (common, place) = match backing {
            true => (self.backing_common(), self.below()?),
            false => (self.common.of_file(), self.place.nested()),
        };
        let want_format = backing || role.has(ChildRole::IMAGE);
        Ok(Inherit { common: Some(common), policy: self.policy, want_format, place })
    }

    /// Where the backing image is opened. An image that is met again on the way down is in a loop, by whatever name.
    fn below(&self) -> Result<Place> {
        let mut place = Place { layers: self.place.layers + 1, ..self.place.clone() };
        if let Some((file, identity)) =
            self.primary().and_then(|f| f.identity().map(|identity| (f, identity)))
        {
            if place.holds(&identity) {
                let text = format!("'{}' is its own backing file: the chain is a loop", file.filename());
                return Err(BlockError::corrupt(text));
            }
            place.above = Some(Arc::new(Above { image: identity, above: place.above.take() }));
        }
        Ok(place)
    }
}

/// Whether options of a child say which file it is, so that the name in the image's header does not count. A backing image
/// is in a file; other children are files themselves.
fn names_its_file(role: ChildRole, options: &Options) -> bool {
    let nested = |o: &Opt| matches!(o, Opt::Dict(file) if file.get("filename").is_some());
    let is_file = !role.has(ChildRole::BACKING) && options.get("filename").is_some();
    is_file || options.get("file").is_some_and(nested)
}

/// Options of an image that is in the file of this name. What says otherwise is refused.
fn image_with_name(graph: &Graph, filename: &str, mut options: Options) -> Result<Options> {
    if let Some(driver) = options.get_str("driver")
        && graph.registry().need(driver)?.kind == DriverKind::Protocol
    {
        return file_with_name(graph, filename, options);
    }
    refuse_beside(filename, &options, "filename")?;
    if matches!(options.get("file"), Some(Opt::Str(_))) {
        refuse_beside(filename, &options, "file")?;
    }
    let file = options.take_dict("file")?.unwrap_or_default();
    let nested = match file.get_str("driver").map(|driver| graph.registry().need(driver)).transpose()? {
        Some(driver) if driver.kind != DriverKind::Protocol => image_with_name(graph, filename, file)?,
        _ => file_with_name(graph, filename, file)?,
    };
    Ok(options.with("file", Opt::Dict(nested)))
}

/// Options of a file that is a part of an image, and is named by it: the name is that of a file of this host, whatever it looks
/// like. A name that meant a protocol would connect to another host, and a list of options open anything (CVE-2024-4467).
/// Only options of the user say otherwise.
fn part_with_name(graph: &Graph, filename: &str, mut options: Options) -> Result<Options> {
    let driver = match options.get_str("driver") {
        Some(driver) => graph.registry().need(driver)?,
        None => graph.registry().plain_protocol(filename)?,
    };
    if driver.kind != DriverKind::Protocol {
        refuse_beside(filename, &options, "filename")?;
        if matches!(options.get("file"), Some(Opt::Str(_))) {
            refuse_beside(filename, &options, "file")?;
        }
        let file = options.take_dict("file")?.unwrap_or_default();
        let file = part_with_name(graph, filename, file)?;
        return Ok(options.with("file", Opt::Dict(file)));
    }
    if !driver.is_of_plain_names() {
        return file_with_name(graph, filename, options);
    }
    refuse_beside(filename, &options, "filename")?;
    Ok(options.with_str("driver", driver.name).with_str("filename", filename))
}

/// Options of the file of this name.
fn file_with_name(graph: &Graph, filename: &str, mut options: Options) -> Result<Options> {
    let (driver, named) = match options.get_str("driver") {
        Some(name) => {
            let driver = graph.registry().need(name)?;
            let plain = || Ok(Options::new().with_str("filename", filename));
            (name.to_owned(), driver.parse_filename.map_or_else(plain, |parse| parse(filename))?)
        }
        None => graph.protocol_options(filename)?,
    };
    for (name, value) in named.iter() {
        refuse_beside(filename, &options, name)?;
        options.set(name, value.clone());
    }
    options.set("driver", Opt::Str(driver));
    Ok(options)
}

fn refuse_beside(filename: &str, options: &Options, name: &str) -> Result<()> {
    let below = format!("{name}.");
    if options.iter().all(|(given, _)| given != name && !given.starts_with(&below)) {
        return Ok(());
    }
    Err(BlockError::invalid(format!(
        "option '{name}' can't be given for the file '{filename}' that the image's header names; \
         options that say which file it is name it by 'filename', inside of 'file' for an image"
    )))
}

/// How far down from the first image something is opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// Backing images on the way.
    layers: usize,
    /// Files that are inside of others on the way.
    nesting: usize,
    /// The images on the way, from the nearest up.
    above: Option<Arc<Above>>,
}

#[derive(Debug)]
struct Above {
    image: Identity,
    above: Option<Arc<Above>>,
}

impl Place {
    fn nested(&self) -> Self {
        Self { nesting: self.nesting + 1, ..self.clone() }
    }

    fn holds(&self, image: &Identity) -> bool {
        let up = std::iter::successors(self.above.as_deref(), |above| above.above.as_deref());
        up.into_iter().any(|above| above.image == *image)
    }

    fn check(&self) -> Result<()> {
        crate::graph::check_depth(self.layers, self.nesting)
    }

    /// Whether a stack has enough to carry already.
    fn is_deep(&self) -> bool {
        let levels = self.layers + self.nesting;
        levels > 0 && levels.is_multiple_of(LEVELS_A_TASK)
    }
}

/// What a node takes over from whoever opens it.
#[derive(Clone)]
pub(crate) struct Inherit {
    pub(crate) common: Option<Common>,
    pub(crate) policy: Policy,
    /// Options without a driver mean an image whose format is to be found, not a plain file.
    pub(crate) want_format: bool,
    pub(crate) place: Place,
}

impl Inherit {
    pub(crate) fn top(policy: Policy, common: Option<Common>) -> Self {
        Self { common, policy, want_format: true, place: Place::default() }
    }
}

/// What options say of a child.
pub(crate) enum Reference {
    /// That there is none.
    None,
    /// The node of this name.
    Node(String),
    /// How it is opened.
    Options(Options),
}

/// Takes what the options say of a child: of a list, the element.
pub(crate) fn take_child(options: &mut Options, name: ChildName) -> Result<Option<Reference>> {
    let said = match name.index {
        None => options.take(name.name),
        Some(index) => options.take_element(name.name, index),
    };
    match said {
        None => Ok(None),
        Some(Opt::Null) => Ok(Some(Reference::None)),
        Some(Opt::Str(node)) if node.is_empty() => Ok(Some(Reference::None)),
        Some(Opt::Str(node)) => Ok(Some(Reference::Node(node))),
        Some(Opt::Dict(given)) => Ok(Some(Reference::Options(given))),
        Some(_) => {
            let text = format!("Invalid parameter type for '{name}', expected: a node's name or its options");
            Err(BlockError::invalid(text))
        }
    }
}

/// Opens a node with everything below it. The node is in the graph, unattached, when this returns, and not found before.
pub(crate) fn open<'a>(
    graph: &'a Graph,
    options: Options,
    inherit: Inherit,
) -> BoxFuture<'a, Result<Arc<Node>>> {
    Box::pin(async move {
        inherit.place.check()?;
        if !inherit.place.is_deep() {
            return open_here(graph, options, inherit).await;
        }
        let graph = graph.clone();
        let task = rt::spawn(async move { open_here(&graph, options, inherit).await });
        task.await.map_err(|e| BlockError::new(ErrorKind::Io, format!("opening an image ended: {e}")))?
    })
}

fn open_here<'a>(graph: &'a Graph, options: Options, inherit: Inherit) -> BoxFuture<'a, Result<Arc<Node>>> {
    Box::pin(async move {
        let mut options = options.nested();
        let name = options.take_str("node-name")?;
        let common = Common::take(&mut options, inherit.common.clone())?;
        let mut probed = false;
        let driver = match options.take_str("driver")? {
            Some(driver) => driver,
            None if inherit.want_format => {
                probed = true;
                find_format(graph, &mut options, &common, &inherit).await?
            }
            None => find_protocol(graph, &mut options)?,
        };
        let driver_type = graph.registry().need(&driver)?;
        let edges = Arc::new(Edges::default());
        let mut context = OpenContext {
            graph: graph.clone(),
            edges: edges.clone(),
            domain: graph.domain(),
            bitmaps: Arc::default(),
            common,
            policy: inherit.policy,
            probed,
            place: inherit.place,
            asked: options.clone(),
            since: graph.nodes_so_far(),
            given: driver_type.adapted(options)?,
        };
        let node = match context.open(driver_type).await {
            Ok(opened) => graph.adopt(name, driver_type, opened, &context),
            Err(e) => Err(e),
        };
        match node {
            Ok(node) => graph.start(node).await,
            Err(e) => {
                graph.abandon(&edges).await;
                Err(e)
            }
        }
    })
}

/// Finds the format of an image given without one: opens its file, looks at its first bytes.
async fn find_format(
    graph: &Graph,
    options: &mut Options,
    common: &Common,
    inherit: &Inherit,
) -> Result<String> {
    let file = match take_child(options, "file".into())? {
        Some(Reference::Node(name)) => graph.need_node(&name)?,
        reference => {
            let file_options = match reference {
                Some(Reference::Options(o)) => o,
                _ => {
                    let filename = options
                        .take_str("filename")?
                        .ok_or_else(|| BlockError::invalid("neither a driver nor a file name is given"))?;
                    Options::new().with_str("filename", &filename)
                }
            };
            let inherit = Inherit {
                common: Some(common.clone()),
                want_format: false,
                place: inherit.place.nested(),
                ..inherit.clone()
            };
            open(graph, file_options, inherit).await?
        }
    };
    options.set("file", Opt::Str(file.name().to_owned()));
    let found = match graph.probe(&file).await {
        Ok(None) => match graph.registry().fallback() {
            Some(format) => return Ok(format.name.to_owned()),
            None => {
                Err(BlockError::unsupported(format!("'{}' is an image of no known format", file.filename())))
            }
        },
        Ok(Some(found)) => return Ok(found.name.to_owned()),
        Err(e) => {
            Err(e.context(format!("Could not read image '{}' for determining its format", file.filename())))
        }
    };
    graph.dispose(&file).await;
    found
}

impl Graph {
    /// The format that a file looks like, by its first bytes and its name; nothing where it looks like none.
    pub async fn probe(&self, file: &Node) -> Result<Option<&'static DriverType>> {
        let head = PROBE_BYTES.min(usize::try_from(file.length()).unwrap_or(usize::MAX));
        let (head, result) = file.read(0, BufMut::with_len(head)).await;
        match result {
            // A drive without a medium looks like nothing, and one may be inserted later.
            Err(e) if e.errno() == Errno::NOMEDIUM.raw_os_error() => return Ok(None),
            result => result?,
        }
        Ok(self.registry().probe(&Glimpse { head: &head, filename: &file.filename() }))
    }
}

/// The protocol that a file name means.
fn find_protocol(graph: &Graph, options: &mut Options) -> Result<String> {
    let filename = options
        .take_str("filename")?
        .ok_or_else(|| BlockError::invalid("neither a driver nor a file name is given"))?;
    let (driver, parsed) = graph.protocol_options(&filename)?;
    for (name, value) in parsed.iter() {
        options.set(name, value.clone());
    }
    Ok(driver)
}
