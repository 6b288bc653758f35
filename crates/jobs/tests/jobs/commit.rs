//! block-commit on images in memory, while guests keep writing.
use crate::support::*;
use api::{BlockCommitArguments, BlockDeviceIoStatus, BlockdevOnError, JobStatus, PreallocMode};
use block::{BackendRequest, Node, Perms, Share};
use jobs::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

fn request() -> BlockCommitArguments {
    BlockCommitArguments {
        job_id: Some("j".to_owned()),
        device: "active".to_owned(),
        ..BlockCommitArguments::default()
    }
}

async fn commit_under_writers(round: u64) {
    seed(round);
    let world = World::new();
    let [active, _, base] = world.chain().await;
    let before = content(&active).await;
    let entry = writer(&world.graph, &active).await;
    let stop = Arc::new(AtomicBool::new(false));
    let guests: Vec<_> = (0..3).map(|n| rt::spawn(guest(entry.clone(), n, 3, stop.clone()))).collect();
    commit(&world.graph, &world.jobs, request()).await.unwrap();
    world.until_told("READY").await;
    let soft = round.is_multiple_of(4);
    let job = world.jobs.find("j").unwrap();
    if soft {
        job.cancel(false).unwrap()
    } else {
        job.complete().unwrap()
    }
    if round.is_multiple_of(3) {
        stop.store(true, Relaxed);
    }
    world.ended("j").await;
    let at_end = base.clone();
    assert!(
        Arc::ptr_eq(&entry.node(), if soft { &active } else { &at_end }),
        "the node that the guest's entry leads to"
    );
    let writes = writes_of(guests, &stop).await;
    let after = content(&entry.node()).await;
    assert_eq!(after.len() as u64, SIZE, "the base was grown");
    check_rest(&after, &before, &writes);
    assert!(base.blocked_by().is_empty() && active.blocked_by().is_empty());
    assert!(world.events().iter().any(|e| e.starts_with("COMPLETED")), "{:?}", world.events());
    assert_eq!(world.events().last().map(String::as_str), Some("null"));
}

#[test]
fn no_acknowledged_write_is_lost_by_an_active_commit_under_any_interleaving() {
    let _turn = TURN.lock();
    rt::block_on_control(async {
        for round in 0..150 {
            // A failure names its round; it is the seed.
            let run = rt::spawn(commit_under_writers(round)).await;
            assert!(run.is_ok(), "seed {round}: {run:?}");
        }
    });
}

#[test]
fn an_active_commit_reports_its_statuses_in_order_and_waits_for_complete() {
    on_control(async {
        let world = World::new();
        let [active, mid, base] = world.chain().await;
        let before = content(&active).await;
        commit(&world.graph, &world.jobs, request()).await.unwrap();
        assert_eq!(mid.blocked_by()[0], "block device is in use by block job: commit");
        let refused = world.graph.resize(&active, SIZE * 2, PreallocMode::Off).await.unwrap_err();
        assert_eq!(refused.message(), "Node 'active' is busy: block device is in use by block job: commit");
        world.until_told("READY").await;
        let job = world.jobs.find("j").unwrap();
        let figures = job.block_info();
        assert_eq!((figures.offset, figures.ready, figures.status), (figures.len, true, JobStatus::Ready));
        job.complete().unwrap();
        world.ended("j").await;
        assert_eq!(content(&base).await, before);
        let events = world.events();
        let words: Vec<_> = events.iter().map(|e| e.split(' ').next().unwrap()).collect();
        let expected =
            ["created", "running", "ready", "READY", "waiting", "pending", "COMPLETED", "concluded", "null"];
        assert_eq!(words, expected);
        assert!(!base.read_only(), "the base is the active layer now");
    });
}

#[test]
fn an_intermediate_commit_ends_by_itself_and_gives_the_overlay_its_new_backing_file() {
    on_control(async {
        let world = World::new();
        let [active, _, base] = world.chain().await;
        let before = content(&active).await;
        let request = BlockCommitArguments { top_node: Some("mid".to_owned()), ..request() };
        commit(&world.graph, &world.jobs, request).await.unwrap();
        world.ended("j").await;
        let events = world.events();
        assert_eq!(events.iter().filter(|e| e.starts_with("COMPLETED")).count(), 1, "{events:?}");
        assert!(events.contains(&format!("COMPLETED {SIZE}/{SIZE}")), "{events:?}");
        assert!(Arc::ptr_eq(&active.backing().unwrap(), &base));
        assert_eq!(content(&active).await, before);
        assert!(base.read_only(), "the base is a backing file again");
    });
}

