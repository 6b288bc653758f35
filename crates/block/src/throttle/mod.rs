//! Throttling: limits of requests and bytes a second, shared by the members of a group.
//!
//! ```text
//! request ─▶ member ─┬─ nobody waits, buckets not full ─▶ through, its size into the buckets
//!                    └─ else: queue of the member ─▶ its turn ─▶ the buckets have leaked enough ─▶ through
//! ```
//!
//! - Each limit is a leaky bucket ([`bucket`]): a request that comes while it is not full goes through, whatever its size, and
//!   what it puts in beyond the brim is what later ones wait for. So over time the limit is exact.
//! - A [`ThrottleGroup`] has the buckets, and a queue a member for reads and one for writes. Members take turns, reads and
//!   writes by themselves.
//! - A [`ThrottleMember`] is a node or an entry that is in a group. While somebody waits for its requests to end
//!   ([`ThrottleMember::drain`]) nothing of it is held back; what goes through is put into the buckets all the same.
//!
//! Time is the runtime's clock. Nothing runs in the background: the first of a queue that has its turn sets a timer.
mod bucket;
mod group;
mod limits;
mod member;

pub use group::ThrottleGroup;
pub use limits::{IoLimits, MAX_LIMIT, Rate, Rates};
pub use member::{IoDirection, ThrottleMember};
