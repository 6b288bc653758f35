//! Encoding of a buffer into one stream that is to be smaller.
use crate::decode::Algorithm;
use crate::deflate::Deflater;
use std::cell::RefCell;
use zstd::zstd_safe;

/// How hard zstd tries. Its default, 3, makes streams 3 % shorter and takes a quarter more time.
const ZSTD_LEVEL: i32 = 1;

/// The encoders' working memory, kept by each thread.
#[derive(Default)]
struct Tables {
    deflate: Deflater,
    zstd: Option<zstd_safe::CCtx<'static>>,
}

thread_local! {
    static TABLES: RefCell<Tables> = RefCell::default();
}

/// Encodes all of `source` to the start of `target`; tells how many bytes it takes, or `None` if it does not fit, or if this is
/// an algorithm that is decoded only.
///
/// Deflate streams need a window of 12 bits only.
pub fn encode(algorithm: Algorithm, source: &[u8], target: &mut [u8]) -> Option<usize> {
    TABLES.with_borrow_mut(|tables| match algorithm {
        Algorithm::Deflate => tables.deflate.deflate(source, target),
        Algorithm::Zlib => zlib(&mut tables.deflate, source, target),
        Algorithm::Zstd => {
            let encoder = tables.zstd.get_or_insert_with(zstd_safe::CCtx::create);
            encoder.compress(target, source, ZSTD_LEVEL).ok()
        }
        Algorithm::Adc | Algorithm::Bzip2 | Algorithm::Lzfse | Algorithm::Xz => None,
    })
}

/// Deflate with a window of 32 KiB, though matches reach back less far.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];

fn zlib(deflater: &mut Deflater, source: &[u8], target: &mut [u8]) -> Option<usize> {
    let (header, rest) = target.split_first_chunk_mut()?;
    let (room, _) = rest.split_at_mut_checked(rest.len().checked_sub(4)?)?;
    *header = ZLIB_HEADER;
    let len = deflater.deflate(source, room)?;
    let sum = rest.get_mut(len..len + 4)?;
    sum.copy_from_slice(&libdeflater::adler32(source).to_be_bytes());
    Some(header.len() + len + 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use proptest::prelude::*;

    const ALL: [Algorithm; 3] = [Algorithm::Deflate, Algorithm::Zlib, Algorithm::Zstd];

    fn round_trip(algorithm: Algorithm, data: &[u8]) -> Option<usize> {
        let mut stored = vec![0x5a; data.len().max(1) - 1];
        let len = encode(algorithm, data, &mut stored)?;
        let mut shown = vec![0; data.len()];
        decode(algorithm, &stored[..len], &mut shown).unwrap();
        assert!(shown == data, "{algorithm:?} of {} bytes", data.len());
        Some(len)
    }

    /// Some pieces of noise, some repeated, some of one byte.
    fn mixed(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut data = Vec::new();
        while data.len() < len {
            let run = next() as usize % 700 + 1;
            match next() % 4 {
                0 => (0..run).for_each(|_| data.push(next() as u8)),
                1 => (0..run).for_each(|_| data.push(b"etaoin shrdlu"[next() as usize % 13])),
                2 => data.extend(std::iter::repeat_n(next() as u8, run)),
                _ => {
                    let back = (next() as usize % 9000 + 1).min(data.len());
                    let from = data.len() - back;
                    (0..run.min(back)).for_each(|i| data.push(data[from + i]));
                }
            }
        }
        data.truncate(len);
        data
    }

    #[test]
    fn what_is_encoded_decodes_to_what_it_was() {
        for algorithm in ALL {
            for (seed, len) in [512, 4096, 65535, 65536, 65537, 131_072, 2 << 20].into_iter().enumerate() {
                assert!(round_trip(algorithm, &mixed(len, seed as u64 + 9)).is_some(), "{len}");
                assert!(
                    round_trip(algorithm, &vec![7; len]).is_some_and(|stored| stored < len / 20),
                    "{len}"
                );
            }
        }
    }

    #[test]
    fn noise_does_not_fit_and_is_given_up() {
        let mut state = 88_172_645_463_325_252_u64;
        let noise: Vec<u8> = (0..1 << 18)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 11) as u8
            })
            .collect();
        for algorithm in ALL {
            for len in [512, 65536, 1 << 18] {
                assert_eq!(round_trip(algorithm, &noise[..len]), None);
            }
        }
    }

    #[test]
    fn noise_within_text_is_stored_as_it_is() {
        let mut data = mixed(3 << 16, 5);
        let noise = mixed(1 << 20, 77).into_iter().scan(1u64, |state, byte| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(byte) + 1);
            Some((*state >> 40) as u8)
        });
        data.splice(1 << 16..2 << 16, noise.take(1 << 16));
        assert!(round_trip(Algorithm::Deflate, &data).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_in_a_target_of_any_size(
            data in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..3000),
            room in 0usize..3100,
        ) {
            for algorithm in ALL {
                let mut stored = vec![0; room];
                if let Some(len) = encode(algorithm, &data, &mut stored) {
                    let mut shown = vec![0; data.len()];
                    prop_assert_eq!(decode(algorithm, &stored[..len], &mut shown), Ok(()));
                    prop_assert_eq!(&shown, &data);
                }
            }
        }
    }

    #[test]
    fn matches_reach_back_four_kibibytes_and_no_further() {
        // The same noise again: the first time just within the window, the second time just beyond.
        for (distance, shrinks) in [(4096, true), (4097, false)] {
            let noise = mixed(4200, 3).into_iter().scan(9u64, |state, byte| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(byte) + 1);
                Some((*state >> 40) as u8)
            });
            let noise: Vec<u8> = noise.take(distance).collect();
            let data = [&noise[..], &noise[..1000]].concat();
            assert_eq!(round_trip(Algorithm::Deflate, &data).is_some(), shrinks, "{distance}");
        }
    }
}
