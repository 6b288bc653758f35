//! A machine without a processor: guest's devices as mere users of the block layer, and whether the machine runs.
//!
//! ```text
//!   block::Device ◀── part (model: disk, CD drive, floppy drive; controllers)
//!                      ▲ device_add / device_del
//!   RunState: prelaunch ─▶ running ⇄ paused …
//! ```
//!
//! It is for programs and test suites that speak to the block layer of a machine. Nothing executes: requests come from monitors,
//! and from whoever stands for a device's guest ([`block::Graph::attach_guest`]).
#![forbid(unsafe_code)]

mod error;
mod model;
mod parts;
mod properties;
mod state;

pub use error::MachineError;
pub use model::model_names;
pub use parts::{Machine, Removed};
pub use properties::Properties;
pub use state::State;
