//! Keys and passwords of encrypted images.
use crate::client::Client;
use crate::support::*;
use block::{Opt, Options};
use std::time::Duration;

#[test]
fn key_slots_are_changed_by_a_job_that_stays_until_it_is_dismissed() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        for id in ["s", "t"] {
            let secret = format!("'qom-type': 'secret', 'id': '{id}', 'data': 'secret {id}'");
            client.ok(&format!("{{'execute': 'object-add', 'arguments': {{{secret}}}}}")).await;
        }
        let path = folder.path("disk.luks");
        let options = Options::new().with_str("key-secret", "s").with_str("iter-time", "10");
        control.graph().create("luks", &path, 1 << 20, options).await.unwrap();
        let opened = |node: &str, secret: &str| {
            format!(
                "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'luks', 'node-name': '{node}', 'key-secret': '{secret}', \
                 'file': {{'driver': 'file', 'filename': '{path}'}}}}}}"
            )
        };
        client.ok(&opened("n", "s")).await;
        let amend = |job: &str, options: &str, force: bool| {
            format!(
                "{{'execute': 'x-blockdev-amend', 'arguments': {{'job-id': '{job}', 'node-name': 'n', 'force': {force}, \
                 'options': {{'driver': {options}}}}}}}"
            )
        };
        let slot = "'luks', 'state': 'active', 'new-secret': 't', 'iter-time': 10";
        let (_, said) = client.refused(&amend("j", "'qcow2'", false)).await;
        assert_eq!(said, "x-blockdev-amend doesn't support changing the block driver");
        let over = format!("{slot}, 'keyslot': 0");
        for (job, options, force, error) in [
            ("added", slot, false, None),
            ("refused", &over, false, Some("in use")),
            ("forced", &over, true, None),
            ("last", "'luks', 'state': 'inactive', 'old-secret': 't'", false, Some("the last one")),
        ] {
            client.ok(&amend(job, options, force)).await;
            let failed = loop {
                let listed = client.ok("{'execute': 'query-jobs'}").await;
                let listed = listed.as_list().unwrap().first().unwrap().clone();
                assert_eq!((text(&listed, &["id"]), text(&listed, &["type"])), (job.into(), "amend".into()));
                if text(&listed, &["status"]) == "concluded" {
                    break text(&listed, &["error"]);
                }
                rt::sleep(Duration::from_millis(5)).await;
            };
            match error {
                None => assert_eq!(failed, "", "{job}"),
                Some(words) => assert!(failed.contains(words), "{job}: {failed}"),
            }
            client.ok(&format!("{{'execute': 'job-dismiss', 'arguments': {{'id': '{job}'}}}}")).await;
        }
        client.ok("{'execute': 'blockdev-del', 'arguments': {'node-name': 'n'}}").await;
        let (_, said) = client.refused(&opened("n", "s")).await;
        assert!(said.contains("passphrase is wrong"), "{said}");
        client.ok(&opened("n", "t")).await;
        client.ok("{'execute': 'blockdev-del', 'arguments': {'node-name': 'n'}}").await;
    });
}

#[test]
fn a_password_is_judged_by_the_image_it_is_for() {
    rt::block_on_control(async {
        let (control, folder) = (control(), Folder::new());
        let mut client = Client::new(&control).await;
        client
            .ok("{'execute': 'object-add', 'arguments': {'qom-type': 'secret', 'id': 's', 'data': 'open sesame'}}")
            .await;
        let passwd = |node: &str, password: &str| {
            format!(
                "{{'execute': 'block_passwd', 'arguments': {{'node-name': '{node}', 'password': '{password}'}}}}"
            )
        };
        let secret = || Options::new().with_str("key-secret", "s");
        let inside = |format: &str, secret: Options| {
            Options::new().with("encrypt", Opt::Dict(secret.with_str("format", format)))
        };
        for (node, driver, options, secret) in [
            ("luks", "luks", secret().with_str("iter-time", "10"), "'key-secret': 's'"),
            (
                "inside",
                "qcow2",
                inside("luks", secret().with_str("iter-time", "10")),
                "'encrypt': {'format': 'luks', 'key-secret': 's'}",
            ),
            ("old", "qcow2", inside("aes", secret()), "'encrypt': {'format': 'aes', 'key-secret': 's'}"),
        ] {
            let path = folder.path(node);
            control.graph().create(driver, &path, 1 << 20, options).await.unwrap();
            let file = format!("'file': {{'driver': 'file', 'filename': '{path}'}}");
            client
                .ok(&format!(
                    "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'raw', 'node-name': '{node}', 'file': \
                     {{'driver': '{driver}', {secret}, {file}}}}}}}"
                ))
                .await;
            client.ok(&passwd(node, "open sesame")).await;
            let (class, said) = client.refused(&passwd(node, "open barley")).await;
            assert_eq!((class.as_str(), said.as_str()), ("GenericError", "Password incorrect"));
        }
        client
            .ok("{'execute': 'blockdev-add', 'arguments': {'driver': 'null-co', 'node-name': 'plain'}}")
            .await;
        let (_, said) = client.refused(&passwd("plain", "open sesame")).await;
        assert_eq!(said, "Device 'plain' is not encrypted");
        let (_, said) = client.refused(&passwd("nowhere", "open sesame")).await;
        assert!(said.starts_with("Cannot find device="), "{said}");
        let both =
            "{'execute': 'block_passwd', 'arguments': {'node-name': 'old', 'device': 'old', 'password': ''}}";
        assert_eq!(client.refused(both).await.1, "'device' and 'node-name' are mutually exclusive");
    });
}
