//! What the faces of the program do, as a library: flag tables, human and JSON output.
//!
//! ```text
//! face ─┬─ img ─── create info convert compare map check resize commit measure dd bench
//!       ├─ io ──── open read write … quit
//!       ├─ nbd ─── serve, --list
//!       └─ daemon ─ options in the order given ─▶ monitor
//! ```
//!
//! Each face reads its command line by a table of flags ([`getopt`]) that also makes its help ([`usage`]), opens images
//! through [`image`], and speaks through a [`console::Console`]. Exit codes and output are those that scripts know from
//! QEMU's programs of the same names.
#![forbid(unsafe_code)]

pub mod console;
pub mod face;
pub mod failure;
pub mod getopt;
pub mod io;
pub mod keyval;
pub mod size;
pub mod usage;
