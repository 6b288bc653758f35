//! Images as the faces open them: a file name or options, how to open it, and one entry to work through.
//!
//! ```text
//! Source ──▶ options ──▶ Graph::open_with ──▶ node ──▶ Image { backend }
//! ```
//!
//! Files that an image names are followed (its backing chain, its data file) unless the source says to open it alone.
//! What a name is, is found by `stat` before anything is opened: a directory, FIFO or socket is refused, never waited
//! on.

use crate::cache::Cache;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::object::{self, Given};
use api::keyval;
use block::{
    Backend, BackendRequest, BlockError, Common, Discard, DriverKind, ErrorKind, Graph, Node, Notice, Opt,
    Options, Perms, Policy, Registry, Share, SnapshotName,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What to open, and how.
#[derive(Clone, Debug)]
pub struct Source {
    /// A file name, or a list of options if `image_opts`.
    pub name: String,
    /// The format; without one it is probed.
    pub format: Option<String>,
    /// `name` is `key=value,…`.
    pub image_opts: bool,
    /// Options besides, by their dotted names.
    pub options: Options,
    /// How writes reach the disk.
    pub cache: Cache,
    /// For writing.
    pub writable: bool,
    /// For a repair: marks that refuse writes do not refuse the open.
    pub for_repair: bool,
    /// No locks, and everything shared.
    pub force_share: bool,
    /// What others may do to it meanwhile.
    pub share: Share,
    /// Which of the files that it names are opened.
    pub policy: Policy,
    /// `name` is the name of a file of this host, whatever it looks like.
    pub literal: bool,
    /// Discards give space back.
    pub discard: bool,
    /// Engine that is asked of the file driver.
    pub aio: Option<&'static str>,
    /// What is worked on begins so many bytes into the image.
    pub offset: u64,
    /// The internal snapshot that is shown instead of the disk.
    pub snapshot: Option<SnapshotName>,
    /// What is read from backing images is copied into the image.
    pub copy_on_read: bool,
    /// Its content is neither read nor written: no key is needed.
    pub without_content: bool,
}

impl Source {
    /// A file, read-only, with the page cache.
    pub fn named(name: &str) -> Source {
        Source {
            name: name.to_owned(),
            format: None,
            image_opts: false,
            options: Options::new(),
            cache: Cache::WRITEBACK,
            writable: false,
            for_repair: false,
            force_share: false,
            share: Share::ALL,
            policy: Policy::FOLLOW,
            literal: false,
            discard: false,
            aio: None,
            offset: 0,
            snapshot: None,
            copy_on_read: false,
            without_content: false,
        }
    }

    /// The same to be looked at, without its content.
    #[must_use]
    pub fn without_content(self) -> Source {
        Source { without_content: true, ..self }
    }

    /// The same in this format, if one is given.
    #[must_use]
    pub fn format(self, format: Option<&str>) -> Source {
        Source { format: format.map(str::to_owned), ..self }
    }

    /// The same with `name` read as options if `on`.
    #[must_use]
    pub fn image_opts(self, on: bool) -> Source {
        Source { image_opts: on, ..self }
    }

    /// The same with this cache mode.
    #[must_use]
    pub fn cache(self, cache: Cache) -> Source {
        Source { cache, ..self }
    }

    /// The same for writing, with discards that reach the disk.
    #[must_use]
    pub fn writable(self) -> Source {
        Source { writable: true, discard: true, ..self }
    }

    /// The same without locks if `on`.
    #[must_use]
    pub fn force_share(self, on: bool) -> Source {
        Source { force_share: on, ..self }
    }

    /// The same without the files it names.
    #[must_use]
    pub fn alone(self) -> Source {
        Source { policy: Policy::ALONE, ..self }
    }
}

/// An open image.
pub struct Image {
    /// The graph it is a node of.
    pub graph: Graph,
    /// The way in.
    pub backend: Arc<Backend>,
    /// The node the image is.
    pub node: Arc<Node>,
    /// Raw was guessed, not given.
    pub guessed_raw: bool,
}

/// All drivers of the program.
pub fn registry() -> Arc<Registry> {
    Registry::new(&[formats::DRIVERS, filters::DRIVERS, protocols::DRIVERS])
}

/// The format of images where nothing says what they are: any bytes are one of its images.
pub fn plain_format() -> &'static str {
    registry().fallback().map_or("", |format| format.name)
}

