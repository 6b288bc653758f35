//! Hand-overs between two programs over one image: whose the image is at each moment, what arrives, and what does not.
use crate::client::Client;
use crate::support::*;
use api::Value;
use block::{Backend, BackendRequest, ErrorKind, NewBitmap, Node, Options, Perms, Request};
use rt::net::{Listener, Stream};
use rt::{Buf, BufMut};
use std::path::Path;
use std::sync::Arc;

const SIZE: u64 = 4 << 20;

/// A program with the disk `d` of the folder, in the image `image`.
struct Program {
    control: monitor::Control,
    client: Client,
}

impl Program {
    async fn new(folder: &Folder, comes: bool) -> Program {
        let control = control();
        let mut client = Client::new(&control).await;
        if comes {
            control.await_machine();
        }
        let file = folder.path("image");
        let options = format!(
            "'driver': 'qcow2', 'node-name': 'd', 'file': {{'driver': 'file', 'node-name': 'f', 'filename': '{file}'}}"
        );
        client.ok(&format!("{{'execute': 'blockdev-add', 'arguments': {{{options}}}}}")).await;
        let mut program = Program { control, client };
        program.capabilities(&["events", "dirty-bitmaps"]).await;
        program
    }

    fn node(&self) -> Arc<Node> {
        self.control.graph().node("d").unwrap()
    }

    /// A guest, which copes with its disk's being let go.
    async fn guest(&self) -> Arc<Backend> {
        let (label, node) = ("guest".to_owned(), self.node());
        let request = BackendRequest { label, node, perms: Perms::WRITER, pinned: false };
        self.control.graph().attach_tolerant(request).await.unwrap()
    }

    fn bitmap(&self, name: &str, persistent: bool, enabled: bool) {
        let name = name.to_owned();
        self.node().add_bitmap(NewBitmap { name, granularity: Some(512), persistent, enabled }).unwrap();
    }

    async fn ask(&mut self, command: &str, arguments: &str) -> Result<Value, String> {
        let text = format!("{{'execute': '{command}', 'arguments': {{{arguments}}}}}");
        let answer = self.client.ask(&text).await;
        answer.get("return").cloned().ok_or_else(|| text_of(&answer))
    }

    async fn capabilities(&mut self, on: &[&str]) {
        let on: Vec<_> = on.iter().map(|name| format!("{{'capability': '{name}', 'state': true}}")).collect();
        self.ask("migrate-set-capabilities", &format!("'capabilities': [{}]", on.join(", "))).await.unwrap();
    }

    /// Waits until a hand-over is in this status.
    async fn reaches(&mut self, status: &str) {
        loop {
            let event = self.client.event("MIGRATION").await;
            if text(&event, &["data", "status"]) == status {
                return;
            }
        }
    }

    async fn state(&mut self) -> String {
        text(&self.ask("query-status", "").await.unwrap(), &["status"])
    }

    /// The hash of each bitmap, by name.
    async fn hashes(&mut self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for bitmap in self.node().bitmaps().all().iter() {
            let of = format!("'node': 'd', 'name': '{}'", bitmap.name());
            let hash = self.ask("x-debug-block-dirty-bitmap-sha256", &of).await.unwrap();
            all.push((bitmap.name().to_owned(), text(&hash, &["sha256"])));
        }
        all.sort();
        all
    }

    async fn end(self) {
        self.control.end().await.unwrap();
    }
}

fn text_of(answer: &Value) -> String {
    text(answer, &["error", "desc"])
}

async fn world() -> (Folder, Program) {
    let folder = Folder::new();
    control().graph().create("qcow2", &folder.path("image"), SIZE, Options::new()).await.unwrap();
    let source = Program::new(&folder, false).await;
    (folder, source)
}

async fn write(entry: &Backend, offset: u64, byte: u8) -> Result<(), ErrorKind> {
    let written = entry.write(offset, Buf::from_slice(&[byte; 4096]), Request::GUEST).await;
    written.map_err(|error| error.kind())
}

async fn first_byte(entry: &Backend, offset: u64) -> u8 {
    let (buf, result) = entry.read(offset, BufMut::with_len(512)).await;
    result.unwrap();
    buf[0]
}

