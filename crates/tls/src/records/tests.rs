use super::*;

fn pair(suite: Suite) -> (Sealer, Opener) {
    let secret = || Zeroizing::new(vec![9; suite.secret_len()]);
    (Sealer::new(suite, secret()).unwrap(), Opener::new(suite, secret()).unwrap())
}

/// A record with this content, filled up with zeroes.
fn sealed(sealer: &mut Sealer, content: u8, plain: &[u8], zeroes: usize) -> Vec<u8> {
    let mut inner = plain.to_vec();
    inner.push(content);
    inner.resize(inner.len() + zeroes, 0);
    let last = inner.pop().unwrap();
    let mut out = vec![0; HEADER + inner.len() + 1 + TAG];
    let [high, low] = ((out.len() - HEADER) as u16).to_be_bytes();
    let header = [23, 3, 3, high, low];
    out[..HEADER].copy_from_slice(&header);
    let nonce = sealer.0.nonce();
    assert!(sealer.0.aead.seal(&nonce, &header, &inner, last, &mut out[HEADER..]));
    out
}

fn opened(opener: &mut Opener, record: &[u8]) -> Result<Opened, Fault> {
    assert_eq!(Opener::record_len(record), Ok(Some(record.len())));
    let mut out = vec![0; Opener::room(record.len())];
    opener.open(record, &mut out)
}

#[test]
fn keys_are_made_as_the_specification_s_example_shows() {
    // RFC 8448, section 3: the server's application traffic secret, its key and vector.
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let secret = hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
    let keys = Keys::new(Suite::Aes128, Zeroizing::new(secret.clone())).unwrap();
    assert_eq!(keys.iv.to_vec(), hex("cf782b88dd83549aadf1e984"));
    assert_eq!(*Suite::Aes128.expand(&secret, "key", 16).unwrap(), hex("9f02283b6c9c07efc26bb9f2ac92e356"));
    // The same section: the server's first record of data, fifty bytes from 0 on.
    let mut sealer = Sealer(keys);
    // It had sent a ticket before.
    sealer.0.next = 1;
    let mut out = vec![0; 50 + OVERHEAD];
    sealer.seal(Content::Data, &(0..50).collect::<Vec<u8>>(), &mut out).unwrap();
    assert_eq!(out[..HEADER + 8], hex("17030300432e937e11ef4ac740"));
}

#[test]
fn what_is_sealed_is_opened_in_order_in_either_way() {
    for suite in Suite::ALL {
        let (mut sealer, mut opener) = pair(suite);
        for len in [1, 0, 100, CONTENT] {
            let plain: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut out = vec![0; len + OVERHEAD];
            assert_eq!(sealer.seal(Content::Data, &plain, &mut out), Ok(len + OVERHEAD));
            assert_eq!(Opener::record_len(&out[..4]), Ok(None));
            let mut place = vec![0; Opener::room(out.len())];
            assert_eq!(opener.open(&out, &mut place), Ok(Opened::Data(len)));
            assert_eq!(place[..len], plain);

            out[HEADER..HEADER + len].copy_from_slice(&plain);
            assert_eq!(sealer.seal_in_place(len, &mut out), Ok(len + OVERHEAD));
            assert_eq!(opener.open_in_place(&mut out), Ok(Opened::Data(len)));
            assert_eq!(out[HEADER..HEADER + len], plain);
        }
        let mut out = vec![0; CONTENT + 1 + OVERHEAD];
        assert_eq!(sealer.seal(Content::Data, &vec![0; CONTENT + 1], &mut out), Err(Fault::TooLong));
    }
}

#[test]
fn a_record_that_is_changed_left_out_or_sent_twice_is_refused() {
    let fresh = || {
        let (mut sealer, opener) = pair(Suite::Aes128);
        let records = [b"one", b"two"].map(|plain| sealed(&mut sealer, 23, plain, 0));
        (records, opener)
    };
    let ([first, second], mut opener) = fresh();
    assert_eq!(opened(&mut opener, &second), Err(Fault::Forged), "the first one is missing");
    let mut changed = first.clone();
    changed[HEADER] ^= 1;
    assert_eq!(opened(&mut fresh().1, &changed), Err(Fault::Forged));
    let mut opener = fresh().1;
    assert_eq!(opened(&mut opener, &first), Ok(Opened::Data(3)));
    assert_eq!(opened(&mut opener, &first), Err(Fault::Forged));
    // A header is authenticated: what looks like another version's is not taken.
    let mut version = fresh().0[0].clone();
    version[2] = 1;
    assert_eq!(opened(&mut fresh().1, &version), Err(Fault::Forged));
}