/// An empty graph with the objects of the command.
pub fn graph() -> Graph {
    let graph = quiet_graph(&object::given());
    graph.on_poison(report_corruption);
    graph.on_notice(tell);
    graph
}

/// An empty graph with these objects that tells nobody what it meets: for images that are opened over and over.
pub fn quiet_graph(given: &Given) -> Graph {
    let graph = Graph::new(registry(), monitor::options::from_json);
    given.give(&graph);
    graph
}

/// Findings of a repair go where `check` puts them.
fn tell(notice: Notice<'_>) {
    match notice {
        Notice::Warning(text) => console::warn(text),
        Notice::Repaired { report, .. } => report.messages.iter().for_each(console::note),
        Notice::Damaged { node, damage } => console::note(format_args!(
            "{}: Image is corrupt: {damage}; further non-fatal corruption events will be suppressed",
            node.driver_name()
        )),
        // As if the machine stopped now: nothing that is done from here on would mean anything.
        Notice::Diverged(text) => {
            console::note(text);
            std::process::exit(1);
        }
        // What comes of it is the answer of the request.
        Notice::QuorumBad { .. } | Notice::QuorumFailed { .. } => {}
        // No tool sets one.
        Notice::BeyondThreshold { .. } => {}
    }
}

/// An image of this process was found corrupt, and that has been reported.
static CORRUPTION_REPORTED: AtomicBool = AtomicBool::new(false);

/// Whether `error` only follows from a corruption that has been reported.
pub fn is_known(error: &BlockError) -> bool {
    error.kind() == ErrorKind::Poisoned && CORRUPTION_REPORTED.load(Relaxed)
}

/// Tells of an image that contradicts itself when it is found out: the request that met it only fails. Scripts know
/// these words.
fn report_corruption(node: &Node, error: &BlockError) {
    if error.kind() == ErrorKind::Corrupt {
        CORRUPTION_REPORTED.store(true, Relaxed);
        let (format, why) = (node.driver_name(), error.message());
        console::note(format_args!(
            "{format}: Marking image as corrupt: {why}; further corruption events will be suppressed"
        ));
    }
}

/// Names of all drivers, sorted.
pub fn format_names() -> Vec<&'static str> {
    registry().names()
}

impl Image {
    /// Opens an image in a graph of its own.
    pub async fn open(source: &Source) -> Result<Image, BlockError> {
        Image::open_in(&graph(), source).await
    }

    /// Opens an image in `graph`.
    pub async fn open_in(graph: &Graph, source: &Source) -> Result<Image, BlockError> {
        let node = open_node(graph, source).await?;
        let guessed_raw = guessed(graph, source)? && node.driver_type().fallback;
        let need = if source.writable { Share::READ.union(Share::WRITE) } else { Share::READ };
        match enter(graph, &node, source, Perms { need, share: source.share }).await {
            Ok(backend) => Ok(Image { graph: graph.clone(), backend, node, guessed_raw }),
            Err(error) => {
                let closed = graph.release(&node).await;
                Err(closed.err().unwrap_or(error))
            }
        }
    }

    /// Opens an image below a temporary overlay, which takes what is written and goes when the image is closed.
    pub async fn open_overlaid(source: &Source) -> Result<Image, BlockError> {
        let graph = graph();
        let base = open_node(&graph, &Source { writable: false, ..source.clone() }).await?;
        // The overlay takes the writes: a format that was guessed is in no danger.
        match overlay(&graph, &base, source).await {
            Ok(image) => Ok(image),
            Err(error) => {
                let closed = graph.release(&base).await;
                Err(closed.err().unwrap_or(error))
            }
        }
    }

