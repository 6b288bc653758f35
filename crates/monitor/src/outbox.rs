//! What waits to be sent to one client, bounded.
//!
//! An answer waits for room, and until then no more is read from that client. Events don't wait: a client that lets them
//! pile up is disconnected.
use crate::wire::MessageLayout;
use event_listener::{Event, EventListener, IntoNotification};
use parking_lot::Mutex;

/// Most bytes that wait for a client, beside one answer.
pub const MAX_BYTES: usize = 1 << 20;

/// The queue to one client.
pub struct Outbox {
    layout: MessageLayout,
    state: Mutex<State>,
    changed: Event,
}

#[derive(Default)]
struct State {
    text: Vec<u8>,
    /// Being sent now.
    sending: usize,
    /// Events are wanted.
    listening: bool,
    /// Nothing more is queued.
    ended: bool,
    /// The client is gone: what is queued is discarded.
    gone: bool,
}

impl Outbox {
    /// An empty queue.
    pub fn new(layout: MessageLayout) -> Self {
        Self { layout, state: Mutex::default(), changed: Event::new() }
    }

    /// How messages are laid out.
    pub fn layout(&self) -> MessageLayout {
        self.layout
    }

    /// From now on events are queued.
    pub fn listen_to_events(&self) {
        self.state.lock().listening = true;
    }

    /// Queues an event, if events are wanted; `false` if the client is to be disconnected.
    pub fn event(&self, message: &str) -> bool {
        let mut state = self.state.lock();
        if state.listening && !state.ended {
            if state.text.len() + state.sending + message.len() > MAX_BYTES {
                state.gone = true;
                state.ended = true;
            } else {
                state.text.extend_from_slice(message.as_bytes());
            }
            self.changed.notify(usize::MAX.additional());
        }
        !state.gone
    }

    /// Queues an answer, after waiting for room.
    pub async fn answer(&self, message: &str) {
        while let Some(listener) = self.try_answer(message) {
            listener.await;
        }
    }

    fn try_answer(&self, message: &str) -> Option<EventListener> {
        let mut state = self.state.lock();
        if !state.ended && state.text.len() + state.sending > MAX_BYTES {
            return Some(self.changed.listen());
        }
        if !state.ended {
            state.text.extend_from_slice(message.as_bytes());
            self.changed.notify(usize::MAX.additional());
        }
        None
    }

    /// Queues nothing more; what is queued is still sent.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify(usize::MAX.additional());
    }

    /// The client is gone: nothing more is queued or sent.
    pub fn give_up(&self) {
        let mut state = self.state.lock();
        (state.ended, state.gone) = (true, true);
        state.text.clear();
        self.changed.notify(usize::MAX.additional());
    }

    /// The next bytes to send; `None` at the end. The call says that the bytes of the one before are sent.
    pub async fn next(&self) -> Option<Vec<u8>> {
        loop {
            let listener = {
                let mut state = self.state.lock();
                state.sending = 0;
                self.changed.notify(usize::MAX.additional());
                if state.gone || (state.ended && state.text.is_empty()) {
                    return None;
                }
                if !state.text.is_empty() {
                    state.sending = state.text.len();
                    return Some(std::mem::take(&mut state.text));
                }
                self.changed.listen()
            };
            listener.await;
        }
    }

    /// Waits until the client is to be disconnected.
    pub async fn gone(&self) {
        self.wait_until(|state| state.gone).await;
    }

    /// Waits until all that was queued is sent or discarded.
    pub async fn sent(&self) {
        self.wait_until(|state| state.gone || (state.text.is_empty() && state.sending == 0)).await;
    }

    async fn wait_until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let listener = {
                let state = self.state.lock();
                if done(&state) {
                    return;
                }
                self.changed.listen()
            };
            listener.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_client_that_does_not_read_is_disconnected_when_events_pile_up() {
        let outbox = Outbox::new(MessageLayout::Line);
        assert!(outbox.event("early"), "not wanted yet, so not kept");
        outbox.listen_to_events();
        let event = "x".repeat(MAX_BYTES / 2);
        assert!(outbox.event(&event));
        assert!(outbox.event(&event));
        assert!(!outbox.event(&event));
        assert!(outbox.next().now_or_never().flatten().is_none());
        assert!(outbox.gone().now_or_never().is_some());
    }

    #[test]
    fn an_answer_waits_for_room_and_is_sent_after_the_end() {
        let outbox = Outbox::new(MessageLayout::Line);
        let long = "x".repeat(MAX_BYTES + 1);
        assert!(outbox.answer(&long).now_or_never().is_some(), "one answer always fits");
        assert!(outbox.answer("second").now_or_never().is_none());
        assert_eq!(outbox.next().now_or_never().flatten().map(|t| t.len()), Some(MAX_BYTES + 1));
        assert!(outbox.answer("second").now_or_never().is_none(), "it is not sent yet");
        assert!(outbox.next().now_or_never().is_none());
        assert!(outbox.answer("second").now_or_never().is_some());
        outbox.end();
        assert_eq!(outbox.next().now_or_never().flatten().as_deref(), Some(&b"second"[..]));
        assert_eq!(outbox.next().now_or_never(), Some(None));
    }
}
