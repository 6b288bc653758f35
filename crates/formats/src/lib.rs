//! Image formats: raw, qcow2.
#![forbid(unsafe_code)]
