//! The file of a journal: a header, and behind it what was copied, in one checkpoint after the other.
//!
//! ```text
//! header      "cairnconv" · version · length of the description · description (JSON) · sum of all that
//! checkpoint  number of records · records · sum of the sum before and of all that
//! record      first byte · bytes · digest of what they are
//! ```
//!
//! Numbers are big-endian; a sum is BLAKE3, 32 bytes. The sums form a chain: nothing that stood in the file before, or in another
//! journal, is taken for a checkpoint. The first checkpoint that is not whole ends the file: it was being written when the
//! program or the machine stopped.
//!
//! Bounds: a description of [`MOST_ABOUT`] bytes, checkpoints of [`MOST_RECORDS`] records.

use crate::digest::Digest;
use api::{Dict, Value, json};
use block::{BlockError, ErrorKind, Result};
use rt::File;
use std::io;

const MAGIC: &[u8; 9] = b"cairnconv";
const VERSION: u32 = 1;

/// Bytes before the description.
const HEAD: usize = 17;
/// Bytes of a sum.
const SUM: usize = 32;
/// Bytes of a record.
const RECORD: usize = 48;

/// Most bytes of a description.
const MOST_ABOUT: u64 = 1 << 20;
/// Most records of a checkpoint.
pub(super) const MOST_RECORDS: usize = 4096;

/// A range of the target, with the digest of what was copied there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::img::convert) struct Record {
    pub start: u64,
    pub len: u64,
    pub digest: Digest,
}

/// Where the next checkpoint goes, and the sum of all before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub at: u64,
    sum: [u8; SUM],
}

fn damaged(text: &str) -> BlockError {
    BlockError::new(ErrorKind::Corrupt, text)
}

fn unread(error: io::Error) -> BlockError {
    BlockError::os("it can't be read", &error)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The header of a new journal, and where its first checkpoint goes.
pub(super) fn header(about: &Dict) -> (Vec<u8>, Tail) {
    let about = json::to_line(&Value::Dict(about.clone()));
    let mut bytes = Vec::with_capacity(HEAD + about.len() + SUM);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend((about.len() as u32).to_be_bytes());
    bytes.extend(about.as_bytes());
    let sum = *blake3::hash(&bytes).as_bytes();
    bytes.extend(sum);
    let at = bytes.len() as u64;
    (bytes, Tail { at, sum })
}

/// Reads the header of a journal: its description, and where its first checkpoint is.
pub(super) async fn read_header(file: &File) -> Result<(Dict, Tail)> {
    let len = file.len().map_err(unread)?;
    let foreign = || BlockError::invalid("it is no journal of a conversion");
    if len < HEAD as u64 {
        return Err(foreign());
    }
    let head = file.read_exact(0, HEAD).await.map_err(unread)?;
    let (magic, numbers) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(foreign());
    }
    let (version, about) = numbers.split_at(4);
    let (version, about) = (number(version), number(about));
    if version != u64::from(VERSION) {
        return Err(BlockError::unsupported(format!("it has version {version}, known is {VERSION}")));
    }
    if about > MOST_ABOUT || len < HEAD as u64 + about + SUM as u64 {
        return Err(damaged("its lengths are wrong"));
    }
    let whole = file.read_exact(0, HEAD + about as usize + SUM).await.map_err(unread)?;
    let (body, stored) = whole.split_last_chunk::<SUM>().ok_or_else(foreign)?;
    let sum = *blake3::hash(body).as_bytes();
    if sum != *stored {
        return Err(damaged("its checksum is wrong"));
    }
    let text = std::str::from_utf8(body.get(HEAD..).unwrap_or_default());
    let text = text.map_err(|_| damaged("its description is no text"))?;
    match json::parse(text) {
        Ok(Value::Dict(about)) => Ok((about, Tail { at: whole.len() as u64, sum })),
        _ => Err(damaged("its description is no object")),
    }
}

fn sum_of(before: &[u8; SUM], body: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(body);
    *hasher.finalize().as_bytes()
}

