//! Small files that claim vast disks: many L1 entries lead to few L2 tables. What is counted is what their owner is told.
use super::*;
use crate::qcow2::header::{COMPRESSED, COPIED, ZERO};
use crate::qcow2::uniform::MOST_AGAIN;
use block::{ErrorKind, Status};

/// An image whose L1 entries lead to the tables with these numbers, or nowhere. Offsets in entries marked with [`DATA`]
/// count from the data area behind the tables on.
fn bomb(path: &Path, cluster_size: u64, tables: &[Vec<u64>], l1: &[Option<usize>], flags: u64) {
    let span = cluster_size / 8 * cluster_size;
    create(path, span * l1.len() as u64, &[("cluster_size", &cluster_size.to_string())]).unwrap();
    let header = header(path).unwrap();
    let mut image = std::fs::read(path).unwrap();
    image.resize(image.len().next_multiple_of(cluster_size as usize), 0);
    let first = image.len() as u64;
    let data = first + cluster_size * tables.len() as u64;
    for (i, entry) in l1.iter().enumerate().filter_map(|(i, table)| table.map(|table| (i, table as u64))) {
        let at = header.l1_offset as usize + i * 8;
        image[at..at + 8].copy_from_slice(&((first + entry * cluster_size) | flags).to_be_bytes());
    }
    let placed = |word: u64| if word & DATA != 0 { (word & !DATA) + data } else { word };
    image.extend(tables.iter().flatten().flat_map(|word| placed(*word).to_be_bytes()));
    image.resize((image.len() + 70 * 512).next_multiple_of(cluster_size as usize), 0x11);
    // Tables and data are counted often, so that nothing is this image's own.
    let block = 2 * cluster_size as usize;
    for cluster in first / cluster_size..image.len() as u64 / cluster_size {
        let at = block + cluster as usize * 2;
        image[at..at + 2].copy_from_slice(&100u16.to_be_bytes());
    }
    std::fs::write(path, image).unwrap();
}

/// Bit of an entry: its offset counts from the data area on.
const DATA: u64 = 1 << 55;

/// What a walk through the whole disk is told, in order.
async fn told(disk: &Disk) -> block::Result<Vec<(u64, Status)>> {
    let (mut all, mut at, end) = (Vec::new(), 0, disk.backend.length());
    while at < end {
        let status = disk.backend.status(at, end - at).await?;
        let len = status.len;
        all.push((at, status));
        at += len;
    }
    Ok(all)
}

async fn open(path: &Path, read_only: bool) -> Disk {
    Disk::try_open(path, Common { read_only, ..Common::default() }).await.unwrap()
}

#[test]
fn a_disk_of_equal_tables_that_are_one_thing_is_told_in_few_extents() {
    let scratch = Scratch::new();
    let path = scratch.path("bomb");
    const TABLES: usize = 8192;
    let cluster = 65536;
    let consecutive = (0..8192).map(|i| DATA | (i * cluster)).collect::<Vec<_>>();
    let reserved = consecutive.iter().map(|word| word | ZERO).collect();
    for (words, most) in [(vec![ZERO; 8192], 64), (vec![0; 8192], 64), (reserved, TABLES + 64)] {
        bomb(&path, cluster, &[words], &[Some(0); TABLES], 0);
        for read_only in [true, false] {
            rt::block_on_control(async {
                let disk = open(&path, read_only).await;
                let told = told(&disk).await.unwrap();
                disk.close().await;
                assert!(told.len() <= most, "{} extents", told.len());
            });
        }
    }
    // Who copies the disk reads all of it.
    for words in [vec![COMPRESSED | DATA; 8192], vec![DATA; 8192], consecutive] {
        bomb(&path, cluster, &[words], &[Some(0); TABLES], 0);
        for read_only in [true, false] {
            rt::block_on_control(async {
                let disk = open(&path, read_only).await;
                let (mut at, end) = (0, disk.backend.length());
                let refused = loop {
                    match disk.backend.status(at, end - at).await {
                        Ok(status) => at += status.len,
                        Err(error) => break error.kind(),
                    }
                };
                disk.close().await;
                assert_eq!(refused, ErrorKind::Limit);
                assert!(at <= 8 << 30, "{at} bytes are told");
            });
        }
    }
}

#[test]
fn a_disk_of_the_same_tables_of_several_things_is_told_up_to_a_bound() {
    let scratch = Scratch::new();
    let path = scratch.path("bomb");
    let entries = 512;
    let half = [vec![0; entries / 2], vec![ZERO; entries / 2]].concat();
    let within = MOST_AGAIN as usize / entries;
    for (tables, flags) in [(within, 0), (4 * within, 0), (4 * within, COPIED)] {
        bomb(&path, 4096, std::slice::from_ref(&half), &vec![Some(0); tables], flags);
        rt::block_on_control(async {
            let disk = open(&path, true).await;
            let told = told(&disk).await.map_err(|e| e.kind());
            assert_eq!(told.err(), (tables > within).then_some(ErrorKind::Limit), "{tables} tables");
            assert!(disk.read(disk.backend.length() - 512, 512).await.iter().all(|byte| *byte == 0));
            disk.close().await;
        });
    }
}

