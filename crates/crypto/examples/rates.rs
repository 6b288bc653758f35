//! How fast the ciphers are: GB/s of one thread on buffers in the cache, in calls of 512 bytes, 4 KiB and 64 KiB.
//!
//! ```sh
//! cargo run --release -p crypto --example rates            # the common ciphers
//! cargo run --release -p crypto --example rates serpent    # those whose name has this in it
//! ```
#![allow(clippy::unwrap_used, reason = "a measurement that fails says so")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use crypto::kdf::{Argon2, Budget, Limits, Variant};
use crypto::{CipherError, CipherSpec, Hash, Key, SectorCipher, SectorLen};

const CIPHERS: [(&str, usize); 12] = [
    ("aes-xts-plain64", 64),
    ("aes-xts-plain64", 32),
    ("aes-cbc-essiv:sha256", 32),
    ("aes-cbc-plain64", 16),
    ("aes-ctr-plain64", 32),
    ("aes-ecb", 32),
    ("serpent-xts-plain64", 64),
    ("serpent-cbc-plain64", 32),
    ("twofish-xts-plain64", 64),
    ("twofish-cbc-plain64", 32),
    ("cast5-cbc-plain64", 16),
    ("cast5-ctr-plain64", 16),
];
const SIZES: [usize; 3] = [512, 4096, 65536];

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    println!(
        "{:<24}{:>8}{:>19}{:>19}{:>19}",
        "GB/s", "key", "512 B enc dec", "4 KiB enc dec", "64 KiB enc dec"
    );
    for (text, key_len) in CIPHERS.into_iter().filter(|(text, _)| text.contains(&wanted)) {
        let spec = CipherSpec::from_text(text, key_len).unwrap();
        let key = Key::new((0..key_len as u8).collect());
        let cipher = SectorCipher::new(spec, &key, SectorLen::B512).unwrap();
        print!("{text:<24}{:>8}", key_len * 8);
        for size in SIZES {
            let encrypt = rate(size, |data| cipher.encrypt(7, data));
            let decrypt = rate(size, |data| cipher.decrypt(7, data));
            print!("{encrypt:>12.3}{decrypt:>7.3}");
        }
        println!();
    }
    if wanted.is_empty() {
        derivations();
    }
}

/// GB/s of `work` on a buffer of `size` bytes: the best of some rounds.
fn rate(size: usize, work: impl Fn(&mut [u8]) -> Result<(), CipherError>) -> f64 {
    let mut data = vec![1; size];
    // Short rounds: some of them are disturbed by nothing else that runs.
    let calls = (128 << 10) / size;
    let round = |data: &mut [u8]| {
        let start = Instant::now();
        for _ in 0..calls {
            work(black_box(data)).unwrap();
        }
        start.elapsed()
    };
    let end = Instant::now() + Duration::from_millis(150);
    let mut best = round(&mut data);
    while Instant::now() < end {
        best = best.min(round(&mut data));
    }
    (calls * size) as f64 / best.as_secs_f64() / 1e9
}

fn derivations() {
    println!();
    let mut budget = Budget::new(Limits::default(), &|| false);
    for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha512, Hash::Ripemd160] {
        let rounds: u32 = 1 << 12;
        let mut out = vec![0; hash.digest_len()];
        let mut best = Duration::MAX;
        for _ in 0..50 {
            let start = Instant::now();
            budget.pbkdf2(hash, b"passphrase", b"salt", rounds, &mut out).unwrap();
            best = best.min(start.elapsed());
        }
        let rate = f64::from(rounds) / best.as_secs_f64() / 1e6;
        println!("{:<24}{rate:>8.2} million rounds/s", format!("PBKDF2 {hash}"));
    }
    let parameters = Argon2 { variant: Variant::Argon2id, passes: 2, memory_kib: 1 << 18, lanes: 4 };
    let start = Instant::now();
    budget.argon2(&parameters, b"passphrase", b"saltsalt", &mut [0; 32]).unwrap();
    println!("{:<24}{:>8.2} GiB passed over/s", "Argon2id", 0.5 / start.elapsed().as_secs_f64());
}
