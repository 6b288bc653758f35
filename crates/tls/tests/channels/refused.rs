//! Who is refused, by which end, and in which words.

use crate::authority::{Authority, CLIENT, Folder, SERVER, Says};
use crate::{judged, meet, psk, run, settings, x509};
use block::{Objects, Secret};
use openssl::symm::Cipher;
use rt::net::Stream;
use std::sync::Arc;
use tls::{Authorizer, Channel, Credentials, Endpoint, Identity, PskCredentials, Simple, X509Credentials};

const HOST: Option<&str> = Some("disk.example");

#[test]
fn a_client_refuses_a_server_whose_certificate_is_not_for_it_to_trust() {
    let (authority, other) = (Authority::new("good"), Authority::new("other"));
    let client = x509(&authority.equip(CLIENT), Endpoint::Client);
    let fine = x509(&authority.equip(SERVER), Endpoint::Server);
    let stranger = other.equip(SERVER);
    let host = Says { host: "tape.example", ..SERVER };
    let expired = Says { from: -7200, to: -3600, ..SERVER };
    let early = Says { from: 3600, to: 7200, ..SERVER };
    let wrong_use = authority.folder();
    authority.issue(CLIENT).put(&wrong_use, "server");
    let of = |folder: &Folder| x509(folder, Endpoint::Server);
    for (server, host, why) in [
        (of(&stranger), HOST, "self-signed certificate in certificate chain"),
        (of(&authority.equip(host)), HOST, "it does not match the hostname disk.example"),
        (of(&authority.equip(expired)), HOST, "certificate has expired"),
        (of(&authority.equip(early)), HOST, "certificate is not yet valid"),
        (of(&wrong_use), HOST, "purpose"),
        (fine.clone(), Some("192.0.2.7"), "it does not match the hostname 192.0.2.7"),
        (fine.clone(), Some("sub.disk.example"), "does not match"),
    ] {
        let met = run(async || meet(&server, &client, host).await);
        let said = met.client.unwrap_err().to_string();
        assert!(
            said.starts_with("the peer's certificate is refused: ") && said.contains(why),
            "{why}: {said}"
        );
        assert!(met.server.is_err() || !met.channels.1.is_secured(), "{why}");
    }
    for host in [HOST, Some("127.0.0.1"), Some("[127.0.0.1]")] {
        let met = run(async || meet(&fine, &client, host).await);
        assert!(met.client.is_ok() && met.channels.0.is_secured(), "{host:?}");
        assert_eq!(met.server.unwrap(), Some(Identity("CN=client,O=Cairn".into())));
    }
    let met = run(async || meet(&fine, &client, None).await);
    assert!(met.client.unwrap_err().to_string().starts_with("No hostname for certificate validation"));
}

#[test]
fn what_was_taken_back_is_refused_by_either_end() {
    let authority = Authority::new("good");
    let (server, client) = (authority.issue(SERVER), authority.issue(CLIENT));
    let (at_server, at_client) = (authority.folder(), authority.folder());
    server.put(&at_server, "server");
    client.put(&at_client, "client");
    at_client.put("ca-crl.pem", &authority.revoke(&[&server]));
    let met = run(async || {
        meet(&x509(&at_server, Endpoint::Server), &x509(&at_client, Endpoint::Client), HOST).await
    });
    let said = met.client.unwrap_err().to_string();
    assert!(said.contains("certificate revoked"), "{said}");

    at_client.remove("ca-crl.pem");
    at_server.put("ca-crl.pem", &authority.revoke(&[&client]));
    let met = run(async || {
        meet(&x509(&at_server, Endpoint::Server), &x509(&at_client, Endpoint::Client), HOST).await
    });
    let said = met.server.unwrap_err().to_string();
    assert!(said.contains("certificate revoked"), "{said}");

    at_server.put("ca-crl.pem", &authority.revoke(&[]));
    let met = run(async || {
        meet(&x509(&at_server, Endpoint::Server), &x509(&at_client, Endpoint::Client), HOST).await
    });
    assert!(met.server.is_ok() && met.client.is_ok());
    at_server.put("ca-crl.pem", b"nothing of the kind");
    let said = judged(&at_server, Endpoint::Server).err().unwrap().message();
    assert!(said.contains("ca-crl.pem' is no list"), "{said}");
}