    /// Reopens the image with these options, for writing or for reading only: all of it, or nothing has changed.
    pub async fn reopen(&self, options: Options, writable: bool) -> Result<(), BlockError> {
        let old = self.backend.perms();
        let need = if writable { Share::READ.union(Share::WRITE) } else { Share::READ };
        let new = Perms { need, share: old.share };
        if writable {
            // A node that takes no writes has no user that writes.
            self.graph.reopen(vec![options]).await?;
            return self.graph.set_perms(&self.backend, new).await;
        }
        self.graph.set_perms(&self.backend, new).await?;
        let reopened = self.graph.reopen(vec![options]).await;
        if reopened.is_err() {
            self.graph.set_perms(&self.backend, old).await?;
        }
        reopened
    }

    /// Refuses it while others write to it, and them as long as it is open, unless the source says otherwise: what others write
    /// to meanwhile would be read as the image of no moment.
    pub async fn keep_writers_out(&self, source: &Source) -> Result<(), Failure> {
        if source.force_share {
            return Ok(());
        }
        let perms = Perms { share: Share::ALL.without(Share::WRITE), ..Perms::READER };
        let kept = self.graph.set_perms(&self.backend, perms).await;
        kept.map_err(|error| cannot_open(&source.name, &error))
    }

    /// The node the image is.
    pub fn node(&self) -> Arc<Node> {
        self.node.clone()
    }

    /// Closes it: everything is written back when this returns.
    pub async fn close(self) -> Result<(), BlockError> {
        self.graph.detach(&self.backend).await
    }

    /// Closes it after a command. Of one that has failed its own error counts; of one that has not the result is in force, and
    /// what fails now is only warned of.
    pub async fn close_after<T>(
        self,
        console: &mut Console,
        result: Result<T, Failure>,
    ) -> Result<T, Failure> {
        match &result {
            Ok(_) => self.close_when_done(console).await,
            Err(_) => _ = self.close().await,
        }
        result
    }

    /// Closes it after a command whose result is in force: what fails now is only warned of.
    pub async fn close_when_done(self, console: &mut Console) {
        let name = self.node().filename();
        if let Err(error) = self.close().await {
            console.warning(format_args!("closing '{name}' failed: {error}"));
        }
    }
}

/// Puts a temporary overlay over `base` and opens it for writing.
async fn overlay(graph: &Graph, base: &Arc<Node>, source: &Source) -> Result<Image, BlockError> {
    let node = overlay_node(graph, base, source).await?;
    let perms = Perms { need: Share::READ.union(Share::WRITE), share: source.share };
    let backend = enter(graph, &node, source, perms).await?;
    Ok(Image { graph: graph.clone(), backend, node, guessed_raw: false })
}

/// Makes a temporary overlay over `base`, which nobody uses yet. Its file has no name any more when this returns.
pub async fn overlay_node(graph: &Graph, base: &Arc<Node>, source: &Source) -> Result<Arc<Node>, BlockError> {
    let none = || BlockError::unsupported("no format is there for temporary overlays");
    let format = graph.registry().overlay().ok_or_else(none)?.name;
    let (path, name) = temporary_file()?;
    let opened = open_overlay(graph, base, source, format, &name).await;
    // Open or not, nobody needs the name: the open file lives on without it.
    let removed = rt::fs::unlink(&path).await;
    let node = opened?;
    removed.map_err(|error| BlockError::os(format!("could not remove '{name}'"), &error))?;
    Ok(node)
}

/// Makes an entry to an image, through a filter that copies on read where that is asked for.
async fn enter(
    graph: &Graph,
    node: &Arc<Node>,
    source: &Source,
    perms: Perms,
) -> Result<Arc<Backend>, BlockError> {
    let request = |node| BackendRequest { label: "this program".to_owned(), node, perms, pinned: false };
    if !source.copy_on_read {
        return graph.attach(request(node.clone())).await;
    }
    let filter = copying_node(graph, node).await?;
    match graph.attach(request(filter.clone())).await {
        Ok(backend) => Ok(backend),
        Err(error) => {
            let closed = graph.release(&filter).await;
            Err(closed.err().unwrap_or(error))
        }
    }
}

