//! The login with correct targets and with others.
use super::*;
use crate::pdu::{HEADER, Lengths};
use proptest::prelude::*;

const ISID: [u8; 6] = [0x80, 1, 2, 3, 0, 0];

fn credentials(user: &str, secret: &str) -> Credentials {
    Credentials { user: user.into(), secret: Secret::new(secret.into()) }
}

fn profile() -> Profile {
    Profile {
        initiator: "iqn.a".into(),
        target: "iqn.b".into(),
        isid: ISID,
        own: None,
        peer: None,
        algorithms: chap::OFFER,
        header_digest: DigestOffer::default(),
        data_digest: DigestOffer::None,
    }
}

fn with_chap() -> Profile {
    Profile { own: Some(credentials("alice", "open sesame")), ..profile() }
}

fn both_ways() -> Profile {
    Profile { peer: Some(credentials("bob", "another word")), ..with_chap() }
}

fn keys_of(request: &[u8]) -> Keys {
    let header: Header = request[..HEADER].try_into().unwrap();
    let len = Lengths::of(&header).data;
    assert_eq!(request.len(), HEADER + len + padding(len));
    Keys::parse(&request[HEADER..HEADER + len]).unwrap()
}

fn answer(stage: Stage, next: Option<Stage>, status: (u8, u8)) -> Header {
    let (class, detail) = status;
    let login = Answer::Login { stage, next, continues: false, isid: ISID, tsih: 1, tag: TAG, class, detail };
    login.encode(Numbers { stat: 7, expected_command: 1, most_command: 32 }, 0)
}

fn take(login: &mut Login, stage: Stage, next: Option<Stage>, text: &str) -> Result<Step, LoginError> {
    login.advance(&answer(stage, next, (0, 0)), text.as_bytes())
}

fn sent(step: Result<Step, LoginError>) -> Keys {
    match step.unwrap() {
        Step::Send(bytes) => keys_of(&bytes),
        other => panic!("{other:?}"),
    }
}

/// A login up to the challenge, and the response to it.
fn challenged(profile: &Profile) -> (Login<'_>, Keys) {
    let (mut login, first) = Login::begin(profile, [9; 17]);
    assert!(keys_of(&first).get("AuthMethod").unwrap().starts_with("CHAP"));
    let algorithms = sent(take(&mut login, Stage::Security, None, "AuthMethod=CHAP\0"));
    assert_eq!(algorithms.get("CHAP_A"), Some("7,6,5"));
    let response = sent(take(&mut login, Stage::Security, None, "CHAP_A=5\0CHAP_I=3\0CHAP_C=0x0102\0"));
    (login, response)
}

