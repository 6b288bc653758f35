//! Large graphs: what they cost, and how deep they may be.
use crate::drivers::ASKED;
use crate::*;
use std::sync::atomic::Ordering::*;

#[test]
fn long_chains_and_nodes_that_are_reached_in_many_ways_are_changed_in_no_time() {
    rt::block_on_control(async {
        let graph = graph();
        let started = std::time::Instant::now();
        graph.add(memory("n0")).await.unwrap();
        for i in 1..400 {
            let below = format!("n{}", i - 1);
            // Its file and its backing image at once: 2^60 ways from the top down to the first.
            let file = if i < 60 { below.clone() } else { "n0".to_owned() };
            let options = overlay(&format!("n{i}"), &file).with_str("backing", &below);
            graph.add(options.with("read-only", Opt::Bool(true))).await.unwrap();
        }
        let reader = attach(&graph, "n399", Perms::READER).await.unwrap();
        graph.set_perms(&reader, Perms::IDLE).await.unwrap();
        graph.detach(&reader).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    });
}

#[test]
fn a_chain_is_opened_and_closed_with_a_few_looks_at_each_layer() {
    rt::block_on_control(async {
        const LAYERS: usize = 1000;
        let graph = graph();
        let mut chain = Options::new().with_str("driver", "mem");
        for _ in 0..LAYERS {
            let file = Options::new().with_str("driver", "mem");
            chain = Options::new()
                .with_str("driver", "overlay")
                .with("read-only", Opt::Bool(true))
                .with("counts", Opt::Bool(true))
                .with("file", Opt::Dict(file))
                .with("backing", Opt::Dict(chain));
        }
        let top = graph.open(chain, Policy::ALONE).await.unwrap();
        let reader = attach(&graph, top.name(), Perms::READER).await.unwrap();
        graph.detach(&reader).await.unwrap();
        assert!(graph.nodes().is_empty());
        let asked = ASKED.load(Relaxed);
        assert!(asked < 20 * LAYERS, "asked {asked} times");
    });
}

/// Runs on a stack of so many bytes.
fn on_a_stack(bytes: usize, work: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(bytes);
    thread.spawn(|| rt::block_on_control(work)).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_1024_backing_images_is_read_changed_and_closed_and_a_longer_one_is_refused_soon() {
    // A call for each layer would overflow it.
    on_a_stack(256 << 10, async {
        let graph = graph();
        let small = |name: &str| memory(name).with("size", Opt::Uint(4096));
        graph.add(small("base")).await.unwrap();
        let disk = attach(&graph, "base", Perms::WRITER).await.unwrap();
        disk.write(0, Buf::from_slice(&[1; 4096]), Request::GUEST).await.unwrap();
        let mut last = Ok(());
        for layer in 0..=1024 {
            graph.add(small(&format!("f{layer}"))).await.unwrap();
            let top = graph.add(overlay(&format!("o{layer}"), &format!("f{layer}"))).await.unwrap();
            last = graph.insert_overlay(&disk.node(), &top).await;
            assert_eq!(last.is_ok(), layer < 1024, "layer {layer}: {last:?}");
        }
        assert_eq!(last.unwrap_err().kind(), ErrorKind::Limit);
        disk.write(512, Buf::from_slice(&[2; 512]), Request::GUEST).await.unwrap();
        let seen = read(&disk, 0, 4096).await;
        assert!(seen.iter().enumerate().all(|(i, b)| *b == if (512..1024).contains(&i) { 2 } else { 1 }));
        let mut first = [0; 512];
        assert_eq!((disk.try_read(0, &mut first).unwrap(), first), (512, [1; 512]), "without waiting too");
        assert_eq!(disk.status(0, 512).await.unwrap().depth, 1024);
        graph.set_writable(&disk.node(), false).await.unwrap_err();
        graph.detach(&disk).await.unwrap();
        // Dropping the last handle drops all nodes at once.
        drop(disk);
        drop(graph);
    });
}

#[test]
fn nodes_that_are_each_the_file_of_another_are_refused_long_before_the_stack_ends() {
    // A thread has four times as much.
    on_a_stack(512 << 10, async {
        let graph = graph();
        graph.add(memory("n0")).await.unwrap();
        let mut stacked = 0;
        let refused = loop {
            match graph.add(overlay(&format!("n{}", stacked + 1), &format!("n{stacked}"))).await {
                Ok(_) => stacked += 1,
                Err(e) => break e,
            }
        };
        assert_eq!((refused.kind(), stacked), (ErrorKind::Limit, 64));
        let disk = attach(&graph, "n64", Perms::WRITER).await.unwrap();
        disk.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await.unwrap();
        assert_eq!(read(&disk, 0, 1024).await, [[1; 512], [0; 512]].concat());
        graph.detach(&disk).await.unwrap();
        graph.close_all().await.unwrap();
        let deep = (0..2000).fold(Options::new().with_str("driver", "mem"), |file, _| {
            Options::new().with_str("driver", "overlay").with("file", Opt::Dict(file))
        });
        assert_eq!(graph.open(deep, Policy::ALONE).await.unwrap_err().kind(), ErrorKind::Limit);
        assert!(graph.nodes().is_empty());
    });
}
