//! Who sees what a copy brings to its target: for a proof, afterwards, that it is there.

/// Sees the content of the pieces that are copied; of what needs no copying it hears nothing. All offsets are those of the target. After an error a piece may be copied, and
/// seen, once more.
pub trait Witness: Send + Sync {
    /// A piece begins at this offset.
    fn piece(&self, at: u64) -> Box<dyn PieceWitness>;
}

/// Sees the content of one piece, from its start to its end. Dropped before that, the piece was not copied.
pub trait PieceWitness: Send {
    /// What comes next is this.
    fn data(&mut self, data: &[u8]);

    /// What comes next are so many zeroes.
    fn zeroes(&mut self, len: u64);

    /// What comes next is not looked at: the target shows it already.
    fn unseen(&mut self, len: u64);

    /// All of it is in the target, not durable yet.
    fn copied(self: Box<Self>);
}
