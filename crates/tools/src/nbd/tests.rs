//! Each flag of `nbd`: a server in a process of its own, and the other faces as its clients. No other program is needed.
//!
//! [`every_flag_is_given_and_changes_what_is_served`] runs all scenarios and fails where a flag of the table stands in
//! none of them.

use super::*;
use crate::getopt::{
    self,
    tests::{each_flag_changes_the_settings, names_are_unique},
};
use crate::testing::{Faces, Process};

/// An image of 1 MiB with 1 in its first 128 KiB, and the same as a plain file.
fn images() -> Faces {
    let faces = Faces::new();
    faces.ok("img create -q -f qcow2 @a 1M");
    faces.ok("io -c 'write -q -P 1 0 128k' @a");
    faces.ok("img convert -O raw @a @raw");
    faces
}

/// The export without a name at the socket.
const EXPORT: &str = "nbd+unix://?socket=@s";

/// Serves on the socket; clients can connect when this returns.
fn serve(faces: &Faces, flags: &str) -> Process {
    std::fs::remove_file(faces.path("s")).ok();
    let mut process = faces.start(&format!("nbd -k @s {flags}"));
    faces.wait_for(&mut process, "s");
    process
}

/// Serves, lets one client run these commands of `io`, and gives what it printed. The server ends with its client.
fn served(faces: &Faces, flags: &str, commands: &str) -> String {
    let process = serve(faces, flags);
    let said = faces.ok(&format!("io -f raw {commands} '{EXPORT}'"));
    assert_eq!(process.ended(), (true, String::new()), "{flags}");
    said
}

#[test]
fn every_flag_is_given_and_changes_what_is_served() {
    let faces = images();
    the_image_and_how_it_is_opened(&faces);
    what_clients_are_told(&faces);
    how_long_it_serves(&faces);
    what_is_refused(&faces);
    let help = faces.ok("nbd --help");
    for flag in getopt::rows(FLAGS).filter(|flag| !flag.help.is_empty()) {
        assert!(help.contains(flag.help), "{}", flag.names);
    }
    assert!(faces.ok("nbd -V").starts_with("qemu-nbd "));
    // A process of these tests has more than one thread, and can't go to the background.
    faces.ran_in("tests/fork.rs", "nbd --fork");
    faces.gave_every_flag(FLAGS, |words| (words[0] == "nbd").then(|| words[1..].to_vec()));
}

#[test]
fn each_flag_changes_the_settings_of_the_server() {
    names_are_unique(FLAGS);
    let values = [
        ("-p", "10810"),
        ("-b", "127.0.0.1"),
        ("-k", "/tmp/s"),
        ("-e", "2"),
        ("-x", "disk"),
        ("-D", "text"),
        ("--handshake-limit", "3"),
        ("-f", "raw"),
        ("-l", "one"),
        ("-o", "512"),
        ("--cache", "none"),
        ("--aio", "threads"),
        ("--discard", "unmap"),
        ("--detect-zeroes", "on"),
        ("--pid-file", "/tmp/pid"),
        ("--object", "secret,id=s,data=x"),
        ("-T", "off"),
        ("-B", "map"),
        ("--tls-creds", "t"),
        ("--tls-authz", "t"),
        ("--tls-hostname", "disk.example"),
    ];
    each_flag_changes_the_settings(FLAGS, Args::new, &values, &["--object", "-T", "-v"]);
}

fn the_image_and_how_it_is_opened(faces: &Faces) {
    served(faces, "-f qcow2 @a", "-c 'read -P 1 0 64k' -c 'write -P 2 0 64k'");
    served(faces, "--image-opts driver=qcow2,file.filename=@a", "-c 'read -P 2 0 64k' -c 'write -P 1 0 64k'");
    let said = served(faces, "-f raw -o 65536 @raw", "-c length -c 'read -P 1 0 64k' -c 'read -P 0 64k 64k'");
    assert!(said.starts_with("960 KiB\n"), "{said}");
    served(faces, "-s @a", "-c 'write -P 9 0 64k' -c 'read -P 9 0 64k'");
    served(
        faces,
        "-n --aio threads --discard unmap --detect-zeroes unmap @a",
        "-c 'read -P 1 0 64k' -c 'write -P 0 512k 64k'",
    );
    let map = faces.ok("img map --output=json @a");
    assert!(
        !map.contains(
            "\"start\": 524288, \"length\": 65536, \"depth\": 0, \"present\": true, \"zero\": false"
        ),
        "{map}"
    );
    served(faces, "--cache writethrough --object secret,id=s,data=x @a", "-c 'write -P 1 0 64k' -c flush");
    let process = serve(faces, "-r @a");
    assert!(faces.fails(1, &format!("io -f raw -c 'write 0 4k' '{EXPORT}'")).contains("read-only"));
    drop(process);
}

