//! Sending a machine.
use crate::bitmaps::Outgoing;
use crate::channel::Channel;
use crate::error::MigrationError;
use crate::stream::{ENABLED, Kind, PERSISTENT, header, record};

/// Bytes of bits in one record.
const PIECE: u64 = 64 << 10;

/// A machine on its way out.
pub struct Sender {
    channel: Channel,
    place: u64,
    sent: u64,
}

impl Sender {
    /// Begins a stream.
    pub async fn begin(channel: Channel) -> Result<Self, MigrationError> {
        let header = header();
        channel.send(&header).await?;
        Ok(Self { channel, place: 0, sent: header.len() as u64 })
    }

    /// Bytes sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    async fn record(&mut self, kind: Kind, content: &[u8]) -> Result<(), MigrationError> {
        let bytes = record(self.place, kind, content);
        self.channel.send(&bytes).await?;
        self.place += 1;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// Sends the machine itself: whether it ran.
    pub async fn machine(&mut self, ran: bool) -> Result<(), MigrationError> {
        self.record(Kind::Machine, &[u8::from(ran)]).await
    }

    /// Sends a bitmap, which changes no more.
    pub async fn bitmap(&mut self, outgoing: &Outgoing) -> Result<(), MigrationError> {
        let bitmap = outgoing.held.bitmap();
        let bits = bitmap.bits();
        let mut flags = if bitmap.is_enabled() { ENABLED } else { 0 };
        flags |= if outgoing.persistent { PERSISTENT } else { 0 };
        let mut content = Vec::new();
        content.extend(bits.length().to_be_bytes());
        content.extend(bits.granularity().to_be_bytes());
        content.extend(flags.to_be_bytes());
        for name in [&outgoing.node, &outgoing.name] {
            content.extend((name.len() as u16).to_be_bytes());
            content.extend(name.as_bytes());
        }
        self.record(Kind::Bitmap, &content).await?;
        let chunks_a_piece = PIECE * 8;
        let mut at = bits.next_dirty(0).map(|byte| byte / bits.granularity());
        while let Some(chunk) = at {
            let first = chunk / chunks_a_piece * chunks_a_piece;
            let chunks = chunks_a_piece.min(bits.chunks() - first);
            let mut bytes = vec![0; chunks.div_ceil(8) as usize];
            bits.bits(first, &mut bytes);
            let mut content = first.to_be_bytes().to_vec();
            content.append(&mut bytes);
            self.record(Kind::Bits, &content).await?;
            let next = (first + chunks_a_piece).checked_mul(bits.granularity());
            at = next.and_then(|next| bits.next_dirty(next)).map(|byte| byte / bits.granularity());
        }
        Ok(())
    }

    /// Sends the last record. When this has returned, the other machine may have taken over; not before. Dropped on the way, or failed, it
    /// has not arrived whole.
    pub async fn hand_over(&mut self) -> Result<(), MigrationError> {
        self.channel.sync().await?;
        self.record(Kind::End, &self.place.to_be_bytes()).await
    }

    /// Closes what it went through.
    pub async fn close(self) {
        self.channel.close().await;
    }
}