#[test]
fn a_disk_goes_to_another_program_with_all_that_its_guest_was_told_is_written_and_with_its_bitmaps() {
    rt::block_on_control(async {
        let (folder, mut a) = world().await;
        let mut b = Program::new(&folder, true).await;
        a.bitmap("kept", true, true);
        a.bitmap("passing", false, true);
        let guest = a.guest().await;
        write(&guest, 0, 1).await.unwrap();
        a.bitmap("still", true, false);

        let socket = folder.path("socket");
        b.ask("migrate-incoming", &format!("'uri': 'unix:{socket}'")).await.unwrap();
        let writing = guest.clone();
        let writer = rt::spawn(async move {
            let mut rounds = 0u64;
            loop {
                let (at, byte) = (rounds * 8192 % SIZE, (rounds % 255) as u8 + 1);
                match write(&writing, at, byte).await {
                    Ok(()) => rounds += 1,
                    Err(why) => return (rounds, why),
                }
            }
        });
        rt::sleep(std::time::Duration::from_millis(30)).await;
        a.ask("migrate", &format!("'uri': 'unix:{socket}'")).await.unwrap();
        a.reaches("completed").await;
        b.reaches("completed").await;
        let (rounds, why) = writer.await.unwrap();
        assert_eq!(why, ErrorKind::Permission, "it was told that the image is another program's");
        assert_eq!((a.state().await, b.state().await), ("postmigrate".to_owned(), "running".to_owned()));
        assert!(!a.node().is_active() && b.node().is_active());

        let theirs = b.guest().await;
        for round in rounds.saturating_sub(SIZE / 8192)..rounds {
            assert_eq!(
                first_byte(&theirs, round * 8192 % SIZE).await,
                (round % 255) as u8 + 1,
                "round {round}"
            );
        }
        let hashes = a.hashes().await;
        assert_eq!(hashes.len(), 3);
        assert_eq!(b.hashes().await, hashes);
        let told = |program: &Program| {
            let all = program.node().bitmaps().all();
            let mut told: Vec<_> = all
                .iter()
                .map(|bitmap| (bitmap.name().to_owned(), bitmap.is_persistent(), bitmap.is_enabled()))
                .collect();
            told.sort();
            told
        };
        assert_eq!(told(&a), told(&b));

        // The other program has it, as locks know.
        assert!(a.ask("cont", "").await.unwrap_err().contains("lock"));
        assert_eq!(write(&guest, 0, 9).await, Err(ErrorKind::Permission));
        write(&theirs, 0, 9).await.unwrap();
        let hashes = b.hashes().await;
        a.end().await;
        b.control.graph().detach(&theirs).await.unwrap();
        b.end().await;
        let mut again = Program::new(&folder, false).await;
        let kept: Vec<_> = hashes.into_iter().filter(|(name, _)| name != "passing").collect();
        assert_eq!(again.hashes().await, kept, "and it has stored those that are kept");
        again.end().await;
    });
}

#[test]
fn a_hand_over_that_is_cancelled_or_fails_leaves_everything_as_it_was() {
    rt::block_on_control(async {
        let (folder, mut a) = world().await;
        a.capabilities(&["pause-before-switchover"]).await;
        a.bitmap("kept", true, true);
        let guest = a.guest().await;
        write(&guest, 0, 1).await.unwrap();
        let hashes = a.hashes().await;
        let socket = folder.path("socket");
        let door = Listener::bind_unix(Path::new(&socket)).await.unwrap();
        let (there, nobody) = (format!("unix:{socket}"), format!("unix:{}", folder.path("nobody")));
        for (place, cancels) in [(&there, true), (&nobody, false), (&there, false)] {
            a.ask("migrate", &format!("'uri': '{place}'")).await.unwrap();
            if place == &nobody {
                a.reaches("failed").await;
            } else {
                let receiver = door.accept().await.unwrap();
                a.reaches("pre-switchover").await;
                assert_eq!(a.state().await, "finish-migrate");
                assert!(a.ask("cont", "").await.is_err());
                if cancels {
                    a.ask("migrate_cancel", "").await.unwrap();
                    a.reaches("cancelled").await;
                } else {
                    drop(receiver);
                    a.ask("migrate-continue", "'state': 'pre-switchover'").await.unwrap();
                    a.reaches("failed").await;
                }
            }
            a.control.graph().activate_all().await.unwrap();
            assert_eq!(a.state().await, "running", "{place}");
            write(&guest, 0, 2).await.unwrap();
            assert_eq!(a.hashes().await, hashes);
        }
        a.control.graph().detach(&guest).await.unwrap();
        a.end().await;
        let mut again = Program::new(&folder, false).await;
        assert_eq!(again.hashes().await, hashes, "the bitmap was this program's again, which has stored it");
        again.end().await;
    });
}

