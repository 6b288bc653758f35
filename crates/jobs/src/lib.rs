//! Background jobs on one state machine: commit.
#![forbid(unsafe_code)]
