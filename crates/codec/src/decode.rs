//! Decoding of one stream into a buffer that it must fill exactly.
//!
//! The stored form of a compressed cluster is rounded up to sectors, and another stream may follow at once: bytes
//! behind the end of the stream are ignored, where the encoding tells its end. Work and memory are bounded by the two buffers, whatever the stream
//! says about itself.
use crate::adc;
use std::cell::RefCell;
use std::io::Read;
use zstd::zstd_safe;

/// Memory in KiB that a decoder of xz may take: the window of 64 MiB of the highest preset, and what else it needs.
const MOST_XZ_KIB: u32 = 80 << 10;

/// How a stream is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 1951 without a wrapper.
    Deflate,
    /// RFC 1950: deflate between a header and a checksum of the content.
    Zlib,
    /// One zstd frame.
    Zstd,
    /// Apple Data Compression. It has no mark at its end: all of the source is taken. Decoded only, as those that follow.
    Adc,
    /// One bzip2 stream.
    Bzip2,
    /// An LZFSE stream, which must end with the source.
    Lzfse,
    /// One xz stream.
    Xz,
}

impl Algorithm {
    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deflate => "deflate",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
            Self::Adc => "ADC",
            Self::Bzip2 => "bzip2",
            Self::Lzfse => "LZFSE",
            Self::Xz => "xz",
        }
    }
}

/// A stream that can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It breaks the rules of its encoding.
    #[error("the {} stream is damaged or cut off", .0.name())]
    Damaged(Algorithm),
    /// It holds more than fits.
    #[error("the {algorithm} stream holds more than the {1} bytes it should", algorithm = .0.name())]
    TooLong(Algorithm, usize),
    /// It ends too early.
    #[error("the {algorithm} stream holds {1} bytes, fewer than the {2} it should", algorithm = .0.name())]
    TooShort(Algorithm, usize, usize),
}

/// The decoders' working memory, kept by each thread: making it costs more than decoding a small cluster.
#[derive(Default)]
struct Tables {
    deflate: Option<libdeflater::Decompressor>,
    zstd: Option<zstd_safe::DCtx<'static>>,
}

thread_local! {
    static TABLES: RefCell<Tables> = RefCell::default();
}

/// Decodes the stream at the start of `source` into all of `target`.
pub fn decode(algorithm: Algorithm, source: &[u8], target: &mut [u8]) -> Result<(), DecodeError> {
    let whole = target.len();
    let got = TABLES.with_borrow_mut(|tables| match algorithm {
        Algorithm::Deflate | Algorithm::Zlib => inflate(tables, algorithm, source, target),
        Algorithm::Zstd => unzstd(tables, source, target),
        Algorithm::Adc => adc::decode(source, target).map_err(|wrong| match wrong {
            adc::Wrong::Damaged => DecodeError::Damaged(algorithm),
            adc::Wrong::TooLong => DecodeError::TooLong(algorithm, whole),
        }),
        Algorithm::Bzip2 => fill(algorithm, bzip2::bufread::BzDecoder::new(source), target),
        Algorithm::Lzfse => {
            let mut decoder = lzfse_rust::LzfseRingDecoder::default();
            fill(algorithm, decoder.reader_bytes(source), target)
        }
        Algorithm::Xz => {
            fill(algorithm, lzma_rust2::XzReader::new_mem_limit(source, false, MOST_XZ_KIB), target)
        }
    })?;
    if got == whole { Ok(()) } else { Err(DecodeError::TooShort(algorithm, got, whole)) }
}

fn inflate(
    tables: &mut Tables,
    algorithm: Algorithm,
    source: &[u8],
    target: &mut [u8],
) -> Result<usize, DecodeError> {
    let decoder = tables.deflate.get_or_insert_with(libdeflater::Decompressor::new);
    let whole = target.len();
    let decoded = match algorithm {
        Algorithm::Zlib => decoder.zlib_decompress(source, target),
        _ => decoder.deflate_decompress(source, target),
    };
    decoded.map_err(|e| match e {
        libdeflater::DecompressionError::BadData => DecodeError::Damaged(algorithm),
        libdeflater::DecompressionError::InsufficientSpace => DecodeError::TooLong(algorithm, whole),
    })
}

fn unzstd(tables: &mut Tables, source: &[u8], target: &mut [u8]) -> Result<usize, DecodeError> {
    let damaged = DecodeError::Damaged(Algorithm::Zstd);
    let frame_len = zstd_safe::find_frame_compressed_size(source).map_err(|_| damaged)?;
    let frame = source.get(..frame_len).ok_or(damaged)?;
    let whole = target.len();
    // A frame decoded in one call needs no window buffer, so a declared window of gigabytes costs nothing.
    let decoder = tables.zstd.get_or_insert_with(zstd_safe::DCtx::create);
    decoder.decompress(target, frame).map_err(|code| {
        let too_small =
            zstd_safe::is_error_kind(code, zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall);
        if too_small { DecodeError::TooLong(Algorithm::Zstd, whole) } else { damaged }
    })
}