#[test]
fn somebody_who_goes_on_writing_keeps_the_images_here() {
    rt::block_on_control(async {
        let (folder, mut a) = world().await;
        let (label, node) = ("job".to_owned(), a.node());
        let request = BackendRequest { label, node, perms: Perms::WRITER, pinned: false };
        let writer = a.control.graph().attach(request).await.unwrap();
        a.ask("migrate", &format!("'uri': 'file:{}'", folder.path("stream"))).await.unwrap();
        a.reaches("failed").await;
        assert!(a.node().is_active());
        write(&writer, 0, 1).await.unwrap();
        assert!(a.ask("blockdev-set-active", "'node-name': 'd', 'active': false").await.is_err());
        // Nothing of what was sent can be taken over.
        let mut b = Program::new(&folder, true).await;
        let from = format!("'uri': 'file:{}', 'exit-on-error': false", folder.path("stream"));
        b.ask("migrate-incoming", &from).await.unwrap();
        b.reaches("failed").await;
        assert!(!b.node().is_active());
        a.control.graph().detach(&writer).await.unwrap();
        a.end().await;
        b.end().await;
    });
}

#[test]
fn a_stream_that_is_cut_or_damaged_anywhere_hands_nothing_over() {
    rt::block_on_control(async {
        let (folder, mut a) = world().await;
        a.bitmap("b", true, true);
        let guest = a.guest().await;
        write(&guest, 0, 1).await.unwrap();
        write(&guest, SIZE - 4096, 1).await.unwrap();
        let (stream, wrong) = (folder.path("stream"), folder.path("wrong"));
        a.ask("migrate", &format!("'uri': 'file:{stream}'")).await.unwrap();
        a.reaches("completed").await;
        let whole = std::fs::read(&stream).unwrap();
        a.ask("cont", "").await.unwrap();
        write(&guest, 8192, 7).await.unwrap();

        let mut streams = Vec::new();
        for at in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
            streams.push(whole[..at].to_vec());
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            streams.push(flipped);
        }
        streams.push([&whole[..16], &whole[33..]].concat());
        streams.push([&whole[..33], &whole[16..]].concat());
        streams.push(vec![0xff; 4096]);
        let mut b = Program::new(&folder, true).await;
        for (number, bytes) in streams.iter().enumerate() {
            std::fs::write(&wrong, bytes).unwrap();
            let from = format!("'uri': 'file:{wrong}', 'exit-on-error': false");
            b.ask("migrate-incoming", &from).await.unwrap();
            b.reaches("failed").await;
            assert!(!b.node().is_active() && b.state().await == "inmigrate", "stream {number}");
            assert!(b.node().bitmaps().all().is_empty(), "stream {number}");
        }
        write(&guest, 8192, 8).await.unwrap();
        a.control.graph().detach(&guest).await.unwrap();
        let hashes = a.hashes().await;
        a.end().await;
        // And whole it is taken, once nobody else has the image.
        b.ask("migrate-incoming", &format!("'uri': 'file:{stream}'")).await.unwrap();
        b.reaches("completed").await;
        assert!(b.node().is_active());
        assert_eq!(b.hashes().await, hashes, "what the image has was stored later than what was sent");
        b.end().await;
    });
}

#[test]
fn who_knocks_and_says_nothing_is_waited_for_and_the_end_of_the_program_ends_that() {
    rt::block_on_control(async {
        let (folder, a) = world().await;
        a.end().await;
        let mut b = Program::new(&folder, true).await;
        let socket = folder.path("socket");
        b.ask("migrate-incoming", &format!("'uri': 'unix:{socket}'")).await.unwrap();
        let silent = Stream::connect_unix(Path::new(&socket)).await.unwrap();
        assert_eq!(b.state().await, "inmigrate");
        let (class, _) = b.client.refused("{'execute': 'migrate', 'arguments': {'uri': 'exec:cat'}}").await;
        assert_eq!(class, "GenericError");
        b.end().await;
        drop(silent);
    });
}

