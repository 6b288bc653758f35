//! House tasks: generate code from the schema, tidy, licence check.
#![forbid(unsafe_code)]

fn main() {}