#[test]
fn who_walks_through_such_a_disk_in_several_places_is_told_no_more() {
    let scratch = Scratch::new();
    let path = scratch.path("bomb");
    const TABLES: usize = 8192;
    let half = [vec![0; 256], vec![ZERO; 256]].concat();
    bomb(&path, 4096, &[half], &[Some(0); TABLES], 0);
    rt::block_on_control(async {
        let disk = open(&path, true).await;
        let (span, mut told) = (disk.backend.length() / TABLES as u64, 0);
        // Each walks through its half, one table after the other.
        let refused = 'walk: loop {
            for start in [TABLES as u64 / 2, 0] {
                let mut at = (start + told) * span;
                let end = at + span;
                while at < end {
                    match disk.backend.status(at, end - at).await {
                        Ok(status) => at += status.len,
                        Err(error) => break 'walk error.kind(),
                    }
                }
            }
            told += 1;
        };
        disk.close().await;
        assert_eq!(refused, ErrorKind::Limit);
        assert!(2 * told <= MOST_AGAIN / 512 + 2, "{told} tables");
    });
}

#[test]
fn shared_tables_are_told_as_their_entries_are() {
    const ENTRIES: u64 = 64;
    let (scratch, path) = (Scratch::new(), "bomb");
    let path = scratch.path(path);
    let data = |i: u64| DATA | (i * 512);
    let tables: Vec<Vec<u64>> = vec![
        (0..ENTRIES).map(data).collect(),
        (0..ENTRIES).map(|i| data(i) | ZERO).collect(),
        vec![COMPRESSED | DATA; ENTRIES as usize],
        vec![ZERO; ENTRIES as usize],
        vec![0; ENTRIES as usize],
        (0..ENTRIES).map(|i| if i == 63 { ZERO } else { data(i) }).collect(),
        (0..ENTRIES).map(|i| [0, ZERO, data(i), COMPRESSED | DATA][i as usize % 4]).collect(),
    ];
    let order = [0, 0, 1, 2, 2, 2, 6, 3, 3, 4, 4, 0, 5, 6, 6, 2, 3, 7, 1, 1, 0].map(|i| (i < 7).then_some(i));
    bomb(&path, 512, &tables, &order, 0);
    let area = std::fs::metadata(&path).unwrap().len() - 70 * 512;
    for read_only in [true, false] {
        rt::block_on_control(async {
            let disk = open(&path, read_only).await;
            let all = told(&disk).await.unwrap();
            disk.close().await;
            let mut extents = all.iter().peekable();
            for cluster in 0..ENTRIES * order.len() as u64 {
                let at = cluster * 512;
                while extents.next_if(|(start, status)| start + status.len <= at).is_some() {}
                let (start, status) = extents.peek().unwrap();
                let word = order[(cluster / ENTRIES) as usize]
                    .map_or(0, |t| tables[t][(cluster % ENTRIES) as usize]);
                let host =
                    (word & COMPRESSED == 0 && word & DATA != 0).then(|| area + (word & !DATA & !ZERO));
                let seen = status.host.as_ref().map(|(_, offset)| offset + at - start);
                let kind = (status.zero, status.allocated, status.encoded);
                let zero = word & (COMPRESSED | DATA) == 0 || word & (COMPRESSED | ZERO) == ZERO;
                assert_eq!(
                    (kind, seen),
                    ((zero, word != 0, word & COMPRESSED != 0), host),
                    "cluster {cluster}"
                );
            }
        });
    }
}

#[test]
fn a_write_through_one_name_of_a_shared_table_is_told_there_and_nowhere_else() {
    let scratch = Scratch::new();
    let path = scratch.path("bomb");
    bomb(&path, 512, &[vec![ZERO; 64]], &[Some(0); 40], 0);
    rt::block_on_control(async {
        let disk = open(&path, false).await;
        assert_eq!(told(&disk).await.unwrap().len(), 1);
        let table = 64 * 512;
        for (written, index) in [3, 4, 39, 0].into_iter().enumerate() {
            disk.write(index * table + 512, &[7; 512]).await;
            disk.backend.flush().await.unwrap();
            let told = told(&disk).await.unwrap();
            let data = told.iter().filter(|(_, status)| status.data).collect::<Vec<_>>();
            assert_eq!(data.len(), written + 1);
            assert!(data.iter().any(|(at, status)| *at == index * table + 512 && status.len == 512));
        }
        disk.close().await;
    });
}

#[test]
fn nothing_is_changed_that_would_go_through_one_table_over_and_over() {
    let scratch = Scratch::new();
    let path = scratch.path("bomb");
    bomb(&path, 512, &[vec![DATA; 64], vec![ZERO; 64]], &[Some(0), Some(1), Some(0)], 0);
    let before = std::fs::read(&path).unwrap();
    rt::block_on_control(async {
        let disk = open(&path, false).await;
        let (graph, node) = (&disk.graph, disk.backend.node());
        let new = block::NewSnapshot { name: "s".to_owned(), ..Default::default() };
        let refused = [
            graph.create_snapshot(&node, new, |_| Ok(())).await.map(drop),
            graph.resize(&node, 1 << 20, api::PreallocMode::Off).await,
            graph.resize(&node, 512, api::PreallocMode::Off).await,
        ];
        assert_eq!(refused.map(|result| result.unwrap_err().kind()), [ErrorKind::Corrupt; 3]);
        disk.close().await;
        assert!(std::fs::read(&path).unwrap() == before);

        // What empties an image looks at no table.
        let disk = open(&path, false).await;
        disk.backend.node().driver().make_empty().await.unwrap();
        disk.close().await;
    });
    super::bitmaps::is_clean(&path);
}
