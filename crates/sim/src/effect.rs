//! What an operation changes in a file, as a value that can be split, masked and applied again after a crash.

use std::sync::Arc;

use crate::content::Content;

/// Bytes that the medium writes all or not at all.
pub(crate) const SECTOR: u64 = 512;

/// What a range is filled with.
#[derive(Clone)]
enum Fill {
    /// Bytes of `data` from `from` on.
    Bytes { data: Arc<[u8]>, from: usize },
    /// Stored zeros.
    Zero,
    /// Nothing stored.
    Hole,
    /// Unchanged, but stored.
    Reserve,
}

/// What happens to the length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Size {
    Keep,
    AtLeast(u64),
    Set(u64),
}

/// One change of one range of a file, and of its length.
#[derive(Clone)]
pub(crate) struct Effect {
    off: u64,
    len: u64,
    fill: Fill,
    size: Size,
}

impl Effect {
    /// `data` written at `off`.
    pub(crate) fn write(off: u64, data: &[u8]) -> Effect {
        let (len, fill) = (data.len() as u64, Fill::Bytes { data: Arc::from(data), from: 0 });
        Effect { off, len, fill, size: Size::AtLeast(off.saturating_add(len)) }
    }

    /// A range freed; the length stays.
    pub(crate) fn punch(off: u64, len: u64) -> Effect {
        Effect { off, len, fill: Fill::Hole, size: Size::Keep }
    }

    /// A range zeroed; the length stays.
    pub(crate) fn zero(off: u64, len: u64) -> Effect {
        Effect { off, len, fill: Fill::Zero, size: Size::Keep }
    }

    /// Space reserved, with or without growing the file.
    pub(crate) fn reserve(off: u64, len: u64, grow: bool) -> Effect {
        let size = if grow { Size::AtLeast(off.saturating_add(len)) } else { Size::Keep };
        Effect { off, len, fill: Fill::Reserve, size }
    }

    /// The length set: everything behind it is gone.
    pub(crate) fn set_len(len: u64) -> Effect {
        Effect { off: len, len: u64::MAX - len, fill: Fill::Hole, size: Size::Set(len) }
    }

    fn end(&self) -> u64 {
        self.off.saturating_add(self.len)
    }

    /// Bytes of pages that it stores and `content` does not yet.
    pub(crate) fn stores(&self, content: &Content) -> u64 {
        match self.fill {
            Fill::Zero | Fill::Reserve if content.is_sparse() => 0,
            Fill::Bytes { .. } | Fill::Reserve => content.missing(self.off, self.len),
            Fill::Zero => content.missing(self.off, self.len.min(content.len().saturating_sub(self.off))),
            Fill::Hole => 0,
        }
    }

    /// Whether it can be done in pieces. A length is set in one.
    fn divisible(&self) -> bool {
        !matches!(self.size, Size::Set(_))
    }

    /// The part of it in `from..to`.
    fn part(&self, from: u64, to: u64) -> Option<Effect> {
        let (from, to) = (from.max(self.off), to.min(self.end()));
        if from >= to {
            return None;
        }
        let fill = match &self.fill {
            Fill::Bytes { data, from: skip } => {
                Fill::Bytes { data: data.clone(), from: skip + (from - self.off) as usize }
            }
            other => other.clone(),
        };
        let size = match self.size {
            Size::AtLeast(n) => Size::AtLeast(n.min(to)),
            other => other,
        };
        Some(Effect { off: from, len: to - from, fill, size })
    }

    /// It split at `at`; whole if that is not inside.
    pub(crate) fn split_at(self, at: u64) -> Vec<Effect> {
        if !self.divisible() || at <= self.off || at >= self.end() {
            return vec![self];
        }
        [self.part(self.off, at), self.part(at, self.end())].into_iter().flatten().collect()
    }

    /// The front of it that a failed operation may have done: so many whole sectors, of all there are.
    pub(crate) fn front(&self, whole: bool, choose: impl FnOnce(u64) -> u64) -> Option<Effect> {
        let (first, count) = self.boundaries(SECTOR);
        match choose(count + 1 + u64::from(whole)) {
            0 => None,
            done if done > count => Some(self.clone()),
            done => self.part(self.off, first + (done - 1) * SECTOR),
        }
    }

    /// Where a piece boundary of `unit` bytes inside it is, if there is one: `(first, count)`.
    pub(crate) fn boundaries(&self, unit: u64) -> (u64, u64) {
        let first = (self.off / unit + 1) * unit;
        (first, if self.divisible() { self.end().saturating_sub(first).div_ceil(unit) } else { 0 })
    }

