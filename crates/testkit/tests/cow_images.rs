//! cow images that another program has written, read here; and such as say more than is true.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{ErrorKind, Link};
use sim::{Config, Disk, Sim};
use testkit::cow;
use testkit::stack::{Session, Stack, TestImage};

const SIZE: usize = 40 << 10;
const DRIVERS: [&[block::DriverType]; 2] = [protocols::DRIVERS, formats::DRIVERS];

/// Runs `work` on the opened image with these bytes, over a raw one of sevens; tells what it answers, and the bytes afterwards.
fn on<T: Send + 'static, F: Future<Output = T> + Send>(
    bytes: &[u8],
    work: impl FnOnce(Session) -> F + Send + 'static,
) -> (block::Result<T>, Vec<u8>) {
    let mut disk = Disk::default();
    disk.put("/top", bytes);
    disk.put("/base", &[7; SIZE / 2]);
    let sim = Sim::boot(Config::seeded(1), disk);
    let answer = sim.run(async move {
        let session = Stack::of("cow", &DRIVERS, vec![TestImage::new("cow", "/top", 0)]).open().await?;
        let answer = work(session.clone()).await;
        session.close().await.ok();
        Ok(answer)
    });
    sim.settle();
    (answer, sim.world().disk().content("/top").unwrap().to_vec())
}

#[test]
fn what_another_program_has_written_is_shown_and_gone_on_with() {
    let sectors = [(0, [1; 512]), (9, [2; 512]), (10, [3; 512]), (79, [4; 512])];
    let bytes = cow::write(SIZE, "/base", &sectors);
    let expected = cow::read(&bytes, &[7; SIZE / 2]).unwrap();
    let (shown, after) = on(&bytes, |session| async move {
        let shown = session.read(0, SIZE as u64).await.unwrap();
        session.write(9 * 512 + 100, &[9; 3 * 512], false).await.unwrap();
        shown
    });
    assert!(shown.unwrap() == expected);
    let mut expected = expected;
    expected[9 * 512 + 100..][..3 * 512].fill(9);
    assert!(cow::read(&after, &[7; SIZE / 2]).unwrap() == expected);
    // Only the bits of what was written are new, and the time of the backing file is as it was.
    assert_eq!(
        (after[1056], after[1057], after[1058..1066].to_vec()),
        (1, 0b1_1110, bytes[1058..1066].to_vec())
    );
    assert_eq!(after[1032..1040], bytes[1032..1040]);
}

#[test]
fn the_backing_file_of_an_image_changes_by_one_sector() {
    let bytes = cow::write(SIZE, "/base", &[(3, [1; 512])]);
    for (name, long) in [("/other".to_owned(), false), ("n".repeat(900), true)] {
        let new = name.clone();
        let (changed, after) = on(&bytes, move |session| async move {
            let link = |name: String| Link { filename: Some(name), format: None };
            session.node.driver().set_backing_link(link(new)).await.unwrap();
            session.node.driver().set_backing_link(link("m".repeat(1000))).await.map_err(|e| e.kind())
        });
        // From one long name to another there is no safe way.
        let expected = if long { (Err(ErrorKind::Limit), name) } else { (Ok(()), "m".repeat(1000)) };
        assert_eq!((changed.unwrap(), cow::backing(&after).unwrap()), expected);
    }
}

#[test]
fn a_commit_leaves_an_empty_image() {
    let bytes = cow::write(SIZE, "/base", &[(3, [1; 512]), (70, [2; 512])]);
    let (_, after) = on(&bytes, |session| async move { session.node.driver().make_empty().await.unwrap() });
    let mut below = vec![7; SIZE / 2];
    below.resize(SIZE, 0);
    assert!(cow::read(&after, &below).unwrap() == below);
    assert!(after.len() < 2048);
}

#[test]
fn sectors_behind_the_end_of_the_file_fail_and_the_others_are_read() {
    let bytes = cow::write(SIZE, "/base", &[(3, [1; 512]), (70, [2; 512])]);
    let cut = &bytes[..bytes.len() - 512];
    let (answers, after) = on(cut, |session| async move {
        let good = session.read(3 * 512, 512).await.map(|bytes| bytes[0]);
        let bad = session.read(70 * 512, 512).await.map_err(|e| e.to_string());
        let written = session.write(75 * 512, &[3; 512], false).await.map_err(|e| e.kind());
        (good.ok(), bad.unwrap_err(), written)
    });
    let (good, text, written) = answers.unwrap();
    assert_eq!((good, written), (Some(1), Err(ErrorKind::Corrupt)));
    // A longer file would have zeroes where data are missing.
    assert!(after == cut, "it was written to");
    assert!(text.contains("/top") && text.contains("beyond the end"), "{text}");
}
