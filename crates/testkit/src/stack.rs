//! Stacks under test: which images there are, and how their top is opened. A suite knows nothing else of them.

use api::PreallocMode;
use std::sync::Arc;

use block::{
    Backend, BackendRequest, BlockError, CheckReport, Common, Discard, Graph, IoLimits, Node, Opt, Options,
    Perms, Policy, Registry, Repair, Result, Secret, Share, ThrottleGroup,
};

/// One image of a stack.
#[derive(Clone, Debug)]
pub struct TestImage {
    /// Format.
    pub format: &'static str,
    /// File name.
    pub file: &'static str,
    /// Virtual size in bytes.
    pub size: u64,
    /// Create options.
    pub options: Options,
    /// How it is opened, beside its format and file.
    pub opened: Options,
}

/// A stack of drivers: how its images are made, and how it is opened.
#[derive(Clone)]
pub struct Stack {
    /// For messages.
    pub name: String,
    /// All drivers there are.
    pub drivers: Vec<&'static [block::DriverType]>,
    /// Images, lowest first.
    pub images: Vec<TestImage>,
    /// How the top is opened.
    pub top: Options,
    /// Reads give what was written.
    pub keeps_data: bool,
    /// The size can be changed.
    pub resizes: bool,
    /// Tests begin with images that hold something; not where a format does not take writes of any sectors.
    pub filled: bool,
    /// It can be opened for reading only.
    pub reads_only: bool,
    /// Secrets that options refer to: id and content.
    pub secrets: Vec<(&'static str, &'static str)>,
    /// Throttle groups that options refer to: name and limits.
    pub groups: Vec<(&'static str, IoLimits)>,
}

fn no_json(_: &str) -> Result<Options> {
    Err(BlockError::invalid("these tests give no options as JSON"))
}

impl TestImage {
    /// An image with default options.
    pub fn new(format: &'static str, file: &'static str, size: u64) -> TestImage {
        TestImage { format, file, size, options: Options::new(), opened: Options::new() }
    }

    /// The same with a create option set.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> TestImage {
        self.options.set(name, Opt::Str(value.to_owned()));
        self
    }

    /// The same with an option set that it is opened with.
    #[must_use]
    pub fn opened_with(mut self, name: &str, value: &str) -> TestImage {
        self.opened.set(name, Opt::Str(value.to_owned()));
        self
    }

    /// The same over another image, which it names.
    #[must_use]
    pub fn over(self, below: &TestImage) -> TestImage {
        self.with("backing_file", below.file).with("backing_fmt", below.format)
    }
}

