//! The length of a file with direct I/O, whose padded writes reach beyond its end for a moment.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use api::PreallocMode;
use block::{Backend, BackendRequest, Graph, Opt, Options, Perms, Policy, Registry, Request, Share};
use rt::Buf;
use sim::{Config, Disk, Sim};
use std::sync::Arc;

async fn open(graph: &Graph) -> Arc<Backend> {
    let options = Options::new()
        .with_str("driver", "file")
        .with_str("filename", "/f")
        .with("cache", Opt::Dict(Options::new().with("direct", Opt::Bool(true))));
    let node = graph.open(options, Policy::FOLLOW).await.unwrap();
    let perms = Perms { share: Share::ALL, ..Perms::WRITER };
    let request = BackendRequest { label: "test".to_owned(), node, perms, pinned: false };
    graph.attach(request).await.unwrap()
}

/// A machine with a file of one sector, whose storage takes only blocks of 4096 bytes past the page cache.
fn one_sector(seed: u64) -> Sim {
    let mut disk = Disk::default();
    disk.put("/f", &[7; 512]);
    Sim::boot(Config { direct_alignment: 4096, ..Config::seeded(seed) }, disk)
}

#[test]
fn a_file_keeps_what_it_was_grown_by_beside_a_padded_write() {
    for seed in 0..100 {
        let sim = one_sector(seed);
        sim.run(async move {
            let graph = Graph::new(Registry::new(&[protocols::DRIVERS]), |_| Ok(Options::new()));
            let entry = open(&graph).await;
            let (node, same) = (entry.node(), entry.node());
            let grown = rt::spawn(async move {
                let least = seed % 2 == 0;
                if least { same.grow_to(3072).await } else { same.set_length(3072, PreallocMode::Off).await }
            });
            // As a format writes: behind the end.
            node.write(512, Buf::from_slice(&[8; 512]), Request::GUEST).await.unwrap();
            grown.await.unwrap().unwrap();
            assert_eq!(entry.length(), 3072, "the node's length");
            graph.detach(&entry).await.unwrap();
        });
        let bytes = sim.world().disk().content("/f").unwrap().to_vec();
        let expected = [vec![7; 512], vec![8; 512], vec![0; 2048]].concat();
        assert!(bytes == expected, "seed {seed}: {} bytes", bytes.len());
    }
}

#[test]
fn the_padding_of_a_write_is_never_seen_as_a_part_of_the_disk() {
    for seed in 0..40 {
        let sim = one_sector(seed);
        sim.run(async move {
            let graph = Graph::new(Registry::new(&[protocols::DRIVERS]), |_| Ok(Options::new()));
            let entry = open(&graph).await;
            let disk = entry.clone();
            let mut write =
                rt::spawn(async move { disk.write(0, Buf::from_slice(&[8; 512]), Request::GUEST).await });
            let mut looks = 0;
            while rt::timeout(std::time::Duration::from_micros(1), &mut write).await.is_err() {
                assert_eq!(entry.length(), 512, "seed {seed}: after {looks} looks");
                looks += 1;
            }
            assert!(looks > 2, "the write takes its time");
            graph.detach(&entry).await.unwrap();
        });
        assert_eq!(sim.world().disk().content("/f").unwrap().to_vec(), [8; 512]);
    }
}
