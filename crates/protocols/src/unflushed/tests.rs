//! Room for changes, and who waits for it.
use super::*;
use futures_util::FutureExt;
use std::pin::pin;

#[test]
fn changes_that_meet_are_never_made_side_by_side_and_none_is_left_out() {
    let meet = |one: &(u32, u32), other: &(u32, u32)| one.0 < other.1 && other.0 < one.1;
    let changes: Vec<_> = (0..200u32).map(|n| (n * 37 % 50, n * 37 % 50 + 1 + n % 7)).collect();
    let groups: Vec<_> = side_by_side(&changes, meet).collect();
    assert_eq!(groups.concat(), changes);
    for group in groups {
        assert!((1..=SIDE_BY_SIDE).contains(&group.len()));
        for (at, change) in group.iter().enumerate() {
            assert!(group.iter().skip(at + 1).all(|other| !meet(change, other)));
        }
    }
    assert_eq!(side_by_side(&[(); 0], |(), ()| true).count(), 0);
}

fn taken(unflushed: &Unflushed) -> usize {
    unflushed.changes.lock().bytes
}

/// Of one who finds no room: no flush is to be made.
async fn nobody_flushes(_: usize) -> Result<()> {
    panic!("a flush can't help")
}

#[test]
fn those_that_come_at_once_never_take_more_than_there_is() {
    let unflushed = Unflushed::<()>::default();
    let large = MOST / 2;
    let one = unflushed.room(large, nobody_flushes).now_or_never().unwrap().unwrap();
    let small = unflushed.room(large - 2 * NOTE, nobody_flushes).now_or_never().unwrap().unwrap();
    assert_eq!(taken(&unflushed), MOST);
    let mut second = pin!(unflushed.room(large, nobody_flushes));
    assert!(second.as_mut().now_or_never().is_none(), "there is no room for two and their notes");
    // Room that nobody used, and a change that failed, make room.
    drop(small);
    let noted = one.note(Change::Zeroes(0, 1, false)).now_or_never().unwrap();
    assert!(second.as_mut().now_or_never().is_none());
    drop(noted);
    let second = second.now_or_never().unwrap().unwrap();
    second.note(Change::Zeroes(0, 1, false)).now_or_never().unwrap().answered(());
    let flush = async || {
        unflushed.forget(&unflushed.answered());
        Ok(())
    };
    let make = |bytes| unflushed.make_room(bytes, flush());
    let huge = unflushed.room(2 * MOST, make).now_or_never().unwrap().unwrap();
    assert_eq!(taken(&unflushed), 2 * MOST + NOTE, "one that is larger is alone");
    assert!(unflushed.room(1, nobody_flushes).now_or_never().is_none());
    drop(huge);
    assert_eq!(taken(&unflushed), 0);
}

#[test]
fn who_needs_much_is_not_passed_by_those_that_need_little() {
    let unflushed = Unflushed::<()>::default();
    let begin = || unflushed.room(MOST / 4, nobody_flushes).now_or_never();
    let mut small: Vec<_> = (0..3).map(|_| begin().unwrap().unwrap()).collect();
    let mut large = Box::pin(unflushed.room(MOST / 2, nobody_flushes));
    assert!(large.as_mut().now_or_never().is_none());
    let mut behind = Box::pin(unflushed.room(0, nobody_flushes));
    assert!(behind.as_mut().now_or_never().is_none() && begin().is_none(), "there is room, not for them");
    small.truncate(1);
    assert!(behind.as_mut().now_or_never().is_none(), "it is another one's turn");
    let large = large.now_or_never().unwrap().unwrap();
    let behind = behind.now_or_never().unwrap().unwrap();
    // One that leaves before its turn holds up nobody.
    let mut leaves = Box::pin(unflushed.room(MOST, nobody_flushes));
    assert!(leaves.as_mut().now_or_never().is_none() && begin().is_none());
    drop(leaves);
    assert_eq!(taken(&unflushed), MOST / 4 + MOST / 2 + 3 * NOTE);
    drop((small, large, behind));
    assert!(begin().is_some());
}

#[test]
fn a_flush_that_made_room_and_failed_is_told_to_whoever_flushes_next() {
    let unflushed = Unflushed::<()>::default();
    let room = unflushed.room(MOST, nobody_flushes).now_or_never().unwrap().unwrap();
    room.note(Change::Zeroes(0, 1, false)).now_or_never().unwrap().answered(());
    let fails = |bytes| unflushed.make_room(bytes, async { Err(BlockError::invalid("no")) });
    assert!(unflushed.room(1, fails).now_or_never().unwrap().is_err());
    let flushed = unflushed.flush(|| true, async { Ok(()) }).now_or_never().unwrap();
    assert!(flushed.is_err());
}
