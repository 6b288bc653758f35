//! Snapshots of an image, as internal snapshots of its node. A snapshot's id is its name.
//!
//! They are known as they were when the image was opened, and by what was done here since.
use super::RbdDriver;
use api::SnapshotInfo;
use block::{BlockError, ErrorKind, NewSnapshot, Result, Snapshots};
use ceph::{Image, Snapshot};
use rt::{BoxFuture, Buf, BufMut};
use std::io;
use std::sync::atomic::Ordering::*;

/// A snapshot as it is told: its size stands where others have that of the machine's state.
pub(super) fn told(snapshot: &Snapshot) -> SnapshotInfo {
    SnapshotInfo {
        id: snapshot.name.clone(),
        name: snapshot.name.clone(),
        vm_state_size: i64::try_from(snapshot.size).unwrap_or(i64::MAX),
        icount: Some(0),
        ..SnapshotInfo::default()
    }
}

impl RbdDriver {
    fn at(&self, index: usize) -> Result<Snapshot> {
        self.snapshots.lock().get(index).cloned().ok_or_else(|| {
            BlockError::new(ErrorKind::NotFound, format!("'{}' has no such snapshot", self.name))
        })
    }

    /// Does something to a snapshot, then reads the list and the size again.
    async fn with_snapshot<F>(&self, what: &str, name: &str, change: F) -> Result<()>
    where
        F: FnOnce(&Image, &str) -> io::Result<()> + Send + 'static,
    {
        let owned = name.to_owned();
        let changed = self
            .waited(&format!("{what} snapshot '{name}' of"), move |image| {
                change(image, &owned)?;
                Ok((image.snapshots()?, image.size()?))
            })
            .await;
        let (snapshots, size) = changed?;
        *self.snapshots.lock() = snapshots;
        self.length.store(size, Release);
        Ok(())
    }

    fn without_state(&self) -> BlockError {
        BlockError::unsupported(format!("'{}' has no place for the state of a machine", self.name))
    }
}

impl Snapshots for RbdDriver {
    fn create(&self, new: NewSnapshot) -> BoxFuture<'_, Result<SnapshotInfo>> {
        Box::pin(async move {
            if new.vm_state_size > 0 {
                return Err(self.without_state());
            }
            if new.name.is_empty() {
                return Err(BlockError::invalid("Invalid argument"));
            }
            self.with_snapshot("making", &new.name, Image::create_snapshot).await?;
            let made = self.snapshots.lock().iter().find(|snapshot| snapshot.name == new.name).map(told);
            made.ok_or_else(|| {
                let text = format!("snapshot '{}' of '{}' was removed at once", new.name, self.name);
                BlockError::new(ErrorKind::NotFound, text)
            })
        })
    }

    fn apply(&self, index: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let snapshot = self.at(index)?;
            self.with_snapshot("going back to", &snapshot.name, Image::roll_back).await
        })
    }

    fn delete(&self, index: usize) -> BoxFuture<'_, Result<SnapshotInfo>> {
        Box::pin(async move {
            let snapshot = self.at(index)?;
            self.with_snapshot("removing", &snapshot.name, Image::remove_snapshot).await?;
            Ok(told(&snapshot))
        })
    }

    fn show(&self, index: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let snapshot = self.at(index)?;
            self.with_snapshot("showing", &snapshot.name, Image::show_snapshot).await
        })
    }

    fn read_state(&self, _: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move { (buf, Err(self.without_state())) })
    }

    fn write_state(&self, _: u64, _: Buf) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { Err(self.without_state()) })
    }
}
