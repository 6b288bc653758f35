//! Decoding of one stream into a buffer that it must fill exactly.
//!
//! The stored form of a compressed cluster is rounded up to sectors, and another stream may follow at once: bytes
//! behind the end of the stream are ignored. Work and memory are bounded by the two buffers, whatever the stream
//! says about itself.
use std::cell::RefCell;

use zstd::zstd_safe;

/// How a stream is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 1951 without a wrapper.
    Deflate,
    /// RFC 1950: deflate between a header and a checksum of the content.
    Zlib,
    /// One zstd frame.
    Zstd,
}

impl Algorithm {
    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deflate => "deflate",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
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

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }

    #[test]
    fn a_stream_followed_by_garbage_decodes_to_what_went_in() {
        for algorithm in [Algorithm::Deflate, Algorithm::Zlib, Algorithm::Zstd] {
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
    fn a_stream_that_is_cut_off_or_of_another_length_is_an_error() {
        for algorithm in [Algorithm::Deflate, Algorithm::Zlib, Algorithm::Zstd] {
            let data = text(65536);
            let stored = encode(algorithm, &data);
            let mut out = vec![0; 65536];
            let cut = decode(algorithm, &stored[..stored.len() / 2], &mut out);
            assert_eq!(cut, Err(DecodeError::Damaged(algorithm)));
            assert_eq!(decode(algorithm, &[], &mut out), Err(DecodeError::Damaged(algorithm)));
            let short = decode(algorithm, &stored, &mut out[..1000]);
            assert_eq!(short, Err(DecodeError::TooLong(algorithm, 1000)));
            let long = decode(algorithm, &stored, &mut vec![0; 70000]);
            assert_eq!(long, Err(DecodeError::TooShort(algorithm, 65536, 70000)));
        }
    }
}
