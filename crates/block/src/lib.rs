//! The core: drivers, nodes, edges, the graph, permissions, entries and gates, metadata cache, copy engine.
//!
//! ```text
//!  export ─┐                      ┌─ file ──▶ node (protocol: file, nbd, …) ──▶ rt::File
//!  job    ─┼─▶ Backend ─▶ node ───┤
//!  tool   ─┘   (gate)   (format)  └─ backing ──▶ node (format) ─ file ──▶ …
//! ```
//!
//! A [`Backend`] is an entry: the only place with a gate, statistics and an error policy. A [`Node`] is a driver
//! with its edges. Formats answer *where the bytes are* ([`Driver::try_map`], [`Driver::map`],
//! [`Driver::prepare_write`]); the core moves them. Protocols move bytes themselves.
//!
//! Laws:
//! - an inner request inherits its entry's token and never waits on a gate;
//! - edges change only inside a graph transaction, with the gates above the changed edge closed;
//! - the core knows no format, protocol, job or export by name.
//!
//! One circle of modules stands: those that are the graph itself, from [`Node`], [`Driver`] and [`Edges`] to [`Graph`],
//! [`OpenContext`] and [`Registry`], and what acts on its nodes (entries, filters, hooks, blockers, creation, names). A node
//! has a driver and edges to further nodes; a driver is told the node that it became; the graph opens nodes by the types of
//! drivers in the registry; and such a type opens a driver by an [`OpenContext`], which leads to the graph, for a driver's
//! children are opened there. A trait in front of [`OpenContext`] or [`Node`] would have one implementation, and cut the
//! circle for a reader of imports alone. Copying and [`metacache`] stand above the circle; requests, permissions, options,
//! common options, policy, errors, gates, leases, objects and bitmaps below it, and know nothing of it.
#![forbid(unsafe_code)]

mod align;
mod backend;
mod bitmap;
mod bitmaps;
mod blockers;
mod chain;
mod coding;
mod common;
mod copy;
mod create;
mod damage;
mod device;
mod driver;
mod edges;
mod error;
mod filter;
mod gate;
mod graph;
mod group_commit;
mod guest;
mod hold;
mod hooks;
mod identity;
mod io;
mod latency;
mod lease;
pub mod metacache;
mod naming;
mod node;
mod notice;
mod objects;
mod open;
mod options;
mod passwords;
mod perm;
mod point_in_time;
mod policy;
mod registry;
mod request;
mod request_limits;
mod size;
mod snapshot;
mod stats;
mod status;
mod steps;
mod sync;
mod threshold;
mod throttle;
mod turns;
mod write;

pub use backend::Backend;
pub use bitmap::DirtyBitmap;
pub use bitmaps::{
    BitmapRemoval, BitmapSplit, BitmapStore, BitmapUse, Bitmaps, MAX_BITMAP_NAME, NamedBitmap, NewBitmap,
};
pub use blockers::{Blocker, Operations};
pub use coding::{CodedAt, Coding};
pub use common::{Common, Discard};
pub use copy::{
    AfterError, AtOnce, CopyControl, CopyError, CopyNotes, CopyPlan, CopySide, CopyStep, CopyZeroes,
    DirtyPieces, Endpoint, Existing, NextPiece, OnUnreadable, Piece, PieceWitness, Pieces, RangePieces,
    Unallocated, Witness, copy,
};
pub use create::{
    Claim, ClaimLocation, ClaimPlace, Claimer, Claiming, Create, CreateOption, CreateRequest, Creator, MAKER,
    MeasureRequest, Measured, OptionKind, PLAIN, PlaceRequest, Places, data_in_units,
};
pub use damage::Damage;
pub use device::{Device, Model, Tray};
pub use driver::{
    Action, Amendment, CheckReport, Checker, Cut, Driver, DriverInfo, Extent, ExtentKind, Facts, Link,
    MapChange, Membership, Reopened, Repair, Token, Undo, Want, WritePlan,
};
pub use edges::{Child, ChildId, ChildName, ChildRole, Edge, Edges, Parent};
pub use error::{BlockError, ErrorKind, Result};
pub use filter::Filtered;
pub use gate::{Closed, Entered, Gate, Inside};
pub use graph::{BackendRequest, Domain, Graph, GraphChange, HandedOver, NewFilter, NodeUse, NodeUser};
pub use guest::{GuestFailure, OnError, Running};
pub use hold::{Draining, Holder};
pub use hooks::{AfterChange, BeforeChange, Held, Hook, NodeChange, Serialiser, WithChange};
pub use identity::Identity;
pub use io::Placed;
pub use latency::{IntervalFigures, LatencyFigures, LatencyHistogram};
pub use lease::{Lease, Leases};
pub use naming::{name_seen_from, resolve_filename};
pub use node::{Node, Slow};
pub use notice::{Notice, Notices};
pub use objects::{Iothread, Object, Objects, Secret};
pub use open::{ChildSpec, OpenContext, Opened};
pub use options::{Opt, Options, not_negative};
pub use passwords::hide_passwords;
pub use perm::{Perms, Share};
pub use point_in_time::{CopyAway, PointInTime, WhenNotCopied};
pub use policy::{Grant, Limits, Policy};
pub use registry::{DriverKind, DriverType, Glimpse, Open, Opener, PROBE_BYTES, PlainNames, Registry};
pub use request::{Flags, Request, Source};
pub use request_limits::RequestLimits;
pub use size::MAX_LENGTH;
pub use snapshot::{NewSnapshot, SnapshotName, Snapshots};
pub use stats::{Account, Accounting, BackendStats, IoKind, OpCount};
pub use status::Status;
pub use steps::{Breakpoints, Step};
pub use throttle::{IoDirection, IoLimits, MAX_LIMIT, Rate, Rates, ThrottleGroup, ThrottleMember};
pub use turns::{Turn, Turns};
