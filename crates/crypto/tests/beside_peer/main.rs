//! Volumes of QEMU's tools and of cryptsetup opened by ours, and ours by theirs. Where a peer is not installed its tests
//! say so and pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod luks1;
mod luks2;
mod secrets;
