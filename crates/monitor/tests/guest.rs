//! Guests of devices: what is done about requests that fail, and how all of them wait while the machine is stopped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
mod client;
mod support;

use api::Value;
use block::{Backend, BackendRequest, BlockError, Perms, Request};
use client::Client;
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::time::Instant;
use support::*;

const SIZE: u64 = 1 << 20;

/// A daemon with a device `d0` of which an injected error fails writes, and its guest behind an NBD export.
struct World {
    control: monitor::Control,
    folder: Folder,
    client: Client,
    guest: Arc<Backend>,
}

impl World {
    /// `policy`: members of the device's options. `error`: members of the rule for writes.
    async fn new(policy: &str, error: &str) -> World {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        let (file, socket) = (folder.path("disk"), folder.path("nbd.sock"));
        std::fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
        for (command, arguments) in [
            (
                "blockdev-add",
                format!(
                    "'options': {{'driver': 'raw', 'id': 'd0', {policy} 'file': {{'driver': 'blkdebug', \
                     'inject-error': [{{'event': 'none', 'iotype': 'write', {error}}}], \
                     'image': {{'driver': 'file', 'filename': '{file}'}}}}}}"
                ),
            ),
            ("nbd-server-start", format!("'addr': {{'type': 'unix', 'data': {{'path': '{socket}'}}}}")),
            ("nbd-server-add", "'device': 'd0', 'writable': true".to_owned()),
            (
                "blockdev-add",
                format!(
                    "'driver': 'nbd', 'node-name': 'guest', 'export': 'd0', \
                     'server': {{'type': 'unix', 'path': '{socket}'}}"
                ),
            ),
        ] {
            client.ok(&format!("{{'execute': '{command}', 'arguments': {{{arguments}}}}}")).await;
        }
        let node = control.graph().node("guest").unwrap();
        let request = BackendRequest { label: "guest".to_owned(), node, perms: Perms::WRITER, pinned: false };
        let guest = control.graph().attach(request).await.unwrap();
        World { control, folder, client, guest }
    }

    fn begin_write(&self, at: u64, byte: u8) -> rt::JoinHandle<Result<(), BlockError>> {
        let guest = self.guest.clone();
        rt::spawn(async move { guest.write(at, Buf::from_slice(&[byte; 512]), Request::GUEST).await })
    }

    async fn first_byte(&self, at: u64) -> u8 {
        let (buf, result) = self.guest.read(at, BufMut::with_len(512)).await;
        result.unwrap();
        buf[0]
    }

    async fn status(&mut self) -> (String, String) {
        let status = text(&self.client.ok("{'execute': 'query-status'}").await, &["status"]);
        let devices = self.client.ok("{'execute': 'query-block'}").await;
        let Value::List(devices) = devices else { panic!("{devices}") };
        (status, text(&devices[0], &["io-status"]))
    }

    async fn say(&mut self, command: &str) {
        self.client.ok(&format!("{{'execute': '{command}'}}")).await;
    }

    async fn end(self) {
        // Its server may have gone before it.
        self.control.graph().detach(&self.guest).await.ok();
        self.control.graph().remove("guest").await.ok();
        self.control.end().await.unwrap();
    }
}

#[test]
fn a_request_that_stops_the_machine_is_held_and_done_when_it_goes_on() {
    rt::block_on_control(async {
        for (error, nospace, status, reason) in [
            ("'errno': 5, 'once': true", false, "failed", "Input/output error"),
            ("'errno': 28, 'once': true", true, "nospace", "No space left on device"),
        ] {
            let mut world = World::new("'werror': 'stop',", error).await;
            let write = world.begin_write(4096, 7);
            let failed = world.client.event("BLOCK_IO_ERROR").await;
            let data = failed.get("data").unwrap();
            assert_eq!(data.get("nospace"), Some(&Value::Bool(nospace)));
            let told =
                ["device", "qom-path", "operation", "action", "reason"].map(|name| text(data, &[name]));
            assert_eq!(told, ["d0", "", "write", "stop", reason]);
            world.client.event("STOP").await;
            assert_eq!(world.status().await, ("io-error".to_owned(), status.to_owned()));
            // Who changes the graph does not wait for what is held.
            let overlay = world.folder.path("overlay");
            let snapshot = format!(
                "{{'execute': 'blockdev-snapshot-sync', 'arguments': {{'device': 'd0', 'snapshot-file': '{overlay}'}}}}"
            );
            world.client.ok(&snapshot).await;
            assert!(!write.is_finished());
            world.say("cont").await;
            world.client.event("RESUME").await;
            write.await.unwrap().unwrap();
            assert_eq!(world.first_byte(4096).await, 7);
            assert_eq!(world.status().await, ("running".to_owned(), "ok".to_owned()));
            world.end().await;
        }
    });
}