#[test]
fn a_forced_cancel_leaves_the_chain_as_it_was() {
    on_control(async {
        let world = World::new();
        let [active, mid, base] = world.chain().await;
        let before = content(&active).await;
        commit(&world.graph, &world.jobs, request()).await.unwrap();
        world.until_told("READY").await;
        world.jobs.find("j").unwrap().cancel(true).unwrap();
        world.ended("j").await;
        let events = world.events();
        assert_eq!(events[events.len() - 4..], ["aborting", "CANCELLED", "concluded", "null"]);
        assert!(Arc::ptr_eq(&active.backing().unwrap(), &mid));
        assert!(base.read_only() && base.blocked_by().is_empty());
        assert_eq!(content(&active).await, before);
    });
}

#[test]
fn a_job_without_auto_finalize_and_auto_dismiss_waits_for_both() {
    on_control(async {
        let world = World::new();
        let [active, _, base] = world.chain().await;
        let request = BlockCommitArguments {
            top_node: Some("mid".to_owned()),
            auto_finalize: Some(false),
            auto_dismiss: Some(false),
            ..request()
        };
        commit(&world.graph, &world.jobs, request).await.unwrap();
        world.until_told("PENDING").await;
        let refused = world.jobs.find("j").unwrap().resume().unwrap_err().to_string();
        assert_eq!(refused, "Can't resume a job that was not paused");
        assert!(!Arc::ptr_eq(&active.backing().unwrap(), &base));
        world.jobs.finalize("j").await.unwrap();
        assert!(Arc::ptr_eq(&active.backing().unwrap(), &base));
        let job = world.jobs.find("j").unwrap();
        let refused = job.cancel(true).unwrap_err().to_string();
        assert_eq!(refused, "Job 'j' in state 'concluded' cannot accept command verb 'cancel'");
        world.jobs.dismiss("j").unwrap();
        assert!(world.jobs.find("j").is_none());
    });
}

#[test]
fn pause_and_resume_hold_a_job_between_two_requests() {
    on_control(async {
        let world = World::new();
        let _chain = world.chain().await;
        commit(&world.graph, &world.jobs, BlockCommitArguments { speed: Some(1), ..request() })
            .await
            .unwrap();
        let job = world.jobs.find("j").unwrap();
        job.pause().unwrap();
        assert_eq!(job.pause().unwrap_err().to_string(), "Job is already paused");
        world.until_told("paused").await;
        assert_eq!(
            job.cancel(false).unwrap_err().to_string(),
            "The block job for device 'j' is currently paused"
        );
        job.resume().unwrap();
        assert_eq!(job.resume().unwrap_err().to_string(), "Can't resume a job that was not paused");
        job.set_speed(0).unwrap();
        world.until_told("READY").await;
        job.pause().unwrap();
        world.until_told("standby").await;
        job.complete().unwrap();
        job.resume().unwrap();
        world.ended("j").await;
        assert!(world.events().iter().any(|e| e.starts_with("COMPLETED")));
    });
}

#[test]
fn an_error_is_reported_or_ignored_or_stops_the_job_as_asked() {
    const ENOSPC: i32 = rt::Errno::NOSPC.raw_os_error();
    const EIO: i32 = rt::Errno::IO.raw_os_error();
    on_control(async {
        let cases = [
            (BlockdevOnError::Report, EIO, "ERROR write report", "COMPLETED Input/output error"),
            (BlockdevOnError::Ignore, EIO, "ERROR write ignore", "COMPLETED "),
            (BlockdevOnError::Enospc, EIO, "ERROR write report", "COMPLETED Input/output error"),
            (BlockdevOnError::Enospc, ENOSPC, "ERROR write stop", "COMPLETED "),
            (BlockdevOnError::Stop, EIO, "ERROR write stop", "COMPLETED "),
        ];
        for (on_error, errno, error, end) in cases {
            let world = World::new();
            let [active, ..] = world.chain().await;
            let before = content(&active).await;
            FAULTS.lock().push(("base.img".to_owned(), 1, errno));
            let request = BlockCommitArguments {
                on_error: Some(on_error),
                top_node: Some("mid".to_owned()),
                ..request()
            };
            commit(&world.graph, &world.jobs, request).await.unwrap();
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
            assert!(events.iter().any(|e| e.starts_with(end)), "{on_error:?}: {events:?}");
            assert_eq!(content(&active).await, before);
        }
    });
}

