//! What a program answers that speaks the first generation of the interface.
use crate::client::Client;
use crate::guest::{SIZE, add, image};
use crate::support::*;
use monitor::daemon::{DaemonOption, SetUp, StartOption};

async fn spoken(version: &str) -> (monitor::Control, Folder, Client) {
    let (control, folder) = (control(), Folder::new());
    let option = DaemonOption::Compat(version.to_owned());
    option.carry_out(&control, &mut SetUp::default()).await.unwrap();
    for name in ["d", "n"] {
        image(&control, &folder, name, SIZE).await;
    }
    let mut client = Client::new(&control).await;
    client.ok(&add(&folder, "n", "n")).await;
    client.ok(&add(&folder, "d", "d").replace("node-name", "id")).await;
    (control, folder, client)
}

#[test]
fn a_device_that_is_not_there_is_told_by_class_where_it_was() {
    rt::block_on_control(async {
        for (version, class) in [("2.1", "DeviceNotFound"), ("10.0", "GenericError")] {
            let (control, folder, mut client) = spoken(version).await;
            let file = folder.path("new");
            for (command, more) in [
                ("block_resize", ", 'size': 512"),
                ("block-stream", ""),
                ("drive-mirror", &*format!(", 'target': '{file}', 'sync': 'full'")),
                ("drive-backup", &*format!(", 'target': '{file}', 'sync': 'full'")),
                ("blockdev-snapshot-sync", &*format!(", 'snapshot-file': '{file}'")),
            ] {
                let command = format!("{{'execute': '{command}', 'arguments': {{'device': 'x'{more}}}}}");
                assert_eq!(client.refused(&command).await.0, class, "{command}");
            }
            control.end().await.unwrap();
        }
    });
}

#[test]
fn verbs_that_change_nothing_are_no_mistake_and_a_paused_job_can_not_be_completed() {
    rt::block_on_control(async {
        for version in ["2.1", "10.0"] {
            let first = version == "2.1";
            let (control, folder, mut client) = spoken(version).await;
            let mirror = format!("'device': 'd', 'target': '{}', 'sync': 'full'", folder.path("copy"));
            client.ok(&format!("{{'execute': 'drive-mirror', 'arguments': {{{mirror}}}}}")).await;
            client.event("BLOCK_JOB_READY").await;
            let verb =
                |verb: &str| format!("{{'execute': 'block-job-{verb}', 'arguments': {{'device': 'd'}}}}");
            for (what, mistake) in
                [("resume", !first), ("pause", false), ("pause", !first), ("complete", first)]
            {
                let answer = client.ask(&verb(what)).await;
                assert_eq!(answer.get("error").is_some(), mistake, "{version} {what}: {answer}");
            }
            client.ok(&verb("resume")).await;
            if first {
                client.ok(&verb("complete")).await;
            }
            client.event("BLOCK_JOB_COMPLETED").await;
            control.end().await.unwrap();
        }
    });
}

#[test]
fn queries_have_the_members_and_nodes_that_they_had() {
    rt::block_on_control(async {
        for version in ["2.1", "10.0"] {
            let first = version == "2.1";
            let (control, _folder, mut client) = spoken(version).await;
            let root = control.graph().device("d").unwrap().need_node().unwrap().name().to_owned();
            let bitmap = format!(
                "{{'execute': 'block-dirty-bitmap-add', 'arguments': {{'node': '{root}', 'name': 'b'}}}}"
            );
            client.ok(&bitmap).await;
            let nodes = client.ok("{'execute': 'query-named-block-nodes'}").await;
            assert_eq!(nodes.as_list().unwrap().len(), if first { 1 } else { 4 });
            let device = client.ok("{'execute': 'query-block'}").await.as_list().unwrap()[0].clone();
            assert_eq!(device.get("dirty-bitmaps").is_some(), first);
            let inserted = device.get("inserted").unwrap();
            assert_eq!(inserted.get("encryption_key_missing").is_some(), first);
            assert!(inserted.get("dirty-bitmaps").is_some());
            control.end().await.unwrap();
        }
    });
}
