//! The schema as clients see it: closed in itself, and a part of what QEMU's programs have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::{COMMANDS, INTROSPECTION, Value, json};

/// The entries of an introspection by name.
struct Schema(HashMap<String, Value>);

impl Schema {
    fn of(answer: &Value) -> Self {
        let named = |e: &Value| (text(e, "name").to_string(), e.clone());
        Self(answer.as_list().unwrap().iter().map(named).collect())
    }

    fn entry(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("'{name}' is referred to but not there"))
    }
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or_else(|| panic!("no string '{member}' in {value}"))
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value.get(member).and_then(Value::as_list).unwrap_or_default()
}

fn ours() -> Schema {
    Schema::of(&json::parse(INTROSPECTION).unwrap())
}

#[test]
fn introspection_is_closed_and_every_entry_is_reachable() {
    let answer = json::parse(INTROSPECTION).unwrap();
    let schema = ours();
    assert_eq!(answer.as_list().unwrap().len(), schema.0.len(), "names are distinct");
    let mut reached = HashSet::new();
    let roots = schema.0.iter().filter(|(_, e)| matches!(text(e, "meta-type"), "command" | "event"));
    let mut queue: Vec<String> = roots.map(|(name, _)| name.clone()).collect();
    while let Some(name) = queue.pop() {
        let entry = schema.entry(&name);
        if !reached.insert(name) {
            continue;
        }
        for member in ["arg-type", "ret-type", "element-type"] {
            queue.extend(entry.get(member).and_then(Value::as_str).map(String::from));
        }
        let parts = list(entry, "members").iter().chain(list(entry, "variants"));
        queue.extend(parts.filter_map(|part| part.get("type")).filter_map(Value::as_str).map(String::from));
    }
    assert_eq!(reached.len(), schema.0.len(), "an entry that nothing refers to");
}

#[test]
fn every_command_is_introspected_and_nothing_else() {
    let schema = ours();
    let introspected: HashSet<&str> =
        schema.0.iter().filter(|(_, e)| text(e, "meta-type") == "command").map(|(n, _)| n.as_str()).collect();
    assert_eq!(introspected, COMMANDS.iter().copied().collect());
    // What clients insist on in the answer of query-qmp-schema itself.
    let masked = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
    let bare = |name: &str| name.trim_matches(['[', ']']).to_string();
    for (name, entry) in &schema.0 {
        match text(entry, "meta-type") {
            "command" | "event" | "builtin" => assert!(!masked(name)),
            "array" if matches!(bare(name).as_str(), "str" | "int") => {}
            _ => assert!(masked(&bare(name)), "the name of type {name} shows"),
        }
    }
}

/// What newer versions of QEMU than the one whose interface this is have.
fn is_newer(path: &str) -> bool {
    path.ends_with(".children") || path.ends_with(".limits") || path.ends_with(".delay-ns")
}

/// Commands of earlier versions of QEMU.
const OLDER: [&str; 2] = ["block_passwd", "change"];

/// Where ours says more than theirs, on purpose.
fn is_our_own(path: &str) -> bool {
    let option = path.rsplit('.').next().is_some_and(|name| name.starts_with("x-"));
    // One struct tells how an image is encrypted, in the order in which QEMU prints it; there each format has its own.
    let described = path.contains("format-specific:qcow2.data.encrypt.");
    option || described || OWN_OPTIONS.iter().any(|own| path.ends_with(own))
}

/// Options of our own, of drivers that QEMU has too.
const OWN_OPTIONS: [&str; 25] = [
    ":ftps.cafile",
    ":ftps.explicit",
    // One type is for both; a server without TLS may lead to one with it.
    ":http.sslverify",
    ":http.cafile",
    ":http.header-secret",
    ":http.proxy",
    ":http.connections",
    ":http.cache-size",
    ":https.cafile",
    ":https.header-secret",
    ":https.proxy",
    ":https.connections",
    ":https.cache-size",
    ":iscsi.target-user",
    ":iscsi.target-password-secret",
    ":iscsi.data-digest",
    ":nfs.nfs-port",
    ":nfs.mount-port",
    ":nfs.reconnect-delay",
    ":rbd.timeout",
    ":ssh.known-hosts-file",
    ":ssh.reconnect-delay",
    ":ssh.key-file",
    ":ssh.key-secret",
    ":ssh.password-secret",
];

/// Answers that QEMU's programs have and ours will have with the features they belong to.
fn comes_later(member: &str) -> bool {
    member.contains("zone_append") || member == "timed_stats"
}

/// Compares two types by shape. `sent`: the client sends such values, so ours may ask for nothing that theirs does not
/// take; otherwise ours may lack nothing that theirs always has.
struct Comparison<'a> {
    ours: &'a Schema,
    theirs: &'a Schema,
    seen: HashSet<(String, String)>,
    faults: Vec<String>,
}

