//! Who may use a node beside whom.
use crate::drivers::{REFUSES, TOLD};
use crate::*;
use api::PreallocMode;
use std::sync::atomic::Ordering::*;

#[test]
fn a_user_that_needs_what_another_does_not_share_is_refused_and_nothing_changes() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("f")).await.unwrap();
        let writer = attach(&graph, "f", Perms::WRITER).await.unwrap();
        let e = graph.add(overlay("o", "f")).await.unwrap_err();
        assert!(e.message().starts_with("Permission conflict on node 'f'"), "{e}");
        assert_eq!(graph.nodes().len(), 1);
        graph.detach(&writer).await.unwrap();
        graph.add(overlay("o", "f")).await.unwrap();
        assert_eq!(attach(&graph, "f", Perms::WRITER).await.unwrap_err().kind(), ErrorKind::Busy);
    });
}

#[test]
fn each_operation_is_refused_by_every_blocker_that_names_it_and_by_no_other() {
    rt::block_on_control(async {
        let graph = graph();
        let node = graph.add(memory("f")).await.unwrap();
        let changes = node.block(Operations::CHANGE, "job 'a' works on it");
        let reads = node.block(Operations::READ, "job 'b' changes what it shows");
        assert_eq!(node.blocked_by(), ["job 'a' works on it", "job 'b' changes what it shows"]);
        for operation in [Operations::RESIZE, Operations::REOPEN, Operations::OVERLAY, Operations::JOB] {
            let refused = node.check_operation(operation).unwrap_err();
            assert_eq!(
                (refused.kind(), refused.message()),
                (ErrorKind::Busy, "Node 'f' is busy: job 'a' works on it".to_owned())
            );
        }
        let busy = |e: BlockError| e.message().to_owned();
        let (by_a, by_b) =
            ("Node 'f' is busy: job 'a' works on it", "Node 'f' is busy: job 'b' changes what it shows");
        assert_eq!(graph.resize(&node, 4096, PreallocMode::Off).await.map_err(busy), Err(by_a.to_owned()));
        assert_eq!(graph.remove("f").await.map_err(busy), Err(by_a.to_owned()));
        assert_eq!(attach(&graph, "f", Perms::READER).await.map(drop).map_err(busy), Err(by_b.to_owned()));
        graph.add(overlay("o", "f")).await.unwrap();
        let by_b = by_b.replace("'f'", "'o'");
        assert_eq!(attach(&graph, "o", Perms::READER).await.map(drop).map_err(busy), Err(by_b));
        graph.remove("o").await.unwrap();
        drop(reads);
        let reader = attach(&graph, "f", Perms::READER).await.unwrap();
        graph.detach(&reader).await.unwrap();
        assert!(graph.remove("f").await.is_err());
        drop(changes);
        graph.remove("f").await.unwrap();
    });
}

#[test]
fn a_driver_is_always_given_the_combined_permissions_of_all_users_above_it() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("n0").with("tells", Opt::Bool(true))).await.unwrap();
        for i in 1..8 {
            let lends = overlay(&format!("n{i}"), &format!("n{}", i - 1)).with("lends", Opt::Bool(true));
            graph.add(lends).await.unwrap();
        }
        let (mut users, mut state, mut refused): (Vec<(Arc<Backend>, Perms)>, _, _) =
            (Vec::new(), 88_172_645u64, 0);
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for _ in 0..2000 {
            let need = [Share::NONE, Share::READ, Share::READ.union(Share::WRITE)][random(3)];
            let share = [Share::ALL, Share::ALL, Share::ALL, Share::READ][random(4)];
            let (perms, mine) = (Perms { need, share }, random(users.len().max(1)));
            REFUSES.store(random(4) == 0, Release);
            let failed = match (random(3), users.get_mut(mine)) {
                (0, Some(_)) => graph.detach(&users.swap_remove(mine).0).await.is_err(),
                (1, Some(user)) => {
                    let changed = graph.set_perms(&user.0, perms).await;
                    user.1 = if changed.is_ok() { perms } else { user.1 };
                    changed.is_err()
                }
                _ => match attach(&graph, &format!("n{}", random(8)), perms).await {
                    Ok(user) => {
                        users.push((user, perms));
                        false
                    }
                    Err(_) => true,
                },
            };
            refused += u32::from(failed);
            assert_eq!(*TOLD.lock(), Perms::together(users.iter().map(|(_, perms)| *perms)));
        }
        assert!((100..1900).contains(&refused), "{refused} refused");
    });
}
