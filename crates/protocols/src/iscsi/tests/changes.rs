//! What a unit says of itself and of commands: refusals of each kind, and units that can't be used.
use super::*;

/// One command's answer, then as usual.
fn refusing(code: u8, refusals: &[target::Refusal]) -> Rules {
    let refusals = refusals.iter().map(|refusal| (code, *refusal)).collect();
    Rules { refusals, ..Rules::default() }
}

async fn refused_read(status: u8, sense: [u8; 3]) -> BlockError {
    let (_, driver) = at(refusing(0x88, &[(status, sense)])).await;
    let error = read(&driver, 512, 512).await.unwrap_err();
    // The unit lives on.
    read(&driver, 512, 512).await.unwrap();
    error
}

#[test]
fn what_passes_is_waited_for() {
    run(async || {
        let busy = (0x08, [0; 3]);
        let full = (0x28, [0; 3]);
        let attention = |code, qualifier| (2, [6, code, qualifier]);
        let passing = [
            busy,
            full,
            attention(0x2a, 9),
            attention(0x3f, 0x0e),
            (2, [2, 4, 1]),
            (2, [0xb, 0x47, 0]),
            attention(0x38, 7),
        ];
        let (disk, driver) = at(refusing(0x88, &passing)).await;
        read(&driver, 0, 512).await.unwrap();
        assert_eq!(disk.count(0x88), passing.len() + 1);
        // A new session is told of the reset that it began with, and a unit may take its time.
        let (_, driver) = at(refusing(0x00, &[attention(0x29, 0), (2, [2, 4, 1])])).await;
        read(&driver, 0, 512).await.unwrap();
    });
}

#[test]
fn what_does_not_pass_is_told_as_what_it_is() {
    run(async || {
        for (status, sense, kind, words) in [
            (0x18, [0; 3], ErrorKind::Busy, "another initiator has reserved the unit"),
            (2, [3, 0x11, 0], ErrorKind::Io, "a block could not be read (medium error, 11/00)"),
            (2, [4, 0x44, 0], ErrorKind::Io, "the target failed inside"),
            (2, [5, 0x21, 0], ErrorKind::Io, "there is no such block"),
            (2, [5, 0x25, 0], ErrorKind::NotFound, "there is no such unit"),
            (2, [7, 0x27, 0], ErrorKind::ReadOnly, "the unit is write-protected"),
            (0x30, [0; 3], ErrorKind::Io, "with the status 0x30"),
        ] {
            let error = refused_read(status, sense).await;
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains("read") && error.offset() == Some(512), "{error}");
        }
        let (_, driver) = at(refusing(0x8a, &[(2, [7, 0x27, 7])])).await;
        let error = write(&driver, 0, &[1; 512]).await.unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::NoSpace, 28));
        let error = write(&driver, driver.length(), &[1; 512]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
    });
}

#[test]
fn a_command_that_is_broken_off_again_and_again_fails() {
    run(async || {
        let (disk, driver) = at(refusing(0x88, &[(2, [0xb, 0x47, 0]); 9])).await;
        let error = read(&driver, 0, 512).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(disk.count(0x88) < 9);
        let (_, driver) = at(refusing(0x88, &[(2, [6, 0x2a, 1]); 40])).await;
        assert!(read(&driver, 0, 512).await.is_err(), "attentions without end end");
    });
}

#[test]
fn what_a_unit_does_not_know_is_done_without() {
    run(async || {
        let unknown = (2, [5, 0x20, 0]);
        let (disk, driver) = at(refusing(0x93, &[unknown])).await;
        for _ in 0..2 {
            let refused = driver.write_zeroes(0, 512, Request::GUEST).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
        }
        assert_eq!(disk.count(0x93), 1, "it is not asked again");
        let (disk, driver) = at(refusing(0x42, &[unknown])).await;
        driver.discard(0, 512, Request::GUEST).await.unwrap();
        driver.discard(0, 512, Request::GUEST).await.unwrap();
        assert_eq!(disk.count(0x42), 1);
        // Neither a word about a cache nor a command to empty it: there is none.
        let refusals = [0x1a, 0x91].map(|code| (code, unknown)).to_vec();
        let (_, driver) = at(Rules { refusals, ..Rules::default() }).await;
        write(&driver, 0, &[1; 512]).await.unwrap();
        driver.flush().await.unwrap();
        // Nothing about the unit but its size.
        let refusals = [0x1a, 0xa3].map(|code| (code, unknown)).to_vec();
        let (_, driver) = at(Rules { refusals, ..Rules::default() }).await;
        assert!(!driver.facts().fua && !driver.read_only());
        let (_, driver) = at(refusing(0x9e, &[])).await;
        assert_eq!(driver.facts().alignment, 512);
    });
}

#[test]
fn a_capacity_that_is_a_lie_is_refused_or_met_by_an_error() {
    run(async || {
        for capacity in [(0, 512), (1 << 62, 512), (u64::MAX, 4096), (8, 0), (8, 513), (8, 1 << 20), (8, 256)]
        {
            let (listener, port) = bound().await;
            rt::spawn(Disk::new(Rules { capacity, ..Rules::default() }).serve(listener)).detach();
            let error = connect(port, patient()).await.err().unwrap();
            assert!(error.to_string().contains("iscsi://127.0.0.1"), "{capacity:?}: {error}");
        }
        let error = refused_read(2, [5, 0x21, 0]).await;
        assert!(error.to_string().contains("no such block"), "{error}");
    });
}

#[test]
fn a_protected_unit_can_not_become_writable() {
    run(async || {
        let (_, driver) = at(Rules { protected: true, ..Rules::default() }).await;
        assert!(driver.read_only());
        assert_eq!(driver.set_writable(true).await.err().unwrap().kind(), ErrorKind::ReadOnly);
        driver.set_writable(false).await.map(drop).unwrap();
    });
}

#[test]
fn a_flush_of_a_cache_that_can_not_be_emptied_fails() {
    run(async || {
        // It is found out when it is tried, or the unit says so before.
        let tried = refusing(0x91, &[(2, [5, 0x20, 0])]);
        let told = Rules { flushes: false, ..Rules::default() };
        for (rules, known) in [(tried, false), (told, true)] {
            let (_, driver) = at(rules).await;
            assert_eq!(driver.link.unit.can_not_flush(), known);
            write(&driver, 0, &[1; 512]).await.unwrap();
            let error = driver.flush().await.unwrap_err();
            assert!(error.to_string().contains("no command that empties it"), "{error}");
            assert_eq!(read(&driver, 0, 512).await.unwrap(), [1; 512]);
        }
        let (_, driver) = at(Rules { flushes: false, cached: false, ..Rules::default() }).await;
        driver.flush().await.unwrap();
    });
}