#[test]
fn a_list_counts_for_the_whole_chain_and_the_anchor_needs_none() {
    let root = Authority::new("root");
    let middle = root.deputy("middle");
    let server = root.equip(SERVER);
    let client = middle.issue(CLIENT);
    let at_client = root.folder();
    client.put(&at_client, "client");
    let chain = [client.certificate.to_pem().unwrap(), middle.own().certificate.to_pem().unwrap()].concat();
    at_client.put("client-cert.pem", &chain);
    let meets = |lists: &[Vec<u8>]| {
        server.put("ca-crl.pem", &lists.concat());
        run(async || meet(&x509(&server, Endpoint::Server), &x509(&at_client, Endpoint::Client), HOST).await)
    };
    let nothing = meets(&[root.revoke(&[]), middle.revoke(&[])]);
    assert!(nothing.server.is_ok(), "{:?}", nothing.server.err().map(|error| error.to_string()));
    let taken_back = meets(&[root.revoke(&[middle.own()]), middle.revoke(&[])]);
    let said = taken_back.server.unwrap_err().to_string();
    assert!(said.contains("certificate revoked"), "{said}");
    // About whom the folder itself trusts nobody else can say anything.
    let trusted = middle.folder();
    root.issue(SERVER).put(&trusted, "server");
    trusted.put("ca-crl.pem", &middle.revoke(&[]));
    let met = run(async || {
        meet(&x509(&trusted, Endpoint::Server), &x509(&at_client, Endpoint::Client), HOST).await
    });
    assert!(met.server.is_ok(), "{:?}", met.server.err().map(|error| error.to_string()));
}

#[test]
fn a_server_refuses_clients_without_a_certificate_or_with_a_stranger_s_and_the_client_is_told() {
    let (authority, other) = (Authority::new("good"), Authority::new("other"));
    let server = x509(&authority.equip(SERVER), Endpoint::Server);
    let stranger = other.equip(CLIENT);
    let trusts = authority.folder();
    stranger.put("ca-cert.pem", &std::fs::read(trusts.path().join("ca-cert.pem")).unwrap());
    for (client, said_here, said_there) in [
        (authority.folder(), "did not return a certificate", "it asks for a certificate (alert 116)"),
        (stranger, "unable to get local issuer certificate", "(alert 48)"),
        (authority.equip(Says { to: -10, ..CLIENT }), "expired", "the certificate has expired (alert 45)"),
    ] {
        let client = x509(&client, Endpoint::Client);
        run(async || {
            let met = meet(&server, &client, HOST).await;
            let said = met.server.unwrap_err().to_string();
            assert!(said.contains(said_here), "{said}");
            // In TLS 1.3 a client has agreed before the server looks at its certificate: it learns when it reads.
            assert!(met.client.is_ok());
            let said = met.channels.1.recv(&mut [0; 16]).await.unwrap_err().to_string();
            assert!(said.contains(said_there), "{said}");
        });
    }
    let folder = authority.equip(SERVER);
    let mut unasked = settings(&folder, Endpoint::Server, None);
    unasked.verify_peer = false;
    let server = Credentials::X509(Arc::new(X509Credentials::load(&unasked, true, None).unwrap()));
    let met = run(async || meet(&server, &x509(&authority.folder(), Endpoint::Client), HOST).await);
    assert_eq!(met.server.unwrap(), None);
}

fn keys(lines: &str) -> Folder {
    let folder = Folder::new();
    folder.put("keys.psk", lines.as_bytes());
    folder
}

#[test]
fn shared_keys_are_proved_by_both_ends_or_there_is_no_tls() {
    let (right, wrong) = ("ab".repeat(32), "cd".repeat(32));
    let server = psk(&keys(&format!("# users\nbob:{wrong}\n\nalice:{right}\n")), Endpoint::Server, None);
    let as_user = |user: &str, key: &str| psk(&keys(&format!("{user}:{key}")), Endpoint::Client, Some(user));
    let met = run(async || meet(&server, &as_user("alice", &right), None).await);
    assert!(met.client.is_ok());
    assert_eq!(met.server.unwrap(), Some(Identity("alice".into())));

    let met = run(async || meet(&server, &as_user("alice", &wrong), None).await);
    assert!(met.client.is_err() && met.server.is_err());
    let met = run(async || meet(&server, &as_user("mallory", &right), None).await);
    assert!(met.client.is_err());
    let said = met.server.unwrap_err().to_string();
    assert_eq!(said, "TLS handshake failed: the user 'mallory' of a shared key is not known");

    let authority = Authority::new("good");
    let certificates = x509(&authority.equip(SERVER), Endpoint::Server);
    let met = run(async || meet(&certificates, &as_user("alice", &right), None).await);
    assert!(met.client.is_err(), "a certificate is no proof that the key is known");
    let met = run(async || meet(&server, &x509(&authority.equip(CLIENT), Endpoint::Client), HOST).await);
    assert!(met.client.is_err() && met.server.is_err());
}