#[test]
fn a_node_in_the_middle_of_a_commit_has_no_readers_of_its_own() {
    on_control(async {
        let world = World::new();
        let [_, mid, base] = world.chain().await;
        let reader = |node: &Arc<Node>| {
            let (label, perms) = ("reader".to_owned(), block::Perms::READER);
            world.graph.attach(block::BackendRequest { label, node: node.clone(), perms, pinned: false })
        };
        let first = reader(&mid).await.unwrap();
        let refused = commit(&world.graph, &world.jobs, request()).await.unwrap_err().to_string();
        assert!(refused.contains("consistent read"), "{refused}");
        world.graph.detach(&first).await.unwrap();
        commit(&world.graph, &world.jobs, request()).await.unwrap();
        let refused = reader(&mid).await.unwrap_err();
        assert!(refused.message().contains("consistent read"), "{refused}");
        let (over, above) = (filter(&world.graph, "over", "mid", true).await, "above");
        let above = filter(&world.graph, above, "over", true).await;
        for node in [&over, &above] {
            let refused = reader(node).await.unwrap_err();
            assert!(refused.message().contains("consistent read"), "nor by way of another node: {refused}");
        }
        let of_base = reader(&base).await.unwrap();
        world.graph.detach(&of_base).await.unwrap();
        world.jobs.find("j").unwrap().cancel(true).unwrap();
        world.ended("j").await;
        for node in [&mid, &above] {
            let last = reader(node).await.unwrap();
            world.graph.detach(&last).await.unwrap();
        }
    });
}

#[test]
fn a_job_that_could_not_copy_everything_is_not_ready() {
    const ENOSPC: i32 = rt::Errno::NOSPC.raw_os_error();
    on_control(async {
        let world = World::new();
        let [active, mid, base] = world.chain().await;
        let before = content(&active).await;
        FAULTS.lock().push(("base.img".to_owned(), 3, ENOSPC));
        commit(
            &world.graph,
            &world.jobs,
            BlockCommitArguments { on_error: Some(BlockdevOnError::Stop), ..request() },
        )
        .await
        .unwrap();
        let job = world.jobs.find("j").unwrap();
        while job.status() != JobStatus::Ready {
            if job.status() == JobStatus::Paused {
                job.resume().unwrap();
            }
            rt::sleep(Duration::from_millis(1)).await;
        }
        let ready = world.events().into_iter().find(|e| e.starts_with("READY")).unwrap();
        let (offset, len) = ready["READY ".len()..].split_once('/').unwrap();
        assert_eq!(offset, len, "{:?}", world.events());
        job.complete().unwrap();
        world.ended("j").await;
        assert_eq!(content(&base).await, before);
        drop((active, mid));
    });
}

#[test]
fn invalid_requests_are_refused_with_the_messages_clients_know() {
    on_control(async {
        let world = World::new();
        let _chain = world.chain().await;
        let some = |s: &str| Some(s.to_owned());
        let cases = [
            (BlockCommitArguments { device: "nope".to_owned(), ..request() }, "Device 'nope' not found"),
            (BlockCommitArguments { device: "mid".to_owned(), ..request() }, "Need a root block node"),
            (BlockCommitArguments { job_id: None, ..request() }, "Invalid job ID ''"),
            (BlockCommitArguments { job_id: some("1j"), ..request() }, "Invalid job ID '1j'"),
            (BlockCommitArguments { top: some("xx"), ..request() }, "Top image file xx not found"),
            (BlockCommitArguments { base: some("xx"), ..request() }, "Can't find 'xx' in the backing chain"),
            (
                BlockCommitArguments { base_node: some("xx"), ..request() },
                "Cannot find device='' nor node-name='xx'",
            ),
            (
                BlockCommitArguments { base_node: some("active"), ..request() },
                "cannot commit an image into itself",
            ),
            (BlockCommitArguments { device: "base".to_owned(), ..request() }, "Need a root block node"),
            (
                BlockCommitArguments { base: some("base.img"), top: some("base.img"), ..request() },
                "Can't find 'base.img' in the backing chain",
            ),
            (BlockCommitArguments { filter_node_name: some("1x"), ..request() }, "Invalid node-name: '1x'"),
            (
                BlockCommitArguments { filter_node_name: some("mid"), ..request() },
                "Duplicate nodes with node-name='mid'",
            ),
            (
                BlockCommitArguments { backing_file: some("x"), ..request() },
                "'backing-file' specified, but 'top' is the active layer",
            ),
        ];
        for (request, expected) in cases {
            let refused = commit(&world.graph, &world.jobs, request.clone()).await.unwrap_err();
            assert_eq!(refused.to_string(), expected, "{request:?}");
        }
        assert!(world.events().is_empty(), "nothing was started");
        assert!(world.graph.nodes().iter().all(|n| n.blocked_by().is_empty()));
    });
}

