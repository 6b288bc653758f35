//! Members of objects are written in the order in which QEMU writes them.

use api::json::{parse, to_line};

/// Lines as QEMU 10.0.2 printed them.
const SEEN: &[&str] = &[
    r#"{"timestamp": {"seconds": 1795995086, "microseconds": 301644}, "event": "DEVICE_TRAY_MOVED", "data": {"device": "d1", "tray-open": true, "id": "cd0"}}"#,
    r#"{"return": [{"io-status": "ok", "device": "d1", "locked": false, "removable": true, "qdev": "cd0", "tray_open": false, "type": "unknown"}]}"#,
    r#"{"iops_rd": 0, "detect_zeroes": "off", "active": true, "image": {"backing-filename-format": "qcow2", "virtual-size": 10485760, "filename": "b.q", "cluster-size": 65536, "format": "qcow2", "actual-size": 200704, "full-backing-filename": "a.q", "backing-filename": "a.q", "dirty-flag": false}, "iops_wr": 0, "ro": false, "node-name": "n", "backing_file_depth": 1, "drv": "qcow2", "iops": 0, "bps_wr": 0, "write_threshold": 0, "encrypted": false, "bps": 0, "bps_rd": 0, "cache": {"no-flush": false, "direct": false, "writeback": true}, "file": "b.q"}"#,
    r#"{"compat": "1.1", "compression-type": "zlib", "lazy-refcounts": false, "refcount-bits": 16, "corrupt": false, "extended-l2": false}"#,
    r#"{"read-zeroes": true, "driver": "null-co"}"#,
    r#"{"status": "prelaunch", "running": false}"#,
    r#"{"error": {"class": "DeviceNotFound", "desc": "Device 'cd9' not found"}}"#,
];

#[test]
fn members_are_written_in_the_order_that_scripts_know() {
    for line in SEEN {
        let mut value = parse(line).unwrap();
        assert_eq!(to_line(&value), *line);
        if let api::Value::Dict(dict) = value {
            let mut members: Vec<_> = dict.into_iter().collect();
            members.reverse();
            value = api::Value::Dict(members.into_iter().collect());
            assert_eq!(to_line(&value), *line, "whatever the order in which they were set");
        }
    }
}

#[test]
fn of_two_names_that_share_a_place_the_one_that_was_set_last_comes_first() {
    let value = parse(r#"{"backing_file": "a", "write_threshold": 0}"#).unwrap();
    assert_eq!(to_line(&value), r#"{"write_threshold": 0, "backing_file": "a"}"#);
}