    /// Its pieces on a grid of `unit` bytes.
    pub(crate) fn pieces(&self, unit: u64) -> Vec<Effect> {
        if !self.divisible() || self.len / unit > 1 << 16 {
            return vec![self.clone()];
        }
        let cells = self.off / unit..self.end().div_ceil(unit);
        cells.filter_map(|cell| self.part(cell * unit, (cell + 1) * unit)).collect()
    }

    /// What is left of it once `later`, which happened after it, is durable.
    pub(crate) fn masked_by(&self, later: &Effect) -> Vec<Effect> {
        let size = match (self.size, later.size) {
            (Size::Keep, _) => Size::Keep,
            (_, Size::Set(_)) => Size::Keep,
            // A write behind a truncation made the file longer again.
            (Size::Set(n), Size::AtLeast(m)) => Size::Set(n.max(m)),
            (size, _) => size,
        };
        if matches!(later.fill, Fill::Reserve) {
            return vec![Effect { size, ..self.clone() }];
        }
        let bytes = Effect { size: Size::Keep, ..self.clone() };
        let parts = [bytes.part(self.off, later.off), bytes.part(later.end(), self.end())];
        let rest = (size != Size::Keep).then(|| Effect { len: 0, fill: Fill::Hole, size, ..self.clone() });
        parts.into_iter().chain([rest]).flatten().collect()
    }

    /// Applies it to a content.
    pub(crate) fn apply(&self, content: &mut Content) {
        match &self.fill {
            Fill::Bytes { data, from } => {
                let bytes = data.get(*from..from + self.len as usize).unwrap_or_default();
                content.write(self.off, bytes);
            }
            Fill::Zero => content.zero(self.off, self.len),
            Fill::Hole => content.punch(self.off, self.len),
            Fill::Reserve => {
                let grow = if let Size::AtLeast(n) = self.size { n } else { 0 };
                content.reserve(self.off, self.len, grow);
            }
        }
        match self.size {
            Size::Set(n) => content.set_len(n),
            Size::AtLeast(n) if n > content.len() => content.set_len(n),
            _ => {}
        }
    }
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match (&self.fill, self.size) {
            (_, Size::Set(n)) => return write!(f, "set_len {n:#x}"),
            (Fill::Bytes { .. }, _) => "write",
            (Fill::Zero, _) => "zero",
            (Fill::Hole, _) => "punch",
            (Fill::Reserve, _) => "reserve",
        };
        write!(f, "{what} {:#x}+{:#x}", self.off, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn any_effect(rng: &mut Rng) -> Effect {
        let (off, len) = (rng.below(40) * 512, (1 + rng.below(20)) * 512);
        match rng.below(6) {
            0 => Effect::punch(off, len),
            1 => Effect::zero(off, len),
            2 => Effect::set_len(off),
            _ => Effect::write(off, &vec![1 + rng.below(255) as u8; len as usize]),
        }
    }

    #[test]
    fn an_earlier_effect_masked_by_a_later_one_changes_nothing_when_it_is_applied_after_it() {
        for seed in 0..3000 {
            let mut rng = Rng::new(seed);
            let mut start = Content::default();
            start.write(0, &vec![0xee; 512 * rng.below(30) as usize]);
            let (earlier, later) = (any_effect(&mut rng), any_effect(&mut rng));
            let mut in_order = start.clone();
            earlier.apply(&mut in_order);
            later.apply(&mut in_order);
            let mut masked = start;
            later.apply(&mut masked);
            earlier.masked_by(&later).iter().for_each(|e| e.apply(&mut masked));
            let (a, b) = (in_order.to_vec(), masked.to_vec());
            assert_eq!(a.len(), b.len(), "seed {seed}: {earlier}, then {later}");
            assert!(a == b, "seed {seed}: {earlier}, then {later}");
        }
    }

    #[test]
    fn an_effect_is_the_sum_of_its_pieces() {
        for seed in 0..1000 {
            let mut rng = Rng::new(seed);
            let effect = any_effect(&mut rng);
            let (mut whole, mut parts) = (Content::default(), Content::default());
            whole.write(0, &vec![0xee; 20_000]);
            parts.write(0, &vec![0xee; 20_000]);
            effect.apply(&mut whole);
            effect.pieces(512).iter().for_each(|e| e.apply(&mut parts));
            assert!(whole.to_vec() == parts.to_vec(), "seed {seed}: {effect}");
        }
    }
}