#[test]
fn an_image_that_was_let_go_is_read_again_when_it_is_taken_back() {
    rt::block_on_control(async {
        let (folder, mut a) = world().await;
        let guest = a.guest().await;
        write(&guest, 0, 1).await.unwrap();
        a.bitmap("here", true, true);
        a.ask("blockdev-set-active", "'active': false").await.unwrap();
        assert!(a.node().bitmaps().all().is_empty(), "the image has it");
        assert_eq!(first_byte(&guest, 0).await, 1);
        assert_eq!(write(&guest, 0, 2).await, Err(ErrorKind::Permission));
        assert_eq!(guest.status(0, 512).await.unwrap_err().kind(), ErrorKind::Permission);
        assert!(a.ask("block_resize", "'node-name': 'd', 'size': 8388608").await.is_err());
        assert!(a.ask("blockdev-set-active", "'node-name': 'f', 'active': true").await.is_ok());
        a.ask("blockdev-set-active", "'node-name': 'f', 'active': false").await.unwrap();

        let mut b = Program::new(&folder, false).await;
        let other = b.guest().await;
        write(&other, 0, 3).await.unwrap();
        b.bitmap("there", true, true);
        write(&other, 1 << 20, 4).await.unwrap();
        b.control.graph().detach(&other).await.unwrap();
        b.ask("block_resize", &format!("'node-name': 'd', 'size': {}", SIZE * 2)).await.unwrap();
        assert!(a.ask("blockdev-set-active", "'active': true").await.unwrap_err().contains("lock"));
        assert!(!a.node().is_active());
        b.end().await;

        a.ask("blockdev-set-active", "'active': true").await.unwrap();
        assert_eq!((guest.length(), first_byte(&guest, 0).await), (SIZE * 2, 3));
        assert_eq!(first_byte(&guest, 1 << 20).await, 4);
        write(&guest, SIZE, 5).await.unwrap();
        let names: Vec<_> = a.hashes().await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["here", "there"]);
        // An active node has no inactive child.
        let text = a.ask("blockdev-set-active", "'node-name': 'f', 'active': false").await.unwrap_err();
        assert_eq!(text, "Node has active parent node");
        a.control.graph().detach(&guest).await.unwrap();
        a.end().await;
    });
}

#[test]
fn the_length_of_a_file_that_is_active_is_its_users_also_where_what_is_above_it_is_inactive() {
    rt::block_on_control(async {
        let (folder, mut a) = world().await;
        let guest = a.guest().await;
        a.ask("blockdev-set-active", "'active': false").await.unwrap();
        a.ask("blockdev-set-active", "'node-name': 'f', 'active': true").await.unwrap();
        let file = a.control.graph().node("f").unwrap();
        let before = file.length();
        std::fs::File::options().write(true).open(folder.path("image")).unwrap().set_len(before * 2).unwrap();
        first_byte(&guest, 0).await;
        assert_eq!(file.length(), before);
        a.ask("blockdev-set-active", "'node-name': 'f', 'active': false").await.unwrap();
        first_byte(&guest, 0).await;
        assert_eq!(file.length(), before * 2, "that of an inactive one is looked at");
        a.end().await;
    });
}

#[test]
fn a_client_that_is_gone_leaves_no_hand_over_behind_that_nobody_ends() {
    rt::block_on_control(async {
        let (folder, a) = world().await;
        let b = Program::new(&folder, true).await;
        let mut pipes = Vec::new();
        for (program, command) in [(&a, "migrate"), (&b, "migrate-incoming")] {
            // To open a pipe that nobody has at its other end takes for ever.
            let pipe = folder.path(command);
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            let uri = [("uri", Value::from(format!("file:{pipe}").as_str()))].into_iter().collect();
            let mut asking = Box::pin(program.control.execute(command, uri));
            assert!(futures_util::future::poll_immediate(&mut asking).await.is_none());
            pipes.push(pipe);
        }
        a.end().await;
        b.end().await;
        for pipe in pipes {
            std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
        }
    });
}