#[test]
fn what_is_no_record_is_told_before_it_is_waited_for() {
    assert_eq!(Opener::record_len(b"GET /"), Err(Fault::NoRecord));
    assert_eq!(Opener::record_len(&[22, 3, 3, 0, 1]), Err(Fault::NoRecord));
    assert_eq!(Opener::record_len(&[23, 3, 3, 0xff, 0xff]), Err(Fault::TooLong));
    assert_eq!(Opener::record_len(&[23, 3, 3, 0x41, 0x00]), Ok(Some(LONGEST)));
    let mut opener = pair(Suite::Aes128).1;
    assert_eq!(opener.open(&[23, 3, 3, 0, 0], &mut []), Err(Fault::Forged), "shorter than a tag");
}

#[test]
fn records_may_be_filled_up_with_zeroes_but_not_be_nothing_else() {
    let (mut sealer, mut opener) = pair(Suite::ChaCha20);
    let padded = sealed(&mut sealer, 23, b"data\0", 200);
    assert_eq!(opened(&mut opener, &padded), Ok(Opened::Data(5)));
    let zeroes = sealed(&mut sealer, 0, b"", 9);
    assert_eq!(opened(&mut opener, &zeroes), Err(Fault::Unexpected));
}

#[test]
fn keys_are_exchanged_when_they_are_worn_or_when_the_peer_asks() {
    let (mut sealer, mut opener) = pair(Suite::Aes256);
    assert!(!sealer.is_worn());
    sealer.0.next = WORN;
    opener.keys.next = WORN;
    assert!(sealer.is_worn());
    let mut out = vec![0; 64];
    let len = sealer.exchange(&mut out).unwrap();
    assert!(!sealer.is_worn());
    assert_eq!(opened(&mut opener, &out[..len]), Ok(Opened::Nothing));
    let data = sealed(&mut sealer, 23, b"new", 0);
    assert_eq!(opened(&mut opener, &data), Ok(Opened::Data(3)));
    // And when it asks for the same in the other direction.
    let asks = sealed(&mut sealer, 22, &[24, 0, 0, 1, 1], 0);
    sealer.0.exchange().unwrap();
    assert_eq!(opened(&mut opener, &asks), Ok(Opened::Exchange));
    let data = sealed(&mut sealer, 23, b"newer", 0);
    assert_eq!(opened(&mut opener, &data), Ok(Opened::Data(5)));
}

#[test]
fn messages_after_the_handshake_are_taken_in_pieces_and_only_those_that_have_a_place() {
    let (mut sealer, mut opener) = pair(Suite::Aes128);
    let mut ticket = vec![4, 0, 1, 0];
    ticket.extend([7; 256]);
    for piece in [&ticket[..3], &ticket[3..100], &ticket[100..]] {
        let record = sealed(&mut sealer, 22, piece, 0);
        assert_eq!(opened(&mut opener, &record), Ok(Opened::Nothing));
    }
    let two = sealed(&mut sealer, 22, &[&ticket[..], &ticket[..]].concat(), 0);
    assert_eq!(opened(&mut opener, &two), Ok(Opened::Nothing));
    for (wrong, fault) in [
        (&[24, 0, 0, 1, 2][..], Fault::Unexpected),
        (&[24, 0, 0, 2, 0, 0], Fault::Unexpected),
        // What is behind an exchange of keys must be under the new ones.
        (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], Fault::Unexpected),
        (&[1, 0, 0, 0], Fault::Unexpected),
        (&[4, 0xff, 0xff, 0xff], Fault::TooLong),
        (&[], Fault::Unexpected),
    ] {
        let (mut sealer, mut opener) = pair(Suite::Aes128);
        assert_eq!(opened(&mut opener, &sealed(&mut sealer, 22, wrong, 0)), Err(fault), "{wrong:?}");
    }
    // Data inside of a message.
    let begun = sealed(&mut sealer, 22, &ticket[..10], 0);
    assert_eq!(opened(&mut opener, &begun), Ok(Opened::Nothing));
    assert_eq!(opened(&mut opener, &sealed(&mut sealer, 23, b"x", 0)), Err(Fault::Unexpected));
}

#[test]
fn alerts_end_the_connection_well_or_with_their_reason() {
    for (alert, told) in [
        (&[1, 0][..], Ok(Opened::End)),
        (&[1, 90], Ok(Opened::Nothing)),
        (&[2, 48], Err(Fault::Alert(48))),
        (&[2], Err(Fault::Unexpected)),
    ] {
        let (mut sealer, mut opener) = pair(Suite::Aes128);
        assert_eq!(opened(&mut opener, &sealed(&mut sealer, 21, alert, 0)), told);
    }
    assert_eq!(
        Fault::Alert(48).to_string(),
        "the TLS peer gave up: it does not know the authority that signed the certificate (alert 48)"
    );
}

#[test]
fn a_peer_that_only_talks_is_given_up() {
    let (mut sealer, mut opener) = pair(Suite::Aes128);
    let mut told = Ok(Opened::Nothing);
    for n in 0..=IDLE_TALK {
        assert!(told.is_ok(), "{n}");
        let empty = sealed(&mut sealer, 23, b"", 0);
        told = opened(&mut opener, &empty);
    }
    assert_eq!(told, Err(Fault::IdleTalk));
}
