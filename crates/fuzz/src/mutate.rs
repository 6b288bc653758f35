//! Small random changes of an input, for runs without a fuzzer.

use sim::Rng;

/// Numbers at whose edges parsers break.
const EDGES: [u64; 12] =
    [0, 1, 7, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX];

/// No input grows beyond this, in bytes.
const LONGEST: usize = 1 << 20;

/// Changes `input` in one to four places. Half of the changes are near its front, where headers are.
pub fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(3) {
        let end = if rng.chance(1, 2) { input.len().min(256) } else { input.len() };
        let at = rng.index(end.max(1)).min(input.len());
        match rng.below(6) {
            0 => overwrite(input, at, &[1 << rng.below(8)], |old, new| old ^ new),
            1 => overwrite(input, at, &[rng.next_u64() as u8], |_, new| new),
            2 => {
                let edge = EDGES.get(rng.index(EDGES.len())).copied().unwrap_or(0);
                let width = 1 << rng.below(4);
                let number = edge.to_be_bytes();
                overwrite(input, at, number.get(8 - width..).unwrap_or_default(), |_, new| new);
            }
            3 => input.truncate(at),
            4 => {
                let to = (at + 1 + rng.index(64)).min(input.len());
                let part = input.get(at..to).unwrap_or_default().to_vec();
                if input.len() < LONGEST {
                    input.splice(at..at, part);
                }
            }
            _ => {
                let to = (at + 1 + rng.index(64)).min(input.len());
                input.drain(at..to);
            }
        }
    }
}

fn overwrite(input: &mut [u8], at: usize, new: &[u8], join: fn(u8, u8) -> u8) {
    for (place, byte) in input.iter_mut().skip(at).zip(new) {
        *place = join(*place, *byte);
    }
}
