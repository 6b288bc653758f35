//! Disk images of Apple: each way of storing a chunk, and images that contradict themselves or ask for too much.

use block::ErrorKind;
use sim::{Config, Disk, Rng, Sim};
use testkit::dmg::{ALL, Entry, Image, Kind, table};
use testkit::stack::{Session, Stack, TestImage};

const DRIVERS: [&[block::DriverType]; 2] = [protocols::DRIVERS, formats::DRIVERS];
const ZLIB: u32 = 0x8000_0005;

/// What `work` finds in an image of these bytes, or why it can't be opened.
fn on<T: Send + 'static, F: Future<Output = T> + Send>(
    bytes: &[u8],
    work: impl FnOnce(Session) -> F + Send + 'static,
) -> block::Result<T> {
    let mut disk = Disk::default();
    disk.put("/image", bytes);
    Sim::boot(Config::seeded(1), disk).run(async move {
        let stack = Stack::of("dmg", &DRIVERS, vec![TestImage::new("dmg", "/image", 0)]);
        let session = stack.open_read_only().await?;
        let answer = work(session.clone()).await;
        session.close().await?;
        Ok(answer)
    })
}

/// Whether it can be opened, and what its disk shows.
fn shown(bytes: &[u8]) -> block::Result<Vec<u8>> {
    on(bytes, |session| async move { session.read(0, session.backend.length()).await })?
}

/// A disk with data, long runs and zeroes; its end is that of a sector.
fn disk(len: usize) -> Vec<u8> {
    let mut rng = Rng::new(len as u64);
    let mut disk = Vec::with_capacity(len);
    while disk.len() < len {
        let run = 1 + rng.below(3000) as usize;
        match rng.below(3) {
            0 => disk.resize(disk.len() + 2 * run, 0),
            1 => disk.resize(disk.len() + run, rng.below(256) as u8),
            _ => disk.extend((0..run).map(|at| ((at * at) >> 3) as u8)),
        }
    }
    disk.truncate(len);
    disk
}

#[test]
fn each_kind_of_chunk_shows_what_went_in_and_so_do_all_together() {
    let disk = disk(300 << 10);
    let alone = ALL.map(|kind| vec![kind]);
    for kinds in alone.iter().chain([&ALL.to_vec()]) {
        for chunk in [512, 4096, 128 << 10] {
            let image = Image::of(&disk, chunk, kinds);
            assert!(shown(&image.with_list()).unwrap() == disk, "{kinds:?} by {chunk}, a property list");
            assert!(shown(&image.with_fork()).unwrap() == disk, "{kinds:?} by {chunk}, a resource fork");
        }
    }
}

#[test]
fn reads_of_any_range_at_the_same_time_show_what_went_in() {
    let disk = disk(1 << 20);
    let bytes = Image::of(&disk, 3 * 4096, &ALL).with_list();
    let read = on(&bytes, move |session| async move {
        let mut rng = Rng::new(7);
        for _ in 0..20 {
            let reads = (0..8).map(|_| {
                let start = rng.below(disk.len() as u64 / 512) * 512;
                let len = (1 + rng.below(400)) * 512;
                (start, len.min(disk.len() as u64 - start))
            });
            let reads = reads.map(|(start, len)| {
                let (session, disk) = (&session, &disk);
                async move {
                    let read = session.read(start, len).await.unwrap();
                    assert!(read == disk[start as usize..][..len as usize], "{len} bytes at {start}");
                }
            });
            futures_util::future::join_all(reads.collect::<Vec<_>>()).await;
        }
    });
    read.unwrap();
}

#[test]
fn zeroes_are_told_as_such_and_compressed_chunks_in_one_piece() {
    let mut disk = vec![0; 64 << 10];
    disk[16 << 10..48 << 10].fill(7);
    let bytes = Image::of(&disk, 4096, &[Kind::Zero, Kind::Zlib, Kind::Zlib, Kind::Zlib]).with_list();
    let told = on(&bytes, |session| async move {
        let (mut at, mut told) = (0, Vec::new());
        while at < session.backend.length() {
            let status = session.backend.status(at, session.backend.length() - at).await.unwrap();
            told.push((status.len >> 10, status.zero, status.encoded));
            at += status.len;
        }
        told
    });
    let (zero, encoded, plain) = ((4, true, false), (12, false, true), (4, false, false));
    assert_eq!(told.unwrap(), [zero, encoded, plain, encoded, plain, encoded, zero, encoded]);
}

#[test]
fn a_trailer_is_found_shortly_before_the_end_too() {
    let disk = disk(8192);
    let image = Image::of(&disk, 4096, &[Kind::Zlib]);
    for filling in [1, 100, 511] {
        let mut bytes = image.with_list();
        bytes.resize(bytes.len() + filling, 0);
        assert!(shown(&bytes).unwrap() == disk);
    }
    let mut bytes = image.with_list();
    bytes.resize(bytes.len() + 512, 0);
    assert_eq!(shown(&bytes).unwrap_err().kind(), ErrorKind::Invalid);
}

/// An image of one table with these chunks over 4096 bytes of data.
fn of(entries: &[Entry], sectors: u64) -> Vec<u8> {
    Image { data: vec![0x55; 4096], tables: vec![table(0, 0, entries)], sectors }.with_list()
}

