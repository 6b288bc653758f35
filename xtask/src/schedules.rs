//! Simulated schedules: jobs beside each other, guests, exports, changes of the graph and crashes, chosen by seed.

use std::path::Path;
use std::process::Command;

/// How long they are played where no number is given.
const SECONDS: u64 = 120;

/// A suite.
struct Suite {
    /// The file of its tests in `testkit`.
    test: &'static str,
    /// What its settings in the environment begin with.
    name: &'static str,
    /// How often it reads them.
    runs: u64,
    /// Its part of all, in sixteenths.
    part: u64,
}

const SUITES: &[Suite] = &[
    Suite { test: "interleavings", name: "INTERLEAVINGS", runs: 1, part: 8 },
    Suite { test: "job_state", name: "JOB_STATE", runs: 1, part: 2 },
    Suite { test: "mirror_crash", name: "MIRROR_CRASH", runs: 7, part: 2 },
    Suite { test: "backup_crash", name: "BACKUP_CRASH", runs: 1, part: 2 },
    Suite { test: "stream_crash", name: "STREAM_CRASH", runs: 1, part: 1 },
    Suite { test: "commit_crash", name: "COMMIT_CRASH", runs: 1, part: 1 },
];

/// Plays so many schedules, or some for [`SECONDS`].
pub fn play(root: &Path, count: Option<&str>) -> Result<(), String> {
    let count = count.map(|text| text.parse::<u64>().map_err(|e| format!("'{text}': {e}"))).transpose()?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["test", "-p", "testkit"]);
    for Suite { test, name, runs, part } in SUITES {
        let share = |of: u64| (of * part / 16 / runs).max(1).to_string();
        cargo.args(["--test", test]);
        match count {
            Some(count) => cargo.env(format!("{name}_COUNT"), share(count)),
            None => cargo
                .env(format!("{name}_COUNT"), u64::MAX.to_string())
                .env(format!("{name}_SECONDS"), share(SECONDS)),
        };
    }
    cargo.args(["--", "--nocapture"]);
    match cargo.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("a schedule fails; its seed is above".to_owned()),
        Err(e) => Err(format!("cargo: {e}")),
    }
}
