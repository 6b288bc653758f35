//! A disk that is mirrored to a new image while a guest writes to it.
use crate::client::Client;
use crate::guest::{Guest, SIZE, add, image};
use crate::support::*;

/// A mirror of `device`, with more arguments.
fn drive_mirror(device: &str, target: &str, more: &str) -> String {
    format!(
        "{{'execute': 'drive-mirror', 'arguments': {{'job-id': 'j', 'device': '{device}', 'target': '{target}', \
         'sync': 'full'{more}}}}}"
    )
}

#[test]
fn a_disk_moves_from_image_to_image_while_a_guest_keeps_writing() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        image(&control, &folder, "image.qcow2", SIZE).await;
        client.ok(&add(&folder, "disk", "image.qcow2")).await;
        let guest = Guest::start(&control, "disk").await;
        let mut device = "disk".to_owned();
        for (round, mode) in ["background", "write-blocking", "background"].into_iter().enumerate() {
            let (name, file) = (format!("copy{round}"), folder.path(&format!("copy{round}.qcow2")));
            let more = format!(", 'node-name': '{name}', 'copy-mode': '{mode}'");
            client.ok(&drive_mirror(&device, &file, &more)).await;
            let change = "{'execute': 'block-job-change', 'arguments': {'id': 'j', 'type': 'mirror', 'copy-mode': 'write-blocking'}}";
            client.ok(change).await;
            client.event("BLOCK_JOB_READY").await;
            assert!(control.graph().nodes().iter().any(|node| node.driver_name() == "mirror_top"));
            client.ok("{'execute': 'job-complete', 'arguments': {'id': 'j'}}").await;
            let done = client.event("BLOCK_JOB_COMPLETED").await;
            assert!(done.get("data").unwrap().get("error").is_none(), "{done}");
            assert_eq!(guest.node(), name);
            while !client.ok("{'execute': 'query-jobs'}").await.as_list().unwrap().is_empty() {}
            device = name;
        }
        guest.end(&control).await;
        // The one that was added by name, and its file.
        assert_eq!(control.graph().nodes().len(), 2, "{:?}", control.graph());
        control.end().await.unwrap();
    });
}

#[test]
fn a_mirror_that_is_refused_has_made_no_file_and_left_no_node() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        image(&control, &folder, "image.qcow2", SIZE).await;
        client.ok(&add(&folder, "disk", "image.qcow2")).await;
        let file = folder.path("copy.qcow2");
        let cases = [
            (", 'granularity': 256", "Parameter 'granularity' expects a value in range [512B, 64MB]"),
            (", 'granularity': 3000", "Parameter 'granularity' expects a power of 2"),
            (", 'buf-size': -1", "Invalid parameter 'buf-size'"),
            (", 'speed': -1", "Parameter 'speed' expects a non-negative value"),
            (", 'job-id': '1x'", "Invalid job ID '1x'"),
            (", 'sync': 'incremental'", "Sync mode 'incremental' not supported"),
            (", 'sync': 'bitmap'", "Sync mode 'bitmap' not supported"),
            (", 'format': 'nope'", "Unknown file format 'nope'"),
            (", 'format': 'raw', 'sync': 'none'", "Backing file not supported for file format 'raw'"),
            (", 'node-name': 'disk'", "Duplicate nodes with node-name='disk'"),
            (", 'node-name': '1x'", "Invalid node-name: '1x'"),
            (", 'replaces': 'disk'", "a node-name must be provided when replacing a named node of the graph"),
            (", 'replaces': 'x', 'node-name': 'n'", "Failed to find node with node-name='x'"),
            (", 'device': 'x'", "Cannot find device='x' nor node-name='x'"),
        ];
        let nodes = control.graph().nodes().len();
        for (more, expected) in cases {
            let mirror = drive_mirror("disk", &file, more);
            let (class, words) = client.refused(&without_repeated(&mirror, more)).await;
            assert_eq!((class.as_str(), words.as_str()), ("GenericError", expected), "{more}");
            assert!(!std::path::Path::new(&file).exists(), "{more}");
            assert_eq!(control.graph().nodes().len(), nodes, "{more}");
        }
        let own = folder.path("image.qcow2");
        let before = std::fs::read(&own).unwrap();
        client.refused(&drive_mirror("disk", &own, "")).await;
        assert_eq!(std::fs::read(&own).unwrap(), before);
        client.ok(&drive_mirror("disk", &file, "")).await;
        let (_, words) = client.refused(&drive_mirror("disk", &folder.path("second"), "")).await;
        assert_eq!(words, "Need a root block node");
        let mirror = "{'execute': 'blockdev-mirror', 'arguments': {'job-id': 'k', 'device': 'disk', 'target': 'nowhere', \
                      'sync': 'full', 'granularity': 3}}";
        assert_eq!(client.refused(mirror).await.1, "Need a root block node", "the source is looked at first");
        client.event("BLOCK_JOB_READY").await;
        control.end().await.unwrap();
    });
}

/// The command without those of its first members that `more` has too.
fn without_repeated(command: &str, more: &str) -> String {
    let members = ["'job-id': 'j', ", "'device': 'disk', "];
    let mut command = command.to_owned();
    for member in members {
        let name = member.split(':').next().unwrap();
        if more.contains(name) {
            command = command.replacen(member, "", 1);
        }
    }
    if more.contains("'sync'") {
        command = command.replacen("'sync': 'full', ", "", 1);
    }
    command
}