impl Comparison<'_> {
    fn compare(&mut self, path: &str, ours: &str, theirs: &str, sent: bool) {
        if !self.seen.insert((ours.into(), theirs.into())) {
            return;
        }
        let (our, their) = (self.ours.entry(ours).clone(), self.theirs.entry(theirs).clone());
        if text(&our, "meta-type") != text(&their, "meta-type") {
            self.faults.push(format!(
                "{path}: {} here, {} there",
                text(&our, "meta-type"),
                text(&their, "meta-type")
            ));
            return;
        }
        match text(&our, "meta-type") {
            "builtin" if our.get("json-type") != their.get("json-type") => {
                self.faults.push(format!("{path}: {our} here, {their} there"))
            }
            "array" => self.compare(path, text(&our, "element-type"), text(&their, "element-type"), sent),
            "enum" => self.names(path, &our, &their),
            "object" => self.object(path, &our, &their, sent),
            "alternate" => self.alternate(path, &our, &their, sent),
            _ => {}
        }
    }

    fn names(&mut self, path: &str, our: &Value, their: &Value) {
        let known: HashSet<&str> = list(their, "members").iter().map(|m| text(m, "name")).collect();
        for member in list(our, "members").iter().filter(|m| !known.contains(text(m, "name"))) {
            self.faults.push(format!("{path}: value '{}' is not there", text(member, "name")));
        }
    }

    fn object(&mut self, path: &str, our: &Value, their: &Value, sent: bool) {
        let find =
            |of: &Value, name: &str| list(of, "members").iter().find(|m| text(m, "name") == name).cloned();
        for member in list(our, "members") {
            let name = text(member, "name");
            let path = format!("{path}.{name}");
            match find(their, name) {
                None if is_newer(&path) || is_our_own(&path) => {}
                None => self.faults.push(format!("{path} is not there")),
                Some(theirs) => {
                    let (here, there) = (member.get("default").is_some(), theirs.get("default").is_some());
                    if (sent && !here && there) || (!sent && here && !there) {
                        self.faults.push(format!("{path}: optional {here} here, {there} there"));
                    }
                    self.compare(&path, text(member, "type"), text(&theirs, "type"), sent);
                }
            }
        }
        for member in list(their, "members").iter().filter(|m| m.get("default").is_none()) {
            let name = text(member, "name");
            if find(our, name).is_none() && !comes_later(name) {
                self.faults.push(format!("{path}.{name} is always there, and never here"));
            }
        }
        for variant in list(our, "variants") {
            let case = text(variant, "case");
            match list(their, "variants").iter().find(|v| text(v, "case") == case) {
                None => self.faults.push(format!("{path}: case '{case}' is not there")),
                Some(v) => {
                    self.compare(&format!("{path}:{case}"), text(variant, "type"), text(v, "type"), sent)
                }
            }
        }
    }

    fn alternate(&mut self, path: &str, our: &Value, their: &Value, sent: bool) {
        for member in list(our, "members") {
            let our_type = text(member, "type");
            let kind = text(self.ours.entry(our_type), "meta-type");
            let name = self.ours.entry(our_type).get("json-type");
            let same = |m: &&Value| {
                let entry = self.theirs.entry(text(m, "type"));
                text(entry, "meta-type") == kind && entry.get("json-type") == name
            };
            match list(their, "members").iter().find(same) {
                None => self.faults.push(format!("{path}: a choice of type {kind} is not there")),
                Some(m) => self.compare(path, our_type, text(m, "type"), sent),
            }
        }
    }
}

#[test]
fn all_that_we_have_is_as_it_is_in_qemu() {
    let Some(peer) = Peer::start("qemu-storage-daemon", &["--monitor", "chardev=c"], "--chardev") else {
        println!("skipped: no qemu-storage-daemon on this machine");
        return;
    };
    let ours = ours();
    // Descriptors that are handed over, devices, hand-overs of machines, and whether one runs: QEMU has them in the emulator only.
    let emulators = [
        "getfd",
        "closefd",
        "add-fd",
        "remove-fd",
        "query-fdsets",
        "eject",
        "blockdev-open-tray",
        "blockdev-close-tray",
        "blockdev-insert-medium",
        "blockdev-remove-medium",
        "blockdev-change-medium",
        "block_set_io_throttle",
        "block-latency-histogram-set",
        "query-iothreads",
        "query-status",
        "stop",
        "cont",
        "system_reset",
        "device_add",
        "device_del",
        "human-monitor-command",
        "migrate",
        "migrate-continue",
        "migrate-incoming",
        "migrate-set-capabilities",
        "migrate-set-parameters",
        "migrate-start-postcopy",
        "migrate_cancel",
        "query-migrate",
        "query-migrate-capabilities",
        "query-migrate-parameters",
        "query-yank",
        "yank",
        "MIGRATION",
        "MIGRATION_PASS",
        "DEVICE_TRAY_MOVED",
        "DEVICE_DELETED",
        "STOP",
        "RESUME",
        "RESET",
        "SHUTDOWN",
    ];
    let machine = ["-M", "none", "-display", "none", "-nodefaults", "-mon", "c,mode=control"];
    compare(&ours, &Schema::of(&peer.schema()), |name| !emulators.contains(&name));
    match Peer::start("qemu-system-x86_64", &machine, "-chardev") {
        Some(peer) => compare(&ours, &Schema::of(&peer.schema()), |name| emulators.contains(&name)),
        None => println!("skipped: no qemu-system-x86_64 on this machine"),
    }
}

