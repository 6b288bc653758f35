//! Compressed clusters and chunks: the streams of all encodings.

use codec::Algorithm;
use testkit::dmg::Kind;

/// Largest cluster there is, in bytes.
const LARGEST: usize = 2 << 20;

/// Decodes a stream into a cluster whose size the first byte chooses. Laws: what is decoded fills the cluster, and is the
/// same when it is decoded once more (the decoders' tables are kept between streams); what the stream is as data encodes to
/// what decodes to it, in less space, or not at all.
pub fn cluster(input: &[u8]) {
    let Some((choice, stream)) = input.split_first() else { return };
    let len = (512usize << (choice & 0x0f)).min(LARGEST);
    let algorithm = match choice >> 4 {
        0..=3 => Algorithm::Deflate,
        4 => Algorithm::Adc,
        5 => Algorithm::Bzip2,
        6 => Algorithm::Lzfse,
        7 => Algorithm::Xz,
        _ => Algorithm::Zstd,
    };
    let decode = |filler: u8| {
        let mut target = vec![filler; len];
        codec::decode(algorithm, stream, &mut target).map(|()| target)
    };
    assert_eq!(decode(0), decode(0xff));
    let mut encoded = vec![0; stream.len().saturating_sub(1)];
    if let Some(len) = codec::encode(algorithm, stream, &mut encoded) {
        let mut shown = vec![0; stream.len()];
        assert_eq!(codec::decode(algorithm, &encoded[..len], &mut shown), Ok(()));
        assert_eq!(shown, stream);
    }
}

/// A stored block, a run in fixed codes, a zstd frame of a run, and a stream of each encoding of disk images of Apple.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut stored = vec![0, 1, 0, 2, 0xff, 0xfd];
    stored.extend_from_slice(&[7; 512]);
    let run = vec![0, 0x63, 0x60, 0x18, 0x05, 0xa3, 0x60, 0x14, 0x0c, 0x77, 0x00, 0x00];
    let zstd = vec![
        0x80, 0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x01, 0x4d, 0x00, 0x00, 0x08, 0x00, 0x01, 0x00, 0xfc, 0xff,
        0x39,
    ];
    let mut seeds = vec![stored, run, zstd];
    for (choice, kind) in [(0x40, Kind::Adc), (0x50, Kind::Bzip2), (0x60, Kind::Lzfse), (0x70, Kind::Xz)] {
        let stream = kind.stored(&[&[7; 400][..], b"some text, and some more text", &[8; 83]].concat());
        seeds.push([&[choice][..], &stream].concat());
    }
    seeds
}
