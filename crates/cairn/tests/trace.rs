//! What `--trace` shows.

use std::process::Command;

#[test]
fn every_request_is_traced_with_its_range_and_its_time() {
    let folder =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trace-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let image = folder.join("a.raw");
    std::fs::write(&image, [0; 65536]).unwrap();
    let run = |trace: &[&str]| {
        let commands =
            ["-f", "raw", "-c", "write -q -P 1 4096 8192", "-c", "flush", "-c", "read -q 512 1024"];
        let program = Command::new(env!("CARGO_BIN_EXE_cairn"))
            .arg("io")
            .args(trace)
            .args(commands)
            .arg(&image)
            .output();
        let program = program.unwrap();
        assert!(program.status.success());
        String::from_utf8(program.stderr).unwrap()
    };
    let told = run(&["-T", "block=debug"]);
    for part in [
        "op=\"write\"",
        "offset=4096 len=8192",
        "op=\"flush\"",
        "op=\"read\"",
        "offset=512 len=1024",
        "time.busy",
    ] {
        let plain: String = strip_colours(&told);
        assert!(plain.contains(part), "{part} in:\n{plain}");
    }
    assert_eq!(run(&[]), "");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The text without terminal escapes.
fn strip_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain + rest
}
