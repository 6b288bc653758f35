//! What the faces of the program do, as a library: flag tables, human and JSON output.
#![forbid(unsafe_code)]
