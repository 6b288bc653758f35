//! Conformance suites and oracles that every driver and stack runs.
#![forbid(unsafe_code)]
