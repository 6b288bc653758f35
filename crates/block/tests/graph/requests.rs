//! What requests leave behind, and what options do to them.
use crate::*;

#[test]
fn a_dirty_bitmap_covers_every_write_while_it_is_there() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d")).await.unwrap();
        let disk = attach(&graph, "d", Perms::WRITER).await.unwrap();
        let bitmap = Arc::new(DirtyBitmap::new(disk.length(), 65536));
        let mut change = graph.change().await;
        change.add_hook(&disk.node(), Hook::After(bitmap.clone()));
        change.end(Ok(())).await.unwrap();
        disk.write(65536, Buf::from_slice(&[1; 1]), Request::GUEST).await.unwrap();
        assert_eq!(bitmap.next_dirty(0), Some(65536));
        assert_eq!(bitmap.take_run(65536, 1 << 20), 131_072);
        let mut change = graph.change().await;
        change.remove_hook(&disk.node(), Hook::After(bitmap.clone()));
        change.end(Ok(())).await.unwrap();
        disk.write(0, Buf::from_slice(&[1; 1]), Request::GUEST).await.unwrap();
        assert!(bitmap.is_clean());
    });
}

#[test]
fn a_read_that_comes_in_parts_is_counted_once_with_all_its_bytes() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d")).await.unwrap();
        let disk = attach(&graph, "d", Perms::READER).await.unwrap();
        let mut buf = [0; 2048];
        let n = disk.try_read(0, &mut buf).unwrap();
        assert_eq!(n, 512);
        read(&disk, n as u64, buf.len() - n).await;
        let stats = disk.stats().read;
        assert_eq!((stats.ops, stats.bytes), (1, 2048));
    });
}

#[test]
fn detect_zeroes_looks_at_what_guests_write_and_not_at_the_nodes_below() {
    rt::block_on_control(async {
        let graph = graph();
        let file = Opt::Dict(Options::new().with_str("driver", "mem"));
        let options = Options::new().with_str("driver", "overlay").with("file", file);
        let top = graph.add(options.with_str("detect-zeroes", "on")).await.unwrap();
        assert!(top.common().detect_zeroes && !top.primary().unwrap().common().detect_zeroes);
    });
}
