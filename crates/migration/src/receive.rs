//! Receiving a machine.
use crate::channel::Channel;
use crate::error::MigrationError;
use crate::mapping::{MAX_ALIAS, Mapped, Mapping};
use crate::stream::{
    Content, ENABLED, HEADER, Kind, MAX_PAYLOAD, PERSISTENT, RECORD_HEAD, RECORD_TAIL, check_header,
    checksum, u32_at,
};
use block::{DirtyBitmap, Graph, MAX_BITMAP_NAME, NamedBitmap, Node};
use std::sync::Arc;

/// Bytes that the bits of all bitmaps may take, all of them set.
const MOST_MEMORY: u64 = 1 << 30;
/// Bytes that each bitmap counts for at least.
const LEAST_MEMORY: u64 = 8 << 10;
/// Least granularity of a bitmap in bytes.
const MIN_GRANULARITY: u64 = 512;
/// Bitmaps without a place that are told of one by one.
const MOST_TOLD: u64 = 8;

/// A machine that has arrived, whole: the other program has let it go.
pub struct Arrived {
    /// It ran.
    pub ran: bool,
    bitmaps: Vec<(Arc<Node>, NamedBitmap)>,
}

/// Bitmaps that have come with a machine, at their nodes. They go again if this is dropped, unless they are [kept](Placed::keep).
#[must_use = "the bitmaps go with it"]
pub struct Placed(Vec<(Arc<Node>, Arc<NamedBitmap>)>);

impl Arrived {
    /// Gives the nodes their bitmaps, before images are taken over.
    pub fn put_bitmaps(self) -> Result<Placed, MigrationError> {
        let mut placed = Placed(Vec::with_capacity(self.bitmaps.len()));
        for (node, bitmap) in self.bitmaps {
            let bitmap = node.bitmaps().add(bitmap)?;
            placed.0.push((node, bitmap));
        }
        Ok(placed)
    }
}

impl Placed {
    /// They stay, as long as their nodes.
    pub fn keep(mut self) {
        for (node, _) in self.0.drain(..) {
            // One that is inactive as yet does it as it is taken over.
            if node.is_active() {
                node.fit_bitmaps();
            }
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(node, bitmap)| node.bitmaps().remove(&bitmap));
    }
}

/// A bitmap that is arriving.
struct ArrivingBitmap {
    /// Where it goes; nothing where nobody has a place for it.
    target: Option<(Arc<Node>, String)>,
    bits: DirtyBitmap,
    enabled: bool,
    persistent: bool,
    /// The bit behind the last that has come.
    at: u64,
}

struct Receiver<'a> {
    channel: &'a Channel,
    graph: &'a Graph,
    mapping: Option<&'a Mapping>,
    place: u64,
    memory: u64,
    ran: Option<bool>,
    bitmap: Option<ArrivingBitmap>,
    arrived: Vec<(Arc<Node>, NamedBitmap)>,
    /// Bitmaps that have no place here.
    passed_over: u64,
}

/// A machine that has begun to arrive.
pub struct Arriving<'a>(&'a Channel);

impl<'a> Arriving<'a> {
    /// Waits until the stream of a machine begins.
    pub async fn begin(channel: &'a Channel) -> Result<Self, MigrationError> {
        let mut header = [0; HEADER];
        channel.receive(&mut header).await?;
        check_header(&header)?;
        Ok(Self(channel))
    }

    /// Receives it, as far as to the record that says that it is all there. A bitmap that has no place here is passed over, which is
    /// told: the disk is there all the same.
    pub async fn all(self, graph: &Graph, mapping: Option<&Mapping>) -> Result<Arrived, MigrationError> {
        let mut receiver = Receiver {
            channel: self.0,
            graph,
            mapping,
            place: 0,
            memory: MOST_MEMORY,
            ran: None,
            bitmap: None,
            arrived: Vec::new(),
            passed_over: 0,
        };
        receiver.all().await?;
        if let Some(more @ 1..) = receiver.passed_over.checked_sub(MOST_TOLD) {
            graph.notices().warn(&format!("{more} more bitmaps have no place here, and are not taken over"));
        }
        let ran = receiver.ran.ok_or_else(|| damaged("it has no machine"))?;
        Ok(Arrived { ran, bitmaps: receiver.arrived })
    }
}

fn damaged(why: impl Into<String>) -> MigrationError {
    MigrationError::Damaged(why.into())
}