#[test]
fn requests_wait_while_the_machine_is_stopped_but_not_for_the_end_of_their_export() {
    rt::block_on_control(async {
        let mut world = World::new("'rerror': 'stop', 'werror': 'stop',", "'errno': 5, 'sector': 8").await;
        world.say("stop").await;
        let held = world.begin_write(0, 1);
        world.say("query-status").await;
        assert!(!held.is_finished());
        world.say("cont").await;
        held.await.unwrap().unwrap();
        assert_eq!(world.first_byte(0).await, 1);
        // It fails as often as it is done again.
        let failing = world.begin_write(4096, 2);
        for _ in 0..3 {
            world.client.event("STOP").await;
            world.say("cont").await;
        }
        world.client.event("STOP").await;
        world.say("nbd-server-stop").await;
        assert!(failing.await.unwrap().is_err());
        world.end().await;
    });
}

#[test]
fn what_can_not_be_done_is_an_answer_and_stops_nothing() {
    rt::block_on_control(async {
        let mut world = World::new("'werror': 'stop',", "'errno': 95, 'once': true").await;
        assert!(world.begin_write(0, 3).await.unwrap().is_err());
        assert_eq!(world.status().await, ("running".to_owned(), "ok".to_owned()));
        world.end().await;
    });
}

#[test]
fn errors_are_ignored_or_told_as_the_policy_says_and_a_storm_is_told_of_now_and_then() {
    rt::block_on_control(async {
        let mut world = World::new("'werror': 'ignore',", "'errno': 5").await;
        let begun = Instant::now();
        for at in 0..100 {
            world.begin_write(at * 512, 3).await.unwrap().unwrap();
        }
        assert_eq!(world.first_byte(0).await, 0, "nothing was written");
        world.say("query-status").await;
        let seconds = begun.elapsed().as_secs();
        let told = world.client.events.iter().filter(|event| text(event, &["event"]) == "BLOCK_IO_ERROR");
        let told = told.count() as u64;
        assert!((1..=1 + seconds).contains(&told), "{told} events in {seconds} s");
        // The last of them comes yet.
        world.client.events.clear();
        let last = world.client.event("BLOCK_IO_ERROR").await;
        assert_eq!(text(&last, &["data", "action"]), "ignore");
        world.end().await;

        let mut world = World::new("'werror': 'enospc',", "'errno': 5").await;
        assert!(world.begin_write(0, 3).await.unwrap().is_err());
        let told = world.client.event("BLOCK_IO_ERROR").await;
        assert_eq!(text(&told, &["data", "action"]), "report");
        assert_eq!(world.status().await, ("running".to_owned(), "ok".to_owned()));
        world.end().await;
    });
}

#[test]
fn a_device_of_which_nothing_was_said_is_exported_like_any_node() {
    rt::block_on_control(async {
        let mut world = World::new("", "'errno': 28").await;
        assert!(world.begin_write(0, 3).await.unwrap().is_err());
        world.say("stop").await;
        assert_eq!(world.first_byte(0).await, 0, "reads go on");
        let (status, io_status) = world.status().await;
        assert_eq!((status.as_str(), io_status.as_str()), ("paused", ""));
        assert!(world.client.events.iter().all(|event| text(event, &["event"]) != "BLOCK_IO_ERROR"));
        let node = "{'execute': 'blockdev-add', 'arguments': {'driver': 'null-co', 'node-name': 'x', 'werror': 'stop'}}";
        let (_, desc) = world.client.refused(node).await;
        assert_eq!(desc, "'rerror' and 'werror' are a device's: 'id' is missing");
        world.end().await;
    });
}