#[test]
fn whom_the_authorization_object_does_not_know_is_turned_away_and_told_so() {
    let authority = Authority::new("good");
    let server = x509(&authority.equip(SERVER), Endpoint::Server);
    let client = x509(&authority.equip(CLIENT), Endpoint::Client);
    let objects = Objects::default();
    objects.add("alice", Simple::new("CN=alice,O=Cairn".into())).unwrap();
    objects.add("client", Simple::new("CN=client,O=Cairn".into())).unwrap();
    run(async || {
        for (id, is_in) in [("alice", false), ("client", true), ("nobody", false)] {
            let (a, b) = Stream::pair().unwrap();
            let (a, b) = (Channel::from(a), Channel::from(b));
            let authorizer = Authorizer::new(&objects, id);
            let (accepted, connected) = futures_util::future::join(
                tls::accept(&a, &server, Some(&authorizer)),
                tls::connect(&b, &client, HOST),
            )
            .await;
            connected.unwrap();
            if is_in {
                assert_eq!(accepted.unwrap(), Some(Identity("CN=client,O=Cairn".into())));
                continue;
            }
            let said = accepted.unwrap_err().to_string();
            assert_eq!(said, "'CN=client,O=Cairn' is not let in by the authorization object");
            let told = b.recv(&mut [0; 16]).await.unwrap_err().to_string();
            assert_eq!(told, "the TLS peer gave up: access is denied (alert 49)");
        }
    });
}

#[test]
fn credentials_that_no_peer_would_take_are_refused_when_they_are_made() {
    let authority = Authority::new("good");
    let refused = |folder: &Folder, endpoint| judged(folder, endpoint).err().unwrap().message();
    let fine = authority.equip(SERVER);
    assert!(judged(&fine, Endpoint::Server).is_ok());
    assert!(judged(&authority.folder(), Endpoint::Client).is_ok(), "a client needs no certificate");

    let expired = authority.equip(Says { from: -7200, to: -3600, ..SERVER });
    let early = authority.equip(Says { from: 3600, to: 7200, ..SERVER });
    let wrong_use = authority.folder();
    authority.issue(CLIENT).put(&wrong_use, "server");
    let stranger = authority.folder();
    Authority::new("other").issue(SERVER).put(&stranger, "server");
    let old = Authority::lasting("old", -60);
    let mixed = authority.equip(SERVER);
    mixed.put("server-key.pem", &authority.issue(SERVER).key.private_key_to_pem_pkcs8().unwrap());
    let garbage = authority.equip(SERVER);
    garbage.put("server-cert.pem", b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
    let empty = authority.equip(SERVER);
    empty.put("server-key.pem", b"");
    let huge = authority.equip(SERVER);
    huge.put("ca-cert.pem", &vec![b'\n'; (1 << 20) + 1]);
    let half = authority.equip(CLIENT);
    half.remove("client-key.pem");
    for (folder, endpoint, why) in [
        (&expired, Endpoint::Server, "server-cert.pem' (CN=server,O=Cairn) can't be used: it has expired on"),
        (&early, Endpoint::Server, "it is not valid before"),
        (&wrong_use, Endpoint::Server, "it is not one for a server: unsuitable certificate purpose"),
        (&stranger, Endpoint::Server, "unable to get local issuer certificate"),
        (
            &old.equip(SERVER),
            Endpoint::Server,
            "ca-cert.pem' (CN=old,O=Cairn) can't be used: it has expired on",
        ),
        (&old.equip(CLIENT), Endpoint::Client, "it has expired on"),
        (&mixed, Endpoint::Server, "server-key.pem' is not that of"),
        (&garbage, Endpoint::Server, "server-cert.pem' has no certificates in PEM"),
        (&empty, Endpoint::Server, "server-key.pem' has no private key in PEM"),
        (&huge, Endpoint::Server, "ca-cert.pem': it is larger than 1048576 bytes"),
        (&half, Endpoint::Client, "client-key.pem': No such file or directory"),
        (&authority.folder(), Endpoint::Server, "server-cert.pem': No such file or directory"),
        (&Folder::new(), Endpoint::Client, "ca-cert.pem': No such file or directory"),
    ] {
        let said = refused(folder, endpoint);
        assert!(said.contains(why), "{why}: {said}");
    }
    let mut nowhere = settings(&fine, Endpoint::Server, None);
    nowhere.dir = None;
    let said = X509Credentials::load(&nowhere, true, None).err().unwrap().message();
    assert_eq!(said, "Missing 'dir' property value");
}

#[test]
fn an_encrypted_key_needs_its_password_and_nobody_is_asked_for_it() {
    let authority = Authority::new("good");
    let folder = authority.folder();
    let issued = authority.issue(SERVER);
    issued.put(&folder, "server");
    let pem = issued.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"open sesame").unwrap();
    folder.put("server-key.pem", &pem);
    let load = |password: Option<&[u8]>| {
        let password = password.map(|password| Secret::new(password.to_vec()));
        let settings = settings(&folder, Endpoint::Server, None);
        X509Credentials::load(&settings, true, password.as_ref()).map(drop).map_err(|e| e.message())
    };
    assert_eq!(load(Some(b"open sesame")), Ok(()));
    let none = load(None).unwrap_err();
    assert!(none.contains("is encrypted: 'passwordid' has to name"), "{none}");
    for password in [&b"close"[..], b"", &[b'x'; 5000]] {
        let wrong = load(Some(password)).unwrap_err();
        assert!(wrong.contains("can't be decrypted"), "{wrong}");
    }
}

