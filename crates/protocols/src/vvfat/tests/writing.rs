//! Folders that follow what is written to their disks.
use super::guest::Guest;
use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

/// What a folder holds, hidden folders included.
fn content(folder: &Path) -> Content {
    let mut found = Content::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below)).unwrap() {
            let path = below.join(entry.unwrap().file_name());
            let name = path.to_str().unwrap().to_owned();
            if folder.join(&path).is_dir() {
                found.insert(name, None);
                folders.push(path);
            } else {
                found.insert(name, Some(fs::read(folder.join(&path)).unwrap()));
            }
        }
    }
    found
}

/// Paths at which two are not the same.
fn differing(one: &Content, other: &Content) -> Vec<String> {
    let all = one.keys().chain(other.keys());
    all.filter(|path| one.get(*path) != other.get(*path)).cloned().collect()
}

const NONE: Vec<String> = Vec::new();

/// A disk that is written to.
struct Written {
    host: Host,
    graph: Graph,
    guest: Guest,
    /// What a person was told.
    told: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Written {
    async fn open(host: Host, width: Width) -> Self {
        let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let graph = Graph::new(Registry::new(&[crate::DRIVERS]), |_| Ok(Options::new()));
        let heard = told.clone();
        graph.on_notice(move |notice| {
            if let block::Notice::Warning(text) = notice {
                heard.lock().push(text.to_owned());
            }
        });
        let bits = match width {
            Width::Fat12 => "12",
            Width::Fat16 => "16",
            Width::Fat32 => "32",
        };
        let options = host.options().with_str("fat-type", bits).with_str("rw", "on");
        let node = graph.open(options, Policy::ALONE).await.unwrap();
        let guest = Guest::of(node, Layout::of_hard_disk(width)).await;
        Self { host, graph, guest, told }
    }

    async fn flush(&self) {
        self.guest.node.flush().await.unwrap();
    }

    fn folder(&self) -> &Path {
        &self.host.0
    }

    /// Closes it, and tells what failed.
    async fn close(self) -> (Host, String) {
        let Self { host, graph, guest, .. } = self;
        let closed = graph.release(&guest.node).await;
        (host, closed.err().map(|e| e.to_string()).unwrap_or_default())
    }
}

fn start(name: &str) -> Host {
    let host = Host::new(name);
    host.put("file", b"text");
    host.put("large", &[7; 100_000]);
    host.put("empty", b"");
    host.put("sub/A.TXT", b"first");
    host.put("sub/deep/below", &[1; 9000]);
    host.put("other/b", &[2; 20_000]);
    host
}

/// Does one thing to a disk, and to what is expected of its folder.
async fn change(guest: &mut Guest, expected: &mut Content, dice: &mut Dice) {
    let folders: Vec<String> = [String::new()]
        .into_iter()
        .chain(expected.iter().filter(|(_, c)| c.is_none()).map(|(p, _)| format!("{p}/")))
        .collect();
    let files: Vec<String> = expected.iter().filter(|(_, c)| c.is_some()).map(|(p, _)| p.clone()).collect();
    let fresh =
        |dice: &mut Dice| format!("{}a new name {}", folders[dice.below(folders.len())], dice.below(1 << 30));
    let size = |dice: &mut Dice| [0, 1, 511, 512, 8192, 8193, 30_000][dice.below(7)];
    match dice.below(7) {
        0 | 1 => {
            let (path, content) = (fresh(dice), vec![dice.below(256) as u8; size(dice)]);
            guest.put(&path, &content).await;
            expected.insert(path, Some(content));
        }
        2 if !files.is_empty() => {
            let (path, content) =
                (files[dice.below(files.len())].clone(), vec![dice.below(256) as u8; size(dice)]);
            guest.put(&path, &content).await;
            expected.insert(path, Some(content));
        }
        3 => {
            let path = fresh(dice);
            guest.mkdir(&path).await;
            expected.insert(path, None);
        }
        4 if expected.len() > 4 => {
            let path = expected.keys().nth(dice.below(expected.len())).unwrap().clone();
            guest.remove(&path).await;
            expected.retain(|other, _| *other != path && !other.starts_with(&format!("{path}/")));
        }
        5 if !expected.is_empty() => {
            let (from, to) = (expected.keys().nth(dice.below(expected.len())).unwrap().clone(), fresh(dice));
            if to.starts_with(&format!("{from}/")) {
                return;
            }
            guest.rename(&from, &to).await;
            let inside = format!("{from}/");
            let moved: Vec<_> =
                expected.extract_if(.., |path, _| *path == from || path.starts_with(&inside)).collect();
            expected.extend(moved.into_iter().map(|(path, content)| (path.replacen(&from, &to, 1), content)));
        }
        _ => {
            let long = expected.iter_mut().filter_map(|(path, content)| Some((path, content.as_mut()?)));
            let long: Vec<_> = long.filter(|(_, content)| content.len() >= 512).collect();
            let count = long.len();
            if let Some((path, content)) = long.into_iter().nth(dice.below(count.max(1))) {
                let sector = dice.below(content.len() / 512);
                let bytes = [dice.below(256) as u8; 512];
                content[sector * 512..(sector + 1) * 512].copy_from_slice(&bytes);
                guest.patch(path, sector as u64, &bytes).await;
            }
        }
    }
}

/// Numbers by chance, the same ones for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}

#[test]
fn a_folder_is_what_guests_have_made_of_its_disk() {
    for (seed, width) in [Width::Fat12, Width::Fat16, Width::Fat32].into_iter().cycle().take(6).enumerate() {
        rt::block_on_control(async move {
            let host = start(&format!("random-{seed}"));
            let mut expected = content(&host.0);
            let mut written = Written::open(host, width).await;
            let mut dice = Dice(seed as u64);
            for step in 0..60 {
                change(&mut written.guest, &mut expected, &mut dice).await;
                if dice.below(4) == 0 {
                    written.flush().await;
                    assert_eq!(
                        differing(&content(written.folder()), &expected),
                        NONE,
                        "{seed}, {width:?}: {step}"
                    );
                    let shown = written.guest.all().await;
                    assert_eq!(differing(&shown, &expected), NONE, "{seed}, {width:?}: {step}");
                }
            }
            let told = written.told.lock().clone();
            assert!(told.is_empty(), "{told:?}");
            let (host, error) = written.close().await;
            assert_eq!(
                (differing(&content(&host.0), &expected), &*error),
                (Vec::new(), ""),
                "{seed}, {width:?}"
            );
        });
    }
}

#[test]
fn a_change_that_fails_at_any_step_leaves_the_folder_as_it_was_and_is_done_later() {
    rt::block_on_control(async {
        for steps in 0.. {
            let (mut written, expected) = busy(&format!("undo-{steps}")).await;
            let name = written.folder().to_str().unwrap().to_owned();
            let before = content(written.folder());
            let inode = fs::metadata(written.folder().join("large")).unwrap().ino();
            let time = fs::metadata(written.folder().join("file")).unwrap().modified().unwrap();
            fault::set(&name, steps, false);
            finish(&mut written.guest).await;
            written.flush().await;
            if !fault::clear(&name) {
                assert!(steps > 20, "{steps}");
                assert_eq!(differing(&content(written.folder()), &expected), NONE);
                return;
            }
            assert_eq!(differing(&content(written.folder()), &before), NONE, "{steps}");
            assert_eq!(fs::metadata(written.folder().join("large")).unwrap().ino(), inode);
            assert_eq!(fs::metadata(written.folder().join("file")).unwrap().modified().unwrap(), time);
            let told = written.told.lock().clone();
            assert!((1..4).contains(&told.len()), "{told:?}");
            // Now it can be done.
            let (host, error) = written.close().await;
            assert_eq!((differing(&content(&host.0), &expected), &*error), (Vec::new(), ""), "{steps}");
        }
    });
}

#[test]
fn a_program_that_is_killed_at_any_step_loses_nothing() {
    rt::block_on_control(async {
        for steps in 0.. {
            let (mut written, expected) = busy(&format!("kill-{steps}")).await;
            let name = written.folder().to_str().unwrap().to_owned();
            let before = content(written.folder());
            fault::set(&name, steps, true);
            finish(&mut written.guest).await;
            written.flush().await;
            let left = content(written.folder());
            let is_staging = |path: &String| path.starts_with(tree::STAGING);
            if !fault::clear(&name) {
                assert!(steps > 20 && left == expected, "{steps}");
                return;
            }
            // All that was there is there, or all that is to be there.
            let held = |wanted: &Content| {
                wanted.values().all(|content| content.is_none() || left.values().any(|c| c == content))
            };
            assert!(held(&before) || held(&expected), "{steps}: {:?}", left.keys());
            let Some(staging) = left.keys().find(|path| is_staging(path) && !path.contains('/')) else {
                assert_eq!(differing(&left, &before), NONE, "{steps}");
                continue;
            };
            let listed = left.get(&format!("{staging}/contents")).cloned().flatten().unwrap_or_default();
            let listed = String::from_utf8(listed).unwrap();
            let moved = left.keys().filter(|path| path.starts_with(&format!("{staging}/old-")));
            for path in moved {
                let line = format!("{} was '{name}/", path.rsplit('/').next().unwrap());
                assert!(
                    path.matches('/').count() > 1 || listed.contains(&line),
                    "{steps}: {line} in {listed}"
                );
            }
            // What is left is told of, and not shown.
            let Written { host, guest, .. } = written;
            drop(guest);
            let again = Written::open(host, Width::Fat16).await;
            let told = again.told.lock().clone();
            assert!(told.iter().any(|text| text.contains(staging)), "{told:?}");
            assert!(!again.guest.all().await.keys().any(is_staging));
        }
    });
}

/// A disk on which much is to be changed, with what will come of it.
async fn busy(name: &str) -> (Written, Content) {
    let written = Written::open(start(name), Width::Fat16).await;
    let mut expected = content(written.folder());
    for gone in ["sub", "sub/A.TXT", "sub/deep", "sub/deep/below", "other", "other/b", "empty"] {
        expected.remove(gone);
    }
    for (path, content) in [
        ("new", None),
        ("new/file", Some(vec![3; 9000])),
        ("new/below", Some(vec![1; 9000])),
        ("moved", None),
        ("moved/b", Some([vec![9; 512], vec![2; 19_488]].concat())),
        ("large", Some(vec![8; 12_000])),
    ] {
        expected.insert(path.to_owned(), content);
    }
    (written, expected)
}

/// Changes it: what is inconsistent in between keeps all of it back until the last write.
async fn finish(guest: &mut Guest) {
    let cluster = guest.first("file").await;
    guest.link(cluster, 1);
    guest.store_table().await;
    guest.mkdir("new").await;
    guest.put("new/file", &[3; 9000]).await;
    guest.rename("sub/deep/below", "new/below").await;
    guest.remove("sub").await;
    guest.remove("empty").await;
    guest.rename("other", "moved").await;
    guest.patch("moved/b", 0, &[9; 512]).await;
    guest.put("large", &[8; 12_000]).await;
    guest.edit("file", 11, &[0x21]).await;
    guest.link(cluster, guest.layout.end_of_chain());
    guest.store_table().await;
}

#[test]
fn what_guests_break_keeps_the_folder_as_it_was_and_is_told_at_the_close() {
    rt::block_on_control(async {
        let wrongs: &[(&str, &str)] = &[
            ("loop", "come back to cluster"),
            ("shared", "share cluster"),
            ("outside", "which the disk does not have"),
            ("broken", "which is none"),
            ("short", "and clusters for"),
            ("folder-loop", "share cluster"),
            ("dots", "does not tell itself"),
            ("slash", "can't be the name of a file"),
            ("dot-dot", "can't be the name of a file"),
            ("nul", "can't be the name of a file"),
            ("case", "only in upper and lower case"),
            ("staging", "is taken for what is being changed"),
            ("attributes", "attributes"),
            ("format", "formatted anew"),
            ("partition", "formatted anew"),
        ];
        for (what, why) in wrongs {
            let host = start(&format!("broken-{what}"));
            let before = content(&host.0);
            let mut written = Written::open(host, Width::Fat16).await;
            let guest = &mut written.guest;
            let (large, sub) = (guest.first("large").await, guest.first("sub").await);
            match *what {
                "loop" => guest.link(guest.chain(large)[3], large),
                "shared" => guest.link(guest.chain(large)[12], guest.first("other/b").await),
                "outside" => guest.edit("file", 26, &0xfff0_u16.to_le_bytes()).await,
                "broken" => guest.link(large, 0),
                "short" => guest.edit("file", 28, &1_000_000_u32.to_le_bytes()).await,
                "folder-loop" => guest.edit("sub/deep", 26, &(sub as u16).to_le_bytes()).await,
                "dots" => guest.write(guest.place(sub), &[0; 512]).await,
                "slash" => guest.put("other/x", b"").await,
                "dot-dot" => guest.put_short("other", b"..         ").await,
                "nul" => guest.put("a\u{1}b", b"").await,
                "case" => guest.put("FILE", b"").await,
                "staging" => guest.put(".cairn-vvfat-x", b"").await,
                "attributes" => guest.edit("file", 11, &[0x80]).await,
                "format" => guest.write(63 * SECTOR, &[0; 512]).await,
                _ => guest.write(0, &[0; 512]).await,
            }
            if *what == "slash" {
                guest.rename("other/x", "other/y:z").await;
            }
            guest.store_table().await;
            written.flush().await;
            assert_eq!(
                content(written.folder()),
                if *what == "slash" { content(written.folder()) } else { before.clone() },
                "{what}"
            );
            let (host, error) = written.close().await;
            assert!(error.contains(why) && error.contains("is no sound file system"), "{what}: {error}");
            assert!(error.contains(host.0.to_str().unwrap()), "{what}: {error}");
            let mut left = content(&host.0);
            left.remove("other/x");
            assert_eq!(left, before, "{what}");
        }
    });
}

#[test]
fn what_others_change_meanwhile_is_not_overwritten() {
    rt::block_on_control(async {
        for what in ["edited", "replaced", "appeared", "removed", "hidden"] {
            let mut written = Written::open(start(&format!("others-{what}")), Width::Fat16).await;
            let folder = written.folder().to_owned();
            match what {
                "edited" => fs::write(folder.join("file"), "by others").unwrap(),
                "replaced" => {
                    fs::remove_file(folder.join("file")).unwrap();
                    fs::write(folder.join("file"), "text").unwrap();
                }
                "appeared" => fs::write(folder.join("new"), "by others").unwrap(),
                "removed" => fs::remove_file(folder.join("file")).unwrap(),
                _ => symlink("/etc/hostname", folder.join("other/link")).unwrap(),
            }
            let others = content(&folder);
            let guest = &mut written.guest;
            match what {
                "appeared" => guest.put("new", b"by the guest").await,
                "hidden" => guest.remove("other").await,
                _ => guest.put("file", b"by the guest").await,
            }
            written.flush().await;
            if what == "removed" {
                let (host, error) = written.close().await;
                assert_eq!((fs::read(host.0.join("file")).unwrap(), &*error), (b"by the guest".to_vec(), ""));
                continue;
            }
            assert_eq!(content(&folder), others, "{what}");
            let told = written.told.lock().join("\n");
            assert!(
                told.contains("meanwhile") || told.contains("which the disk does not show"),
                "{what}: {told}"
            );
            // The one who has changed it takes it away, and the guest's is there.
            match what {
                "appeared" => fs::rename(folder.join("new"), folder.join("kept")).unwrap(),
                "hidden" => fs::remove_file(folder.join("other/link")).unwrap(),
                _ => fs::rename(folder.join("file"), folder.join("kept")).unwrap(),
            }
            let (host, error) = written.close().await;
            assert_eq!(error, "", "{what}");
            let left = content(&host.0);
            match what {
                "hidden" => assert!(!left.contains_key("other"), "{what}"),
                "appeared" => assert_eq!(left["new"], Some(b"by the guest".to_vec()), "{what}"),
                _ => assert_eq!(left["file"], Some(b"by the guest".to_vec()), "{what}"),
            }
        }
    });
}

#[test]
fn permissions_times_and_inodes_are_kept_where_a_disk_says_nothing_of_them() {
    rt::block_on_control(async {
        let host = start("kept");
        let at = |name: &str| host.0.join(name);
        let set =
            |name: &str, mode: u32| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        set("file", 0o640);
        set("large", 0o751);
        set("other/b", 0o444);
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        let inodes = [inode(at("file")), inode(at("sub")), inode(at("sub/A.TXT"))];
        let mut written = Written::open(host, Width::Fat16).await;
        let guest = &mut written.guest;
        guest.put("large", b"changed").await;
        guest.rename("file", "sub/file").await;
        guest.rename("sub", "renamed").await;
        guest.edit("empty", 11, &[0x21]).await;
        guest.edit("other/b", 11, &[0x20]).await;
        guest.edit("empty", 24, &(44_u16 << 9 | 6 << 5 | 7).to_le_bytes()).await;
        guest.put_short("", b"SHORT   TXT").await;
        let (host, error) = written.close().await;
        assert_eq!(error, "");
        let at = |name: &str| host.0.join(name);
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!([inode(at("renamed/file")), inode(at("renamed")), inode(at("renamed/A.TXT"))], inodes);
        assert_eq!(
            (mode("renamed/file"), mode("large"), mode("empty"), mode("other/b")),
            (0o640, 0o751, 0o444, 0o644)
        );
        assert!(at("short.txt").exists());
        let day = fs::metadata(at("empty")).unwrap().modified().unwrap();
        let off = day.duration_since(UNIX_EPOCH + Duration::from_secs(1_717_700_000)).unwrap_or_default();
        assert!(off < Duration::from_secs(2 * 86_400), "{off:?}");
    });
}

#[test]
fn names_are_swapped_and_change_their_case() {
    rt::block_on_control(async {
        let host = start("swap");
        let mut written = Written::open(host, Width::Fat32).await;
        let guest = &mut written.guest;
        let cluster = guest.first("empty").await;
        assert_eq!(cluster, 0);
        let first = guest.first("file").await;
        guest.link(first, 1);
        guest.store_table().await;
        guest.rename("sub", "tmp").await;
        guest.rename("other", "sub").await;
        guest.rename("tmp", "other").await;
        guest.rename("large", "LARGE").await;
        guest.rename("empty", "Empty").await;
        guest.link(first, guest.layout.end_of_chain());
        guest.store_table().await;
        let (host, error) = written.close().await;
        assert_eq!(error, "");
        let names: Vec<_> = content(&host.0).into_keys().collect();
        assert_eq!(
            names,
            [
                "Empty",
                "LARGE",
                "file",
                "other",
                "other/A.TXT",
                "other/deep",
                "other/deep/below",
                "sub",
                "sub/b"
            ]
        );
    });
}

#[test]
fn a_disk_that_is_not_written_to_costs_nothing_and_free_clusters_change_nothing() {
    rt::block_on_control(async {
        let host = start("idle");
        let stamp = fs::metadata(&host.0).unwrap().modified().unwrap();
        let written = Written::open(host, Width::Fat16).await;
        let end = written.guest.layout.sectors * SECTOR;
        written.guest.write(end - 8192, &[5; 4096]).await;
        written.flush().await;
        assert_eq!(written.guest.read(end - 8192, 4096).await, [5; 4096]);
        let (host, error) = written.close().await;
        assert_eq!((fs::metadata(&host.0).unwrap().modified().unwrap(), &*error), (stamp, ""));
    });
}

#[test]
fn a_folder_whose_entry_is_written_before_its_clusters_is_made() {
    rt::block_on_control(async {
        let mut written = Written::open(start("late"), Width::Fat16).await;
        let guest = &mut written.guest;
        guest.mkdir("new").await;
        let place = guest.place(guest.first("new").await);
        let folder = guest.read(place, 512).await;
        guest.remove("new").await;
        written.flush().await;
        // Nothing was here before.
        written.guest.write(place, &[0; 512]).await;
        written.flush().await;
        let guest = &mut written.guest;
        guest.mkdir_but("new", &[0; 512]).await;
        written.flush().await;
        assert!(!written.folder().join("new").exists());
        written.guest.write(place, &folder).await;
        written.flush().await;
        assert!(written.folder().join("new").is_dir());
        assert_eq!(written.close().await.1, "");
    });
}
