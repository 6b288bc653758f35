use std::time::Duration;

use super::*;
use crate::hash::Hash;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn budget(limits: Limits) -> Budget<'static> {
    Budget::new(limits, &|| false)
}

/// RFC 6070 (SHA-1) and RFC 7914, 11 (SHA-256).
#[test]
fn rfc_vectors_of_pbkdf2() {
    for (hash, passphrase, salt, iterations, key) in [
        (Hash::Sha1, "password", "salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
        (Hash::Sha1, "password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
        (Hash::Sha1, "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"),
        (
            Hash::Sha1,
            "passwordPASSWORDpassword",
            "saltSALTsaltSALTsaltSALTsaltSALTsalt",
            4096,
            "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
        ),
        (Hash::Sha1, "pass\0word", "sa\0lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3"),
        (
            Hash::Sha256,
            "passwd",
            "salt",
            1,
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc\
             49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
        ),
        (
            Hash::Sha256,
            "Password",
            "NaCl",
            80000,
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56\
             a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d",
        ),
    ] {
        let mut out = vec![0; key.len() / 2];
        budget(Limits::default())
            .pbkdf2(hash, passphrase.as_bytes(), salt.as_bytes(), iterations, &mut out)
            .unwrap();
        assert_eq!(hex(&out), key);
    }
}

/// RFC 9106, 5.2 and 5.3 have a secret and associated data, which LUKS2 has not; these are of the reference
/// implementation's test file: version 0x13, 2 passes, 1 lane, "password" and "somesalt".
#[test]
fn published_vectors_of_argon2() {
    for (variant, memory_kib, key) in [
        (Variant::Argon2i, 65536, "c1628832147d9720c5bd1cfd61367078729f6dfb6f8fea9ff98158e0d7816ed0"),
        (Variant::Argon2id, 65536, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"),
        (Variant::Argon2i, 256, "89e9029f4637b295beb027056a7336c414fadd43f6b208645281cb214a56452f"),
        (Variant::Argon2id, 256, "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"),
    ] {
        let parameters = Argon2 { variant, passes: 2, memory_kib, lanes: 1 };
        let mut out = [0; 32];
        budget(Limits::default()).argon2(&parameters, b"password", b"somesalt", &mut out).unwrap();
        assert_eq!(hex(&out), key, "{variant:?}, {memory_kib} KiB");
    }
}

#[test]
fn what_asks_for_more_than_the_limits_is_refused_before_it_is_begun() {
    let mut out = [0; 64];
    let limits = Limits { slot_rounds: 100, rounds: 150, memory: 1 << 20, memory_passes: 3 << 20 };
    let mut fresh = budget(limits);
    let mut pbkdf2 = |iterations| fresh.pbkdf2(Hash::Sha256, b"p", b"s", iterations, &mut out);
    assert_eq!(pbkdf2(u32::MAX), Err(KdfError::Rounds { needed: 2 * u64::from(u32::MAX), limit: 100 }));
    assert_eq!(pbkdf2(51), Err(KdfError::Rounds { needed: 102, limit: 100 }));
    assert_eq!(pbkdf2(50), Ok(()));
    assert_eq!(pbkdf2(26), Err(KdfError::Rounds { needed: 52, limit: 50 }));
    assert_eq!(pbkdf2(0), Err(KdfError::Parameters("no iterations".into())));

    let mut fresh = budget(limits);
    let mut argon2 = |memory_kib, passes, lanes| {
        let parameters = Argon2 { variant: Variant::Argon2id, passes, memory_kib, lanes };
        fresh.argon2(&parameters, b"passphrase", b"saltsalt", &mut out)
    };
    let all = u64::from(u32::MAX) * 1024;
    assert_eq!(argon2(u32::MAX, u32::MAX, 1), Err(KdfError::Memory { needed: all, limit: 1 << 20 }));
    assert_eq!(argon2(1024, 4, 1), Err(KdfError::Passes { needed: 4 << 20, limit: 3 << 20 }));
    assert_eq!(argon2(1024, 2, 4), Ok(()));
    assert_eq!(argon2(1024, 2, 1), Err(KdfError::Passes { needed: 2 << 20, limit: 1 << 20 }));
    for (memory_kib, passes, lanes) in [(0, 1, 1), (64, 0, 1), (64, 1, 0), (64, 1, u32::MAX)] {
        assert!(matches!(argon2(memory_kib, passes, lanes), Err(KdfError::Parameters(_))));
    }
}

#[test]
fn one_kind_of_work_is_paid_from_what_the_other_has_left() {
    let mut out = [0; 64];
    let limits = Limits { slot_rounds: 100, rounds: 100, memory: 1 << 20, memory_passes: 4 << 20 };
    let mut budget = budget(limits);
    let parameters = Argon2 { variant: Variant::Argon2id, passes: 3, memory_kib: 1024, lanes: 1 };
    assert_eq!(budget.argon2(&parameters, b"passphrase", b"saltsalt", &mut out), Ok(()));
    let refused = budget.pbkdf2(Hash::Sha256, b"p", b"s", 13, &mut out);
    assert_eq!(refused, Err(KdfError::Rounds { needed: 26, limit: 25 }));
    // A hash that takes longer counts for more.
    let refused = budget.pbkdf2(Hash::Sha512, b"p", b"s", 9, &mut out);
    assert_eq!(refused, Err(KdfError::Rounds { needed: 27, limit: 25 }));
    assert_eq!(budget.pbkdf2(Hash::Sha512, b"p", b"s", 8, &mut out), Ok(()));
    assert_eq!(
        budget.argon2(&parameters, b"p", b"s", &mut out).unwrap_err(),
        KdfError::Passes { needed: 3 << 20, limit: 41943 }
    );
}

#[test]
fn a_derivation_stops_when_it_is_asked_to() {
    let mut out = [0; 32];
    let looks = std::sync::atomic::AtomicU32::new(0);
    let stop = || looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 3;
    let mut budget = Budget::new(Limits::default(), &stop);
    assert_eq!(budget.pbkdf2(Hash::Sha256, b"p", b"s", 1 << 24, &mut out), Err(KdfError::Stopped));
    assert_eq!(looks.into_inner(), 4);
}

#[test]
fn iterations_follow_the_time_that_was_asked_for() {
    // A clock on which each look takes 20 ms, or 100, whatever is done between.
    let calibrate = |time: Option<u64>, limits: &Limits| {
        let mut now = Duration::ZERO;
        let mut clock = || {
            now += Duration::from_millis(if time.is_some() { 20 } else { 100 });
            now
        };
        super::calibrate(Hash::Sha256, 64, time.map(Duration::from_millis), limits, &mut clock)
    };
    let limits = Limits::default();
    assert_eq!(calibrate(Some(200), &limits), Ok(10240));
    assert_eq!(calibrate(Some(100), &limits), Ok(5120));
    assert_eq!(calibrate(Some(1), &limits), Ok(MIN_ITERATIONS));
    assert_eq!(calibrate(None, &limits), Ok(20480));
    let limits = Limits { slot_rounds: 20000, ..limits };
    // Who asks for no time is not refused on a machine that is fast.
    assert_eq!(calibrate(None, &limits), Ok(10000));
    assert_eq!(
        calibrate(Some(200), &limits),
        Err(KdfError::Time { time_ms: 200, needed: 10240, limit: 10000 })
    );
}
