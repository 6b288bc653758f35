use super::*;
use crate::Hash;
use crate::random::{Random, tests::Seeded};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn cipher(text: &str, key: &[u8], sector: SectorLen) -> SectorCipher {
    let spec = CipherSpec::from_text(text, key.len()).unwrap();
    SectorCipher::new(spec, &Key::new(key.to_vec()), sector).unwrap()
}

/// Vectors of IEEE 1619 have data units of other lengths than sectors, so they go to the engine itself.
fn engine_of(text: &str, key: &[u8], sector: usize) -> Box<dyn Sectors> {
    engine(&CipherSpec::from_text(text, key.len()).unwrap(), key, sector).unwrap()
}

#[test]
fn ieee_1619_vectors_of_xts_aes_128() {
    for (key, number, plain, encrypted) in [
        (
            // Vector 1.
            "0000000000000000000000000000000000000000000000000000000000000000",
            0,
            "0000000000000000000000000000000000000000000000000000000000000000",
            "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
        ),
        (
            // Vector 2.
            "1111111111111111111111111111111122222222222222222222222222222222",
            0x33_3333_3333,
            "4444444444444444444444444444444444444444444444444444444444444444",
            "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
        ),
    ] {
        let engine = engine_of("aes-xts-plain64", &bytes(key), 512);
        let mut data = bytes(plain);
        data.resize(512, 0);
        engine.encrypt(number, &mut data).unwrap();
        assert_eq!(data[..32], bytes(encrypted));
    }
}

/// Vector 10 of IEEE 1619: XTS-AES-256, 512 bytes, data unit 0xff; the first two blocks of it.
#[test]
fn ieee_1619_vector_10_of_xts_aes_256() {
    let key = bytes(
        "2718281828459045235360287471352662497757247093699959574966967627\
         3141592653589793238462643383279502884197169399375105820974944592",
    );
    let plain: Vec<u8> = (0..512).map(|i| i as u8).collect();
    let fast = cipher("aes-xts-plain64", &key, SectorLen::B512);
    let mut data = plain.clone();
    fast.encrypt(0xff, &mut data).unwrap();
    assert_eq!(data[..32], bytes("1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"));
    fast.decrypt(0xff, &mut data).unwrap();
    assert_eq!(data, plain);
}

/// NIST SP 800-38A, F.2.1 and F.2.5: CBC, each vector as a chain with its own IV.
#[test]
fn nist_vectors_of_cbc() {
    let plain = bytes("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    let iv = bytes("000102030405060708090a0b0c0d0e0f");
    for (key, encrypted) in [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2",
        ),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d",
        ),
    ] {
        let key = bytes(key);
        let algorithm = if key.len() == 16 { Algorithm::Aes128 } else { Algorithm::Aes256 };
        let ivs = [cipher::array::Array::try_from(&iv[..]).unwrap()];
        let mut data = plain.clone();
        with_wide!(algorithm, C => {
            let cipher = C::new_from_slice(&key).unwrap();
            cbc_encrypt(&cipher, &mut ivs.clone(), 32, &mut data);
            assert_eq!(data, bytes(encrypted));
            cbc_decrypt(&cipher, &ivs[0], &mut data);
        }, else unreachable!());
        assert_eq!(data, plain);
    }
}

