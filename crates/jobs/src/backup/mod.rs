//! Backups: what a disk was when the job began, copied while it goes on changing.
//!
//! ```text
//!  writers ─▶ copy-before-write ─▶ source        the filter is in place as long as the job is there
//!                 │      ▲ pieces: the rest
//!                 └──────┴────────▶ target
//! ```
//!
//! Laws:
//! - the moment is the change of the graph that puts the filter in place: backups of one transaction have the same;
//! - a job's bitmap is split there, and is one again in the change that takes the filter away;
//! - the target is durable before the job waits for its end, or, of a job that only keeps what is overwritten, before its end
//!   is told.
mod check;
mod prepare;
mod work;

pub use prepare::{BackupError, PreparedBackup, backup, check_backup, prepare_backup};

/// Ranges that a backup has in flight.
const PARALLEL: usize = 8;
