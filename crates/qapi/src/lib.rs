//! The QAPI schema language: parser, checker and Rust generator.
#![forbid(unsafe_code)]
