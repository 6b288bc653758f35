//! A copy shows a guest what its source does: random chains and targets of both versions, many cluster
//! sizes, longer and shorter backing files, through every command that copies. A seed that fails is told.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a failure of its own world is a failure"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Bytes that ranges are mostly made of.
const UNIT: usize = 65536;

/// Worlds that are tried.
const SEEDS: u64 = 48;

/// A generator of numbers that come again with their seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// Options of a new image.
    fn options(&mut self) -> String {
        let (version, cluster) = (self.one_of(&["0.10", "1.1"]), self.one_of(&["512", "4k", "64k", "2M"]));
        format!("compat={version},cluster_size={cluster}")
    }
}

/// An image, and what a guest sees of it.
#[derive(Clone)]
struct Disk {
    name: String,
    content: Vec<u8>,
}

/// A folder of images.
struct World {
    root: PathBuf,
    random: Random,
}

impl Drop for World {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).ok();
    }
}

impl World {
    fn new(seed: u64) -> World {
        let root = std::env::temp_dir().join(format!("cairn-content-{}-{seed}", std::process::id()));
        fs::remove_dir_all(&root).ok();
        fs::create_dir_all(&root).unwrap();
        World { root, random: Random(seed) }
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command
            .args(line.split(' ').filter(|word| !word.is_empty()))
            .current_dir(&self.root)
            .output()
            .unwrap()
    }

    fn done(&self, line: &str) {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What a guest sees of an image.
    fn content(&self, name: &str) -> Vec<u8> {
        self.done(&format!("img convert -f qcow2 -O raw {name} dump"));
        fs::read(self.root.join("dump")).unwrap()
    }

    /// A new image over another one, or over none, with a few things in it.
    fn disk(&mut self, name: &str, below: Option<&Disk>) -> Disk {
        let options = self.random.options();
        let size = (1 + self.random.below(48)) * UNIT + [0, 512, 4096][self.random.below(3)];
        let over = below.map_or(String::new(), |below| format!("-b {} -F qcow2", below.name));
        self.done(&format!("img create -q -f qcow2 -o {options} {over} {name} {size}"));
        let mut content = below.map_or(Vec::new(), |below| below.content.clone());
        content.resize(size, 0);
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(["io", "-f", "qcow2", "-d", "unmap", "-c", "length"]);
        for _ in 0..self.random.below(6) {
            let unit = [512, UNIT][self.random.below(2)];
            let at = self.random.below(size) / unit * unit;
            let len = [512, 4096, UNIT, 3 * UNIT, 10 * UNIT][self.random.below(5)].min(size - at);
            let (byte, how) = match self.random.below(5) {
                0 => (0, "-z".to_owned()),
                1 => (0, "-z -u".to_owned()),
                _ => {
                    let byte = self.random.below(8);
                    (byte, format!("-P {byte}"))
                }
            };
            content[at..at + len].fill(byte as u8);
            command.args(["-c", &format!("write -q {how} {at} {len}")]);
        }
        let output = command.arg(name).current_dir(&self.root).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Disk { name: name.to_owned(), content }
    }

    /// A chain, the lowest layer first.
    fn chain(&mut self, name: &str, layers: usize, base: Option<&Disk>) -> Vec<Disk> {
        let mut chain: Vec<Disk> = Vec::new();
        for layer in 0..layers {
            let below = chain.last().or(base).cloned();
            let disk = self.disk(&format!("{name}{layer}"), below.as_ref());
            chain.push(disk);
        }
        chain
    }

    /// Holds an image against what it must show, and its tables against each other.
    fn holds(&self, name: &str, expected: &[u8], what: &str) {
        let content = self.content(name);
        let different = content.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!(different, None, "{what}: '{name}' is different there");
        let behind = content.get(expected.len()..).unwrap_or_default();
        assert!(content.len() >= expected.len() && behind.iter().all(|b| *b == 0), "{what}: '{name}' behind");
        self.done(&format!("img check -q -f qcow2 {name}"));
    }
}

/// The chain whose top is copied, and an image that the copy is to lie over.
struct Case {
    chain: Vec<Disk>,
    source: Disk,
    over: Disk,
    /// The image to lie over stands on a layer of the source.
    crossed: bool,
}

fn case(world: &mut World) -> Case {
    let layers = 1 + world.random.below(3);
    let chain = world.chain("s", layers, None);
    let crossed = world.random.below(3) == 0;
    let layers = 1 + world.random.below(2);
    let other = world.chain("b", layers, chain.first().filter(|_| crossed));
    let (source, other) = (chain.last().unwrap().clone(), other.last().unwrap().clone());
    let layer = chain[world.random.below(chain.len())].clone();
    let over = if world.random.below(2) == 0 { other } else { layer };
    Case { chain, source, over, crossed }
}

fn convert(world: &mut World, case: &Case) {
    let (source, over, options) = (&case.source, &case.over.name, world.random.options());
    let how = world.random.one_of(&["", "-S 0", "-S 64k", "-m 1", "-W"]);
    let longer = [0, world.random.below(20) * UNIT][world.random.below(2)];
    let size = source.content.len() + longer;
    world.done(&format!(
        "img convert -O qcow2 {how} -o {options},size={size} -B {over} -F qcow2 {} d",
        source.name
    ));
    world.holds("d", &source.content, "convert -B");
}

fn convert_onto(world: &mut World, case: &Case) {
    let source = &case.source;
    if world.disk("d", Some(&case.over)).content.len() < source.content.len() {
        world.done(&format!("img resize -q -f qcow2 d {}", source.content.len()));
    }
    let mut expected = source.content.clone();
    expected.extend(world.content("d").iter().skip(source.content.len()));
    let named = [String::new(), format!("-B {} -F qcow2", case.over.name)];
    let named = &named[world.random.below(2)];
    world.done(&format!("img convert -n -O qcow2 {named} {} d", source.name));
    world.holds("d", &expected, "convert -n");
}

fn rebase(world: &mut World, case: &Case) {
    if case.over.name == case.source.name || case.crossed {
        return;
    }
    let onto = match world.random.below(4) {
        0 => "--backing=".to_owned(),
        _ => format!("-b {} -F qcow2", case.over.name),
    };
    world.done(&format!("img rebase {} {}", onto, case.source.name));
    world.holds(&case.source.name, &case.source.content, "rebase");
}

fn commit(world: &mut World, case: &Case) {
    let Some((top, below)) = case.chain.split_last().filter(|(_, below)| !below.is_empty()) else { return };
    let base = below[world.random.below(below.len())].name.clone();
    let named = [format!("-b {base}"), String::new()];
    let named = &named[world.random.below(2)];
    world.done(&format!("img commit -q {named} {}", top.name));
    world.holds(&top.name, &top.content, "commit");
    let base = if named.is_empty() { &below[below.len() - 1].name } else { &base };
    let content = world.content(base);
    assert!(content.starts_with(&top.content), "commit: '{base}' is different");
}

fn dd(world: &mut World, case: &Case) {
    let (skip, count) = (world.random.below(40), 1 + world.random.below(40));
    let options = format!("bs=64k skip={skip} count={count} if={} of=d", case.source.name);
    world.done(&format!("img dd -O qcow2 {options}"));
    let rest = case.source.content.get(skip * UNIT..).unwrap_or_default();
    world.holds("d", &rest[..rest.len().min(count * UNIT)], "dd");
}

#[test]
fn a_copy_shows_what_its_source_shows() {
    for seed in 0..SEEDS {
        let tried = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            let case = case(&mut world);
            world.holds(&case.source.name, &case.source.content, "as made");
            let ways = [convert, convert_onto, rebase, commit, dd];
            ways[world.random.below(ways.len())](&mut world, &case);
        });
        assert!(tried.is_ok(), "seed {seed}");
    }
}