/// Puts a filter over an image that copies into it what is read from its backing images.
pub async fn copying_node(graph: &Graph, node: &Arc<Node>) -> Result<Arc<Node>, BlockError> {
    let none = || BlockError::unsupported("no filter is there that copies on read");
    let driver = graph.registry().copies_on_read().ok_or_else(none)?.name;
    let options = Options::new().with_str("driver", driver).with_str("file", node.name());
    graph.open(options, Policy::FOLLOW).await
}

async fn open_overlay(
    graph: &Graph,
    base: &Arc<Node>,
    source: &Source,
    format: &str,
    name: &str,
) -> Result<Arc<Node>, BlockError> {
    graph.create(format, name, base.length(), Options::new()).await?;
    let mut options = graph.image_options(name, Some(format))?;
    options.set("backing", Opt::Str(base.name().to_owned()));
    let common = Common { no_flush: true, discard: discard_of(source), ..Common::default() };
    graph.open_with(options, common, Policy::FOLLOW).await
}

/// Makes the file of a temporary overlay, which nobody else can read.
fn temporary_file() -> Result<(PathBuf, String), BlockError> {
    use std::os::unix::ffi::OsStrExt;
    let (path, made) = rt::fs::make_temporary(".overlay");
    let name = codec::filename::text(path.as_os_str().as_bytes());
    made.map_err(|error| BlockError::os(format!("could not make the temporary file '{name}'"), &error))?;
    Ok((path, name))
}

fn discard_of(source: &Source) -> Discard {
    if source.discard { Discard::Unmap } else { Discard::Ignore }
}

/// Whether nobody says what format the image has.
fn guessed(graph: &Graph, source: &Source) -> Result<bool, BlockError> {
    Ok(options_of(graph, source)?.get("driver").is_none())
}

/// Opens an image's node, which nobody uses yet.
pub async fn open_node(graph: &Graph, source: &Source) -> Result<Arc<Node>, BlockError> {
    let options = options_of(graph, source)?;
    let policy = source.policy;
    let common = Common {
        read_only: !source.writable,
        for_repair: source.for_repair,
        without_content: source.without_content,
        force_share: source.force_share,
        direct: source.cache.direct,
        no_flush: source.cache.no_flush,
        write_through: !source.cache.writeback,
        discard: discard_of(source),
        ..Common::default()
    };
    let node = graph.open_with(options, common.clone(), policy).await?;
    if let Some(snapshot) = &source.snapshot
        && let Err(error) = show_snapshot(graph, &node, snapshot).await
    {
        graph.release(&node).await?;
        return Err(error);
    }
    if source.offset == 0 {
        return Ok(node);
    }
    let part = Options::new()
        .with_str("driver", plain_format())
        .with("offset", Opt::Uint(source.offset))
        .with("file", Opt::Str(node.name().to_owned()));
    match graph.open_with(part, common, policy).await {
        Ok(part) => Ok(part),
        Err(error) => {
            // It may have been closed with the part that could not be opened: why that was is what counts.
            graph.release(&node).await.ok();
            Err(error)
        }
    }
}

/// Reads the name of a snapshot: `snapshot.id=…,snapshot.name=…`, or an id or name by itself.
pub fn snapshot_name(text: &str) -> Result<SnapshotName, Failure> {
    if !text.starts_with("snapshot.") {
        return Ok(SnapshotName::Any(text.to_owned()));
    }
    let wrong = |why: String| Failure::new(format_args!("Failed in parsing snapshot param '{text}': {why}"));
    let (mut id, mut name) = (None, None);
    for (key, value) in keyval::pairs(text, None).map_err(|error| wrong(error.to_string()))? {
        match key.as_str() {
            "snapshot.id" => id = Some(value),
            "snapshot.name" => name = Some(value),
            other => return Err(wrong(format!("Invalid parameter '{other}'"))),
        }
    }
    Ok(SnapshotName::Both { id, name })
}

