//! Types, argument checking, dispatch and introspection generated from schema/*.json.
#![forbid(unsafe_code)]