#[test]
fn layers_with_other_writers_or_other_overlays_in_use_are_not_committed_and_nothing_changes() {
    on_control(async {
        let world = World::new();
        let [_, mid, base] = world.chain().await;
        let other = layer(&world.graph, "other", SIZE, Some("base"), false).await;
        let above = layer(&world.graph, "above", SIZE, Some("other"), false).await;
        let reader = reader(&world.graph, &above).await.unwrap();
        let refused = commit(&world.graph, &world.jobs, request()).await.unwrap_err().to_string();
        assert_eq!(
            refused,
            "'base' is the backing image of 'other' too, whose content would change under reader"
        );
        world.graph.detach(&reader).await.unwrap();
        world.graph.remove(above.name()).await.unwrap();
        world.graph.remove(other.name()).await.unwrap();

        world.graph.set_writable(&mid, true).await.unwrap();
        let guest = writer(&world.graph, &mid).await;
        let refused = commit(&world.graph, &world.jobs, request()).await.unwrap_err().to_string();
        assert!(refused.ends_with("guest writes to it"), "{refused}");
        world.graph.detach(&guest).await.unwrap();
        assert!(base.read_only() && !mid.read_only());
        assert!(
            world.graph.nodes().iter().all(|n| n.blocked_by().is_empty()) && world.graph.entries().is_empty()
        );

        // Writable, but without writers: it is read-only while the job runs, and writable again afterwards.
        let request = BlockCommitArguments {
            top_node: Some("mid".to_owned()),
            auto_finalize: Some(false),
            ..request()
        };
        commit(&world.graph, &world.jobs, request).await.unwrap();
        world.until_told("PENDING").await;
        assert!(mid.read_only());
        world.jobs.finalize("j").await.unwrap();
        assert!(!mid.read_only());
    });
}

/// base ← on-base ← mid ← on-mid ← active ← on-active
#[test]
fn filters_on_the_layers_are_in_nobodys_way() {
    const CASES: [(Option<&str>, Option<&str>); 11] = [
        (None, None),
        (None, Some("base")),
        (Some("active"), Some("on-base")),
        (Some("active"), Some("on-mid")),
        (Some("on-active"), Some("mid")),
        (Some("mid"), None),
        (Some("mid"), Some("base")),
        (Some("mid"), Some("on-base")),
        (Some("on-mid"), None),
        (Some("on-mid"), Some("base")),
        (Some("on-mid"), Some("on-base")),
    ];
    on_control(async {
        for (top, base) in CASES {
            let world = World::new();
            let graph = &world.graph;
            let mut below = None;
            for (byte, (name, on)) in
                (1..).zip([("base", "on-base"), ("mid", "on-mid"), ("active", "on-active")])
            {
                let node = layer(graph, name, SIZE, below, false).await;
                fill(graph, &node, byte).await;
                graph.set_writable(&node, name == "active").await.unwrap();
                filter(graph, on, name, name != "active").await;
                below = Some(on);
            }
            let node = |name: &str| graph.need_node(name).unwrap();
            let before = content(&node("on-active")).await;
            let owned = |name: Option<&str>| name.map(str::to_owned);
            let request = BlockCommitArguments {
                device: "on-active".to_owned(),
                top_node: owned(top),
                base_node: owned(base),
                ..request()
            };
            commit(graph, &world.jobs, request).await.unwrap();
            if !top.is_some_and(|top| top.ends_with("mid")) {
                world.until_told("READY").await;
                world.jobs.find("j").unwrap().complete().unwrap();
                world.ended("j").await;
                assert_eq!(content(&node(base.unwrap_or("base"))).await, before, "{top:?}, {base:?}");
                continue;
            }
            world.ended("j").await;
            assert_eq!(world.events().last().unwrap(), "null", "{top:?}, {base:?}");
            let stored = node("active").driver().info().backing_filename;
            assert_eq!(stored.as_deref(), Some("base.img"), "{top:?}, {base:?}");
            assert!(Arc::ptr_eq(&node("active").backing().unwrap().skip_filters(), &node("base")));
            assert_eq!(content(&node("on-active")).await, before, "{top:?}, {base:?}");
        }
    });
}