/// Shows a snapshot of a node instead of its disk.
async fn show_snapshot(graph: &Graph, node: &Arc<Node>, snapshot: &SnapshotName) -> Result<(), BlockError> {
    match graph.show_snapshot(node, snapshot).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(BlockError::new(ErrorKind::NotFound, "Can't find snapshot")),
        Err(error) => Err(error),
    }
    .map_err(|error| error.context("Failed to load snapshot"))
}

/// The options that a source means.
fn options_of(graph: &Graph, source: &Source) -> Result<Options, BlockError> {
    let mut given = source.options.clone();
    let mut options = if source.literal {
        literal_options(graph, source)?
    } else if source.image_opts {
        from_list(&source.name)?
    } else {
        let driver = given.take_str("driver")?.or_else(|| source.format.clone());
        image_options(graph, &source.name, driver.as_deref())?
    };
    for (name, value) in given.iter() {
        put(&mut options, name, value);
    }
    file_of_the_lowest(graph, &mut options)?;
    if let Some(aio) = source.aio {
        set_aio(graph, &mut options, aio)?;
    }
    Ok(options)
}

/// The options of a file of this host, whose name means no protocol.
fn literal_options(graph: &Graph, source: &Source) -> Result<Options, BlockError> {
    let driver = graph.registry().plain_protocol(&source.name)?.name;
    let file = Options::new().with_str("driver", driver).with_str("filename", &source.name);
    let options = Options::new().with("file", Opt::Dict(file));
    Ok(match &source.format {
        Some(format) => options.with_str("driver", format),
        None => options,
    })
}

/// A file's name beside an image's driver is that of the file below the image.
fn file_of_the_lowest(graph: &Graph, options: &mut Options) -> Result<(), BlockError> {
    for child in ["file", "image"] {
        let Some(Opt::Dict(below)) = options.get(child) else { continue };
        let mut below = below.clone();
        let kind = below.get_str("driver").map(|driver| graph.registry().need(driver)).transpose()?;
        let is_image = kind.is_some_and(|driver| driver.kind != DriverKind::Protocol);
        let next = if below.get("image").is_some() { "image.filename" } else { "file.filename" };
        if (is_image || next.starts_with("image"))
            && let Some(filename) = below.take_str("filename")?
        {
            set_nested(&mut below, next, Opt::Str(filename));
        }
        file_of_the_lowest(graph, &mut below)?;
        options.set(child, Opt::Dict(below));
    }
    Ok(())
}

/// The options of a file name. A name without a format becomes that of the file child, so that more options of that
/// child can be set beside it.
fn image_options(graph: &Graph, name: &str, format: Option<&str>) -> Result<Options, BlockError> {
    if name.is_empty() {
        return Ok(format.map_or_else(Options::new, |format| Options::new().with_str("driver", format)));
    }
    let mut options = graph.image_options(name, format)?;
    // A format that is given goes before the one in a `json:` name.
    if let Some(format) = format {
        options.set("driver", Opt::Str(format.to_owned()));
    }
    if options.get("driver").is_none()
        && let Some(filename) = options.take_str("filename")?
    {
        options.set("file", Opt::Dict(Options::new().with_str("filename", &filename)));
    }
    Ok(options)
}

/// Reads `key=value,…` into options; dots lead into nested ones.
pub fn from_list(text: &str) -> Result<Options, BlockError> {
    let mut options = Options::new();
    for (name, value) in keyval::pairs(text, None).map_err(|error| BlockError::invalid(error.to_string()))? {
        set_nested(&mut options, &name, Opt::Str(value));
    }
    if options.is_empty() {
        return Err(BlockError::invalid(
            "the list of image options is empty; 'driver=' or 'file.filename=' is needed",
        ));
    }
    Ok(options)
}

