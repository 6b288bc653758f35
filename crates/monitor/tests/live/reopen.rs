//! What a reopen exchanges below an image in use.
use crate::client::Client;
use crate::guest::{Guest, SIZE, add, image};
use crate::support::*;

#[test]
fn a_layer_comes_and_goes_between_an_image_and_its_file_while_a_guest_writes() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        for name in ["disk", "other"] {
            image(&control, &folder, name, SIZE).await;
            let file =
                format!("'driver': 'file', 'node-name': '{name}-file', 'filename': '{}'", folder.path(name));
            client.ok(&format!("{{'execute': 'blockdev-add', 'arguments': {{{file}}}}}")).await;
        }
        let disk = |command: &str, file: &str| {
            let options = format!("{{'driver': 'qcow2', 'node-name': 'disk', 'file': '{file}'}}");
            match command {
                "blockdev-add" => format!("{{'execute': '{command}', 'arguments': {options}}}"),
                _ => format!("{{'execute': '{command}', 'arguments': {{'options': [{options}]}}}}"),
            }
        };
        client.ok(&disk("blockdev-add", "disk-file")).await;
        let raw = |name: &str, file: &str| {
            let options = format!("'driver': 'raw', 'node-name': '{name}', 'file': '{file}'");
            format!("{{'execute': 'blockdev-add', 'arguments': {{{options}}}}}")
        };
        client.ok(&raw("layer", "disk-file")).await;
        client.ok(&raw("other", "other-file")).await;
        let guest = Guest::start(&control, "disk").await;
        for file in ["layer", "disk-file", "layer", "disk-file"] {
            client.ok(&disk("blockdev-reopen", file)).await;
            assert_eq!(control.graph().node("disk").unwrap().primary().unwrap().name(), file);
            for other in ["other-file", "other"] {
                let (_, words) = client.refused(&disk("blockdev-reopen", other)).await;
                assert_eq!(words, "Cannot change the option 'file'");
            }
        }
        guest.end(&control).await;
        client.ok("{'execute': 'blockdev-del', 'arguments': {'node-name': 'disk'}}").await;
        client
            .ok(&add(&folder, "again", "disk")
                .replace("'driver': 'file'", "'driver': 'file', 'locking': 'off'"))
            .await;
        control.end().await.unwrap();
    });
}