/// The block ciphers themselves, by the vectors of their authors: one block in ECB.
#[test]
fn published_vectors_of_the_block_ciphers() {
    for (text, key, plain, encrypted) in [
        // FIPS 197, appendix C.
        (
            "aes-ecb",
            "000102030405060708090a0b0c0d0e0f",
            "00112233445566778899aabbccddeeff",
            "69c4e0d86a7b0430d8cdb78070b4c55a",
        ),
        (
            "aes-ecb",
            "000102030405060708090a0b0c0d0e0f1011121314151617",
            "00112233445566778899aabbccddeeff",
            "dda97ca4864cdfe06eaf70a0ec0d7191",
        ),
        (
            "aes-ecb",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "00112233445566778899aabbccddeeff",
            "8ea2b7ca516745bfeafc49904b496089",
        ),
        // RFC 2144, B.1.
        ("cast5-ecb", "0123456712345678234567893456789a", "0123456789abcdef", "238b4fe5847e44b2"),
        // The vector of Serpent that other libraries test themselves by.
        (
            "serpent-ecb",
            "00000000000000000000000000000000",
            "d29d576fcea3a3a7ed9099f29273d78e",
            "b2288b968ae8b08648d1ce9606fd992d",
        ),
        // The NESSIE vectors of Serpent, 256 bits, set 1, vector 0.
        (
            "serpent-ecb",
            "8000000000000000000000000000000000000000000000000000000000000000",
            "00000000000000000000000000000000",
            "a223aa1288463c0e2be38ebd825616c0",
        ),
        // The Twofish paper, tables of intermediate values.
        (
            "twofish-ecb",
            "00000000000000000000000000000000",
            "00000000000000000000000000000000",
            "9f589f5cf6122c32b6bfec2f2ae8c35a",
        ),
        (
            "twofish-ecb",
            "0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff",
            "00000000000000000000000000000000",
            "37527be0052334b89f0cfccae87cfa20",
        ),
    ] {
        let cipher = cipher(text, &bytes(key), SectorLen::B512);
        let mut data = bytes(plain);
        let block = data.len();
        data.resize(512, 0);
        cipher.encrypt(0, &mut data).unwrap();
        assert_eq!(data[..block], bytes(encrypted), "{text}, {} byte key", key.len() / 2);
    }
}

/// Every combination that exists.
fn every_spec() -> impl Iterator<Item = CipherSpec> {
    let modes = [Mode::Xts, Mode::Cbc, Mode::Ecb, Mode::Ctr];
    let ivs = [
        IvGenerator::None,
        IvGenerator::Plain,
        IvGenerator::Plain64,
        IvGenerator::Plain64be,
        IvGenerator::Essiv(Hash::Md5),
        IvGenerator::Essiv(Hash::Sha256),
    ];
    Algorithm::ALL.into_iter().flat_map(move |algorithm| {
        modes.into_iter().flat_map(move |mode| {
            ivs.into_iter().filter_map(move |iv| CipherSpec::new(algorithm, mode, iv).ok())
        })
    })
}

#[test]
fn many_sectors_are_as_each_alone_and_come_back() {
    let mut random = Seeded(1);
    for spec in every_spec() {
        let mut key = vec![0; spec.key_len()];
        random.fill(&mut key).unwrap();
        for (sector, count) in [(SectorLen::B512, 19), (SectorLen::B4096, 2)] {
            let cipher = SectorCipher::new(spec, &Key::new(key.clone()), sector).unwrap();
            let mut plain = vec![0; count * sector.bytes()];
            random.fill(&mut plain).unwrap();
            // The numbers pass 32 bits on the way.
            let first = u64::from(u32::MAX) - 7;
            let mut whole = plain.clone();
            cipher.encrypt(first, &mut whole).unwrap();
            for (at, part) in plain.chunks(sector.bytes()).enumerate() {
                let mut alone = part.to_vec();
                let number = first + (at * sector.bytes() / 512) as u64;
                cipher.encrypt(number, &mut alone).unwrap();
                assert_eq!(alone, whole[at * sector.bytes()..][..sector.bytes()], "{spec} sector {at}");
            }
            assert_ne!(whole, plain);
            let mut across = vec![0; plain.len()];
            cipher.encrypt_to(first, &plain, &mut across).unwrap();
            assert_eq!(across, whole, "{spec}");
            cipher.decrypt_to(first, &whole, &mut across).unwrap();
            assert_eq!(across, plain, "{spec}");
            cipher.decrypt(first, &mut whole).unwrap();
            assert_eq!(whole, plain, "{spec}");
        }
    }
}

