//! Command lines of `io`.

use sim::{Config, Disk, Sim};
use tools::console::Console;
use tools::image::Source;
use tools::io::Setup;

/// Bytes that the image may take beside those that it has: space that is reserved takes memory.
const ROOM: u64 = 64 << 20;
/// Most lines of one input that are run.
const LINES: usize = 16;

/// Runs the lines of the input on a raw image of 64 KiB. Laws: every line ends; the image keeps its length unless it was
/// changed on purpose.
pub fn commands(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    let commands: Vec<_> = text.lines().take(LINES).map(str::to_owned).collect();
    let resized = commands.iter().any(|line| line.contains('t') || line.contains('o'));
    let mut disk = Disk::default();
    disk.put("/disk", &[7; 64 << 10]);
    let sim = Sim::boot(Config::seeded(1), disk);
    sim.world().limit_room(Some(ROOM));
    sim.run(async move {
        let mut console = Console::on("io", Box::new(std::io::sink()), std::sync::Arc::new(|_| ()));
        let source = Source::named("/disk").format(Some("raw")).writable();
        // Without a command the lines of standard input would be asked for.
        let commands = std::iter::once("length".to_owned()).chain(commands).collect();
        tools::io::session(&mut console, Setup { commands, source, open: true, ..Setup::new() }).await;
    });
    let length = sim.world().disk().content("/disk").map(sim::Content::len);
    assert!(resized || length == Some(64 << 10), "{length:?}");
}

/// Commands of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "read -P 7 -s 512 -l 4k 0 64k\nread -qv 65520 16\nreadv -C 0 4k 8k\naio_read 0 4k\naio_flush\nmap\nalloc 0 64k",
        "write -P 0xcd 0 4k\nwrite -zu 4k 4k\nwrite -fn -z 0 64k\nwritev 0 512 512\naio_write -q 1k 1k\ndiscard 0 4k\nflush",
        "open -r -o driver=raw,file.filename=/disk\nclose\nopen /disk\nreopen -r\nreopen -w -o read-only=off\ninfo\nlength",
        "truncate 128k\ntruncate -m falloc 1M\ntruncate -m falloc 5E\nhelp\nhelp read\nsleep 3\nquit",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