impl Receiver<'_> {
    async fn all(&mut self) -> Result<(), MigrationError> {
        loop {
            let (kind, content) = self.record().await?;
            match kind {
                Kind::Machine => self.machine(Content(&content))?,
                Kind::Bitmap => self.bitmap(Content(&content))?,
                Kind::Bits => self.bits(Content(&content))?,
                Kind::End => {
                    let mut end = Content(&content);
                    let count = end.number::<8>()?;
                    end.finish()?;
                    if count != self.place - 1 {
                        return Err(damaged("records are missing in it"));
                    }
                    self.finish_bitmap();
                    return Ok(());
                }
            }
        }
    }

    async fn record(&mut self) -> Result<(Kind, Vec<u8>), MigrationError> {
        let mut head = [0; RECORD_HEAD];
        self.channel.receive(&mut head).await?;
        let kind = Kind::of(u32_at(&head, 0).unwrap_or(0))?;
        let length = u32_at(&head, 4).unwrap_or(0) as usize;
        if length > MAX_PAYLOAD {
            return Err(damaged(format!("a record says that it has {length} bytes")));
        }
        let mut content = vec![0; length];
        self.channel.receive(&mut content).await?;
        let mut tail = [0; RECORD_TAIL];
        self.channel.receive(&mut tail).await?;
        if u32::from_be_bytes(tail) != checksum(self.place, &head, &content) {
            return Err(damaged(format!("the checksum of record {} is wrong", self.place)));
        }
        self.place += 1;
        Ok((kind, content))
    }

    fn machine(&mut self, mut content: Content<'_>) -> Result<(), MigrationError> {
        let ran = content.number::<1>()?;
        content.finish()?;
        if ran > 1 || self.ran.is_some() {
            return Err(damaged("what it says of the machine is wrong, or there twice"));
        }
        self.ran = Some(ran == 1);
        Ok(())
    }

    fn bitmap(&mut self, mut content: Content<'_>) -> Result<(), MigrationError> {
        self.finish_bitmap();
        let (length, granularity) = (content.number::<8>()?, content.number::<8>()?);
        let flags = content.number::<4>()? as u32;
        let (node, name) = (content.text()?, content.text()?);
        content.finish()?;
        if i64::try_from(length).is_err()
            || granularity < MIN_GRANULARITY
            || !granularity.is_power_of_two()
            || node.len().max(name.len()) > MAX_ALIAS
            || flags & !(ENABLED | PERSISTENT) != 0
        {
            return Err(damaged("what it says of a bitmap is wrong"));
        }
        let bytes = (length.div_ceil(granularity) / 8).max(LEAST_MEMORY);
        self.memory = self.memory.checked_sub(bytes).ok_or_else(|| {
            damaged(format!("the bits of all its bitmaps could take more than {MOST_MEMORY} bytes"))
        })?;
        let mut persistent = flags & PERSISTENT != 0;
        let target = match self.target(&node, &name) {
            Ok((node, mapped)) => {
                persistent = mapped.persistent.unwrap_or(persistent);
                Some((node, mapped.bitmap))
            }
            Err(why) => {
                self.passed_over += 1;
                if self.passed_over <= MOST_TOLD {
                    self.graph.notices().warn(&format!("{why}; the bitmap is not taken over"));
                }
                None
            }
        };
        let bits = DirtyBitmap::new(length, granularity);
        self.bitmap = Some(ArrivingBitmap { target, bits, enabled: flags & ENABLED != 0, persistent, at: 0 });
        Ok(())
    }

    /// Where a bitmap goes, and under which name.
    fn target(&self, node: &str, name: &str) -> Result<(Arc<Node>, Mapped), String> {
        let mapped = match self.mapping {
            Some(mapping) => mapping.arriving(node, name)?,
            None => Mapped { node: node.to_owned(), bitmap: name.to_owned(), persistent: None },
        };
        let node = self.graph.need_node(&mapped.node).map_err(|e| e.to_string())?;
        let name = &mapped.bitmap;
        if name.is_empty() || name.len() > MAX_BITMAP_NAME {
            return Err("a bitmap's name is empty, or too long".to_owned());
        }
        let arrived =
            |(other, bitmap): &(Arc<Node>, NamedBitmap)| Arc::ptr_eq(other, &node) && bitmap.name() == name;
        if node.bitmaps().find(name).is_some() || self.arrived.iter().any(arrived) {
            return Err(format!("Bitmap already exists: {name}"));
        }
        Ok((node, mapped))
    }

    fn bits(&mut self, mut content: Content<'_>) -> Result<(), MigrationError> {
        let bitmap = self.bitmap.as_mut().ok_or_else(|| damaged("it has bits of no bitmap"))?;
        let first = content.number::<8>()?;
        let bits = content.0;
        let end = first.checked_add(bits.len() as u64 * 8);
        let room = bitmap.bits.chunks().next_multiple_of(8);
        let Some(end) = end.filter(|end| first % 64 == 0 && first >= bitmap.at && *end <= room) else {
            return Err(damaged("it has bits where its bitmap has none, or that were there before"));
        };
        bitmap.bits.mark_bits(first, bits);
        bitmap.at = end.next_multiple_of(64);
        Ok(())
    }

    fn finish_bitmap(&mut self) {
        let Some(ArrivingBitmap { target: Some((node, name)), bits, enabled, persistent, .. }) =
            self.bitmap.take()
        else {
            return;
        };
        self.arrived.push((node, NamedBitmap::new(name, bits).with(enabled, persistent)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::stream::{header, record};
    use block::{BlockError, Registry};
    use rt::net::Stream;

    #[test]
    fn names_that_no_sender_sends_are_refused() {
        rt::block_on_control(async {
            for (name, refused) in [(MAX_ALIAS, false), (MAX_ALIAS + 1, true)] {
                let (sender, receiver) = Stream::pair().unwrap();
                let mut content = Vec::new();
                content.extend(512u64.to_be_bytes());
                content.extend(512u64.to_be_bytes());
                content.extend(0u32.to_be_bytes());
                for text in ["n".repeat(name), "b".to_owned()] {
                    content.extend((text.len() as u16).to_be_bytes());
                    content.extend(text.bytes());
                }
                let end = 2u64.to_be_bytes();
                let records = [
                    record(0, Kind::Machine, &[1]),
                    record(1, Kind::Bitmap, &content),
                    record(2, Kind::End, &end),
                ];
                sender.send_all(&[&header()[..], &records.concat()].concat()).await.unwrap();
                let graph = Graph::new(Registry::new(&[]), |_| Err(BlockError::invalid("no json here")));
                let channel = Channel::plain(receiver);
                let arriving = Arriving::begin(&channel).await.unwrap();
                let arrived = arriving.all(&graph, None).await;
                assert_eq!(matches!(arrived, Err(MigrationError::Damaged(_))), refused, "{name} bytes");
            }
        });
    }
}
