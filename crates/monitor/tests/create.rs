//! Images made by blockdev-create: a file, then formats in it; what is refused is the job's error, and changes nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
mod client;
mod support;

use client::Client;
use support::*;

/// Makes an image; the job's error.
async fn create(client: &mut Client, options: &str) -> String {
    let arguments = format!("{{'job-id': 'j', 'options': {{{options}}}}}");
    client.ok(&format!("{{'execute': 'blockdev-create', 'arguments': {arguments}}}")).await;
    while text(&client.event("JOB_STATUS_CHANGE").await, &["data", "status"]) != "concluded" {}
    let listed = client.ok("{'execute': 'query-jobs'}").await;
    let job = listed.as_list().unwrap().first().unwrap().clone();
    assert_eq!((text(&job, &["type"]), text(&job, &["status"])), ("create".into(), "concluded".into()));
    assert_eq!(job.get("current-progress"), job.get("total-progress"));
    let listed = client.ok("{'execute': 'query-block-jobs'}").await;
    assert!(listed.as_list().unwrap().is_empty(), "it is no block job");
    client.ok("{'execute': 'job-dismiss', 'arguments': {'id': 'j'}}").await;
    text(&job, &["error"])
}

#[test]
fn an_image_is_made_by_a_job_in_a_file_that_a_job_made() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        let path = folder.path("disk");
        let file = format!("'driver': 'file', 'filename': '{path}'");
        assert_eq!(create(&mut client, &format!("{file}, 'size': 1048576")).await, "");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
        let nowhere = "'driver': 'file', 'filename': '/nowhere/disk', 'size': 512";
        assert!(create(&mut client, nowhere).await.contains("No such file or directory"));
        client.ok(&format!("{{'execute': 'blockdev-add', 'arguments': {{{file}, 'node-name': 'f'}}}}")).await;
        let before = std::fs::read(&path).unwrap();
        let qcow2 = "'driver': 'qcow2', 'file': 'f'";
        for (options, error) in [
            (
                "'driver': 'qcow2', 'file': 'nope', 'size': 1048576",
                "Cannot find device='nope' nor node-name='nope'",
            ),
            (&*format!("{qcow2}, 'size': 1000"), "Image size must be a multiple of 512 bytes"),
            (
                &*format!("{qcow2}, 'size': 1048576, 'cluster-size': 1234"),
                "Cluster size must be a power of two between 512 and 2048k",
            ),
            ("'driver': 'luks', 'size': 512", "Either the parameter 'header' or 'file' must be specified"),
        ] {
            assert_eq!(create(&mut client, options).await, error);
        }
        assert!(std::fs::read(&path).unwrap() == before, "what was refused has changed nothing");
        assert_eq!(create(&mut client, &format!("{qcow2}, 'size': 67108864, 'version': 'v2'")).await, "");
        let add = "{'driver': 'qcow2', 'node-name': 'q', 'file': 'f'}";
        client.ok(&format!("{{'execute': 'blockdev-add', 'arguments': {add}}}")).await;
        assert_eq!(control.graph().node("q").unwrap().length(), 64 << 20);
        let busy = create(&mut client, &format!("{qcow2}, 'size': 1048576")).await;
        assert!(busy.contains("Permission conflict"), "{busy}");
        let (_, said) = client
            .refused("{'execute': 'blockdev-create', 'arguments': {'job-id': 'j', 'options': {'driver': 'null-co'}}}")
            .await;
        assert_eq!(said, "Driver does not support blockdev-create");
    });
}