/// The library's XTS and our own are the same; equal halves of a key, which the library refuses, go the other way.
#[test]
fn both_engines_of_aes_256_xts_agree() {
    let mut random = Seeded(2);
    let (mut key, mut plain) = (vec![0; 64], vec![0; 40 * 512]);
    random.fill(&mut key).unwrap();
    random.fill(&mut plain).unwrap();
    let spec = CipherSpec::from_text("aes-xts-plain64", 64).unwrap();
    let own = modes::Xts {
        data: aes::Aes256::new_from_slice(&key[..32]).unwrap(),
        tweak: aes::Aes256::new_from_slice(&key[32..]).unwrap(),
        vectors: wide_vectors(&spec, &key).unwrap(),
        sector: 512,
    };
    let (mut ours, mut fast) = (plain.clone(), plain.clone());
    own.encrypt(5, &mut ours).unwrap();
    cipher("aes-xts-plain64", &key, SectorLen::B512).encrypt(5, &mut fast).unwrap();
    assert!(ours == fast);
    own.decrypt(5, &mut ours).unwrap();
    assert!(ours == plain);

    let twice = [&key[..32], &key[..32]].concat();
    assert!(aes_xts::Aes256Xts::new(&twice, wide_vectors(&spec, &twice).unwrap(), 512).is_none());
    let cipher = cipher("aes-xts-plain64", &twice, SectorLen::B512);
    cipher.encrypt(0, &mut fast).unwrap();
}

#[test]
fn threads_share_one_cipher() {
    let key: Vec<u8> = (0..64).collect();
    let cipher = cipher("aes-xts-plain64", &key, SectorLen::B512);
    let mut expected = vec![7; 64 * 512];
    cipher.encrypt(0, &mut expected).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut data = vec![7; 64 * 512];
                    cipher.encrypt(0, &mut data).unwrap();
                    assert!(data == expected);
                    cipher.decrypt(0, &mut data).unwrap();
                    assert!(data.iter().all(|byte| *byte == 7));
                }
            });
        }
    });
}

#[test]
fn what_is_no_whole_sector_is_refused() {
    let cipher = cipher("aes-cbc-plain64", &[1; 32], SectorLen::B4096);
    let mut data = [0; 4096 + 512];
    let error = CipherError::NotWholeSectors { len: 4608, sector: 4096 };
    assert_eq!(cipher.encrypt(0, &mut data), Err(error));
    assert_eq!(cipher.decrypt(0, &mut data), Err(error));
    let lengths = CipherError::Lengths { source_len: 0, target_len: 4608 };
    assert_eq!(cipher.encrypt_to(0, &[], &mut data), Err(lengths));
    assert_eq!(cipher.encrypt(0, &mut []), Ok(()));
    let spec = *cipher.spec();
    let error = SpecError::KeyGiven { spec: "aes-cbc-plain64".into(), wanted: 32, got: 31 };
    assert_eq!(SectorCipher::new(spec, &Key::new(vec![0; 31]), SectorLen::B512).unwrap_err(), error);
}

/// NIST SP 800-38A, F.5.5: the first block is encrypted under the vector itself, the next under one more; here the vector
/// comes from the sector number, so the counter is looked at from both sides of a carry.
#[test]
fn a_counter_carries_over_all_its_bytes() {
    let key = [3; 32];
    let ctr = cipher("aes-ctr-plain64be", &key, SectorLen::B512);
    let ecb = cipher("aes-ecb", &key, SectorLen::B512);
    let first = u64::MAX - 1;
    let mut stream = vec![0; 512];
    ctr.encrypt(first, &mut stream).unwrap();
    let counters = (0..32).map(|at| (u128::from(first) + at).to_be_bytes());
    let mut expected: Vec<u8> = counters.flatten().collect();
    ecb.encrypt(0, &mut expected).unwrap();
    assert_eq!(stream, expected);
}