#[test]
fn what_can_t_be_is_refused_at_the_open_and_the_file_is_named() {
    let good = || Image::of(&disk(8192), 4096, &[Kind::Zlib]);
    let mut cases = vec![
        ("overlapping chunks", of(&[(1, [0, 8, 0, 4096]), (2, [7, 2, 0, 0])], 9)),
        ("an unknown kind", of(&[(0x8000_0009, [0, 8, 0, 4096])], 8)),
        ("a chunk of 64 MiB and a sector", of(&[(ZLIB, [0, 131_073, 0, 4096])], 131_073)),
        ("a chunk that goes round", of(&[(2, [u64::MAX - 1, 2, 0, 0])], 8)),
        ("an offset that goes round", of(&[(1, [0, 8, u64::MAX - 4095, 4096])], 8)),
        ("a disk that goes round", of(&[(1, [0, 8, 0, 4096])], 1 << 60)),
        ("a stream of 1 GiB for a sector", of(&[(ZLIB, [0, 1, 0, 1 << 30])], 1)),
        ("no tables", Image { tables: Vec::new(), ..good() }.with_list()),
        ("no list", good().with_metadata(&[], 216)),
        ("a list of nothing", good().with_metadata(b" ", 216)),
        ("base64 of nothing", {
            let list = String::from_utf8_lossy(&good().with_list()[good().data.len()..]).into_owned();
            let list = list.replace("<data>", "<data>*?!").into_bytes();
            good().with_metadata(&list[..list.len() - 512], 216)
        }),
        ("tags that do not fit together", good().with_metadata(b"<plist><dict></array>", 216)),
        ("elements inside of elements", good().with_metadata(&b"<dict>".repeat(100_000), 216)),
        (
            "elements without end",
            good().with_metadata(&[b"<plist>", &b"<a></a>".repeat(300_000)[..]].concat(), 216),
        ),
        ("a fork of nothing", good().with_metadata(&[0; 100], 40)),
        ("a fork that leads out of it", good().with_metadata(&[0xff; 300], 40)),
        ("no trailer", vec![0; 8192]),
        ("an empty file", Vec::new()),
        ("an encrypted image", [&b"encrcdsa"[..], &[0; 8192]].concat()),
    ];
    let mut counting = table(0, 0, &[(1, [0, 8, 0, 4096])]);
    counting[200..204].copy_from_slice(&u32::MAX.to_be_bytes());
    cases.push(("more chunks than there are", Image { tables: vec![counting], ..good() }.with_list()));
    let mut behind = good().with_list();
    let at = behind.len() - 512;
    behind[at + 224..at + 232].copy_from_slice(&u64::MAX.to_be_bytes());
    cases.push(("a list that ends behind the trailer", behind));
    for (what, bytes) in cases {
        let error = shown(&bytes).unwrap_err();
        let kinds = [ErrorKind::Corrupt, ErrorKind::Invalid];
        assert!(kinds.contains(&error.kind()), "{what}: {error}");
        assert!(error.to_string().contains("/image"), "{what}: {error}");
    }
}

#[test]
fn a_list_of_more_than_16_mib_is_refused_unread() {
    let image = Image { sectors: 8, ..Image::default() };
    let error = shown(&image.with_metadata(&vec![b' '; (16 << 20) + 1], 216)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn damage_fails_where_it_is_read_and_nowhere_else() {
    let disk = vec![9; 4 * 4096];
    for kind in [Kind::Adc, Kind::Zlib, Kind::Bzip2, Kind::Lzfse, Kind::Xz] {
        let mut image = Image::of(&disk, 4096, &[kind]);
        let quarter = image.data.len() / 4;
        // In the middle of the second stream, which has its sum at its end but in two of the encodings.
        image.data[quarter + quarter / 2..2 * quarter].fill(0xff);
        let read = on(&image.with_list(), |session| async move {
            let mut read = Vec::new();
            for chunk in 0..4 {
                read.push(session.read(chunk * 4096, 4096).await.map_err(|error| error.to_string()));
            }
            read
        });
        let read = read.unwrap();
        let good = [0, 2, 3].iter().all(|chunk| read[*chunk].as_ref().is_ok_and(|bytes| *bytes == [9; 4096]));
        assert!(good, "{kind:?}: {read:?}");
        let error = read[1].as_ref().unwrap_err();
        assert!(error.contains("/image") && error.contains("chunk at byte 0x1000"), "{kind:?}: {error}");
    }
}

#[test]
fn what_the_file_or_the_tables_do_not_hold_fails_where_it_is_read() {
    let entries = [(1, [0, 4, 0, 2048]), (1, [4, 8, 1 << 40, 4096]), (ZLIB, [12, 8, 1 << 40, 4096])];
    let read = on(&of(&entries, 40), |session| async move {
        let mut read = Vec::new();
        for sector in [0, 4, 12, 30] {
            read.push(session.read(sector * 512, 512).await.map_err(|error| error.kind()));
        }
        read
    });
    let corrupt = || Err(ErrorKind::Corrupt);
    assert_eq!(read.unwrap(), [Ok(vec![0x55; 512]), corrupt(), corrupt(), corrupt()]);
}

/// A stream that is far shorter than what it holds is decoded to what its chunk has, and no further.
#[test]
fn a_stream_that_holds_more_or_less_than_its_chunk_is_an_error() {
    for kind in [Kind::Adc, Kind::Zlib, Kind::Bzip2, Kind::Lzfse, Kind::Xz] {
        let bomb = kind.stored(&vec![0; 4 << 20]);
        let len = bomb.len() as u64;
        for sectors in [131_072, 8191] {
            let entries = [(kind.number(), [0, sectors, 0, len])];
            // Streams of stored blocks are longer than is taken.
            if kind == Kind::Zlib && sectors == 8191 {
                continue;
            }
            let image = Image { data: bomb.clone(), tables: vec![table(0, 0, &entries)], sectors };
            let read = on(&image.with_list(), |session| async move { session.read(0, 512).await });
            assert_eq!(read.unwrap().unwrap_err().kind(), ErrorKind::Corrupt, "{kind:?} {sectors}");
        }
    }
}
