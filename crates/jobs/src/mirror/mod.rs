//! Mirrors: a node is copied to another one while it is in use, followed until both are in step, and then, when its user says
//! so, all users of the one move to the other.
//!
//! ```text
//!   guests ─▶ source ──── passes of copying ───▶ target        block-commit of the active layer: target is a layer below
//!               │ every write, noted or done at once  ▲        blockdev-mirror, drive-mirror: target is any other node
//!               └─────────────────────────────────────┘
//! ```
//!
//! The engine ([`Mirror`]) is the same for all of them. What differs, which nodes are held, what is copied at first and what
//! the switch-over does, is a [`Hold`] and a [`Start`].
mod engine;
mod follow;
mod hold;
mod request;

pub(crate) use engine::{Ends, Hold, Mirror, Settings, Start};
pub use request::{Backing, MirrorError, MirrorRequest, mirror};
