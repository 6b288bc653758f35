//! Throttling under simulated time: its buckets against a model, turns, bursts; and the filter and entries in a graph.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod buckets;
mod graph;