#[test]
fn a_filter_beside_a_layer_prevents_a_commit_only_where_it_is_read() {
    on_control(async {
        let world = World::new();
        world.chain().await;
        let beside = filter(&world.graph, "beside", "mid", true).await;
        let first = reader(&world.graph, &beside).await.unwrap();
        let refused = commit(&world.graph, &world.jobs, request()).await.unwrap_err().to_string();
        assert_eq!(refused, "'mid' is read through 'beside' too, whose content would change under reader");
        world.graph.detach(&first).await.unwrap();
        commit(&world.graph, &world.jobs, request()).await.unwrap();
        let refused = reader(&world.graph, &beside).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains("consistent read"), "{refused}");
        world.until_told("READY").await;
        world.jobs.find("j").unwrap().complete().unwrap();
        world.ended("j").await;
    });
}

#[test]
fn an_unused_overlay_beside_the_chain_does_not_prevent_a_commit_and_gets_no_users_meanwhile() {
    on_control(async {
        let world = World::new();
        let [_, mid, base] = world.chain().await;
        let beside = layer(&world.graph, "beside", SIZE, Some(base.name()), false).await;
        let above = layer(&world.graph, "above", SIZE, Some("beside"), false).await;
        commit(&world.graph, &world.jobs, BlockCommitArguments { auto_finalize: Some(false), ..request() })
            .await
            .unwrap();
        for node in [&beside, &above] {
            let refused = reader(&world.graph, node).await.map(drop).unwrap_err().to_string();
            assert!(
                refused.contains("is busy: job 'j'") && refused.contains("'consistent read'"),
                "{refused}"
            );
        }
        world.jobs.cancel_all().await;
        world.until_told("CANCELLED").await;
        let entry = reader(&world.graph, &above).await.unwrap();
        world.graph.detach(&entry).await.unwrap();
        assert!(world.graph.nodes().iter().all(|n| n.blocked_by().is_empty()), "{mid:?}");
    });
}

#[test]
fn a_commit_succeeds_although_closing_the_old_overlay_fails() {
    const EIO: i32 = rt::Errno::IO.raw_os_error();
    on_control(async {
        let world = World::new();
        let [.., base] = world.chain().await;
        // Only the guest uses the overlay, as after a snapshot: it is closed when the guest has left it.
        let top = layer_options("top", SIZE, Some("active"), false);
        let top = world.graph.open(top, block::Policy::ALONE).await.unwrap();
        let guest = writer(&world.graph, &top).await;
        write(&guest, 0, &[9; 512]).await;
        let before = content(&top).await;
        let request = BlockCommitArguments { device: "top".to_owned(), ..request() };
        commit(&world.graph, &world.jobs, request).await.unwrap();
        world.until_told("READY").await;
        // From here on every sync of the overlay's file fails; the base's are good.
        FAULTS.lock().push(("top.img".to_owned(), u64::MAX, EIO));
        world.jobs.find("j").unwrap().complete().unwrap();
        world.ended("j").await;
        assert!(Arc::ptr_eq(&guest.node(), &base), "the guest has moved");
        let events = world.events();
        assert!(events.contains(&format!("COMPLETED {SIZE}/{SIZE}")), "{events:?}");
        assert_eq!(content(&base).await, before);
    });
}

#[test]
fn a_commit_whose_base_is_not_durable_fails_and_moves_no_user() {
    const EIO: i32 = rt::Errno::IO.raw_os_error();
    on_control(async {
        let world = World::new();
        let [active, mid, _] = world.chain().await;
        let guest = writer(&world.graph, &active).await;
        let before = content(&active).await;
        commit(&world.graph, &world.jobs, request()).await.unwrap();
        world.until_told("READY").await;
        FAULTS.lock().push(("base.img".to_owned(), u64::MAX, EIO));
        world.jobs.find("j").unwrap().complete().unwrap();
        world.ended("j").await;
        assert!(Arc::ptr_eq(&guest.node(), &active) && Arc::ptr_eq(&active.backing().unwrap(), &mid));
        let events = world.events();
        assert!(events.contains(&"COMPLETED Input/output error".to_owned()), "{events:?}");
        assert_eq!(content(&active).await, before);
    });
}

