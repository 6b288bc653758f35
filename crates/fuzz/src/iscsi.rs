//! iSCSI: what a target sends during the login and after it, and what a unit tells of itself.

use iscsi::scsi::{
    BlockLimits, Capacity, Identification, Inquiry, Provisioning, Sense, Units, WriteControl, lba_status,
    pages, serial_number, supports,
};
use iscsi::{
    Answer, Credentials, DigestOffer, HEADER, Header, Lengths, Login, Profile, Secret, Stage, Step, limits,
    padding,
};

const ISID: [u8; 6] = [0x80, 0, 0, 0, 0, 1];

fn profile() -> Profile {
    let credentials = |user: &str| {
        Some(Credentials { user: user.to_owned(), secret: Secret::new(user.as_bytes().to_vec()) })
    };
    Profile {
        initiator: "iqn.initiator".to_owned(),
        target: "iqn.target".to_owned(),
        isid: ISID,
        own: credentials("alice"),
        peer: credentials("bob"),
        algorithms: iscsi::chap::OFFER,
        header_digest: DigestOffer::NoneCrc32c,
        data_digest: DigestOffer::NoneCrc32c,
    }
}

/// The next PDU of a stream: its header and its data.
fn next<'i>(rest: &mut &'i [u8]) -> Option<(Header, &'i [u8])> {
    let (header, behind) = rest.split_first_chunk::<HEADER>()?;
    let Lengths { further, data } = Lengths::of(header);
    let text = behind.get(further..further + data)?;
    *rest = behind.get(further + data + padding(data)..).unwrap_or_default();
    Some((*header, text))
}

/// A target's whole side of a connection. Laws: nobody is logged in to who has not proved who it is; a login ends; an answer that
/// is understood is the one that its bytes say.
pub fn target(input: &[u8]) {
    let profile = profile();
    let (mut login, _) = Login::begin(&profile, [7; 17]);
    let mut rest = input;
    let mut rounds = 0;
    while let Some((header, text)) = next(&mut rest) {
        rounds += 1;
        match login.advance(&header, text) {
            Ok(Step::Send(bytes)) => {
                assert!(rounds <= limits::ROUNDS);
                let sent: Option<&Header> = bytes.first_chunk();
                assert!(sent.is_some_and(|header| iscsi::Request::parse(header).is_ok()));
            }
            // A secret that is nowhere in the input has not been known.
            Ok(Step::Ready { .. }) => unreachable!("a response to a random challenge was guessed"),
            Ok(Step::Elsewhere(_)) | Err(_) => break,
        }
    }
    let mut rest = input;
    while let Some((header, details)) = next(&mut rest) {
        if let Ok((answer, numbers)) = Answer::parse(&header) {
            assert_eq!(Answer::parse(&answer.encode(numbers, details.len())), Ok((answer, numbers)));
        }
        let _ = Sense::of_response(details).map(|sense| sense.to_string());
        assert!(iscsi::targets(details).all(|name| name.len() <= limits::NAME));
    }
}

/// What a unit tells of itself. Laws: no more is told than there is.
pub fn unit(input: &[u8]) {
    let _ = (Inquiry::parse(input), Capacity::parse_10(input), Capacity::parse_16(input), supports(input));
    let _ = (WriteControl::parse(input), Identification::parse(input), serial_number(input));
    let _ = (BlockLimits::parse(input), Provisioning::parse(input), Sense::parse(input));
    assert!(pages(input).len() <= input.len());
    assert!(lba_status(input).count() <= input.len() / 16);
    assert!(Units::parse(input).0.len() <= input.len() / 8);
}

/// Logins of a target that proves itself, and of one that does not want to.
pub fn target_seeds() -> Vec<Vec<u8>> {
    let step = |next, text: &str| {
        let login = Answer::Login {
            stage: Stage::Security,
            next,
            continues: false,
            isid: ISID,
            tsih: 1,
            tag: 0,
            class: 0,
            detail: 0,
        };
        let mut bytes = login.encode(iscsi::Numbers::default(), text.len()).to_vec();
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len() + padding(text.len()), 0);
        bytes
    };
    let chap = [
        step(None, "AuthMethod=CHAP\0"),
        step(None, "CHAP_A=5\0CHAP_I=1\0CHAP_C=0x0102030405060708\0"),
        step(Some(Stage::Operational), "CHAP_N=bob\0CHAP_R=0x00112233445566778899aabbccddeeff\0"),
    ];
    let data = Answer::DataIn {
        tag: 1,
        number: 0,
        offset: 0,
        last: true,
        status: Some(0),
        residual: iscsi::Residual::Under(1),
    };
    vec![
        chap.concat(),
        step(Some(Stage::Operational), "AuthMethod=None\0"),
        data.encode(iscsi::Numbers::default(), 0).to_vec(),
    ]
}

/// Answers of each kind.
pub fn unit_seeds() -> Vec<Vec<u8>> {
    let page = |code: u8, body: &[u8]| [&[0, code, 0, body.len() as u8][..], body].concat();
    vec![
        page(0x00, &[0, 0x80, 0x83, 0xb0, 0xb2]),
        page(0x80, b" serial"),
        page(0x83, &[1, 3, 0, 2, 0x60, 1]),
        page(0xb0, &[1; 60]),
        page(0xb2, &[0, 0xe4, 0, 0]),
        vec![7, 0, 0x90, 0, 8, 2, 4, 0],
        vec![0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9, 1, 0, 0, 0],
    ]
}