/// A checkpoint of at most [`MOST_RECORDS`] records, and where the one behind it goes.
pub(super) fn checkpoint(tail: Tail, records: &[Record]) -> (Vec<u8>, Tail) {
    let mut bytes = Vec::with_capacity(4 + records.len() * RECORD + SUM);
    bytes.extend((records.len() as u32).to_be_bytes());
    for record in records {
        bytes.extend(record.start.to_be_bytes());
        bytes.extend(record.len.to_be_bytes());
        bytes.extend(record.digest.0);
    }
    let sum = sum_of(&tail.sum, &bytes);
    bytes.extend(sum);
    let at = tail.at + bytes.len() as u64;
    (bytes, Tail { at, sum })
}

/// Reads the checkpoint at a place. `None`: there is none, or it is not whole.
pub(super) async fn read_checkpoint(file: &File, tail: Tail) -> Result<Option<(Vec<Record>, Tail)>> {
    let left = file.len().map_err(unread)?.saturating_sub(tail.at);
    if left < 4 {
        return Ok(None);
    }
    let count = number(&file.read_exact(tail.at, 4).await.map_err(unread)?);
    let size = 4 + count * RECORD as u64 + SUM as u64;
    if count > MOST_RECORDS as u64 || left < size {
        return Ok(None);
    }
    let bytes = file.read_exact(tail.at, size as usize).await.map_err(unread)?;
    let Some((body, stored)) = bytes.split_last_chunk::<SUM>() else { return Ok(None) };
    let sum = sum_of(&tail.sum, body);
    if sum != *stored {
        return Ok(None);
    }
    let records = body.get(4..).unwrap_or_default().chunks_exact(RECORD).filter_map(record).collect();
    Ok(Some((records, Tail { at: tail.at + size, sum })))
}

fn record(bytes: &[u8]) -> Option<Record> {
    let (place, digest) = bytes.split_at_checked(16)?;
    let (start, len) = place.split_at(8);
    Some(Record { start: number(start), len: number(len), digest: Digest(digest.try_into().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::{Config, Disk, Sim};

    fn records(count: u64) -> Vec<Record> {
        (0..count).map(|n| Record { start: n << 20, len: 1 << 20, digest: Digest([n as u8; 32]) }).collect()
    }

    /// What is read of a file.
    fn read(bytes: &[u8]) -> Result<(Dict, Vec<Record>)> {
        let mut disk = Disk::default();
        disk.put("/j", bytes);
        Sim::boot(Config::seeded(1), disk).run(async {
            let file = rt::fs::open("/j".as_ref(), &rt::OpenOptions::read_only()).await.unwrap();
            let (about, mut tail) = read_header(&file).await?;
            let mut all = Vec::new();
            while let Some((records, next)) = read_checkpoint(&file, tail).await? {
                all.extend(records);
                tail = next;
            }
            Ok((about, all))
        })
    }

    #[test]
    fn what_is_written_is_read_back_up_to_the_first_checkpoint_that_is_not_whole() {
        let mut about = Dict::new();
        about.insert("target", "a\"b");
        let (mut bytes, tail) = header(&about);
        let header_len = bytes.len();
        let (first, tail) = checkpoint(tail, &records(3));
        let (second, _) = checkpoint(tail, &records(2));
        bytes.extend(&first);
        let one = bytes.len();
        bytes.extend(&second);
        let both = [records(3), records(2)].concat();
        assert_eq!(read(&bytes).unwrap(), (about.clone(), both));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let expected = if at < one { vec![] } else { records(3) };
            for damaged in [&changed[..], &bytes[..at]] {
                match read(damaged) {
                    Err(_) => assert!(at < header_len, "byte {at}"),
                    Ok((told, found)) => {
                        assert!(at >= header_len, "byte {at}");
                        assert_eq!((told, found), (about.clone(), expected.clone()), "byte {at}");
                    }
                }
            }
        }
        // An older checkpoint behind a newer one is none of its chain.
        let (bytes, tail) = header(&about);
        let (stale, _) = checkpoint(tail, &records(1));
        assert_eq!(read(&[bytes, first.clone(), stale].concat()).unwrap().1, records(3));
    }
}
