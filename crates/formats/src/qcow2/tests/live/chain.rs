//! Chains of backing images: one that is met again on the way down is a loop, whatever name leads to it.
use super::*;

/// Makes an image whose header names a backing image.
fn overlay(path: &Path, backing: &str, format: &str) {
    create(path, 1 << 20, &[("cluster_size", "512"), ("backing_file", backing), ("backing_fmt", format)])
        .unwrap();
}

/// Opens it, with all that it stands on.
fn opened(path: &Path) -> block::Result<()> {
    rt::block_on_control(async {
        let graph = graph();
        let common = Common { read_only: true, ..Common::default() };
        let options = graph.image_options(path.to_str().unwrap(), Some("qcow2"))?;
        let node = graph.open_with(options, common, Policy::FOLLOW).await?;
        graph.release(&node).await
    })
}

#[test]
fn an_image_that_is_met_again_is_a_loop_by_whatever_name() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path(name);
    let (a, b, c) = (path("a"), path("b"), path("c"));
    std::fs::create_dir(path("folder")).unwrap();
    let absolute = a.to_str().unwrap().to_owned();
    create(&a, 1 << 20, &[("cluster_size", "512")]).unwrap();
    std::os::unix::fs::symlink("a", path("symbolic")).unwrap();
    std::fs::hard_link(&a, path("hard")).unwrap();
    let itself = ["a", "./a", "folder/../a", "symbolic", "hard", &absolute, &format!("file:{absolute}")];
    for name in itself {
        // In place, so that the links go on leading to it.
        let made = path("made");
        overlay(&made, name, "qcow2");
        std::fs::write(&a, std::fs::read(&made).unwrap()).unwrap();
        let error = opened(&a).expect_err(name).to_string();
        assert!(error.contains("is its own backing file"), "{name}: {error}");
        // Also where the way down begins above the loop, and goes through others.
        overlay(&b, "a", "qcow2");
        overlay(&c, "b", "qcow2");
        let error = opened(&c).expect_err(name).to_string();
        assert!(error.contains("is its own backing file"), "{name} from above: {error}");
    }
    std::fs::remove_file(path("made")).unwrap();
    overlay(&path("made"), "c", "qcow2");
    std::fs::write(&a, std::fs::read(path("made")).unwrap()).unwrap();
    for start in [&a, &b, &c] {
        let error = opened(start).expect_err("three in a ring").to_string();
        assert!(error.contains("is its own backing file"), "{error}");
    }
}

#[test]
fn images_of_one_content_below_each_other_are_no_loop() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path(name);
    create(&path("base"), 1 << 20, &[("cluster_size", "512")]).unwrap();
    overlay(&path("one"), "base", "raw");
    std::fs::copy(path("one"), path("twin")).unwrap();
    overlay(&path("one"), "twin", "qcow2");
    std::fs::copy(path("one"), path("two")).unwrap();
    overlay(&path("top"), "two", "qcow2");
    opened(&path("top")).unwrap();
}
