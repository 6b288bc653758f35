//! Every parser that takes bytes from outside, as a fuzzer drives it: a function a parser, which fails where a law is broken.
//!
//! ```text
//! fuzz/fuzz_targets/NAME.rs ─▶ TARGETS[NAME].run(bytes)      libFuzzer, as long as one likes: fuzz/README.md
//! the tests of this crate   ─▶ the same, on seeds and their mutations, on each run of the tests
//! ```
//!
//! Laws of all targets: no panic; work and memory bounded, whatever the bytes say of themselves. The simulated machine ends a
//! run that takes too many steps, the fuzzer one that takes too long or too much memory. Each target's own laws stand at its
//! function.
#![forbid(unsafe_code)]

mod bytes;
pub mod compressed;
pub mod edits;
pub mod fat;
mod hostile;
pub mod images;
pub mod inspect;
mod io;
pub mod iscsi;
pub mod luks;
pub mod mutate;
pub mod nbd;
pub mod nfs;
pub mod options;
pub mod overlays;
pub mod qcow2;
pub mod qmp;
pub mod raw;
pub mod ssh;
pub mod vhd;
pub mod vmdk;
pub mod web;

/// One target.
pub struct Target {
    /// Its name: that of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Drives the parser with an input.
    ///
    /// # Panics
    /// Where a law is broken.
    pub run: fn(&[u8]),
}

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    Target { name: "bochs_image", seeds: images::bochs_seeds, run: images::bochs },
    Target { name: "cloop_image", seeds: images::cloop_seeds, run: images::cloop },
    Target { name: "compressed_cluster", seeds: compressed::seeds, run: compressed::cluster },
    Target { name: "cow_image", seeds: overlays::cow_seeds, run: overlays::cow },
    Target { name: "dmg_image", seeds: images::dmg_seeds, run: images::dmg },
    Target { name: "fat_volume", seeds: fat::seeds, run: fat::volume },
    Target { name: "ftp_replies", seeds: web::ftp_seeds, run: web::ftp_replies },
    Target { name: "http_answer", seeds: web::http_answer_seeds, run: web::http_answer },
    Target { name: "http_names", seeds: web::http_name_seeds, run: web::http_names },
    Target { name: "inspection", seeds: inspect::seeds, run: inspect::file },
    Target { name: "io_commands", seeds: io::seeds, run: io::commands },
    Target { name: "iscsi_target", seeds: iscsi::target_seeds, run: iscsi::target },
    Target { name: "iscsi_unit", seeds: iscsi::unit_seeds, run: iscsi::unit },
    Target { name: "luks1_header", seeds: luks::luks1_seeds, run: luks::luks1_header },
    Target { name: "luks2_header", seeds: luks::luks2_seeds, run: luks::luks2_header },
    Target { name: "nbd_client", seeds: nbd::client_seeds, run: nbd::client },
    Target { name: "nbd_location", seeds: nbd::location_seeds, run: nbd::location },
    Target { name: "nbd_server", seeds: nbd::server_seeds, run: nbd::server },
    Target { name: "nfs_location", seeds: nfs::location_seeds, run: nfs::location },
    Target { name: "nfs_replies", seeds: nfs::reply_seeds, run: nfs::replies },
    Target { name: "option_text", seeds: options::seeds, run: options::text },
    Target { name: "parallels_image", seeds: images::parallels_seeds, run: images::parallels },
    Target { name: "probe", seeds: raw::probe_seeds, run: raw::probe },
    Target { name: "qcow2_edits", seeds: edits::seeds, run: edits::edits },
    Target { name: "qcow2_image", seeds: qcow2::seeds, run: qcow2::image },
    Target { name: "qcow_image", seeds: overlays::qcow_seeds, run: overlays::qcow },
    Target { name: "qed_image", seeds: overlays::qed_seeds, run: overlays::qed },
    Target { name: "qmp_commands", seeds: qmp::command_seeds, run: qmp::commands },
    Target { name: "qmp_session", seeds: qmp::session_seeds, run: qmp::session },
    Target { name: "raw_guard", seeds: raw::guard_seeds, run: raw::guard },
    Target { name: "secret", seeds: qmp::secret_seeds, run: qmp::secret },
    Target { name: "sftp_replies", seeds: ssh::reply_seeds, run: ssh::replies },
    Target { name: "ssh_location", seeds: ssh::location_seeds, run: ssh::location },
    Target { name: "tftp_packet", seeds: web::tftp_seeds, run: web::tftp_packet },
    Target { name: "vdi_image", seeds: images::vdi_seeds, run: images::vdi },
    Target { name: "vhdx_image", seeds: vhd::vhdx_seeds, run: vhd::vhdx_image },
    Target { name: "vpc_image", seeds: vhd::vpc_seeds, run: vhd::vpc_image },
    Target { name: "vmdk_image", seeds: vmdk::seeds, run: vmdk::image },
];

/// Drives the target of this name with an input.
///
/// # Panics
/// Where a law is broken, and where there is no such target.
#[expect(clippy::panic, reason = "what a fuzzer finds wrong is a panic")]
pub fn run(name: &str, input: &[u8]) {
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => (target.run)(input),
        None => panic!("there is no target called {name}"),
    }
}

#[cfg(test)]
mod tests;
