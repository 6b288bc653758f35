//! The one program; argv[0] or the first word picks the face.
#![forbid(unsafe_code)]

fn main() {}
