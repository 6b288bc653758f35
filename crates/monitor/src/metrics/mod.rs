//! Figures for a monitoring system, in the text of OpenMetrics 1.0, over HTTP on a socket of its own (`--metrics`).
//!
//! ```text
//! scraper ─ GET /metrics ─▶ server ─▶ collect (graph, exports, jobs, counters) ─▶ page ─▶ answer, connection closed
//! ```
//!
//! Laws:
//! - a scrape takes no lock that requests wait for longer than a copy of a few numbers takes: counters are read as they stand;
//! - names and labels are those of [`family::FAMILIES`] and of `docs/metrics.md`, and no others.
//!
//! Bounds: [`server::MAX_CONNECTIONS`] scrapers at a time, [`server::MAX_HEAD`] bytes of a request, and time-outs for each
//! step. One answer is made at a time.

mod collect;
mod family;
mod page;
mod server;

pub(crate) use server::{address, serve};
