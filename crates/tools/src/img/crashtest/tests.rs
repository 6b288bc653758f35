//! The tool must be able to fail: a format with planted bugs is found out, and each failure comes back when it is asked for.

#[path = "../../../../testkit/tests/toy/mod.rs"]
mod toy;

use super::*;
use block::Registry;
use toy::Bug;

/// Bytes of the toy's disk.
const SIZE: u64 = 16 << 10;

fn graph(_: &Given) -> Graph {
    Graph::new(
        Registry::new(&[toy::DRIVERS, formats::DRIVERS, protocols::DRIVERS]),
        monitor::options::from_json,
    )
}

/// Requests at once on clusters of 1024 bytes, some of them over others.
const SCRIPT: &str = "
aio_write -P 1 0 1024
aio_write -P 2 1024 2048
aio_write -P 3 512 1024
aio_flush
aio_write -P 4 4096 512
aio_write -P 5 4608 512
aio_write -P 6 5120 512
aio_write -P 7 5632 512
aio_flush
aio_discard 0 1024
aio_write -P 8 8192 1024
aio_write -P 9 4608 512
aio_write -P 10 9216 1024
aio_flush
write -z 1024 1024
write -P 11 10240 1024
flush
write -P 12 300 100
";

/// The first failure of a driver with this bug; none, if the image survives.
fn verdict(bug: Bug, point: Option<Point>) -> Option<Broken> {
    let folder = std::env::temp_dir().join(format!("cairn-{:016x}", rt::random_u64()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("toy");
    let mut bytes = vec![0; 512 + 16 * 8];
    bytes[..8].copy_from_slice(&SIZE.to_le_bytes());
    std::fs::write(&file, &bytes).unwrap();
    let name = format!("driver=toy,bug={},file.driver=file,file.filename={}", bug.name(), file.display());
    let args = Args {
        source: Source::named(&name).image_opts(true).writable(),
        points: 4000,
        runs: 10,
        graph,
        point,
        ..Args::new()
    };
    let work = Work::new(0);
    let plan = plan(&args, &Script::read(SCRIPT).unwrap(), SIZE);
    plan.iter().for_each(|plan| work.run(plan));
    let failed = work.failed.into_inner();
    assert!(plan.is_ok() || failed.is_none());
    assert!(std::fs::read(&file).unwrap() == bytes, "the image was written to");
    std::fs::remove_dir_all(&folder).unwrap();
    failed.map(|(_, broken)| broken)
}

#[test]
fn a_correct_driver_survives() {
    assert_eq!(verdict(Bug::None, None).map(|broken| broken.wrong), None);
}

#[test]
fn a_driver_with_a_bug_does_not_and_its_failure_can_be_repeated() {
    for bug in [Bug::MapsBeforeData, Bug::FlushesNothing, Bug::ForgetsTables, Bug::ReusesEarly] {
        let found = verdict(bug, None).unwrap_or_else(|| panic!("{} is not found", bug.name()));
        let again = verdict(bug, Some(found.point)).unwrap_or_else(|| panic!("{}", found.point));
        assert_eq!((again.point, &again.wrong), (found.point, &found.wrong));
        assert!(
            found.wrong.what.contains("line ") || found.wrong.what.contains("bytes"),
            "{:?}",
            found.wrong
        );
    }
}
