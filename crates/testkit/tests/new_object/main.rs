//! A new kind of object, from outside of the crates: a counter, held by id by the filter that counts in it.
//!
//! What one has to write: a type with [`Object`], its name (`qom-type`) and its properties in `schema/`, one line in the
//! monitor's `object-add`; and in whatever uses it an option with its id, and [`OpenContext::objects`] to hold it. As
//! long as what `hold` gave is kept, the object can't be deleted.
//!
//! The filter is a proof too: what one has to write for a filter is what it changes; the rest passes to its child.

use api::codec::Members;
use api::{DecodeError, Dict};
use block::{
    BackendRequest, BlockError, Driver, DriverType, ErrorKind, Extent, ExtentKind, Filtered, Graph,
    MapChange, Object, Open, OpenContext, Opened, Opt, Options, Perms, Policy, Registry, Request, Result,
    Secret, Want, WritePlan,
};
use rt::BoxFuture;
use sim::Sim;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use testkit::conformance::Suite;
use testkit::crash::inspect_raw;
use testkit::stack::{Session, Stack, TestImage};

/// Counts pieces of writes.
#[derive(Default)]
struct Counter(AtomicU64);

impl Object for Counter {
    const KIND: &'static str = "counter";
}

const COUNTED: &[DriverType] = &[DriverType { name: "counted", open: &Open(open), ..DriverType::FILTER }];

/// A filter that counts writes, in a counter that others may share.
struct Counted {
    below: Filtered,
    counter: Option<Arc<Counter>>,
}

/// What the filter is opened with; a driver of ours has it from the schema.
#[derive(Default)]
struct CountedOptions {
    counter: Option<String>,
}

impl api::codec::Object for CountedOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { counter: from.optional("counter")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("counter", &self.counter);
    }
}

fn open(context: &mut OpenContext, options: CountedOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let below = context.filtered().await?;
        let counter = options.counter.map(|id| context.objects().hold(&id)).transpose()?;
        Ok(Opened { driver: Arc::new(Counted { below, counter }), filename: None })
    })
}

impl Driver for Counted {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
        // Not owned: each write comes by `prepare_write`.
        let kind = ExtentKind::Data { child: self.below.child(), offset, owned: false };
        Some(Extent { len, kind })
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        let place = self.try_map(offset, len, want).unwrap_or_else(|| self.below.place(offset, len));
        Box::pin(async move { Ok(place) })
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        _: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        if let (Some(counter), MapChange::Data) = (&self.counter, change) {
            counter.0.fetch_add(1, Relaxed);
        }
        Box::pin(async move { Ok(self.below.plan(offset, len)) })
    }
}

const DRIVERS: [&[DriverType]; 3] = [protocols::DRIVERS, formats::DRIVERS, COUNTED];

fn options(counter: Option<&str>) -> Options {
    let file = Options::new().with_str("driver", "file").with_str("filename", "/disk");
    let raw = Options::new().with_str("driver", "raw").with("file", Opt::Dict(file));
    let options = Options::new().with_str("driver", "counted").with("file", Opt::Dict(raw));
    match counter {
        Some(id) => options.with_str("counter", id),
        None => options,
    }
}

async fn open_counted(graph: &Graph, counter: &str) -> Result<Session> {
    let node = graph.open(options(Some(counter)), Policy::FOLLOW).await?;
    let request =
        BackendRequest { label: "guest".to_owned(), node: node.clone(), perms: Perms::WRITER, pinned: false };
    let backend = graph.attach(request).await?;
    Ok(Session { graph: graph.clone(), node, backend })
}

#[test]
fn the_filter_keeps_the_laws_of_a_disk() {
    let mut stack = Stack::of("counted", &DRIVERS, vec![TestImage::new("raw", "/disk", 24 << 10)]);
    stack.top = options(None);
    Suite::of(stack, Some(inspect_raw)).run();
}

#[test]
fn an_object_is_held_by_id_as_long_as_its_user_is_open() {
    let sim = Sim::new(1);
    sim.world().put("/disk", &[0; 8192]);
    sim.run(async {
        let registry = Registry::new(&DRIVERS);
        let graph = Graph::new(registry, |_| Err(BlockError::invalid("no JSON here")));
        graph.objects().add("c0", Counter::default()).unwrap();
        graph.objects().add("s0", Secret::new(Vec::new())).unwrap();
        let refused =
            async |id: &str| open_counted(&graph, id).await.map(drop).unwrap_err().message().to_owned();
        assert_eq!(refused("c1").await, "No counter with id 'c1'");
        assert_eq!(refused("s0").await, "Object 's0' is of the kind 'secret', not 'counter'");
        assert!(graph.nodes().is_empty(), "a refused open gives its children back");

        let session = open_counted(&graph, "c0").await.unwrap();
        for sector in 0..4 {
            session.write(sector * 512, &[7; 512], false).await.unwrap();
        }
        let counted = graph.objects().hold::<Counter>("c0").unwrap().0.load(Relaxed);
        assert_eq!(counted, 4);
        let error = graph.objects().remove("c0").unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Busy, "object 'c0' is in use, can not be deleted".to_owned())
        );
        assert_eq!(session.read(0, 2048).await.unwrap(), [7; 2048]);
        session.close().await.unwrap();
        graph.objects().remove("c0").unwrap();
        assert_eq!(refused("c0").await, "No counter with id 'c0'");
    });
}
