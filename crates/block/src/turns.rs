//! Turns: what begins in any order is given its place in the order in which it came.
use futures_channel::oneshot;

/// Gives out turns.
#[derive(Debug, Default)]
pub struct Turns {
    last: Option<oneshot::Receiver<()>>,
}

/// A position in an order: its turn comes when the turn before has ended, which it does when it is dropped. One that is
/// dropped before it has come lets the next come early.
#[derive(Debug)]
pub struct Turn {
    before: Option<oneshot::Receiver<()>>,
    /// Dropped when this turn ends.
    _after: oneshot::Sender<()>,
}

impl Turns {
    /// The next position.
    pub fn next_turn(&mut self) -> Turn {
        let (after, ended) = oneshot::channel();
        Turn { before: self.last.replace(ended), _after: after }
    }
}

impl Turn {
    /// Whether it has come.
    pub fn has_come(&mut self) -> bool {
        // Nothing is ever sent: the turn before has ended when its sender is dropped.
        if self.before.as_mut().is_some_and(|before| before.try_recv().is_ok()) {
            return false;
        }
        self.before = None;
        true
    }

    /// Waits until it has come.
    pub async fn come(&mut self) {
        if let Some(before) = self.before.take() {
            before.await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_in_order_also_when_one_of_them_is_dropped() {
        let mut turns = Turns::default();
        let (mut first, mut second, mut third) = (turns.next_turn(), turns.next_turn(), turns.next_turn());
        assert!(first.has_come() && !second.has_come() && !third.has_come());
        drop(second);
        assert!(third.has_come(), "a dropped turn delays no other");
        drop(first);
        assert!(third.has_come());
    }
}
