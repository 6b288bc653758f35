//! What the faces of the program do, as a library: flag tables, human and JSON output.
//!
//! ```text
//! face ─┬─ img ─── amend bench bitmap check commit compare convert crashtest create dd hash info inspect map measure rebase
//!       │          resize snapshot tree
//!       ├─ io ──── open read write … quit
//!       ├─ nbd ─── serve, --list
//!       ├─ daemon ─ options in the order given ─▶ monitor
//!       ├─ completions, man: made of the pages of all others
//!       └─ graph, top, qmp ─▶ client ─▶ the QMP socket of a daemon or a machine
//! ```
//!
//! Each face reads its command line by a table of flags with their setters ([`getopt`], shared rows in [`flags`]) that also
//! makes its help ([`usage`]), opens images through [`image`], and prints through a [`console::Console`]. Exit codes and
//! output are those that scripts know from QEMU's programs of the same names.
#![forbid(unsafe_code)]

pub mod cache;
pub mod client;
pub mod compare;
pub mod console;
pub mod copy;
pub mod creation;
pub mod daemon;
pub mod demo;
pub mod digest;
pub mod face;
pub mod failure;
pub mod flags;
pub mod getopt;
pub mod graph;
pub mod image;
pub mod img;
pub mod io;
pub mod machine;
pub mod message;
pub mod nbd;
pub mod object;
pub mod pages;
pub mod partitions;
pub mod progress;
pub mod qmp;
pub mod runtime;
pub mod show;
pub mod size;
#[cfg(test)]
mod testing;
pub mod top;
pub mod trace;
pub mod usage;
