//! Machine state that is kept behind the disk: clusters of the same L1 table, from the first L1 entry on that the disk does
//! not need. A snapshot takes it along; the backing file has no part in it.
use crate::qcow2::image::Image;
use block::metacache::Order;
use block::{Action, BlockError, CodedAt, ErrorKind, ExtentKind, Request, Result, Step, Want};
use rt::{Buf, BufMut};
use std::sync::Arc;

impl Image {
    /// Where the state begins, in bytes behind the start of the disk.
    fn state_offset(&self) -> Result<u64> {
        self.header.read().vm_state_offset().ok_or_else(|| too_far("the disk leaves no room for it"))
    }

    /// Where the part ends that the L1 table can map.
    fn mapped_end(&self) -> u64 {
        u64::from(self.header.read().l1_entries).saturating_mul(self.g().l1_span())
    }

    /// Reads state from byte `offset` of it on.
    pub(super) async fn read_state(&self, offset: u64, buf: &mut BufMut) -> Result<()> {
        let start = self.state_offset()?.checked_add(offset).ok_or_else(|| too_far("no state is there"))?;
        buf.fill(0);
        self.order.file.announce(Step::VmstateLoad).await;
        let inside = self.mapped_end().saturating_sub(start).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < inside {
            let at = start + done as u64;
            let extent = self.map(at, (inside - done) as u64, Want::Read).await?;
            let len = usize::try_from(extent.len).unwrap_or(usize::MAX).min(inside - done);
            let piece = match extent.kind {
                ExtentKind::Data { offset, .. } => {
                    Some(self.read_piece(CodedAt { guest: at, stored: offset }, len as u64).await?)
                }
                ExtentKind::Encoded => {
                    let (piece, result) = self.read_encoded(at, BufMut::with_len(len)).await;
                    result.map(|()| Some(piece))?
                }
                ExtentKind::Zero { .. } | ExtentKind::Hole { .. } | ExtentKind::Stored => None,
            };
            if let (Some(piece), Some(to)) = (piece, buf.get_mut(done..done + len)) {
                to.copy_from_slice(&piece);
            }
            done += len;
        }
        Ok(())
    }

    /// Reads what lies in one piece in the file.
    async fn read_piece(&self, at: CodedAt, len: u64) -> Result<BufMut> {
        let Some(coding) = &self.coding else { return self.order.file.read(at.stored, len).await };
        let before = at.guest % coding.unit();
        let whole = (before + len).next_multiple_of(coding.unit());
        let start = CodedAt { guest: at.guest - before, stored: at.stored - before };
        let mut units = self.order.file.read(start.stored, whole).await?;
        coding.decode(start, &mut units)?;
        units.split_to(before as usize);
        Ok(units.split_to(len as usize))
    }

    /// Writes state from byte `offset` of it on, in whole clusters.
    pub(super) async fn write_state(self: &Arc<Self>, offset: u64, data: Buf) -> Result<()> {
        self.without_data_file("machine state")?;
        let g = self.g();
        let first = offset - g.within(offset);
        let end = offset
            .checked_add(data.len() as u64)
            .and_then(|end| end.checked_next_multiple_of(g.cluster_size()));
        let end = end.ok_or_else(|| too_far("it would end too far behind"))?;
        self.order.file.announce(Step::VmstateSave).await;
        self.first_write().await?;
        self.reach_state(end).await?;
        let start = self.state_offset()?;
        let mut done = 0;
        let mut at = first;
        while at < end {
            let mut cluster = BufMut::with_len(g.cluster_size() as usize);
            self.read_state(at, &mut cluster).await?;
            let from = offset.saturating_sub(at) as usize;
            let len = (cluster.len() - from).min(data.len() - done);
            if let (Some(to), Some(new)) = (cluster.get_mut(from..from + len), data.get(done..done + len)) {
                to.copy_from_slice(new);
            }
            self.store_state(start + at, cluster.freeze()).await?;
            done += len;
            at += g.cluster_size();
        }
        Ok(())
    }

    /// Stores a whole cluster of state at a guest offset.
    async fn store_state(self: &Arc<Self>, at: u64, cluster: Buf) -> Result<()> {
        let plan = self.plan_data(at, cluster.len() as u64, Request::DRIVER).await?;
        let Action::Store { offset, .. } = plan.action else {
            return Err(BlockError::invalid("machine state was given no place"));
        };
        let stored = match &self.coding {
            None => cluster,
            Some(coding) => {
                let mut stored = BufMut::with_len(cluster.len());
                coding.encode(CodedAt { guest: at, stored: offset }, &cluster, &mut stored)?;
                stored.freeze()
            }
        };
        self.order.file.announce(Step::WriteAio).await;
        self.order.file.node()?.write(offset, stored, Request::DRIVER).await?;
        match plan.token {
            Some(token) => token.commit().await,
            None => Ok(()),
        }
    }

    /// Lets the L1 table reach to byte `end` of the state.
    async fn reach_state(self: &Arc<Self>, end: u64) -> Result<()> {
        let end = self.state_offset()?.checked_add(end).filter(|end| *end <= i64::MAX as u64);
        let needed = end.and_then(|end| self.header.read().l1_entries_for(end));
        let needed = needed.ok_or_else(|| too_far("the L1 table would exceed 32 MiB"))?;
        if needed > u64::from(self.header.read().l1_entries) {
            self.grow_l1(needed).await?;
        }
        Order::make_room(self, self.g().slice_words()).await
    }
}

fn too_far(why: &str) -> BlockError {
    BlockError::new(ErrorKind::Limit, format!("the machine state can't be kept behind the disk: {why}"))
}
