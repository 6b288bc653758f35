//! The core: drivers, nodes, edges, the graph, permissions, entries and gates, metadata cache, copy engine.
#![forbid(unsafe_code)]