/// The numbers that follow `"offset": ` in what `map` prints.
fn host_offsets(map: &str) -> Vec<u64> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    map.split("\"offset\": ").skip(1).filter_map(|text| digits(text).parse().ok()).collect()
}

#[test]
fn a_copy_lies_in_the_file_in_the_order_of_the_disk() {
    let world = World::new(u64::MAX);
    let mut random = Random(1);
    let content: Vec<u8> = (0..24 << 20).map(|_| random.below(256) as u8).collect();
    fs::write(world.root.join("s"), content).unwrap();
    for cluster in ["4k", "64k", "2M"] {
        for _ in 0..6 {
            world.done(&format!("img convert -f raw -O qcow2 -o cluster_size={cluster} s d"));
            let map = world.run("img map -f qcow2 --output=json d");
            let offsets = host_offsets(&String::from_utf8_lossy(&map.stdout));
            assert!(offsets.is_sorted(), "{cluster}: {offsets:?}");
            assert!(cluster == "4k" || offsets.len() == 1, "{cluster}: {offsets:?}");
        }
    }
}

#[test]
fn no_copy_is_made_in_the_file_that_it_is_made_of() {
    let world = World::new(SEEDS + 2);
    let (source, other) = (world.root.join("a"), world.root.join("b"));
    fs::write(&source, vec![7; 3 * UNIT]).unwrap();
    fs::hard_link(&source, &other).unwrap();
    for line in ["img dd -f raw -O raw if=a of=b", "img convert -U -f raw -O raw a b"] {
        let output = world.run(line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains("is in use"), "{line}: {told}");
        assert_eq!(fs::read(&source).unwrap(), vec![7; 3 * UNIT], "{line}");
    }
}

#[test]
fn no_overlay_is_made_in_a_file_that_it_would_stand_on() {
    let world = World::new(SEEDS + 3);
    world.done("img create -f qcow2 a 1M");
    world.done("img create -f qcow2 -b a -F qcow2 b");
    let before = fs::read(world.root.join("a")).unwrap();
    let json = "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"a\"}}";
    for (backing, more) in [("b", ""), (json, ""), (json, "-u"), ("./a", "")] {
        let output = world.run(&format!("img create -f qcow2 {more} -F qcow2 -b {backing} a 1M"));
        assert!(!output.status.success(), "{backing} {more}");
        assert!(fs::read(world.root.join("a")).unwrap() == before, "{backing} {more}");
    }
}