#[test]
fn while_a_commit_runs_its_filter_is_between_the_top_and_its_users() {
    on_control(async {
        for (top, driver) in [(None, "mirror_top"), (Some("mid".to_owned()), "commit_top")] {
            for name in [None, Some("filter".to_owned())] {
                let world = World::new();
                let [active, mid, base] = world.chain().await;
                let before = content(&active).await;
                let nodes = world.graph.nodes().len();
                let entry = writer(&world.graph, &active).await;
                let held = BlockCommitArguments {
                    speed: Some(1),
                    top_node: top.clone(),
                    filter_node_name: name.clone(),
                    ..request()
                };
                commit(&world.graph, &world.jobs, held).await.unwrap();
                let filter = if top.is_none() { entry.node() } else { active.backing().unwrap() };
                assert_eq!(filter.driver_name(), driver);
                assert_eq!(name.as_deref().unwrap_or("#block"), &filter.name()[..6]);
                let below = if top.is_none() { &active } else { &mid };
                assert!(Arc::ptr_eq(&filter.filtered().unwrap(), below));
                assert_eq!(filter.filename(), below.filename(), "it has no name of its own");
                assert_eq!(world.graph.nodes().len(), nodes + 1);
                assert_eq!(content(&entry.node()).await, before);
                assert!(world.graph.remove(filter.name()).await.is_err());
                let job = world.jobs.find("j").unwrap();
                job.cancel(true).unwrap();
                world.ended("j").await;
                assert!(Arc::ptr_eq(&entry.node(), &active) && Arc::ptr_eq(&active.backing().unwrap(), &mid));
                assert_eq!(world.graph.nodes().len(), nodes);
                // The same once more, to its end.
                let whole = BlockCommitArguments { speed: None, ..request_with(&top, &name) };
                commit(&world.graph, &world.jobs, whole).await.unwrap();
                if top.is_none() {
                    world.until_told("READY").await;
                    world.jobs.find("j").unwrap().complete().unwrap();
                }
                world.ended("j").await;
                assert!(world.graph.nodes().iter().all(|node| node.driver_name() != driver));
                let lowest = if top.is_none() { entry.node() } else { active.backing().unwrap() };
                assert!(Arc::ptr_eq(&lowest, &base));
                assert_eq!(content(&entry.node()).await, before);
            }
        }
    });
}

fn request_with(top: &Option<String>, filter: &Option<String>) -> BlockCommitArguments {
    BlockCommitArguments { top_node: top.clone(), filter_node_name: filter.clone(), ..request() }
}

#[test]
fn a_commit_that_does_not_start_leaves_no_filter() {
    on_control(async {
        let world = World::new();
        let [active, _, base] = world.chain().await;
        let _keeps = reader(&world.graph, &base).await.unwrap();
        let strict = BackendRequest {
            label: "strict".to_owned(),
            node: base.clone(),
            perms: Perms { need: Share::READ, share: Share::READ },
            pinned: false,
        };
        let _strict = world.graph.attach(strict).await.unwrap();
        let entry = writer(&world.graph, &active).await;
        let nodes = world.graph.nodes().len();
        commit(&world.graph, &world.jobs, request()).await.unwrap_err();
        assert_eq!(world.graph.nodes().len(), nodes);
        assert!(Arc::ptr_eq(&entry.node(), &active));
        assert!(active.blocked_by().is_empty());
    });
}

#[test]
fn a_device_that_does_not_share_writing_does_not_prevent_a_commit_below_it() {
    on_control(async {
        for top in [None, Some("mid".to_owned())] {
            let world = World::new();
            let [active, _, base] = world.chain().await;
            let before = content(&active).await;
            let device = BackendRequest {
                label: "device".to_owned(),
                node: active.clone(),
                perms: Perms { need: Share::READ, share: Share::READ.union(Share::WRITE_UNCHANGED) },
                pinned: false,
            };
            let device = world.graph.attach(device).await.unwrap();
            commit(&world.graph, &world.jobs, request_with(&top, &None)).await.unwrap();
            if top.is_none() {
                world.until_told("READY").await;
                world.jobs.find("j").unwrap().complete().unwrap();
            }
            world.ended("j").await;
            let lowest = if top.is_none() { device.node() } else { active.backing().unwrap() };
            assert!(Arc::ptr_eq(&lowest, &base));
            assert_eq!(content(&device.node()).await, before);
        }
    });
}