/// Reads a decoder to its end, where it checks its sums; tells how many bytes there were.
fn fill(algorithm: Algorithm, mut decoder: impl Read, target: &mut [u8]) -> Result<usize, DecodeError> {
    let mut filled = 0;
    while let Some(rest) = target.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match decoder.read(rest) {
            Ok(0) => return Ok(filled),
            Ok(len) => filled += len,
            Err(_) => return Err(DecodeError::Damaged(algorithm)),
        }
    }
    match decoder.read(&mut [0]) {
        Ok(0) => Ok(filled),
        Ok(_) => Err(DecodeError::TooLong(algorithm, filled)),
        Err(_) => Err(DecodeError::Damaged(algorithm)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 7 * 13 % 251) as u8).collect()
    }

    fn encode(algorithm: Algorithm, data: &[u8]) -> Vec<u8> {
        match algorithm {
            Algorithm::Deflate | Algorithm::Zlib => {
                let mut encoder = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
                let mut out = vec![0; encoder.zlib_compress_bound(data.len())];
                let len = match algorithm {
                    Algorithm::Zlib => encoder.zlib_compress(data, &mut out),
                    _ => encoder.deflate_compress(data, &mut out),
                };
                out.truncate(len.unwrap());
                out
            }
            Algorithm::Zstd => {
                let mut out = vec![0; zstd_safe::compress_bound(data.len())];
                let len = zstd_safe::compress(out.as_mut_slice(), data, 3).unwrap();
                out.truncate(len);
                out
            }
            Algorithm::Adc => {
                data.chunks(128).flat_map(|part| [&[0x7f + part.len() as u8], part].concat()).collect()
            }
            Algorithm::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Algorithm::Lzfse => {
                let mut out = Vec::new();
                lzfse_rust::encode_bytes(data, &mut out).unwrap();
                out
            }
            Algorithm::Xz => xz(data, 6),
        }
    }

    fn xz(data: &[u8], preset: u32) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(preset);
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    const WITH_END: [Algorithm; 5] =
        [Algorithm::Deflate, Algorithm::Zlib, Algorithm::Zstd, Algorithm::Bzip2, Algorithm::Xz];

    #[test]
    fn a_stream_followed_by_garbage_decodes_to_what_went_in() {
        for algorithm in WITH_END {
            for len in [512, 65536, 2 << 20] {
                let data = text(len);
                let mut stored = encode(algorithm, &data);
                stored.extend([0xa5; 700]);
                let mut out = vec![0; len];
                assert_eq!(decode(algorithm, &stored, &mut out), Ok(()));
                assert!(out == data);
            }
        }
    }

    #[test]
    fn streams_that_take_all_of_the_source_decode_to_what_went_in() {
        for algorithm in [Algorithm::Adc, Algorithm::Lzfse] {
            for len in [512, 65536, 2 << 20] {
                let data = text(len);
                let mut out = vec![0; len];
                assert_eq!(decode(algorithm, &encode(algorithm, &data), &mut out), Ok(()));
                assert!(out == data);
            }
        }
    }

    #[test]
    fn a_window_larger_than_any_content_is_an_error_and_takes_no_memory() {
        let mut stored = xz(&text(4096), 9);
        assert_eq!(decode(Algorithm::Xz, &stored, &mut vec![0; 4096]), Ok(()));
        // The window of the only filter of the first block, and the sum of that block's header: now it has 4 GiB.
        stored[16] = 40;
        let header = stored[12..20].to_vec();
        stored[20..24].copy_from_slice(&crc32(&header).to_le_bytes());
        let got = decode(Algorithm::Xz, &stored, &mut vec![0; 4096]);
        assert_eq!(got, Err(DecodeError::Damaged(Algorithm::Xz)));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
        })
    }

    #[test]
    fn a_stream_that_is_cut_off_or_of_another_length_is_an_error() {
        for algorithm in [&WITH_END[..], &[Algorithm::Adc, Algorithm::Lzfse]].concat() {
            let data = text(65536);
            let stored = encode(algorithm, &data);
            let mut out = vec![0; 65536];
            let cut = decode(algorithm, &stored[..stored.len() / 2], &mut out);
            assert!(cut.is_err());
            assert!(decode(algorithm, &[], &mut out).is_err());
            let short = decode(algorithm, &stored, &mut out[..1000]);
            assert_eq!(short, Err(DecodeError::TooLong(algorithm, 1000)));
            let long = decode(algorithm, &stored, &mut vec![0; 70000]);
            assert_eq!(long, Err(DecodeError::TooShort(algorithm, 65536, 70000)));
        }
    }
}
