//! The driver on folders of the host.
use super::*;
use block::{Graph, Node, Policy, Registry};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

pub mod fault;
mod guest;
mod writing;

/// Paths, and what files hold; `None` of a folder.
type Content = BTreeMap<String, Option<Vec<u8>>>;

/// A folder that is removed again.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cairn-vvfat-{name}-{}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn options(&self) -> Options {
        Options::new().with_str("driver", "vvfat").with_str("dir", self.0.to_str().unwrap())
    }

    async fn open(&self, options: Options) -> Result<Arc<Node>> {
        let graph = Graph::new(Registry::new(&[crate::DRIVERS]), |_| Ok(Options::new()));
        let options = options.with_str("read-only", "on");
        graph.open(options, Policy::ALONE).await
    }

    /// The error of a disk that can't be shown.
    async fn refused(&self, options: Options) -> String {
        self.open(options).await.err().map(|error| error.to_string()).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

async fn read(node: &Node, at: u64, len: usize) -> Result<Vec<u8>> {
    let (buf, result) = node.read(at, BufMut::with_len(len)).await;
    result.map(|()| buf.to_vec())
}

/// The offset of a text on the disk.
async fn find(node: &Node, text: &[u8]) -> Option<u64> {
    let front = read(node, 0, 2 << 20).await.unwrap();
    front.windows(text.len()).position(|bytes| bytes == text).map(|at| at as u64)
}

#[test]
fn names_of_disks_are_read_in_any_order() {
    let of = |name: &str| {
        let mut options = parse_filename(name).unwrap();
        let mut told =
            |name: &str| options.take(name).map(|option| format!("{option:?}")).unwrap_or_default();
        ["dir", "fat-type", "floppy", "rw"].map(&mut told).join(" ")
    };
    assert_eq!(of("fat:a/b"), of("fat:a/b"));
    assert_eq!(of("fat:floppy:12:rw:d"), of("fat:rw:12:floppy:d"));
    assert_ne!(of("fat:13:d"), of("fat:d"));
    assert!(of("fat:13:d").contains("13:d") && of("fat:floppy:x:y").contains("x:y"));
}

#[test]
fn a_file_is_shown_as_it_is_read_and_no_longer_than_it_was() {
    rt::block_on_control(async {
        let host = Host::new("changes");
        host.put("file", b"the first content");
        let node = host.open(host.options()).await.unwrap();
        let at = find(&node, b"the first content").await.unwrap();
        host.put("file", b"other content, longer than before");
        assert_eq!(read(&node, at, 20).await.unwrap(), b"other content, lo\0\0\0");
        host.put("file", b"short");
        let error = read(&node, at, 20).await.unwrap_err().to_string();
        assert!(error.contains("file' is shorter now"), "{error}");
    });
}

#[test]
fn a_file_that_was_replaced_or_removed_fails_where_it_is_read() {
    rt::block_on_control(async {
        let host = Host::new("replaced");
        for name in ["a", "b", "c"] {
            host.put(name, format!("content of {name}").as_bytes());
        }
        let shown = host.open(host.options()).await.unwrap();
        let mut places = Vec::new();
        for name in ["a", "b", "c"] {
            places.push(find(&shown, format!("content of {name}").as_bytes()).await.unwrap());
        }
        // Another one, which has opened none of them yet.
        let node = host.open(host.options()).await.unwrap();
        host.put("new", b"content of new");
        fs::rename(host.0.join("new"), host.0.join("a")).unwrap();
        fs::remove_file(host.0.join("b")).unwrap();
        fs::remove_file(host.0.join("c")).unwrap();
        symlink("/etc/hostname", host.0.join("c")).unwrap();
        for at in places {
            let error = read(&node, at, 5).await.unwrap_err().to_string();
            assert!(error.contains(host.0.to_str().unwrap()), "{error}");
        }
        assert!(read(&node, 0, 512).await.is_ok());
    });
}

#[test]
fn what_a_disk_can_t_hold_is_refused_and_named() {
    rt::block_on_control(async {
        let host = Host::new("unfit");
        host.put("sub/good", b"1");
        assert_eq!(host.refused(host.options()).await, "");
        for (name, why) in
            [("sub/a:b", "holds ':'"), ("sub/GOOD", "upper and lower case"), ("sub/end.", "ends with '.'")]
        {
            host.put(name, b"2");
            let error = host.refused(host.options()).await;
            let named = [name, "sub/good"].iter().any(|name| error.contains(&format!("{name}'")));
            assert!(named && error.contains(why), "{error}");
            fs::remove_file(host.0.join(name)).unwrap();
        }
        fs::File::create(host.0.join("large")).unwrap().set_len(3 << 20).unwrap();
        let floppy = || host.options().with_str("floppy", "on");
        let error = host.refused(floppy()).await;
        assert!(error.contains("large' can't be shown on this disk: it does not fit"), "{error}");
        assert_eq!(host.refused(host.options()).await, "");
        fs::File::create(host.0.join("large")).unwrap().set_len(4 << 30).unwrap();
        let error = host.refused(host.options()).await;
        assert!(error.contains("large'") && error.contains("4294967296 bytes"), "{error}");
        fs::remove_file(host.0.join("large")).unwrap();
        for number in 0..300 {
            host.put(&format!("F{number}"), b"");
        }
        let error = host.refused(floppy()).await;
        assert!(error.contains("303 entries") && error.contains("240"), "{error}");
        assert_eq!(host.refused(host.options()).await, "");
    });
}

#[test]
fn options_that_do_not_fit_are_refused() {
    rt::block_on_control(async {
        let host = Host::new("options");
        for (name, value, why) in [
            ("fat-type", "13", "Valid FAT types are only 12, 16 and 32"),
            ("label", "twelve bytes", "vvfat label cannot be longer than 11 bytes"),
            ("label", "a\nb", "ASCII"),
            ("rw", "on", "Unable to set VVFAT to 'rw' when drive is read-only"),
            ("dir", "/nowhere", "Could not read directory /nowhere"),
        ] {
            let error = host.refused(host.options().with_str(name, value)).await;
            assert!(error.contains(why), "{name}: {error}");
        }
        let floppy = host.options().with_str("floppy", "on").with_str("fat-type", "32");
        assert!(host.refused(floppy).await.contains("12 and 16"));
        let graph = Graph::new(Registry::new(&[crate::DRIVERS]), |_| Ok(Options::new()));
        let error = graph.open(host.options(), Policy::ALONE).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::ReadOnly);
    });
}

#[test]
fn what_is_neither_a_file_nor_a_folder_is_left_out() {
    rt::block_on_control(async {
        let host = Host::new("left-out");
        host.put("file", b"text");
        symlink("file", host.0.join("inside")).unwrap();
        symlink("/etc/hostname", host.0.join("outside")).unwrap();
        let node = host.open(host.options()).await.unwrap();
        assert!(find(&node, b"FILE       ").await.is_some());
        for name in [&b"INSIDE     "[..], b"OUTSIDE    "] {
            assert_eq!(find(&node, name).await, None);
        }
    });
}