#[test]
fn files_of_keys_are_refused_by_line_and_never_shown() {
    let key = "5ec4e7".repeat(11);
    for (lines, user, why) in [
        (format!("alice:{key}\nbob {key}\n"), None, "keys.psk', line 2: expected a user"),
        (format!("alice:{key}0\n"), None, "line 1"),
        (format!(":{key}\n"), None, "line 1"),
        ("# nobody\n".to_owned(), None, "has no keys"),
        (format!("alice:{key}\n"), None, "has no user 'qemu'"),
        (format!("alice:{key}\n"), Some("bob"), "has no user 'bob'"),
    ] {
        let folder = keys(&lines);
        let settings = settings(&folder, Endpoint::Client, None);
        let said = PskCredentials::load(&settings, user.map(str::to_owned)).err().unwrap().message();
        assert!(said.contains(why) && !said.contains("5ec4"), "{said}");
    }
    let folder = keys(&format!("alice:{key}\n"));
    let server = settings(&folder, Endpoint::Server, Some("SECURE256:-CHACHA20-POLY1305"));
    let said = PskCredentials::load(&server, None).err().unwrap().message();
    assert!(said.contains("the priority allows neither"), "{said}");
    let told = format!("{:?}", psk(&folder, Endpoint::Server, None));
    assert_eq!(told, "Credentials(server)");
}

#[test]
fn what_is_no_tls_ends_the_handshake_at_once() {
    let authority = Authority::new("good");
    let server = x509(&authority.equip(SERVER), Endpoint::Server);
    let client = x509(&authority.equip(CLIENT), Endpoint::Client);
    run(async || {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[22, 3, 1, 255, 255, 0, 0, 0, 0], &[]] {
            for is_server in [true, false] {
                let (a, b) = Stream::pair().unwrap();
                let channel = Channel::from(a);
                b.send_all(garbage).await.unwrap();
                b.shutdown_write().unwrap();
                let failed = match is_server {
                    true => tls::accept(&channel, &server, None).await.map(drop),
                    false => tls::connect(&channel, &client, HOST).await,
                };
                let said = failed.unwrap_err().to_string();
                assert!(said.starts_with("TLS handshake failed: "), "{said}");
                assert!(!channel.is_secured());
            }
        }
    });
}

#[test]
fn credentials_are_found_by_id_for_their_end_alone() {
    let authority = Authority::new("good");
    let objects = Objects::default();
    objects.add("server", judged(&authority.equip(SERVER), Endpoint::Server).unwrap()).unwrap();
    objects.add("secret", Secret::new(Vec::new())).unwrap();
    let find = |id: &str, endpoint| Credentials::find(&objects, id, endpoint).map_err(|e| e.message());
    let held = find("server", Endpoint::Server).unwrap();
    assert_eq!(held, find("server", Endpoint::Server).unwrap());
    assert_eq!(
        objects.remove("server").unwrap_err().message(),
        "object 'server' is in use, can not be deleted"
    );
    assert_eq!(
        find("server", Endpoint::Client).unwrap_err(),
        "Expected TLS credentials for a client endpoint"
    );
    assert_eq!(find("none", Endpoint::Client).unwrap_err(), "No TLS credentials with id 'none'");
    assert_eq!(
        find("secret", Endpoint::Client).unwrap_err(),
        "Object with id 'secret' is not TLS credentials"
    );
    drop(held);
    objects.remove("server").unwrap();
}
