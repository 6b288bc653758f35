//! Failures at a step of a change: the error of a full disk, or the end of the program.
use block::{BlockError, ErrorKind, Result};
use parking_lot::Mutex;

/// The folder's name, the steps before the failure, whether the program ends there, and whether it was reached.
static FAULTS: Mutex<Vec<(String, usize, bool, bool)>> = Mutex::new(Vec::new());

pub fn set(folder: &str, steps: usize, kill: bool) {
    FAULTS.lock().push((folder.to_owned(), steps, kill, false));
}

/// Whether it was reached.
pub fn clear(folder: &str) -> bool {
    let mut faults = FAULTS.lock();
    let reached = faults.iter().any(|(name, .., reached)| name == folder && *reached);
    faults.retain(|(name, ..)| name != folder);
    reached
}

pub fn is_kill(folder: &str) -> bool {
    FAULTS.lock().iter().any(|(name, _, kill, _)| name == folder && *kill)
}

pub fn step(folder: &str) -> Result<()> {
    match FAULTS.lock().iter_mut().find(|(name, ..)| name == folder) {
        Some((_, 0, _, reached)) => {
            *reached = true;
            Err(BlockError::new(ErrorKind::NoSpace, "no more steps"))
        }
        Some((_, steps, ..)) => {
            *steps -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}
