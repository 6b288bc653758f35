//! Zeroes that go only where the image holds nothing itself: what is copied up from the layers below.
//!
//! What is allocated is seen under the lease of its clusters, and stays as it is.
use super::entry::{Entry, Stored};
use super::image::Image;
use block::metacache::{Cause, Format};
use block::{Action, Result, WritePlan};
use std::sync::Arc;

impl Image {
    /// Plans zeroes for the start of a range, where it holds nothing.
    pub(super) async fn plan_zero_fill(self: &Arc<Self>, offset: u64, len: u64) -> Result<WritePlan> {
        let g = self.g();
        let without = |len, action| Ok(WritePlan { len, action, token: None });
        if !self.has_backing() {
            // What holds nothing reads as zeroes.
            return without(len, Action::Nothing);
        }
        let within = g.within(offset);
        let to_end = offset + len >= self.size();
        let whole = if to_end { g.clusters(len) } else { len >> g.cluster_bits };
        if within != 0 || whole == 0 || !g.zero_flag {
            let part = if g.zero_flag { len.min(g.cluster_size() - within) } else { len };
            return without(part, Action::AsData);
        }
        let leased = self.lease_to_change(g.cluster(offset), whole).await?;
        let entries = self.entries(&leased).await?;
        let hole = entries.first() == Some(&Entry::Hole);
        let count = entries.iter().take_while(|entry| (**entry == Entry::Hole) == hole).count() as u64;
        let len = (count << g.cluster_bits).min(len);
        if !hole {
            // Of a cluster that has parts, some may hold nothing.
            return without(len, if g.extended { Action::AsData } else { Action::Nothing });
        }
        let words = (0..count).flat_map(|_| Stored::zero(0, g).words(g)).collect();
        let token = self.change(leased, words, None, Some(Cause::Discarded));
        Ok(WritePlan { len, action: Action::Metadata, token: Some(token) })
    }
}
