//! Images that nobody vouches for: what they make the program open, with `--untrusted` and without, and what `img inspect` says
//! of them.
//!
//! Files that are opened are told by `strace`; where there is none, a test prints that, and looks at what came out only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a failure of its own world is a failure"
)]

mod bad_input;
mod confinement;
mod craft;
mod faults;
mod inspection;
mod world;
