//! An independent reader of dynamic VHD images, and a maker of ones with small blocks, so that tables are dense. Nothing here is
//! shared with the driver.
use api::codec::{Members, Object};
use api::{DecodeError, Dict};
use block::{Create, CreateRequest, DriverType, Request};
use rt::{BoxFuture, Buf};
use sim::Disk;

use crate::files;
use crate::stack::Stack;

const SECTOR: usize = 512;
const TABLE: usize = 3 * SECTOR;
const UNUSED: u32 = u32::MAX;

/// The driver of these images, one of `formats`, called `small-vpc`: the option `block` is bytes of a block.
///
/// # Panics
/// Where there is no driver for VHD images.
pub fn drivers(formats: &[DriverType]) -> &'static [DriverType] {
    let Some(vpc) = formats.iter().find(|driver| driver.name == "vpc") else { panic!("no driver 'vpc'") };
    let small = DriverType { name: "small-vpc", open: vpc.open, create: Some(&CREATE), ..DriverType::FORMAT };
    Box::leak(Box::new([small]))
}

struct Small {
    block: String,
}

impl Object for Small {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { block: from.required("block")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("block", &self.block);
    }
}

const CREATE: Create<Small> = Create { adapt: None, judge: |_, _| Ok(()), create, measure: None };

fn create(request: CreateRequest<'_, Small>) -> BoxFuture<'_, block::Result<()>> {
    Box::pin(async move {
        let block = request.options.block.parse().unwrap_or(4096);
        let bytes = image(request.size, block);
        request.file.write(0, Buf::from_slice(&bytes), Request::DRIVER).await?;
        request.file.flush().await
    })
}

/// An empty dynamic image with blocks of `block` bytes.
pub fn image(size: u64, block: u32) -> Vec<u8> {
    let entries = size.div_ceil(block.into()) as usize;
    let table = (entries * 4).next_multiple_of(SECTOR);
    let mut footer = [0; SECTOR];
    let mut header = [0; 2 * SECTOR];
    let put = |bytes: &mut [u8], at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
    put(&mut footer, 0, b"conectix\0\0\0\x02\0\x01\0\0");
    put(&mut footer, 16, &512u64.to_be_bytes());
    put(&mut footer, 28, b"win ");
    put(&mut footer, 40, &size.to_be_bytes());
    put(&mut footer, 48, &size.to_be_bytes());
    put(&mut footer, 60, &3u32.to_be_bytes());
    put(&mut header, 0, b"cxsparse");
    put(&mut header, 8, &[0xff; 8]);
    put(&mut header, 16, &(TABLE as u64).to_be_bytes());
    put(&mut header, 24, &[0, 1, 0, 0]);
    put(&mut header, 28, &(entries as u32).to_be_bytes());
    put(&mut header, 32, &block.to_be_bytes());
    let sum = sum(&footer);
    put(&mut footer, 64, &sum.to_be_bytes());
    let sum = self::sum(&header);
    put(&mut header, 36, &sum.to_be_bytes());
    [&footer[..], &header, &vec![0xff; table], &footer].concat()
}

fn sum(bytes: &[u8]) -> u32 {
    !bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>()
}

fn word(bytes: &[u8], at: usize) -> Result<u32, String> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_be_bytes).ok_or_else(|| format!("the file ends before {at:#x}"))
}

/// A structure whose checksum, at `at`, is right.
fn whole(bytes: &[u8], range: std::ops::Range<usize>, at: usize) -> Result<Vec<u8>, String> {
    let mut whole = bytes.get(range.clone()).ok_or_else(|| format!("the file ends in {range:?}"))?.to_vec();
    let stored = word(&whole, at)?;
    whole[at..at + 4].fill(0);
    if sum(&whole) == stored { Ok(whole) } else { Err(format!("the checksum of {range:?} is wrong")) }
}

/// What a dynamic image shows, and all that is promised of its file.
pub fn inspect(stack: &Stack, disk: &Disk, settled: bool) -> Result<Vec<u8>, String> {
    let file = files::top(stack, disk)?;
    let footer = whole(&file, 0..SECTOR, 64)?;
    let header = whole(&file, SECTOR..TABLE, 36)?;
    if settled && file[file.len() - SECTOR..] != file[..SECTOR] {
        return Err("the file does not end with the footer".to_owned());
    }
    let size = u64::from(word(&footer, 48)?) << 32 | u64::from(word(&footer, 52)?);
    let (entries, block) = (word(&header, 28)? as usize, word(&header, 32)? as usize);
    let bitmap = (block / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
    let metadata = TABLE + entries * 4;
    let mut shown = vec![0; (size as usize).next_multiple_of(block)];
    let mut places = Vec::new();
    for (number, to) in shown.chunks_mut(block).enumerate() {
        let entry = word(&file, TABLE + number * 4)?;
        if entry == UNUSED {
            continue;
        }
        let at = entry as usize * SECTOR;
        let there = file.get(at..at + bitmap + block).filter(|_| at >= metadata);
        let there = there.ok_or_else(|| format!("entry {number}: there is no block at {at:#x}"))?;
        places.push((at, number));
        let (bits, data) = there.split_at(bitmap);
        for (sector, (to, from)) in to.chunks_mut(SECTOR).zip(data.chunks(SECTOR)).enumerate() {
            if bits[sector / 8] >> (7 - sector % 8) & 1 == 1 {
                to.copy_from_slice(from);
            }
        }
    }
    places.sort_unstable();
    if let Some(pair) = places.windows(2).find(|pair| pair[0].0 + bitmap + block > pair[1].0) {
        return Err(format!("the blocks of entries {} and {} overlap", pair[0].1, pair[1].1));
    }
    shown.truncate(size as usize);
    Ok(shown)
}

/// Makes half of the sectors of every block ones that are not there, as far as they are zeroes: what Virtual PC leaves.
pub fn forget_zero_sectors(stack: &Stack, disk: &mut Disk) -> Result<(), String> {
    let mut file = files::top(stack, disk)?;
    let header = whole(&file, SECTOR..TABLE, 36)?;
    let (entries, block) = (word(&header, 28)? as usize, word(&header, 32)? as usize);
    let bitmap = (block / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
    for number in 0..entries {
        let entry = word(&file, TABLE + number * 4)?;
        if entry == UNUSED {
            continue;
        }
        let at = entry as usize * SECTOR;
        for sector in 0..block / SECTOR {
            let place = at + bitmap + sector * SECTOR;
            let data = file.get_mut(place..place + SECTOR).ok_or("the file ends in a block")?;
            if data.iter().all(|byte| *byte == 0) {
                // What such a sector has in the file is nobody's.
                data.fill(0xbd);
                file[at + sector / 8] &= !(0x80 >> (sector % 8));
            }
        }
    }
    disk.put(files::top_name(stack)?, &file);
    Ok(())
}