fn what_clients_are_told(faces: &Faces) {
    let process =
        serve(faces, "-x disk -D 'a small disk' -e 3 -t -v --trace off --handshake-limit 3 -f raw @raw");
    let list = faces.ok("nbd --list -k @s");
    assert!(
        list.starts_with("exports available: 1\n export: 'disk'\n  description: a small disk\n"),
        "{list}"
    );
    assert!(list.contains("  size:  1048576\n") && list.contains(" multi "), "{list}");
    assert!(
        faces.ok("img info --output=json 'nbd+unix:///disk?socket=@s'").contains("\"virtual-size\": 1048576")
    );
    assert!(faces.fails(1, &format!("img info '{EXPORT}'")).contains("Could not open"));
    process.terminate();
    assert!(process.ended().0);
}

fn how_long_it_serves(faces: &Faces) {
    let process = serve(faces, "-t -f raw @raw");
    for _ in 0..2 {
        faces.ok(&format!("io -f raw -c 'read -P 1 0 64k' '{EXPORT}'"));
    }
    process.terminate();
    assert_eq!(process.ended(), (true, String::new()));
    assert!(!faces.path("s").exists(), "the socket goes with the server");

    // A port that is free now; the family's local address needs no network.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut process = faces.start(&format!("nbd -b 127.0.0.1 -p {port} --pid-file @pid -f raw @raw"));
    faces.wait_for(&mut process, "pid");
    let list = faces.ok(&format!("nbd -L -b 127.0.0.1 -p {port}"));
    assert!(list.contains("export: ''"), "{list}");
    assert_eq!(String::from_utf8(faces.read("pid")).unwrap(), format!("{}\n", process.id()));
    faces.ok(&format!("io -f raw -c 'read -P 1 0 64k' nbd://127.0.0.1:{port}"));
    assert!(process.ended().0, "without -t it ends with its last client");
}

fn what_is_refused(faces: &Faces) {
    for (flags, why) in [
        ("-B map @a", "Bitmap 'map' is not found"),
        ("--tls-creds t @a", "Failed to get TLS creds: No TLS credentials with id 't'"),
        ("--tls-authz t @a", "--tls-authz is not permitted without --tls-creds"),
        ("--tls-hostname t @a", "--tls-hostname is not permitted without --tls-creds"),
        ("--tls-creds t --tls-hostname t @a", "TLS hostname is only supported with export list"),
        ("--tls-creds t --tls-authz t --list", "TLS authorization is incompatible with export list"),
        ("--tls-creds s --object secret,id=s,data=x --list", "Object with id 's' is not TLS credentials"),
        ("--tls-creds t --object tls-creds-psk,id=t @a", "Missing 'dir' property value"),
        ("--object tls-creds-anon,id=t,dir=/ @a", "does not accept value 'tls-creds-anon'"),
        ("--object authz-pam,id=t,service=x @a", "does not accept value 'authz-pam'"),
        ("--selinux-label l @a", "labels for SELinux are not supported"),
        ("-c /dev/nbd0 @a", "kernel devices (-c) are not supported"),
        ("-d /dev/nbd0", "kernel devices (-d) are not supported"),
        ("-l snap @a", "Could not open '@a': Failed to load snapshot: Can't find snapshot"),
        ("-l snapshot.of=1 @a", "Invalid parameter 'snapshot.of'"),
        ("-k relative @a", "socket path must be absolute"),
        ("-p 70000 @a", "Invalid port '70000'"),
        ("-e -1 @a", "Invalid shared device number '-1'"),
        ("-o x @a", "Invalid offset 'x'"),
        ("-n --cache none @a", "-n and --cache can only be specified once"),
        ("--cache none --cache none @a", "-n and --cache can only be specified once"),
        ("--aio threads --aio native @a", "--aio can only be specified once"),
        ("--discard unmap --discard ignore @a", "--discard can only be specified once"),
        ("--cache fast @a", "Invalid cache mode: fast"),
        ("--detect-zeroes some -k @never @a", "detect-zeroes"),
        ("--image-opts -f raw driver=raw", "--image-opts and -f are mutually exclusive"),
        ("--object frob,id=x @a", "does not accept value 'frob'"),
        ("--list @a", "List mode is incompatible with a file name"),
        ("--list -x name", "List mode is incompatible with per-device settings"),
        ("--list -A", "List mode is incompatible with per-device settings"),
        ("--list --fork", "List mode is incompatible with forking"),
        ("-k @never", "Invalid number of arguments"),
        ("-k @never @nowhere", "Could not open '@nowhere'"),
    ] {
        let said = faces.fails(1, &format!("nbd {flags}"));
        assert!(said.contains(why), "{flags}: {said}");
    }
}