/// Sets what a (nested) value says, and leaves what it says nothing of.
fn put(options: &mut Options, name: &str, value: &Opt) {
    match value {
        Opt::Dict(nested) => {
            nested.iter().for_each(|(inner, value)| put(options, &format!("{name}.{inner}"), value))
        }
        value => set_nested(options, name, value.clone()),
    }
}

/// Sets an option by its dotted name. Where a name and one that leads through it are both given, the nested one stays as
/// it is, with its dots, and whoever reads the options judges the two.
pub fn set_nested(options: &mut Options, name: &str, value: Opt) {
    let Some((first, rest)) = name.split_once('.') else {
        if let Some(Opt::Dict(nested)) = options.get(name).cloned() {
            options.set(name, value);
            nested
                .iter()
                .for_each(|(inner, value)| set_nested(options, &format!("{name}.{inner}"), value.clone()));
            return;
        }
        return options.set(name, value);
    };
    match options.take(first) {
        None => {
            let mut nested = Options::new();
            set_nested(&mut nested, rest, value);
            options.set(first, Opt::Dict(nested));
        }
        Some(Opt::Dict(mut nested)) => {
            set_nested(&mut nested, rest, value);
            options.set(first, Opt::Dict(nested));
        }
        Some(other) => {
            options.set(first, other);
            options.set(name, value);
        }
    }
}

/// Asks the file at the bottom for an engine; other protocols have none to choose.
fn set_aio(graph: &Graph, options: &mut Options, aio: &str) -> Result<(), BlockError> {
    if let Some(Opt::Dict(mut file)) = options.take("file") {
        set_aio(graph, &mut file, aio)?;
        options.set("file", Opt::Dict(file));
        return Ok(());
    }
    let driver = match (options.get_str("driver"), options.get_str("filename")) {
        (Some(driver), _) => driver.to_owned(),
        (None, Some(filename)) => graph.protocol_options(filename)?.0,
        (None, None) => return Ok(()),
    };
    if graph.registry().need(&driver)?.is_of_plain_names() && options.get("aio").is_none() {
        options.set("aio", Opt::Str(aio.to_owned()));
    }
    Ok(())
}

/// Opens an image for a command; the failure names it.
pub async fn open(source: &Source) -> Result<Image, Failure> {
    Image::open(source).await.map_err(|error| cannot_open(&source.name, &error))
}

/// Closes images after a command whose result is in force.
pub async fn close_all_when_done(console: &mut Console, images: Vec<Image>) {
    for image in images {
        image.close_when_done(console).await;
    }
}

/// Closes images; the first failure counts.
pub async fn close_all(images: Vec<Image>) -> Result<(), Failure> {
    let mut result = Ok(());
    for image in images {
        result = result.and(image.close().await.map_err(Failure::from));
    }
    result
}

/// The failure of an image that can't be opened.
pub fn cannot_open(name: &str, error: &BlockError) -> Failure {
    let name = block::hide_passwords(name);
    let told = error.to_string();
    // What is read from a server is named by its errors, too, for they come later as well.
    let told = told.strip_prefix(&format!("'{name}': ")).unwrap_or(&told);
    Failure::new(format_args!("Could not open '{name}': {told}")).because(error)
}

/// Warns that nobody said the image is raw.
pub fn warn_of_guess(console: &mut Console, name: &str) {
    let name = block::hide_passwords(name);
    console.note(format_args!(
        "WARNING: The format of '{name}' was not given, and its content looks like raw.\n         \
         Changes of its start or end that would make it look like another format are refused.\n         \
         Give the format 'raw' to lift this."
    ));
}

/// Whether a driver of this name interprets a file (and so can be the format of an image).
pub fn is_format(name: &str) -> bool {
    registry().find(name).is_some_and(|driver| driver.kind == DriverKind::Format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_temporary_overlay_is_a_new_file_that_nobody_else_may_read() {
        let (path, name) = temporary_file().unwrap();
        let made = std::fs::metadata(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o600, "{name}");
    }
}
