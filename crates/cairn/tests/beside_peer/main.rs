//! Our programs beside those whose place they take. Where the peer is not installed, a test prints that and passes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a failure of its own world is a failure"
)]

mod backup;
mod bitmaps;
mod blkdebug;
mod compressed;
mod copy_on_read;
mod cryptsetup;
mod differential;
mod differential_io_nbd;
mod encryption;
mod graph;
mod lengths;
mod libvirt;
mod locks;
mod machine;
mod migration;
mod nbd_pairings;
mod notices;
mod pair;
mod parallels;
mod qcow;
mod qcow2_features;
mod qed;
mod read_only;
mod sizes;
mod snapshots;
mod throttle;
mod vdi;
mod vhdx;
mod vmdk;
mod vpc;
