//! Portals that are asked for a target that they do not have, or for none.
use super::*;
use iscsi::{Answer, Header, Keys, Lengths, NO_TAG, Numbers, Request as Pdu, Stage, padding};
use rt::net::Stream;

async fn request(stream: &Stream) -> Option<(Pdu, Vec<u8>)> {
    let mut header: Header = [0; iscsi::HEADER];
    stream.recv_exact(&mut header).await.ok()?;
    let len = Lengths::of(&header).data;
    let mut text = vec![0; len + padding(len)];
    stream.recv_exact(&mut text).await.ok()?;
    text.truncate(len);
    Some((Pdu::parse(&header).unwrap(), text))
}

async fn answer(stream: &Stream, answer: Answer, stat: u32, text: &[u8]) {
    let numbers = Numbers { stat, expected_command: 1, most_command: 1 };
    let mut bytes = answer.encode(numbers, text.len()).to_vec();
    bytes.extend_from_slice(text);
    bytes.resize(bytes.len() + padding(text.len()), 0);
    stream.send_all(&bytes).await.unwrap();
}

/// A portal that has no target of any name, and answers the question for those that it has in these parts.
async fn portal(listener: Listener, parts: &'static [&'static str]) {
    loop {
        let stream = listener.accept().await.unwrap();
        let mut stat = 7;
        while let Some((asked, text)) = request(&stream).await {
            match asked {
                Pdu::Login { stage, next, isid, tag, .. } => {
                    let keys = Keys::parse(&text).unwrap();
                    let (class, detail) =
                        if keys.get("SessionType") == Some("Normal") { (2, 3) } else { (0, 0) };
                    assert_eq!(keys.get("TargetName").is_some(), class > 0);
                    assert_eq!(keys.get("MaxBurstLength"), None, "no data move");
                    let login =
                        Answer::Login { stage, next, continues: false, isid, tsih: 1, tag, class, detail };
                    let keys: &[u8] = if stage == Stage::Security { b"AuthMethod=None\0" } else { b"" };
                    answer(&stream, login, stat, keys).await;
                }
                Pdu::Text { tag, target_tag, status, .. } => {
                    assert_eq!(status, stat);
                    let at = if target_tag == NO_TAG { 0 } else { target_tag as usize };
                    assert_eq!(text, if at == 0 { &b"SendTargets=All\0"[..] } else { b"" });
                    let Some(part) = parts.get(at) else { break };
                    let target_tag = if at + 1 == parts.len() { NO_TAG } else { at as u32 + 1 };
                    answer(&stream, Answer::Text { tag, target_tag }, stat, part.as_bytes()).await;
                }
                other => panic!("{other:?}"),
            }
            stat += 1;
        }
    }
}

async fn refusal(target: &str, parts: &'static [&'static str]) -> BlockError {
    let (listener, port) = bound().await;
    rt::spawn(portal(listener, parts)).detach();
    let profile = iscsi::Profile { target: target.to_owned(), ..profile() };
    IscsiDriver::connect(location(port, Duration::ZERO), profile, patient()).await.err().unwrap()
}

#[test]
fn a_portal_without_the_target_is_asked_for_those_that_it_has() {
    run(async || {
        let parts: &[&str] =
            &["TargetName=iqn.one\0TargetAddress=192.0.2.1:3260,1\0Target", "Name=iqn.two\0"];
        let error = refusal("iqn.none", parts).await;
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = error.to_string();
        assert!(
            text.contains("there is no such target") && text.ends_with(" offers: iqn.one, iqn.two"),
            "{text}"
        );
        let text = refusal("", parts).await.to_string();
        assert!(text.contains("names no target") && text.ends_with(" offers: iqn.one, iqn.two"), "{text}");
        let text = refusal("iqn.none", &[""]).await.to_string();
        assert!(text.ends_with(" offers no target to this initiator"), "{text}");
        // One that does not tell: the first error stands alone.
        let text = refusal("iqn.none", &[]).await.to_string();
        assert!(text.contains("there is no such target") && !text.contains("offer"), "{text}");
    });
}

#[test]
fn a_portal_that_tells_for_ever_or_many_is_cut_short() {
    run(async || {
        let endless: &[&str] = &["TargetName=iqn.a\0"; 100];
        let text = refusal("", endless).await.to_string();
        assert!(text.contains("no sensible answer to which targets there are"), "{text}");
        let many = [&"TargetName=iqn.a\0".repeat(1000)[..]];
        let text =
            refusal("", Box::leak(Box::new(many.map(|text| &*text.to_owned().leak())))).await.to_string();
        assert!(text.ends_with("iqn.a and 984 more"), "{text}");
    });
}