#[test]
fn a_target_that_wants_nothing_is_logged_in_to_in_two_steps() {
    let profile = profile();
    let (mut login, first) = Login::begin(&profile, [0; 17]);
    let first = keys_of(&first);
    assert_eq!(first.get("InitiatorName"), Some("iqn.a"));
    assert_eq!((first.get("TargetName"), first.get("AuthMethod")), (Some("iqn.b"), Some("None")));
    let offer = sent(take(&mut login, Stage::Security, Some(Stage::Operational), "AuthMethod=None\0"));
    assert_eq!(offer.get("HeaderDigest"), Some("None,CRC32C"));
    let text = "HeaderDigest=None\0X-com.example.more=1\0";
    let replies = sent(take(&mut login, Stage::Operational, None, text));
    assert_eq!(replies.iter().collect::<Vec<_>>(), [("X-com.example.more", "NotUnderstood")]);
    match take(&mut login, Stage::Operational, Some(Stage::FullFeature), "ImmediateData=No\0").unwrap() {
        Step::Ready { agreed, numbers } => {
            assert_eq!(agreed, Agreed { immediate_data: false, ..Agreed::default() });
            assert_eq!(numbers.stat, 7);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_ends_prove_themselves() {
    let profile = both_ways();
    let (mut login, response) = challenged(&profile);
    assert_eq!(response.get("CHAP_N"), Some("alice"));
    let expected = Algorithm::Md5.response(3, b"open sesame", &[1, 2]);
    assert_eq!(response.get("CHAP_R"), Some(chap::to_text(&expected).as_str()));
    let challenge = chap::to_bytes(response.get("CHAP_C").unwrap()).unwrap();
    let id = response.get("CHAP_I").unwrap().parse().unwrap();
    let proof = chap::to_text(&Algorithm::Md5.response(id, b"another word", &challenge));
    let text = format!("CHAP_N=bob\0CHAP_R={proof}\0");
    let offer = sent(take(&mut login, Stage::Security, Some(Stage::Operational), &text));
    assert!(offer.get("MaxBurstLength").is_some());
}

#[test]
fn a_target_that_does_not_prove_itself_is_not_believed() {
    let profile = both_ways();
    let wrong = |text: &str| {
        let (mut login, _) = challenged(&profile);
        take(&mut login, Stage::Security, Some(Stage::Operational), text).unwrap_err()
    };
    assert_eq!(wrong(""), LoginError::Unproved);
    assert_eq!(wrong("CHAP_N=bob\0"), LoginError::Unproved);
    assert_eq!(wrong("CHAP_N=bob\0CHAP_R=0x00\0"), LoginError::Impostor("bob".into()));
    // What this end answered, sent back.
    let own = chap::to_text(&Algorithm::Md5.response(3, b"open sesame", &[1, 2]));
    assert_eq!(wrong(&format!("CHAP_N=bob\0CHAP_R={own}\0")), LoginError::Impostor("bob".into()));
    let (mut login, _) = Login::begin(&profile, [9; 17]);
    let step = take(&mut login, Stage::Security, Some(Stage::Operational), "AuthMethod=None\0");
    assert_eq!(step, Err(LoginError::Unproved));
    let (mut login, _) = Login::begin(&profile, [9; 17]);
    sent(take(&mut login, Stage::Security, None, "AuthMethod=CHAP\0"));
    let reflected = format!("CHAP_A=5\0CHAP_I=3\0CHAP_C={}\0", chap::to_text(&[9; 16]));
    assert_eq!(take(&mut login, Stage::Security, None, &reflected), Err(LoginError::Reflected));
}

#[test]
fn a_session_does_not_begin_before_the_login_has_gone_through_its_stages() {
    let profile = both_ways();
    for next in [Stage::FullFeature, Stage::Security] {
        let (mut login, _) = challenged(&profile);
        let proof = Algorithm::Md5.response(9, b"another word", &[9; 16]);
        let text = format!("CHAP_N=bob\0CHAP_R={}\0", chap::to_text(&proof));
        assert_eq!(take(&mut login, Stage::Security, Some(next), &text), Err(LoginError::Unexpected));
    }
    let (mut login, _) = Login::begin(&profile, [9; 17]);
    let step = take(&mut login, Stage::Operational, Some(Stage::FullFeature), "");
    assert_eq!(step, Err(LoginError::Unexpected));
}

#[test]
fn refusals_and_redirections_are_told() {
    let profile = profile();
    let (mut login, _) = Login::begin(&profile, [0; 17]);
    let refused = login.advance(&answer(Stage::Security, None, (2, 3)), b"").unwrap_err();
    assert_eq!(refused, LoginError::Refused(Refusal::NOT_FOUND));
    assert!(refused.to_string().contains("no such target"), "{refused}");
    let moved = login.advance(&answer(Stage::Security, None, (1, 1)), b"TargetAddress=[::1]:9,1\0");
    assert_eq!(moved, Ok(Step::Elsewhere("[::1]:9,1".into())));
    let (mut login, _) = Login::begin(&profile, [0; 17]);
    let needs = take(&mut login, Stage::Security, None, "AuthMethod=CHAP\0");
    assert_eq!(needs, Err(LoginError::NeedsCredentials));
}

#[test]
fn a_login_without_end_ends() {
    let profile = profile();
    let (mut login, _) = Login::begin(&profile, [0; 17]);
    let mut rounds = 0;
    let error = loop {
        match take(&mut login, Stage::Security, None, "") {
            Ok(_) => rounds += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((rounds, error), (limits::ROUNDS, LoginError::Endless));
}

#[test]
fn no_secret_is_shown() {
    let shown = format!("{:?} {:?}", both_ways(), Login::begin(&both_ways(), [0; 17]).0);
    assert!(!shown.contains("sesame") && !shown.contains("another word"), "{shown}");
    assert!(!shown.contains("111, 112, 101, 110"), "{shown}");
}

proptest! {
    #[test]
    fn no_answers_are_too_strange(answers in proptest::collection::vec(
        (0u8..4, proptest::option::of(0u8..4), "(AuthMethod=(CHAP|None)\0|CHAP_[AICNR]=(5|0x01|b)\0|InitialR2T=No\0){0,5}"), 1..8
    )) {
        let profile = both_ways();
        let (mut login, _) = Login::begin(&profile, [9; 17]);
        for (stage, next, text) in answers {
            let mut header = answer(Stage::Security, None, (0, 0));
            header[1] = stage << 2 | next.map_or(0, |next| 0x80 | next);
            match login.advance(&header, text.as_bytes()) {
                Ok(Step::Ready { .. }) => prop_assert!(false, "nobody has proved anything"),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}