#[test]
fn a_bitmap_of_an_image_that_was_almost_let_go_is_not_believed_after_a_crash_without_its_last_changes() {
    rt::block_on_control(async {
        for polls in 1..64 {
            let (folder, a) = world().await;
            a.bitmap("kept", true, true);
            let guest = a.guest().await;
            write(&guest, 0, 1).await.unwrap();
            let node = a.node();
            let ended = {
                let mut letting_go = std::pin::pin!(a.control.graph().inactivate(&node));
                let mut ended = false;
                for _ in 0..polls {
                    ended = futures_util::future::poll_immediate(&mut letting_go).await.is_some();
                    if ended {
                        break;
                    }
                    rt::sleep(std::time::Duration::from_millis(1)).await;
                }
                ended
            };
            // Who asked for it is gone, and it is undone.
            a.control.graph().activate_all().await.unwrap();
            write(&guest, SIZE / 2, 2).await.unwrap();
            guest.flush().await.unwrap();
            let live = a.node().need_bitmap("kept").unwrap();

            let crashed = Folder::new();
            std::fs::copy(folder.path("image"), crashed.path("image")).unwrap();
            let b = Program::new(&crashed, false).await;
            if let Some(found) = b.node().bitmaps().find("kept").filter(|bitmap| bitmap.is_consistent()) {
                let runs = |bitmap: &block::NamedBitmap| bitmap.bits().runs().collect::<Vec<_>>();
                assert_eq!(runs(&found), runs(&live), "after {polls} polls");
            }
            b.end().await;
            a.control.graph().detach(&guest).await.unwrap();
            a.end().await;
            if ended {
                return;
            }
        }
    });
}

#[test]
fn a_bitmap_that_an_image_can_t_say_is_taken_over_and_not_stored() {
    rt::block_on_control(async {
        let (folder, a) = world().await;
        let coarse = block::DirtyBitmap::new(SIZE, 1 << 40);
        let coarse = block::NamedBitmap::new("coarse", coarse).with(true, true);
        a.node().bitmaps().add(coarse).unwrap();
        let guest = a.guest().await;
        write(&guest, 0, 1).await.unwrap();
        a.control.graph().detach(&guest).await.unwrap();
        a.end().await;
        let mut again = Program::new(&folder, false).await;
        assert!(again.hashes().await.is_empty());
        again.end().await;
    });
}

#[test]
fn an_image_that_another_program_put_over_another_one_is_not_taken_back() {
    rt::block_on_control(async {
        let (folder, mut a) = world().await;
        a.ask("blockdev-set-active", "'active': false").await.unwrap();
        let b = Program::new(&folder, false).await;
        let graph = b.control.graph();
        let mut change = graph.change().await;
        let link = block::Link { filename: Some("base".to_owned()), format: Some("raw".to_owned()) };
        let changed = change.set_backing_link(&b.node(), link).await;
        change.end(changed).await.unwrap();
        b.end().await;
        let refused = a.ask("blockdev-set-active", "'active': true").await.unwrap_err();
        assert!(refused.contains("another image by now"), "{refused}");
        assert!(!a.node().is_active());
        a.end().await;
    });
}

#[test]
fn images_that_could_not_all_be_taken_over_are_let_go_to_the_end_also_if_nobody_waits_for_it() {
    rt::block_on_control(async {
        for polls in 1..256 {
            let (folder, mut a) = world().await;
            let other = folder.path("other");
            a.control.graph().create("qcow2", &other, SIZE, Options::new()).await.unwrap();
            let file = format!("'file': {{'driver': 'file', 'filename': '{other}'}}");
            a.ask("blockdev-add", &format!("'driver': 'qcow2', 'node-name': 'e', {file}")).await.unwrap();
            a.bitmap("kept", true, true);
            a.ask("blockdev-set-active", "'active': false").await.unwrap();
            // The second of them is none any more.
            std::fs::File::options().write(true).open(&other).unwrap().set_len(0).unwrap();
            let graph = a.control.graph();
            let ended = {
                let mut taking_over = std::pin::pin!(graph.activate_all());
                let mut ended = false;
                for _ in 0..polls {
                    ended = futures_util::future::poll_immediate(&mut taking_over).await.is_some();
                    if ended {
                        break;
                    }
                    rt::sleep(std::time::Duration::from_millis(1)).await;
                }
                ended
            };
            // After the one that is undone.
            graph.change().await.end(Ok(())).await.unwrap();
            assert!(!a.node().is_active() && a.node().bitmaps().all().is_empty(), "after {polls} polls");
            let image = std::fs::read(folder.path("image")).unwrap();
            a.control.end().await.ok();
            assert!(std::fs::read(folder.path("image")).unwrap() == image, "written to after {polls} polls");
            if ended {
                return;
            }
        }
    });
}