impl Stack {
    /// A stack whose top is the last of `images`.
    pub fn of(name: &str, drivers: &[&'static [block::DriverType]], images: Vec<TestImage>) -> Stack {
        let (format, file) = images.last().map_or(("raw", ""), |image| (image.format, image.file));
        let file = Options::new().with_str("driver", "file").with_str("filename", file);
        let mut top = Options::new().with_str("driver", format).with("file", Opt::Dict(file));
        let opened = images.last().map(|image| image.opened.clone()).unwrap_or_default();
        opened.iter().for_each(|(name, value)| top.set(name, value.clone()));
        Stack {
            name: name.to_owned(),
            drivers: drivers.to_vec(),
            images,
            top,
            keeps_data: true,
            resizes: true,
            filled: true,
            reads_only: true,
            secrets: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// The image alone, and over a raw one of its size.
    pub fn alone_and_over_raw(drivers: &[&'static [block::DriverType]], image: &TestImage) -> [Stack; 2] {
        let base = TestImage::new("raw", "/base", image.size);
        let over = image.clone().over(&base);
        [vec![image.clone()], vec![base, over]].map(|images| Stack::of(image.format, drivers, images))
    }

    /// The size of the top in bytes.
    pub fn size(&self) -> u64 {
        self.images.last().map_or(0, |image| image.size)
    }

    /// An empty graph with the stack's drivers.
    pub fn graph(&self) -> Graph {
        let graph = Graph::new(Registry::new(&self.drivers), no_json);
        for (id, content) in &self.secrets {
            let added = graph.objects().add(id, Secret::new(content.as_bytes().to_vec()));
            added.unwrap_or_else(|e| panic!("secret '{id}': {e}"));
        }
        for (name, limits) in &self.groups {
            let group = ThrottleGroup::new(*name);
            let added = group.set_limits(*limits).and_then(|()| graph.objects().add(name, group));
            added.unwrap_or_else(|e| panic!("throttle group '{name}': {e}"));
        }
        graph
    }

    /// Makes the images.
    pub async fn create(&self) -> Result<()> {
        for image in &self.images {
            self.graph().create(image.format, image.file, image.size, image.options.clone()).await?;
        }
        Ok(())
    }

    /// Opens the top for reading and writing.
    pub async fn open(&self) -> Result<Session> {
        self.open_as(self.top.clone(), false).await
    }

    /// Opens the top for reading.
    pub async fn open_read_only(&self) -> Result<Session> {
        self.open_as(self.top.clone(), true).await
    }

    /// Opens one image of the stack by itself, for writing what lies below.
    pub async fn open_image(&self, image: &TestImage) -> Result<Session> {
        let mut lone = Stack::of(&self.name, &self.drivers, vec![image.clone()]);
        lone.secrets.clone_from(&self.secrets);
        lone.open().await
    }

    async fn open_as(&self, options: Options, read_only: bool) -> Result<Session> {
        let graph = self.graph();
        let common = Common { read_only, discard: Discard::Unmap, ..Common::default() };
        let node = graph.open_with(options, common, Policy::FOLLOW).await?;
        let need = if read_only { Share::READ } else { Share::READ.union(Share::WRITE) };
        let perms = Perms { need, share: Share::ALL };
        let request = BackendRequest { label: "guest".to_owned(), node: node.clone(), perms, pinned: false };
        match graph.attach(request).await {
            Ok(backend) => Ok(Session { graph, node, backend }),
            Err(e) => {
                graph.release(&node).await?;
                Err(e)
            }
        }
    }
}

/// An opened stack.
#[derive(Clone)]
pub struct Session {
    /// Its graph.
    pub graph: Graph,
    /// Its top node.
    pub node: Arc<Node>,
    /// The entry on it.
    pub backend: Arc<Backend>,
}

impl Session {
    /// Closes it; the error is that of the last flush.
    pub async fn close(self) -> Result<()> {
        self.graph.detach(&self.backend).await
    }

    /// Changes the size.
    pub async fn resize(&self, size: u64) -> Result<()> {
        self.graph.resize(&self.node, size, PreallocMode::Off).await
    }

    /// Runs the format's check, if it has one.
    pub async fn check(&self, repair: Repair) -> Option<Result<CheckReport>> {
        match self.node.driver().checker() {
            Some(checker) => Some(checker.check(repair).await),
            None => None,
        }
    }

    /// Reads as exports do: inline first, then the rest asynchronously.
    pub async fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0xa5; len as usize];
        let done = self.backend.try_read(offset, &mut bytes)?;
        if done < bytes.len() {
            let (buf, result) =
                self.backend.read(offset + done as u64, rt::BufMut::with_len(bytes.len() - done)).await;
            result?;
            if let Some(rest) = bytes.get_mut(done..) {
                rest.copy_from_slice(&buf);
            }
        }
        Ok(bytes)
    }

    /// Writes as exports do: inline first, then the rest asynchronously.
    pub async fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<()> {
        let done = if fua { 0 } else { self.backend.try_write(offset, data, block::Request::GUEST)? };
        match data.get(done..) {
            Some(rest) if !rest.is_empty() => {
                let (rest, flags) =
                    (rt::Buf::from_slice(rest), block::Request::GUEST.with_if(fua, block::Flags::FUA));
                self.backend.write(offset + done as u64, rest, flags).await
            }
            _ => Ok(()),
        }
    }
}
