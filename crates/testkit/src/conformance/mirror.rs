//! A disk beside a plain copy of its bytes: whatever is done to one is done to the other, and they must agree.

use block::Request;

use crate::stack::Session;

/// An opened stack, and what it must hold.
pub(super) struct Mirror {
    pub(super) session: Session,
    pub(super) bytes: Vec<u8>,
    keeps_data: bool,
    writes: u64,
}

/// Bytes that differ by position and by write.
fn pattern(offset: u64, len: u64, write: u64) -> Vec<u8> {
    (offset..offset + len).map(|at| (at ^ at >> 8 ^ write.wrapping_mul(37)) as u8 | 1).collect()
}

impl Mirror {
    /// Reads the whole disk to begin with.
    pub(super) async fn new(session: Session, keeps_data: bool) -> Result<Mirror, String> {
        let bytes = session.read(0, session.backend.length()).await.map_err(|e| e.to_string())?;
        Ok(Mirror { session, bytes, keeps_data, writes: 0 })
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Cluster size, or a unit instead of it.
    pub(super) fn cluster(&self) -> u64 {
        self.session.node.facts().cluster_size.unwrap_or(4096)
    }

    /// The part of a range that is inside the disk.
    pub(super) fn clip(&self, offset: u64, len: u64) -> (u64, u64) {
        let offset = offset.min(self.len());
        (offset, len.min(self.len() - offset))
    }

    pub(super) async fn write(&mut self, offset: u64, len: u64, fua: bool) -> Result<(), String> {
        let (offset, len) = self.clip(offset, len);
        self.writes += 1;
        let data = pattern(offset, len, self.writes);
        self.session
            .write(offset, &data, fua)
            .await
            .map_err(|e| format!("write {offset:#x}+{len:#x}: {e}"))?;
        self.put(offset, &data);
        Ok(())
    }

    pub(super) async fn zero(&mut self, offset: u64, len: u64, request: Request) -> Result<(), String> {
        let (offset, len) = self.clip(offset, len);
        let result = self.session.backend.write_zeroes(offset, len, request).await;
        result.map_err(|e| format!("write zeroes {offset:#x}+{len:#x}: {e}"))?;
        self.put(offset, &vec![0; len as usize]);
        Ok(())
    }

    /// Discards: each byte is now what it was, or zero; the copy follows.
    pub(super) async fn discard(&mut self, offset: u64, len: u64) -> Result<(), String> {
        let (offset, len) = self.clip(offset, len);
        self.session
            .backend
            .discard(offset, len, Request::GUEST)
            .await
            .map_err(|e| format!("discard {offset:#x}+{len:#x}: {e}"))?;
        if !self.keeps_data {
            return Ok(());
        }
        let now = self.read(offset, len).await?;
        let before = self.part(offset, len);
        if let Some(at) = now.iter().zip(before).position(|(now, before)| *now != 0 && now != before) {
            return Err(format!(
                "after a discard byte {:#x} is neither what it was nor zero",
                offset + at as u64
            ));
        }
        self.put(offset, &now);
        Ok(())
    }

    pub(super) async fn resize(&mut self, size: u64) -> Result<(), String> {
        self.session.resize(size).await.map_err(|e| format!("resize to {size:#x}: {e}"))?;
        self.bytes.resize(size as usize, 0);
        match self.session.backend.length() {
            len if len == size => Ok(()),
            len => Err(format!("resized to {size:#x}, it has {len:#x} bytes")),
        }
    }

    pub(super) async fn flush(&self) -> Result<(), String> {
        self.session.backend.flush().await.map_err(|e| format!("flush: {e}"))
    }

    pub(super) async fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, String> {
        self.session.read(offset, len).await.map_err(|e| format!("read {offset:#x}+{len:#x}: {e}"))
    }

    /// Reads a range and compares.
    pub(super) async fn agrees(&self, offset: u64, len: u64) -> Result<(), String> {
        let (offset, len) = self.clip(offset, len);
        let found = self.read(offset, len).await?;
        let wanted = self.part(offset, len);
        match found.iter().zip(wanted).position(|(found, wanted)| found != wanted) {
            Some(at) if self.keeps_data => {
                let byte = |bytes: &[u8]| bytes.get(at).copied().unwrap_or(0);
                let (found, wanted, at) = (byte(&found), byte(wanted), offset + at as u64);
                Err(format!(
                    "byte {at:#x} is {found:#04x} instead of {wanted:#04x} (read {offset:#x}+{len:#x})"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Compares everything.
    pub(super) async fn agrees_whole(&self) -> Result<(), String> {
        self.agrees(0, self.len()).await
    }

    pub(super) async fn close(self) -> Result<(), String> {
        self.session.close().await.map_err(|e| format!("close: {e}"))
    }

    fn part(&self, offset: u64, len: u64) -> &[u8] {
        self.bytes.get(offset as usize..(offset + len) as usize).unwrap_or_default()
    }

    fn put(&mut self, offset: u64, data: &[u8]) {
        if let Some(to) = self.bytes.get_mut(offset as usize..offset as usize + data.len()) {
            to.copy_from_slice(data);
        }
    }
}
