//! Each command of `io` with each of its flags, on files of a folder of its own: no other program is needed.
//!
//! A command has a scenario here, or [`every_command_has_a_scenario`] fails; a scenario gives each flag of its command's table at
//! least once and looks at what came of it, or [`every_flag_of_every_command_is_given`] fails.

use super::command::COMMANDS;
use super::*;
use crate::getopt::tests::{each_flag_changes_the_settings, names_are_unique};
use crate::getopt::{Table, rows};
use crate::testing::Faces;

type Scenario = (&'static str, fn(&Faces));

const SCENARIOS: &[Scenario] = &[
    ("abort", help_and_quit),
    ("aio_discard", discard),
    ("aio_flush", requests_under_way),
    ("aio_read", requests_under_way),
    ("aio_write", requests_under_way),
    ("alloc", what_is_allocated),
    ("break", held_back),
    ("close", open_and_close),
    ("discard", discard),
    ("flush", read_and_write),
    ("help", help_and_quit),
    ("info", about_the_image),
    ("length", about_the_image),
    ("map", what_is_allocated),
    ("open", open_and_close),
    ("quit", help_and_quit),
    ("read", read_and_write),
    ("readv", pieces),
    ("remove_break", held_back),
    ("reopen", reopen),
    ("resume", held_back),
    ("sigraise", held_back),
    ("sleep", help_and_quit),
    ("truncate", about_the_image),
    ("wait_break", held_back),
    ("write", read_and_write),
    ("writev", pieces),
    ("zone_append", zones),
    ("zone_close", zones),
    ("zone_finish", zones),
    ("zone_open", zones),
    ("zone_report", zones),
    ("zone_reset", zones),
];

fn held_back(faces: &Faces) {
    let begun = "-c 'break write_aio A' -c 'aio_write -q -P 9 0 64k' -c 'wait_break A'";
    let told = faces
        .ok(&format!("io -f qcow2 {begun} -c 'resume A' -c aio_flush -c 'read -P 9 0 64k' blkdebug::@a"));
    assert!(told.contains("Suspended request 'A'") && told.contains("Resuming request 'A'"), "{told}");
    faces.ok(&format!("io -f qcow2 {begun} -c 'remove_break A' -c aio_flush blkdebug::@a"));
    faces.fails(1, "io -f qcow2 -c 'resume A' blkdebug::@a");
    faces.fails(1, "io -f qcow2 -c 'break no A' blkdebug::@a");
    faces.fails(1, "io -f qcow2 -c 'break write_aio A' @a");
    faces.ok("io -c 'sigraise 0'");
    assert!(faces.fails(1, "io -c 'sigraise 1000'").contains("'1000' is too large to be a valid signal"));
    assert!(faces.fails(1, "io -c 'sigraise x'").contains("non-numeric argument"));
    faces.ok("io -c 'write -q -P 1 0 128k' @a");
}

/// An image of 1 MiB with 1 in its first 128 KiB, over which `top` has 2 in the 64 KiB behind its first 64.
fn images() -> Faces {
    let faces = Faces::new();
    faces.ok("img create -q -f qcow2 @a 1M");
    faces.ok("io -c 'write -q -P 1 0 128k' @a");
    faces.ok("img create -q -f qcow2 -b @a -F qcow2 @top");
    faces.ok("io -c 'write -q -P 2 64k 64k' @top");
    faces
}

#[test]
fn every_command_has_a_scenario() {
    let commands: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
    let scenarios: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    assert_eq!(commands, scenarios);
    for (name, _) in SCENARIOS {
        let command = command::find(name).unwrap();
        let usage = command.usage();
        for line in (command.flags)().lines() {
            let letter = line.chars().nth(2).unwrap();
            assert!(usage.contains(letter), "{usage} lacks -{letter}");
        }
    }
}

#[test]
fn every_flag_of_every_command_is_given() {
    let faces = images();
    let mut done: Vec<fn(&Faces)> = Vec::new();
    for (_, scenario) in SCENARIOS {
        if !done.iter().any(|other| std::ptr::fn_addr_eq(*other, *scenario)) {
            done.push(*scenario);
            scenario(&faces);
        }
    }
    given(&faces, "read", transfer::READ);
    given(&faces, "write", transfer::WRITE);
    given(&faces, "readv", transfer::READV);
    given(&faces, "writev", transfer::WRITEV);
    given(&faces, "discard", transfer::DISCARD);
    given(&faces, "aio_discard", transfer::DISCARD);
    given(&faces, "aio_read", aio::READ);
    given(&faces, "aio_write", aio::WRITE);
    given(&faces, "open", images::OPEN);
    given(&faces, "reopen", images::REOPEN);
    given(&faces, "truncate", images::TRUNCATE);
}

/// Fails where no line has given some flag to this command.
fn given<S>(faces: &Faces, name: &str, table: Table<S>) {
    names_are_unique(table);
    faces.gave_every_flag(table, |words| {
        let lines = words.iter().map(|word| arguments::split(word));
        let mut args = Vec::new();
        for line in lines.filter(|line| line.first().is_some_and(|first| first == name)) {
            args.extend(line.into_iter().skip(1));
        }
        Some(args).filter(|args| words[0] == "io" && !args.is_empty())
    });
}

#[test]
fn each_flag_of_each_command_changes_what_the_command_does() {
    let values: &[_] = &[("-P", "7"), ("-l", "4k"), ("-s", "4k")];
    each_flag_changes_the_settings(transfer::READ, Default::default, values, &[]);
    each_flag_changes_the_settings(transfer::WRITE, Default::default, values, &[]);
    each_flag_changes_the_settings(transfer::READV, Default::default, values, &[]);
    each_flag_changes_the_settings(transfer::WRITEV, Default::default, values, &[]);
    each_flag_changes_the_settings(transfer::DISCARD, Default::default, values, &[]);
    each_flag_changes_the_settings(aio::READ, Default::default, values, &[]);
    each_flag_changes_the_settings(aio::WRITE, Default::default, values, &[]);
    let values: &[_] = &[
        ("-t", "none"),
        ("-c", "none"),
        ("-d", "ignore"),
        ("-i", "threads"),
        ("-o", "driver=raw"),
        ("-m", "full"),
    ];
    each_flag_changes_the_settings(images::OPEN, images::OpenFlags::new, values, &[]);
    each_flag_changes_the_settings(images::REOPEN, Default::default, values, &[]);
    each_flag_changes_the_settings(images::TRUNCATE, Default::default, values, &[]);
}

#[test]
fn each_flag_of_the_program_changes_what_it_does() {
    names_are_unique(FLAGS);
    let values: &[_] = &[
        ("-c", "help"),
        ("-f", "raw"),
        ("-t", "none"),
        ("-d", "ignore"),
        ("-i", "threads"),
        ("--object", "secret,id=s,data=x"),
        ("-T", "off"),
    ];
    each_flag_changes_the_settings(FLAGS, Setup::new, values, &["--object", "-T"]);

    let faces = images();
    assert!(faces.ok("io -V").starts_with("qemu-io version "));
    let help = faces.ok("io --help");
    for flag in rows(FLAGS).filter(|flag| !flag.help.is_empty()) {
        assert!(help.contains(flag.help), "{}", flag.names);
    }
    let flags = "--object secret,id=s,data=x --trace off -f qcow2 -t none -d unmap -i threads -k -U -r";
    faces.ok(&format!("io {flags} -c 'read -P 1 0 64k' @a"));
    faces.ok("io --image-opts -m -c 'write -P 3 512 4k' -c 'read -P 3 512 4k' driver=qcow2,file.filename=@a");
    faces.ok("io -n -s -c 'write -P 9 0 64k' -c 'read -P 9 0 64k' @a");
    faces.ok("io -r -c 'read -P 1 8k 56k' @a");
    assert!(faces.fails(1, "io -r -c 'write 0 4k' @a").contains("Block node is read-only"));
    assert!(faces.fails(1, "io -C -r @a").contains("Can't use copy-on-read on read-only device"));
    assert!(faces.fails(1, "io -f raw --image-opts driver=raw").contains("mutually exclusive"));
    assert!(faces.fails(1, "io -t fast @a").contains("Invalid cache option: fast"));
    assert!(faces.fails(1, "io --frob").contains("unrecognized option '--frob'"));
    assert!(faces.fails(1, "io -c help @a @a").starts_with("Reads, writes and checks an image"));
    assert!(faces.fails(1, "io -c help @nowhere").contains("can't open device @nowhere"));
    faces.gave_every_flag(FLAGS, |words| (words[0] == "io").then(|| words[1..].to_vec()));
}

#[test]
fn a_line_that_is_no_command_fails_and_the_next_one_runs() {
    let faces = images();
    let said = faces.fails(1, "io -c frob -c 'read 0' -c 'read -x 0 4k' -c length @a");
    assert!(said.contains("command \"frob\" not found\n"), "{said}");
    assert!(said.contains("bad argument count 1 to read, expected at least 2 arguments\n"), "{said}");
    assert!(said.contains("read: invalid option -- 'x'\n"), "{said}");
    assert!(said.contains("\n1 MiB\n") || said.starts_with("1 MiB\n") || said.contains("1 MiB\n"), "{said}");
    assert!(faces.fails(1, "io -c length").contains("no file open, try 'help open'"));
}

fn read_and_write(faces: &Faces) {
    let said = faces.ok("io -c 'read 0 4k' @a");
    assert!(said.starts_with("read 4096/4096 bytes at offset 0\n4 KiB, 1 ops; "), "{said}");
    let said = faces.ok("io -c 'read -C -p -r 0 4k' @a");
    assert!(said.starts_with("4096,1,0:00:"), "{said}");
    assert_eq!(faces.ok("io -c 'read -q -P 1 0 64k' @a"), "");
    let said = faces.fails(1, "io -c 'read -q -P 2 0 64k' @a");
    assert_eq!(said, "Pattern verification failed at offset 0, 65536 bytes\n");
    faces.ok("io -c 'read -P 2 -s 64k -l 64k 0 256k' @top");
    assert_eq!(
        faces.ok("io -c 'read -v 131056 32' @a").split_once("read ").unwrap().0,
        "0001fff0:  01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01  ................\n\
         00020000:  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n"
    );
    assert_eq!(faces.ok("io -c 'read -qv 131056 32' @a"), "");
    faces.ok("io -c 'write -b -P 9 512 64k' -c 'read -b -P 0 0 512' -c 'read -b -P 9 512 64k' @a");
    faces.ok("io -c 'read -b -P 0 1G 4k' -c 'read -b -P 9 64k 512' @a");
    assert!(
        faces.fails(1, "io -c 'read -b 3 512' @a").contains("3 is not a sector-aligned value for 'offset'")
    );
    assert!(
        faces.fails(1, "io -c 'write -b 0 5' @a").contains("5 is not a sector-aligned value for 'count'")
    );
    assert!(faces.fails(1, "io -c 'write -b -z 0 512' @a").contains("-b and -z cannot be specified"));
    assert!(faces.fails(1, "io -c 'write -b -f 0 512' @a").contains("-f and -b or -c cannot be specified"));
    assert!(faces.fails(1, "io -r -c 'write -b 0 512' @a").contains("Block node is read-only"));
    assert!(faces.fails(1, "io -c 'read -P 1 -s 8k 0 4k' @a").contains("exceeds end of read data"));
    assert!(faces.fails(1, "io -c 'read -P 300 0 4k' @a").contains("300 is not a valid pattern byte"));
    assert!(faces.fails(1, "io -c 'read -s 0 0 4k' @a").starts_with("read [-abCqrv]"));
    assert!(faces.fails(1, "io -c 'read 1M 512' @a").contains("read failed: "));
    assert!(faces.fails(1, "io -c 'read 0 3G' @a").contains("length cannot exceed 2147483136, given 3G"));
    assert!(faces.fails(1, "io -c 'read 0 1e3' @a").contains("extraneous/unrecognized suffix -- 1e3"));

    std::fs::write(faces.path("pattern"), "ab").unwrap();
    faces.ok("io -c 'write -C -f -p -r -P 5 256k 4k' -c 'read -P 5 256k 4k' -c flush @a");
    faces.ok("io -c 'write -q -s @pattern 300k 4k' -c 'read -P 97 300k 1' -c 'read -P 98 301k 1' @a"
        .replace("301k", "307201")
        .as_str());
    faces.ok("io -c 'write -q -z -n 256k 64k' @a");
    faces.ok("io -c 'write -q 512k 4k' -c 'read -P 0xcd 512k 4k' @a");
    faces.ok("io -c 'write -q -c -P 7 576k 64k' -c 'read -P 7 576k 64k' @a");
    let said = faces.fails(1, "io -c 'write -c 1000 64k' @a");
    assert!(said.contains("1000 is not a sector-aligned value for 'offset'"), "{said}");
    for (flags, why) in [
        ("-c", "write failed: Invalid argument"),
        ("-c -f", "-f and -b or -c cannot be specified at the same time"),
        ("-n", "-n requires -z to be specified"),
        ("-u", "-u requires -z to be specified"),
        ("-z -P 3", "Only one of -z, -P, and -s can be specified at the same time"),
        ("-s @nowhere", "@nowhere: No such file or directory"),
    ] {
        let said = faces.fails(1, &format!("io -c 'write {flags} 0 4k' @a"));
        assert!(said.contains(why), "{flags}: {said}");
    }
}

fn pieces(faces: &Faces) {
    let said = faces.ok("io -c 'writev -P 6 0 4k 8k 512' -c 'readv -P 6 0 8k 4k 512' @a");
    assert!(said.contains("wrote 12800/12800 bytes at offset 0\n"), "{said}");
    faces.ok("io -c 'writev -C -f -r -q -P 1 0 64k' -c 'readv -C -r -v 0 4' @a");
    assert!(faces.fails(1, "io -c 'writev -z 0 4k' @a").contains("writev: invalid option -- 'z'\n"));
    assert!(faces.fails(1, "io -c 'readv 0 2G 2G' @a").contains("Argument '2G' exceeds maximum size"));
    assert!(faces.fails(1, "io -c 'writev 0 2000M 2000M' @a").contains("total number of bytes exceed"));
    assert!(faces.fails(1, "io -c 'readv -q 0' @a").starts_with("readv [-Cqrv]"));
}

fn requests_under_way(faces: &Faces) {
    let said = faces.ok(
        "io -c 'aio_write -C -f -r -P 4 512k 4k' -c aio_flush -c 'aio_read -P 4 -v 512k 16' -c aio_flush @a",
    );
    assert!(said.contains("4096,1,0:00:") && said.contains("00080000:  04 04"), "{said}");
    faces.ok("io -c 'aio_write -q -z -u 512k 64k' -c aio_flush -c 'aio_read -C -r -q -P 0 512k 64k' @a");
    let said = faces.run("io -c 'aio_read -P 9 0 4k' -c aio_flush @a").out;
    assert!(said.contains("Pattern verification failed at offset 0, 4096 bytes"), "{said}");
    assert_eq!(faces.ok("io -c 'aio_read -i 0 4k' @a"), "injecting invalid read request\n");
    assert_eq!(faces.ok("io -c 'aio_write -i 0 4k' @a"), "injecting invalid write request\n");
    faces.ok("io -c 'aio_write -q -z -P 3 640k 4k' -c aio_flush -c 'read -P 0 640k 4k' @a");
    assert!(faces.fails(1, "io -c 'aio_write -z 0 4k 4k' @a").contains("only a single length parameter"));
    assert!(faces.fails(1, "io -r -c 'aio_write 0 4k' @a").contains("Block node is read-only"));
    assert_eq!(faces.ok("io -c 'aio_read 2M 4k' -c aio_flush @a"), "readv failed: Input/output error\n");
}

fn discard(faces: &Faces) {
    faces.ok("io -c 'write -q -P 7 768k 64k' @a");
    let said = faces.ok("io -d unmap -c 'discard 768k 64k' -c 'read -P 0 768k 64k' @a");
    assert!(said.starts_with("discard 65536/65536 bytes at offset 786432\n"), "{said}");
    assert!(faces.ok("io -c 'discard -C 768k 64k' @a").starts_with("65536,1,"));
    assert_eq!(faces.ok("io -c 'discard -q 768k 64k' @a"), "");
    assert!(faces.fails(1, "io -c 'discard 1M 64k' @a").contains("discard failed: "));
    faces.ok("io -c 'write -q -P 7 768k 64k' @a");
    let begun = "-c 'aio_discard 768k 64k' -c aio_flush";
    let said = faces.ok(&format!("io -d unmap {begun} -c 'read -P 0 768k 64k' @a"));
    assert!(said.starts_with("discarded  65536/65536 bytes at offset 786432\n"), "{said}");
    assert_eq!(faces.ok("io -c 'aio_discard -q 768k 64k' -c aio_flush @a"), "");
    assert!(faces.ok("io -c 'aio_discard -C 768k 64k' -c aio_flush @a").starts_with("65536,1,"));
    let said = faces.ok("io -c 'aio_discard 1M 64k' -c aio_flush @a");
    assert_eq!(said, "aio_discard failed: Input/output error\n");
    assert!(faces.fails(1, "io -r -c 'aio_discard 0 64k' @a").contains("Block node is read-only"));
}

fn what_is_allocated(faces: &Faces) {
    assert_eq!(faces.ok("io -c 'alloc 64k 128k' @top"), "65536/131072 bytes allocated at offset 64 KiB\n");
    assert_eq!(faces.ok("io -c 'alloc 64k' @top"), "512/512 bytes allocated at offset 64 KiB\n");
    assert_eq!(
        faces.ok("io -c map @top"),
        "64 KiB (0x10000) bytes not allocated at offset 0 bytes (0x0)\n\
         64 KiB (0x10000) bytes     allocated at offset 64 KiB (0x10000)\n\
         896 KiB (0xe0000) bytes not allocated at offset 128 KiB (0x20000)\n"
    );
}

fn about_the_image(faces: &Faces) {
    faces.ok("img create -q -f qcow2 @small 64k");
    let said =
        faces.ok("io -c length -c 'truncate 128k' -c length -c 'truncate -m metadata 192k' -c length @small");
    assert_eq!(said, "64 KiB\n128 KiB\n192 KiB\n");
    let said = faces.ok("io -c info @small");
    assert!(said.starts_with("format name: qcow2\ncluster size: 64 KiB\n"), "{said}");
    assert!(
        faces.fails(1, "io -c 'truncate -m some 1M' @small").contains("Invalid preallocation mode 'some'")
    );
    assert!(faces.fails(1, "io -c 'truncate 1x' @small").contains("unrecognized suffix -- 1x"));
}

fn open_and_close(faces: &Faces) {
    let flags = "-k -n -d unmap -i threads -t writeback -U -r";
    faces.ok(&format!(
        "io -c 'open {flags} @top' -c 'read -P 2 64k 64k' -c close -c 'open -o driver=qcow2 @a'"
    ));
    faces.ok("io -c 'open -s @a' -c 'write -P 9 0 4k' -c close -c 'open @a' -c 'read -P 1 0 4k'");
    assert!(faces.fails(1, "io -c 'open -r @a' -c 'write 0 4k'").contains("Block node is read-only"));
    faces.ok("io -c 'open -C @a' -c 'read -P 1 0 4k' -c info");
    assert!(faces.fails(1, "io -c 'open @a' -c 'open @a'").contains("file open already, try 'help close'"));
    assert!(faces.fails(1, "io -c 'open -t fast @a'").contains("Invalid cache option: fast"));
    assert!(faces.fails(1, "io -c 'open -r'").starts_with("open [-rsCnkU]"));
}

fn reopen(faces: &Faces) {
    let said = faces.fails(1, "io -c 'reopen -r' -c 'write 0 4k' -c 'reopen -w' -c 'write -P 1 0 4k' @a");
    assert!(said.contains("Block node is read-only") && said.contains("wrote 4096/4096"), "{said}");
    faces.ok("io -c 'reopen -c writethrough -o lazy-refcounts=on' -c 'write -P 1 0 4k' @a");
    for (flags, why) in [
        ("-r -w", "Only one -r/-w option may be given"),
        ("-r -o read-only=on", "Cannot set both -r/-w and 'read-only'"),
        ("-c none -o cache.direct=on", "Cannot set both -c and the cache options"),
        ("-c fast", "Invalid cache option: fast"),
        ("more", "reopen [(-r|-w)]"),
    ] {
        let said = faces.fails(1, &format!("io -c 'reopen {flags}' @a"));
        assert!(said.contains(why), "{flags}: {said}");
    }
}

fn help_and_quit(faces: &Faces) {
    let all = faces.ok("io -c help");
    for command in COMMANDS {
        assert!(all.contains(&format!("{}\n", command.usage())), "{}", command.name);
        let help = faces.ok(&format!("io -c 'help {}'", command.name));
        assert!(help.starts_with(&command.usage()) && help.contains(&command.more()), "{help}");
    }
    assert!(faces.fails(1, "io -c 'help frob'").contains("command frob not found"));
    assert_eq!(faces.ok("io -c 'sleep 1' -c quit -c length @a"), "");
    assert!(faces.fails(1, "io -c 'sleep x'").contains("x is not a valid number"));
    assert!(faces.ok("io -c 'help w'").starts_with("w [-bcCfnqruz]"));
    faces.ok("io -c 'sleep 0x1'");
}

fn zones(faces: &Faces) {
    for (command, why) in [
        ("zone_report 0 1", "zone report failed: Operation not supported"),
        ("zone_report 0 4294967296", "Number of zones must be less than 2^32"),
        ("zrp x 1", "non-numeric argument"),
        ("zone_open 0 64k", "zone open failed: Operation not supported"),
        ("zone_close 0 64k", "zone close failed: Operation not supported"),
        ("zone_finish 0 64k", "zone finish failed: Operation not supported"),
        ("zone_reset 0 64k", "zone reset failed: Operation not supported"),
        ("zone_append 0 4k 4k", "zone append failed: Operation not supported"),
        ("zap 0 4k", "bad argument count 2 to zap, expected between 3 and 4 arguments"),
    ] {
        let said = faces.fails(1, &format!("io -c '{command}' @a"));
        assert!(said.contains(why), "{command}: {said}");
    }
}
