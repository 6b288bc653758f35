//! How the words of a page are stored in the file.
use rt::BufMut;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::*};

/// A word of a page in memory: an entry of a table, or a part of one.
pub trait Word: Copy + Eq + Default + Debug + Send + Sync + 'static {
    /// A place that several requests may read and set.
    type Cell: Send + Sync;

    /// A place with this word in it.
    fn cell(self) -> Self::Cell;

    /// The word in a place.
    fn load(cell: &Self::Cell) -> Self;

    /// Puts a word in a place and tells the old one.
    fn swap(cell: &Self::Cell, word: Self) -> Self;
}

/// The form of words in the file.
pub trait Codec: Send + Sync + 'static {
    /// What is stored.
    type Word: Word;

    /// Bytes of a word.
    const BYTES: usize = size_of::<Self::Word>();

    /// Bytes of the file as words; what is no whole word at the end is left out.
    fn words(bytes: &[u8]) -> impl Iterator<Item = Self::Word>;

    /// Words as bytes of the file.
    fn bytes(words: &[Self::Word]) -> BufMut;
}

macro_rules! word {
    ($word:ty, $cell:ty) => {
        impl Word for $word {
            type Cell = $cell;

            fn cell(self) -> $cell {
                <$cell>::new(self)
            }

            fn load(cell: &$cell) -> $word {
                cell.load(Acquire)
            }

            fn swap(cell: &$cell, word: $word) -> $word {
                cell.swap(word, AcqRel)
            }
        }
    };
}

word!(u8, AtomicU8);
word!(u32, AtomicU32);
word!(u64, AtomicU64);

macro_rules! codec {
    ($(#[$doc:meta])* $name:ident, $word:ty, $from:ident, $to:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Codec for $name {
            type Word = $word;

            fn words(bytes: &[u8]) -> impl Iterator<Item = $word> {
                bytes.as_chunks().0.iter().map(|bytes| <$word>::$from(*bytes))
            }

            fn bytes(words: &[$word]) -> BufMut {
                let mut bytes = BufMut::with_len(size_of_val(words));
                let places = bytes.as_chunks_mut().0;
                places.iter_mut().zip(words).for_each(|(to, word)| *to = word.$to());
                bytes
            }
        }
    };
}

codec!(
    /// 64 bits, big-endian (qcow2, qcow).
    Be64, u64, from_be_bytes, to_be_bytes
);
codec!(
    /// 64 bits, little-endian (qed, vhdx).
    Le64, u64, from_le_bytes, to_le_bytes
);
codec!(
    /// 32 bits, big-endian (vpc).
    Be32, u32, from_be_bytes, to_be_bytes
);
codec!(
    /// 32 bits, little-endian (vdi, vmdk, parallels).
    Le32, u32, from_le_bytes, to_le_bytes
);
codec!(
    /// Bytes as they are (bitmaps).
    Raw, u8, from_le_bytes, to_le_bytes
);

#[cfg(test)]
mod tests {
    use super::*;

    fn round<C: Codec>(words: &[C::Word], bytes: &[u8]) {
        assert_eq!(C::bytes(words).to_vec(), bytes);
        assert_eq!(C::words(bytes).collect::<Vec<_>>(), words);
        assert_eq!(C::BYTES * words.len(), bytes.len());
    }

    #[test]
    fn words_lie_in_the_file_as_their_codec_says() {
        round::<Be64>(&[0x0102, 3], &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
        round::<Le64>(&[0x0102], &[2, 1, 0, 0, 0, 0, 0, 0]);
        round::<Be32>(&[0x0102], &[0, 0, 1, 2]);
        round::<Le32>(&[0x0102, 7], &[2, 1, 0, 0, 7, 0, 0, 0]);
        round::<Raw>(&[1, 2, 3], &[1, 2, 3]);
        assert_eq!(Le32::words(&[1, 0, 0, 0, 9]).collect::<Vec<_>>(), [1], "half a word is none");
    }
}
