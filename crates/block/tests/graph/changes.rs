//! Changes of the graph: all of their steps or none, with nobody inside.
use crate::*;

#[test]
fn an_overlay_put_under_a_running_guest_takes_its_writes_and_shows_what_was_there() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("base")).await.unwrap();
        let disk = attach(&graph, "base", Perms::WRITER).await.unwrap();
        disk.write(0, Buf::from_slice(&[1; 2048]), Request::GUEST).await.unwrap();
        graph.add(memory("f")).await.unwrap();
        let top = graph.add(overlay("top", "f")).await.unwrap();
        let base = graph.need_node("base").unwrap();
        graph.insert_overlay(&base, &top).await.unwrap();
        assert_eq!(disk.node().name(), "top");
        assert!(base.read_only());
        disk.write(700, Buf::from_slice(&[2; 10]), Request::GUEST).await.unwrap();
        for (at, byte) in read(&disk, 0, 2048).await.iter().enumerate() {
            assert_eq!(*byte, if (700..710).contains(&at) { 2 } else { 1 }, "byte {at}");
        }
        let (old, result) = base.read(700, BufMut::with_len(10)).await;
        result.unwrap();
        assert_eq!(&old[..], &[1; 10], "the base is as it was");
        assert_eq!(graph.remove("base").await.unwrap_err().kind(), ErrorKind::Busy);
    });
}

#[test]
fn a_change_waits_for_requests_inside_and_holds_new_ones_and_giving_up_changes_nothing() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("base").with("slow", Opt::Bool(true))).await.unwrap();
        let disk = attach(&graph, "base", Perms::WRITER).await.unwrap();
        let slow_write = {
            let disk = disk.clone();
            rt::spawn(async move { disk.write(0, Buf::from_slice(&[9; 512]), Request::GUEST).await })
        };
        rt::sleep(Duration::from_millis(5)).await;
        assert_eq!(disk.in_flight(), 1);
        let nodes = [graph.need_node("base").unwrap()];
        let mut change = graph.change().await;
        assert!(rt::timeout(Duration::from_millis(20), change.quiesce(&nodes)).await.is_err());
        drop(change);
        assert!(!slow_write.is_finished(), "giving up the wait leaves the request alone");
        let other = rt::timeout(Duration::from_secs(120), disk.flush()).await;
        assert!(other.is_ok(), "the gate is open again");
    });
}

#[test]
fn an_entry_attached_while_a_change_is_under_way_waits_for_its_end() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("base")).await.unwrap();
        let nodes = [graph.need_node("base").unwrap()];
        let mut change = graph.change().await;
        change.quiesce(&nodes).await.unwrap();
        let late = {
            let graph = graph.clone();
            rt::spawn(async move { attach(&graph, "base", Perms::READER).await.unwrap().flush().await })
        };
        rt::sleep(Duration::from_millis(20)).await;
        assert!(!late.is_finished());
        change.end(Ok(())).await.unwrap();
        late.await.unwrap().unwrap();
    });
}

#[test]
fn a_change_that_is_abandoned_by_a_panic_or_dropped_leaves_everything_as_it_was() {
    rt::block_on_control(async {
        for panics in [true, false] {
            let graph = graph();
            graph.add(memory("base")).await.unwrap();
            let spare = graph.add(memory("spare")).await.unwrap();
            graph.add(memory("f")).await.unwrap();
            let top = graph.add(overlay("top", "f")).await.unwrap();
            let disk = attach(&graph, "base", Perms::WRITER).await.unwrap();
            let state = || {
                let users = graph.nodes().iter().map(|n| (graph.users(n), n.read_only())).collect::<Vec<_>>();
                (users, disk.node().name().to_owned(), top.backing().is_none())
            };
            let before = state();
            let maker = {
                let graph = graph.clone();
                rt::spawn(async move {
                    let base = graph.need_node("base").unwrap();
                    let top = graph.need_node("top").unwrap();
                    let mut change = graph.change().await;
                    change.quiesce(std::slice::from_ref(&base)).await.unwrap();
                    change.insert_overlay(&base, &top).await.unwrap();
                    let request = BackendRequest {
                        label: "job".to_owned(),
                        node: spare,
                        perms: Perms::WRITER,
                        pinned: false,
                    };
                    change.attach(request).unwrap();
                    assert!(!panics, "a defect");
                })
            };
            assert_eq!(maker.await.is_err(), panics);
            // The next change has its turn when that one is undone.
            graph.change().await.end(Ok(())).await.unwrap();
            assert_eq!(state(), before);
            disk.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await.unwrap();
            assert_eq!(read(&disk, 0, 512).await, [1; 512]);
            attach(&graph, "spare", Perms::WRITER).await.unwrap();
        }
    });
}

