//! The graph's laws, over toy drivers.
#![allow(clippy::unwrap_used, reason = "a test's helpers end it where they can't go on")]

mod activity;
mod changes;
mod devices;
mod drivers;
mod failures;
mod large;
mod opening;
mod requests;
mod users;

use block::*;
use drivers::DRIVERS;
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::time::Duration;

fn graph() -> Graph {
    Graph::new(Registry::new(&[DRIVERS]), |_| Err(BlockError::invalid("no json here")))
}

fn memory(name: &str) -> Options {
    Options::new().with_str("driver", "mem").with_str("node-name", name)
}

fn overlay(name: &str, file: &str) -> Options {
    Options::new().with_str("driver", "overlay").with_str("node-name", name).with_str("file", file)
}

async fn attach(graph: &Graph, node: &str, perms: Perms) -> Result<Arc<Backend>> {
    let node = graph.need_node(node)?;
    graph.attach(BackendRequest { label: "guest".to_owned(), node, perms, pinned: false }).await
}

async fn read(disk: &Backend, offset: u64, len: usize) -> Vec<u8> {
    let (data, result) = disk.read(offset, BufMut::with_len(len)).await;
    result.unwrap();
    data.to_vec()
}