/// What the QEMU beside us has not, by a part of the fault.
const ELSEWHERE: [&str; 37] = [
    // Of 2.1: a node that is added with a device.
    ".cache.writeback is",
    ".id is",
    ".rerror is",
    ".werror is",
    // Of 2.1: what a program tells that has that generation's manners.
    "query-block().dirty-bitmaps is",
    ".encryption_key_missing is",
    // Of QEMU 10.1 and later.
    "command qom-list-get is",
    "blockdev-mirror.target-is-zero is",
    "blockdev-backup.on-cbw-error is",
    "drive-backup.on-cbw-error is",
    "transaction.actions:blockdev-backup.data.on-cbw-error is",
    "transaction.actions:drive-backup.data.on-cbw-error is",
    // Set as a text or null there, and shown as a text; one type is for both from QEMU 11 on.
    "query-migrate-parameters().tls-",
    // Of a QEMU that was built with these.
    "multifd-compression: value 'qatzip' is",
    "multifd-compression: value 'qpl' is",
    "multifd-compression: value 'uadk' is",
    // A member of one branch of a union there.
    "query-block-jobs().actively-synced is",
    // Called 'qcow' there, and 'aes' where an image is opened.
    "blockdev-create.options:qcow2.encrypt.format: value 'aes' is",
    "blockdev-create.options:qcow2.encrypt: case 'aes' is",
    "blockdev-create.options:qcow.encrypt.format: value 'aes' is",
    "blockdev-create.options:qcow.encrypt: case 'aes' is",
    // A format and a protocol of 2.1.
    ".driver: value 'cow' is",
    ": case 'cow' is",
    ".driver: value 'host_floppy' is",
    ": case 'host_floppy' is",
    ".driver: value 'tftp' is",
    ": case 'tftp' is",
    // A protocol that QEMU has not.
    ".driver: value 's3' is",
    ": case 's3' is",
    // Of QEMU 11 and later.
    ":http.force-range is",
    ":https.force-range is",
    // Taken there too, from URLs, but not told of.
    ":iscsi.password is",
    // Parents of differencing images, which QEMU does not read, and an option that its schema leaves out.
    ":vhdx.backing is",
    ":vpc.backing is",
    ":vpc.force_size_calc is",
    // Ours alone: what web servers said is kept on disk.
    ".cache-path is",
    ".cache-disk-size is",
];

/// Compares our commands and events that are `chosen` with theirs.
fn compare(ours: &Schema, theirs: &Schema, chosen: impl Fn(&str) -> bool) {
    let mut comparison = Comparison { ours, theirs, seen: HashSet::new(), faults: Vec::new() };
    for (name, entry) in &ours.0 {
        let meta = text(entry, "meta-type");
        if !matches!(meta, "command" | "event") || !chosen(name) || OLDER.contains(&name.as_str()) {
            continue;
        }
        let Some(other) = theirs.0.get(name) else {
            comparison.faults.push(format!("{meta} {name} is not there"));
            continue;
        };
        comparison.compare(name, text(entry, "arg-type"), text(other, "arg-type"), meta == "command");
        if meta == "command" {
            comparison.compare(&format!("{name}()"), text(entry, "ret-type"), text(other, "ret-type"), false);
        }
    }
    let faults = &mut comparison.faults;
    faults.retain(|fault| !ELSEWHERE.iter().any(|known| fault.contains(known)));
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A running program of QEMU's, with a monitor.
struct Peer {
    child: Child,
    socket: std::path::PathBuf,
}

impl Peer {
    fn start(program: &str, arguments: &[&str], chardev_option: &str) -> Option<Self> {
        let socket = std::env::temp_dir().join(format!("cairn-schema-{}-{program}", std::process::id()));
        let chardev = format!("socket,id=c,server=on,wait=off,path={}", socket.display());
        let child = Command::new(program)
            .args([chardev_option, &chardev])
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { child, socket })
    }

    fn schema(&self) -> Value {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut stream = loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => break stream,
                Err(e) if Instant::now() > deadline => panic!("the peer does not listen: {e}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let commands = b"{'execute': 'qmp_capabilities'} {'execute': 'query-qmp-schema', 'id': 1}\n";
        stream.write_all(commands).unwrap();
        for line in BufReader::new(stream).lines() {
            let message = json::parse(&line.unwrap()).unwrap();
            if message.get("id").is_some() {
                return message.get("return").unwrap().clone();
            }
        }
        panic!("the peer did not answer");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}
