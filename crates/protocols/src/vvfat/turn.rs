//! Requests side by side, and now and then somebody alone.
use event_listener::Event;
use parking_lot::Mutex;

#[derive(Default)]
pub struct Turn {
    state: Mutex<State>,
    changed: Event,
}

#[derive(Default)]
struct State {
    /// Requests that are under way.
    inside: usize,
    /// Somebody is alone, or waits to be: nobody comes in.
    closed: bool,
}

/// A request that is under way.
pub struct Inside<'a>(&'a Turn);

/// Nobody else is inside.
pub struct Alone<'a>(&'a Turn);

impl Turn {
    /// Comes in, where that needs no waiting.
    pub fn try_enter(&self) -> Option<Inside<'_>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.inside += 1;
        Some(Inside(self))
    }

    pub async fn enter(&self) -> Inside<'_> {
        loop {
            if let Some(inside) = self.try_enter() {
                return inside;
            }
            let listener = self.changed.listen();
            // It may have been opened before anybody listened.
            if let Some(inside) = self.try_enter() {
                return inside;
            }
            listener.await;
        }
    }

    /// Waits until all have left; others wait. Only one may ask for it at a time.
    pub async fn alone(&self) -> Alone<'_> {
        self.state.lock().closed = true;
        // From here on it is opened again, also if nobody waits for it any more.
        let alone = Alone(self);
        loop {
            let listener = self.changed.listen();
            if self.state.lock().inside == 0 {
                return alone;
            }
            listener.await;
        }
    }

    fn leave(&self, change: impl FnOnce(&mut State)) {
        let is_empty = {
            let mut state = self.state.lock();
            change(&mut state);
            state.inside == 0
        };
        if is_empty {
            self.changed.notify(usize::MAX);
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.leave(|state| state.inside -= 1);
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.leave(|state| state.closed = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn who_is_alone_waits_for_those_inside_and_keeps_others_out() {
        let turn = Turn::default();
        let inside = turn.try_enter().unwrap();
        let mut alone = Box::pin(turn.alone());
        assert!(alone.as_mut().now_or_never().is_none() && turn.try_enter().is_none());
        drop(inside);
        let held = alone.now_or_never().unwrap();
        let mut waits = Box::pin(turn.enter());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(held);
        assert!(waits.now_or_never().is_some());
        drop(turn.alone().now_or_never().unwrap());
        assert!(turn.try_enter().is_some());
    }
}
