//! Storage that fails: nothing is acknowledged that may be lost.
use crate::*;

#[test]
fn after_one_failed_flush_nothing_is_acknowledged_any_more_but_reads_go_on() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d").with("fail-flush", Opt::Bool(true))).await.unwrap();
        let disk = attach(&graph, "d", Perms::WRITER).await.unwrap();
        disk.write(0, Buf::from_slice(&[5; 512]), Request::GUEST).await.unwrap();
        assert_eq!(disk.flush().await.unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(disk.flush().await.unwrap_err().kind(), ErrorKind::Poisoned);
        let e = disk.write(0, Buf::from_slice(&[6; 512]), Request::GUEST).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Poisoned);
        assert_eq!(disk.try_write(0, &[6; 512], Request::GUEST).unwrap(), 0);
        assert_eq!(read(&disk, 0, 512).await, [5; 512]);
    });
}

#[test]
fn a_failed_sync_poisons_also_when_a_single_write_asked_for_it() {
    rt::block_on_control(async {
        let graph = graph();
        // By a flush of the node, and by a write that is durable by itself.
        for (name, own) in [("flushed", false), ("own", true)] {
            let disk = memory(name).with("fail-flush", Opt::Bool(true)).with("fua", Opt::Bool(own));
            graph.add(disk).await.unwrap();
            let disk = attach(&graph, name, Perms::WRITER).await.unwrap();
            let fua = Request::GUEST.with(Flags::FUA);
            let failed = disk.write(0, Buf::from_slice(&[5; 512]), fua).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Io);
            assert_eq!(disk.flush().await.unwrap_err().kind(), ErrorKind::Poisoned);
        }
    });
}

#[test]
fn a_node_over_storage_that_broke_can_be_deleted() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d").with("fail-flush", Opt::Bool(true))).await.unwrap();
        graph.add(overlay("o", "d")).await.unwrap();
        let e = graph.remove("o").await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io, "the lost data are reported once");
        graph.remove("o").await.unwrap();
        graph.remove("d").await.unwrap();
        assert!(graph.nodes().is_empty());
    });
}
