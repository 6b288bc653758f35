//! qcow2.
mod bitmaps;
mod compressed;
mod create;
mod directory;
mod entry;
pub mod header;
mod info;
mod snapshots;

#[cfg(test)]
mod tests;
