//! Conformance suites and oracles that every driver and stack runs, under the simulated machine.
//!
//! ```text
//!  Stack: how images are made and opened ──▶ conformance: laws of one guest, errors at every k-th operation
//!                                       └──▶ crash: Guest ── Model (the oracle) ── independent readers (qcow2, raw)
//! ```
//!
//! The reported outcome of an operation and its effect are compared, with a failure at each of its requests ([`steps`]).
//!
//! A stack gives the suites a [`block::Backend`], nothing more. Every sector a test writes is stamped with its number and
//! its write ([`stamp`]), so that it is known of whatever is found on a disk which write left it.
#![forbid(unsafe_code)]
#![expect(clippy::panic, reason = "what a suite finds wrong is a failed test")]

pub mod chains;
pub mod chance;
pub mod conformance;
pub mod cow;
pub mod crash;
pub mod dmg;
pub mod files;
pub mod guest;
pub mod long;
pub mod model;
pub mod parallels;
pub mod qcow;
pub mod qcow2;
pub mod qed;
pub mod read_only;
pub mod scope;
pub mod snapshots;
pub mod stack;
pub mod stamp;
pub mod steps;
pub mod vdi;
pub mod vhdx;
pub mod vmdk;
pub mod vpc;