#[test]
fn a_change_whose_last_step_fails_leaves_everything_as_it_was() {
    rt::block_on_control(async {
        let graph = graph();
        let base = graph.add(memory("base")).await.unwrap();
        let spare = graph.add(memory("spare")).await.unwrap();
        graph.add(memory("f")).await.unwrap();
        let top = graph.add(overlay("top", "f")).await.unwrap();
        let disk = attach(&graph, "base", Perms::WRITER).await.unwrap();
        let state = || {
            let users = graph.nodes().iter().map(|n| (graph.users(n), n.read_only())).collect::<Vec<_>>();
            (users, disk.node().name().to_owned(), top.backing().is_none())
        };
        let before = state();
        let nothing: fn() -> Result<()> = || Ok(());
        let refused: fn() -> Result<()> = || Err(BlockError::invalid("refused"));
        // The second time the steps are good, but the permissions that come out do not agree.
        for last_step in [refused, nothing] {
            let mut change = graph.change().await;
            change.quiesce(std::slice::from_ref(&base)).await.unwrap();
            let label = "late".to_owned();
            let late = BackendRequest { label, node: spare.clone(), perms: Perms::READER, pinned: false };
            change.attach(late).unwrap();
            change.set_writable(&spare, false).await.unwrap();
            change.replace(&base, &top).unwrap();
            change.set_backing(&top, Some(base.clone())).unwrap();
            change.set_perms(&disk, Perms { need: Share::READ, share: Share::NONE });
            let strict = BackendRequest {
                label: "strict".to_owned(),
                node: top.clone(),
                perms: Perms { need: Share::WRITE, share: Share::ALL },
                pinned: false,
            };
            assert!(change.attach(strict).is_err(), "no other may write there");
            assert!(change.end(last_step()).await.is_err());
            assert_eq!(state(), before);
            disk.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await.unwrap();
        }
    });
}

#[test]
fn a_reopen_of_several_nodes_changes_all_of_them_or_none() {
    rt::block_on_control(async {
        let graph = graph();
        for name in ["a", "b", "c"] {
            graph.add(memory(name)).await.unwrap();
        }
        let state = || -> Vec<_> {
            graph.nodes().iter().map(|n| (n.read_only(), n.common().detect_zeroes)).collect()
        };
        let strict =
            |name: &str| memory(name).with("read-only", Opt::Bool(true)).with_str("detect-zeroes", "on");
        let before = state();
        let guest = attach(&graph, "c", Perms::WRITER).await.unwrap();
        // The last one is refused by its driver, does not exist, or is written to by somebody.
        for last in [strict("b").with("nonsense", Opt::Uint(1)), strict("x"), strict("c")] {
            let e = graph.reopen(vec![strict("a"), strict("b"), last]).await.unwrap_err();
            assert_eq!(state(), before, "{e}");
        }
        graph.detach(&guest).await.unwrap();
        graph.reopen(vec![strict("a"), strict("b"), strict("c")]).await.unwrap();
        assert_eq!(state(), [(true, true); 3]);
        graph.reopen(vec![memory("a"), memory("c")]).await.unwrap();
        assert_eq!(state(), [(false, false), (true, true), (false, false)]);
    });
}
