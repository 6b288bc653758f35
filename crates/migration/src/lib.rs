//! Handing a machine's part of the block layer over to another program: what is sent, and what it goes through. When the machine is
//! stopped and whose its images are is decided above (`monitor`).
//!
//! ```text
//!  ┌─ channel: socket · program · descriptor · file ─────────────────────────────────────────────┐
//!  │ header │ machine │ { bitmap: name │ bits … } … │ end: how many records, and that it was all │
//!  └─────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Disks are not sent: both programs reach the images. Nor is memory: there is none. What is sent is whether the machine ran, and the dirty
//! bitmaps that were asked for.
//!
//! Laws:
//! - the last record is sent when the sender has let everything go, and nothing is taken over before it has arrived, whole: a stream that
//!   breaks off anywhere hands nothing over;
//! - a receiver's memory is bounded by what it has itself: a bitmap is as long as the node it is for, and as fine as the node's own rules
//!   allow; records are at most [`MAX_PAYLOAD`] bytes;
//! - each record is checked (CRC-32C over its place, kind and content): one that is damaged, missing, twice there or out of place is refused.
#![forbid(unsafe_code)]

mod bitmaps;
mod channel;
mod error;
mod mapping;
mod place;
mod receive;
mod send;
mod stream;

pub use bitmaps::Outgoing;
pub use channel::{Channel, Door};
pub use error::MigrationError;
pub use mapping::Mapping;
pub use place::Place;
pub use receive::{Arrived, Arriving, Placed};
pub use send::Sender;
pub use stream::MAX_PAYLOAD;
