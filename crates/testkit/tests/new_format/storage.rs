//! What concerns the storage of a node that has many children reaches each of them: room is asked of all, and the failure of
//! any stops the writing.
use crate::children::{enter, file, open, top};
use crate::spread::{CLUSTER, DRIVERS, EXTENTS};
use crate::{FILES, SIZE, stack};
use api::codec::NoArguments;
use block::{
    BlockError, Driver, DriverType, ErrorKind, Extent, Filtered, Graph, Open, OpenContext, Opened, Opt,
    Options, Registry, Result, Want,
};
use rt::BoxFuture;
use sim::{Fault, OpKind, Plant, Sim};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

/// How often any of them was asked for room.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Shows its child, and has no room before it was asked for some.
const TIGHT: &[DriverType] = &[DriverType { name: "tight", open: &Open(tight), ..DriverType::FILTER }];

struct Tight {
    below: Filtered,
    room: AtomicBool,
}

fn tight(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let tight = Tight { below: context.filtered().await?, room: AtomicBool::new(false) };
        Ok(Opened { driver: Arc::new(tight), filename: None })
    })
}

impl Driver for Tight {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn try_map(&self, _: u64, _: u64, _: Want) -> Option<Extent> {
        None
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            match want != Want::Write || self.room.load(Acquire) {
                true => Ok(self.below.place(offset, len)),
                false => Err(BlockError::new(ErrorKind::NoSpace, "there is no room yet")),
            }
        })
    }

    fn reclaim(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            ASKED.fetch_add(1, AcqRel);
            !self.room.swap(true, AcqRel)
        })
    }
}

#[test]
fn lack_of_room_in_any_child_has_each_of_them_free_what_waits_but_not_the_backing_image() {
    let sim = Sim::new(1);
    sim.run(async {
        stack(Some(SIZE)).create().await.unwrap();
        let registry = Registry::new(&[protocols::DRIVERS, formats::DRIVERS, DRIVERS, TIGHT]);
        let graph = Graph::new(registry, |_| Err(BlockError::invalid("no JSON here")));
        let tight = |name| Options::new().with_str("driver", "tight").with("file", Opt::Dict(file(name)));
        let extents = FILES.map(|name| Opt::Dict(tight(name))).to_vec();
        let options = top().with("extents", Opt::List(extents)).with("backing", Opt::Dict(tight("/base")));
        let session = open(&graph, options).await.unwrap();
        assert_eq!(ASKED.load(Acquire), 0);
        session.write(3 * CLUSTER, &[7; CLUSTER as usize], false).await.unwrap();
        assert_eq!(ASKED.load(Acquire), EXTENTS as u32, "all extents, once");
        // The others have room now, too: nobody is asked again.
        session.write(0, &[8; SIZE as usize], true).await.unwrap();
        assert_eq!(ASKED.load(Acquire), EXTENTS as u32);
        assert_eq!(session.read(0, SIZE).await.unwrap(), vec![8; SIZE as usize]);
        session.close().await.unwrap();
    });
}

#[test]
fn a_flush_that_fails_in_any_child_stops_all_writing_and_the_node_can_still_be_deleted() {
    for failing in FILES {
        let sim = Sim::new(1);
        let world = sim.world().clone();
        sim.run(async move {
            let stack = stack(Some(SIZE));
            stack.create().await.unwrap();
            let graph = stack.graph();
            let node = graph.add(top().with_str("node-name", "top")).await.unwrap();
            let session = enter(&graph, node.clone()).await.unwrap();
            session.write(0, &[7; SIZE as usize], true).await.unwrap();
            session.write(0, &[8; SIZE as usize], false).await.unwrap();
            // What the extent was given would be lost here; the format's own file is not touched any more.
            world.plant(Plant {
                kinds: vec![OpKind::Sync],
                file: Some(failing.into()),
                after: 0,
                times: 1,
                fault: Fault::Errno(sim::EIO),
            });
            assert!(session.backend.flush().await.is_err());
            for child in node.edges().all() {
                assert_eq!(child.node.poisoned(), child.node.filename() == failing, "{}", child.name);
            }
            for cluster in 0..SIZE / CLUSTER {
                let refused = session.write(cluster * CLUSTER, &[9; 512], true).await.unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Poisoned);
            }
            assert_eq!(session.backend.flush().await.unwrap_err().kind(), ErrorKind::Poisoned);
            assert_eq!(session.read(0, CLUSTER).await.unwrap().len(), CLUSTER as usize);
            let closed = session.close().await;
            assert_eq!(closed.map_err(|e| e.kind()), Ok(()), "the monitor's node stays open");
            // The failed flush was told; it does not keep the node for ever.
            graph.remove("top").await.unwrap();
            assert!(graph.nodes().is_empty());
            let again = stack.open().await.unwrap();
            again.write(0, &[9; SIZE as usize], true).await.unwrap();
            again.close().await.unwrap();
        });
    }
}
