//! block-stream on images in memory, while guests keep writing.
use crate::support::*;
use api::{BlockCommitArguments, BlockDeviceIoStatus, BlockStreamArguments, BlockdevOnError, PreallocMode};
use block::Node;
use jobs::*;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const EIO: i32 = rt::Errno::IO.raw_os_error();
const ENOSPC: i32 = rt::Errno::NOSPC.raw_os_error();

fn request() -> BlockStreamArguments {
    BlockStreamArguments {
        job_id: Some("j".to_owned()),
        device: "active".to_owned(),
        ..BlockStreamArguments::default()
    }
}

async fn start(world: &World, request: BlockStreamArguments) -> Result<(), StreamError> {
    let top = world.graph.node(&request.device).unwrap();
    stream(&world.graph, &world.jobs, &top, request).await
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The job has left nothing.
fn clean(world: &World) {
    for node in world.graph.nodes() {
        assert!(node.filtered().is_none() && node.blocked_by().is_empty(), "{}", node.name());
    }
    assert!(world.graph.entries().iter().all(|entry| !entry.label().contains("job")));
}

async fn stream_under_writers(round: u64) {
    seed(round);
    let world = World::new();
    let [active, mid, base] = world.chain().await;
    let before = content(&active).await;
    let entry = writer(&world.graph, &active).await;
    let stop = Arc::new(AtomicBool::new(false));
    let guests: Vec<_> = (0..3).map(|n| rt::spawn(guest(entry.clone(), n, 3, stop.clone()))).collect();
    let base_node = round.is_multiple_of(2).then(|| "base".to_owned());
    start(&world, BlockStreamArguments { base_node: base_node.clone(), ..request() }).await.unwrap();
    assert!(!Arc::ptr_eq(&entry.node(), &active), "the guest goes through the job's filter");
    if round.is_multiple_of(3) {
        for _ in 0..random(300) {
            rt::yield_now().await;
        }
        if let Some(job) = world.jobs.find("j") {
            // It may be ending already.
            let _ = job.cancel(true);
        }
    }
    world.ended("j").await;
    let completed = world.events().iter().any(|e| e.starts_with("COMPLETED"));
    let expected = match (completed, base_node) {
        (false, _) => Some(&mid),
        (true, Some(_)) => Some(&base),
        (true, None) => None,
    };
    assert_eq!(active.backing().map(|n| n.name().to_owned()), expected.map(|n| n.name().to_owned()));
    let writes = writes_of(guests, &stop).await;
    assert!(Arc::ptr_eq(&entry.node(), &active));
    let after = content(&active).await;
    check_rest(&after, &before, &writes);
    clean(&world);
}

#[test]
fn no_acknowledged_write_is_lost_by_a_stream_under_any_interleaving() {
    let _turn = TURN.lock();
    rt::block_on_control(async {
        for round in 0..150 {
            let run = rt::spawn(stream_under_writers(round)).await;
            assert!(run.is_ok(), "seed {round}: {run:?}");
        }
    });
}

#[test]
fn a_stream_ends_by_itself_and_the_header_names_the_base() {
    on_control(async {
        for base in [None, some("base")] {
            let world = World::new();
            let [active, ..] = world.chain().await;
            let before = content(&active).await;
            start(&world, BlockStreamArguments { base_node: base.clone(), ..request() }).await.unwrap();
            world.ended("j").await;
            let completed = format!("COMPLETED {SIZE}/{SIZE}");
            let expected =
                ["created", "running", "waiting", "pending", completed.as_str(), "concluded", "null"];
            assert_eq!(world.events(), expected);
            assert_eq!(active.driver().info().backing_filename, base.map(|_| "base.img".to_owned()));
            assert_eq!(content(&active).await, before);
            clean(&world);
        }
    });
}

#[test]
fn with_nothing_between_the_node_and_the_base_a_stream_ends_at_once() {
    on_control(async {
        let requests = [
            BlockStreamArguments { device: "base".to_owned(), ..request() },
            BlockStreamArguments { base_node: some("mid"), ..request() },
            BlockStreamArguments { bottom: some("active"), ..request() },
        ];
        for request in requests {
            let world = World::new();
            let [active, mid, _] = world.chain().await;
            start(&world, request).await.unwrap();
            world.ended("j").await;
            assert!(world.events().contains(&"COMPLETED 0/0".to_owned()), "{:?}", world.events());
            assert!(Arc::ptr_eq(&active.backing().unwrap(), &mid));
            clean(&world);
        }
    });
}

#[test]
fn a_stream_above_another_copies_nothing_of_the_base_when_that_ends_first() {
    on_control(async {
        let world = World::new();
        let [active, mid, _] = world.chain().await;
        fill(&world.graph, &active, 3).await;
        world.graph.set_writable(&active, false).await.unwrap();
        let top = layer(&world.graph, "top", SIZE, Some("active"), false).await;
        let held = async |node: &Arc<Node>| {
            let mut held = Vec::new();
            for at in (0..SIZE).step_by(CLUSTER as usize) {
                held.push(node.status(at, CLUSTER, Some(&mid)).await.unwrap().allocated);
            }
            held
        };
        let (shown, before) = (content(&top).await, held(&active).await);
        let lower =
            BlockStreamArguments { device: "mid".to_owned(), auto_finalize: Some(false), ..request() };
        start(&world, lower).await.unwrap();
        world.until_told("PENDING").await;
        let (job_id, device, bottom) = (some("upper"), "top".to_owned(), some("active"));
        start(&world, BlockStreamArguments { job_id, device, bottom, ..request() }).await.unwrap();
        let upper = world.jobs.find("upper").unwrap();
        upper.pause().unwrap();
        world.until_told("paused").await;
        world.jobs.finalize("j").await.unwrap();
        upper.resume().unwrap();
        world.ended("upper").await;
        assert!(Arc::ptr_eq(&top.backing().unwrap(), &mid));
        assert_eq!(held(&top).await, before);
        assert_eq!(content(&top).await, shown);
        clean(&world);
    });
}

#[test]
fn an_error_fails_a_stream_at_once_or_at_its_end_or_stops_it_as_asked() {
    on_control(async {
        let cases = [
            (BlockdevOnError::Report, EIO, "ERROR read report", "COMPLETED Input/output error"),
            (BlockdevOnError::Ignore, EIO, "ERROR read ignore", "COMPLETED Input/output error"),
            (BlockdevOnError::Enospc, EIO, "ERROR read report", "COMPLETED Input/output error"),
            (BlockdevOnError::Enospc, ENOSPC, "ERROR read stop", "COMPLETED 98304/98304"),
            (BlockdevOnError::Stop, EIO, "ERROR read stop", "COMPLETED 98304/98304"),
        ];
        let files = ["mid.img", "active.img"];
        for (file, (on_error, errno, error, end)) in
            files.iter().flat_map(|file| cases.map(|case| (file, case)))
        {
            let world = World::new();
            let [active, mid, _] = world.chain().await;
            let before = content(&active).await;
            *FAULT_AT.lock() = Some(((*file).to_owned(), 0, errno));
            start(&world, BlockStreamArguments { on_error: Some(on_error), ..request() }).await.unwrap();
            let job = world.jobs.find("j").unwrap();
            if error.ends_with("stop") {
                world.until_told("paused").await;
                let full = errno == ENOSPC;
                let expected = if full { BlockDeviceIoStatus::Nospace } else { BlockDeviceIoStatus::Failed };
                assert_eq!(job.block_info().io_status, expected);
                job.resume().unwrap();
            }
            job.concluded().await;
            let events = world.events();
            assert!(events.contains(&error.to_owned()), "{on_error:?}: {events:?}");
            assert!(events.contains(&end.to_owned()), "{on_error:?}: {events:?}");
            let info = job.block_info();
            assert!(on_error != BlockdevOnError::Ignore || info.offset == info.len, "{info:?}");
            assert_eq!(active.backing().is_none(), !end.contains("error"));
            if end.contains("error") {
                assert!(Arc::ptr_eq(&active.backing().unwrap(), &mid));
            }
            assert_eq!(content(&active).await, before);
            clean(&world);
        }
    });
}

#[test]
fn whichever_request_fails_the_chain_stays_as_it_was_and_can_be_streamed_again() {
    on_control(async {
        for file in ["active.img", "mid.img", "base.img"] {
            let mut failures = 0;
            for before in 0.. {
                seed(before + 1);
                let world = World::new();
                let [active, mid, _] = world.chain().await;
                let shown = content(&active).await;
                *FAULT_AT.lock() = Some((file.to_owned(), before, EIO));
                start(&world, request()).await.unwrap();
                world.ended("j").await;
                let reached = FAULT_AT.lock().take().is_none();
                clean(&world);
                assert_eq!(content(&active).await, shown);
                if !reached {
                    assert!(active.backing().is_none());
                    break;
                }
                failures += 1;
                assert!(Arc::ptr_eq(&active.backing().unwrap(), &mid));
                if active.primary().unwrap().poisoned() {
                    continue;
                }
                start(&world, request()).await.unwrap();
                world.ended("j").await;
                assert!(active.backing().is_none());
                assert_eq!(content(&active).await, shown);
            }
            assert!(failures > 0, "{file}");
        }
    });
}

#[test]
fn a_stream_blocks_what_it_works_on_but_not_the_base() {
    on_control(async {
        let world = World::new();
        let [active, mid, base] = world.chain().await;
        let held = BlockStreamArguments { base_node: some("base"), speed: Some(1), ..request() };
        start(&world, held).await.unwrap();
        let busy = |name| format!("Node '{name}' is busy: block device is in use by block job: stream");
        let refused = world.graph.resize(&active, SIZE * 2, PreallocMode::Off).await.unwrap_err();
        assert_eq!(refused.message(), busy("active"));
        let second = BlockStreamArguments { job_id: some("k"), device: "mid".to_owned(), ..request() };
        assert_eq!(start(&world, second).await.unwrap_err().to_string(), busy("mid"));
        let commit = BlockCommitArguments {
            job_id: some("k"),
            device: "active".to_owned(),
            ..BlockCommitArguments::default()
        };
        let refused = jobs::commit(&world.graph, &world.jobs, commit).await.unwrap_err().to_string();
        assert_eq!(refused, "Need a root block node");
        let writes = world.graph.set_writable(&mid, true).await;
        let refused = world
            .graph
            .attach(block::BackendRequest {
                label: "w".to_owned(),
                node: mid.clone(),
                perms: block::Perms::WRITER,
                pinned: false,
            })
            .await;
        assert!(writes.is_err() || refused.is_err(), "nobody writes to a layer that is copied");
        assert!(base.blocked_by().is_empty());
        world.jobs.find("j").unwrap().cancel(true).unwrap();
        world.ended("j").await;
        clean(&world);
    });
}

#[test]
fn a_stream_makes_a_read_only_node_writable_and_read_only_again() {
    on_control(async {
        for cancel in [false, true] {
            let world = World::new();
            let [active, mid, _] = world.chain().await;
            let before = content(&active).await;
            let speed = cancel.then_some(1);
            let device = "mid".to_owned();
            start(&world, BlockStreamArguments { device, speed, ..request() }).await.unwrap();
            if cancel {
                world.jobs.find("j").unwrap().cancel(true).unwrap();
            }
            world.ended("j").await;
            assert!(mid.read_only());
            assert_eq!(mid.backing().is_none(), !cancel);
            assert_eq!(content(&active).await, before);
            clean(&world);
        }
    });
}

#[test]
fn invalid_streams_are_refused_with_the_messages_clients_know() {
    on_control(async {
        let world = World::new();
        let [active, ..] = world.chain().await;
        let cases = [
            (BlockStreamArguments { job_id: None, ..request() }, "Invalid job ID ''"),
            (BlockStreamArguments { base: some("xx"), ..request() }, "Can't find 'xx' in the backing chain"),
            (
                BlockStreamArguments { base_node: some("xx"), ..request() },
                "Cannot find device='' nor node-name='xx'",
            ),
            (
                BlockStreamArguments { bottom: some("xx"), ..request() },
                "Cannot find device='' nor node-name='xx'",
            ),
            (
                BlockStreamArguments { base_node: some("active"), ..request() },
                "Node 'active' is not a backing image of 'active'",
            ),
            (
                BlockStreamArguments { device: "mid".to_owned(), bottom: some("active"), ..request() },
                "Node 'active' is not in a chain starting from 'mid'",
            ),
            (
                BlockStreamArguments { base: some("x"), base_node: some("base"), ..request() },
                "'base' and 'base-node' cannot be specified at the same time",
            ),
            (
                BlockStreamArguments { bottom: some("x"), base_node: some("base"), ..request() },
                "'bottom' and 'base-node' cannot be specified at the same time",
            ),
            (
                BlockStreamArguments { bottom: some("x"), base: some("base"), ..request() },
                "'base' and 'bottom' cannot be specified at the same time",
            ),
            (
                BlockStreamArguments { backing_file: some("x"), ..request() },
                "backing file specified, but streaming the entire chain",
            ),
            (
                BlockStreamArguments { speed: Some(-1), ..request() },
                "Parameter 'speed' expects a non-negative value",
            ),
            (
                BlockStreamArguments { filter_node_name: some("mid"), ..request() },
                "Could not create node: Duplicate nodes with node-name='mid'",
            ),
        ];
        for (request, expected) in cases {
            let error = start(&world, request).await.unwrap_err().to_string();
            assert_eq!(error, expected);
        }
        clean(&world);
        assert_eq!(world.events(), ["created", "null"], "of the one whose speed is wrong, as QEMU tells it");
        assert!(active.backing().is_some());
    });
}

#[test]
fn the_name_of_a_backing_file_is_changed_in_the_header_alone() {
    on_control(async {
        let world = World::new();
        let [active, mid, _] = world.chain().await;
        let change = |device: &Arc<Node>, image: &'static str| {
            let (graph, device) = (world.graph.clone(), device.clone());
            async move { change_backing_file(&graph, &device, image, "other").await.map_err(|e| e.message()) }
        };
        change(&active, "mid").await.unwrap();
        assert_eq!(mid.driver().info().backing_filename, some("other"));
        assert!(mid.read_only() && mid.backing().is_some());
        let refused = |result: Result<(), String>| result.unwrap_err();
        assert_eq!(refused(change(&mid, "mid").await), "Need a root block node");
        let none = "not allowing backing file change on an image without a backing file";
        assert_eq!(refused(change(&active, "base").await), none);
        assert_eq!(refused(change(&active, "xx").await), "Cannot find device='' nor node-name='xx'");
    });
}
