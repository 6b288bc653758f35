//! How a session ends: lost, given up, closed from here, or because its target has asked for that.
//!
//! ```text
//! target asks ─▶ no command is sent any more ─▶ those under way end ─▶ logout ─▶ over          (RFC 7143, section 11.9.1)
//!                                └ in time, or the connection is given up
//! ```

use super::Connection;
use crate::iscsi::receive::Broken;
use crate::way::{self, Connection as _};
use block::{BlockError, ErrorKind};
use event_listener::IntoNotification;
use rt::Target;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Connection {
    /// Gives the connection up.
    pub fn lose(&self, cause: &Broken) {
        let error = self.lost(cause);
        self.end(&error);
    }

    /// Gives the connection up because somebody wants it so.
    pub fn cut(&self) {
        self.lose(&Broken::Cut);
    }

    /// Gives the connection up because the target took too long.
    pub(super) fn give_up(&self, waited: u64) {
        let seconds = Duration::from_nanos(waited).as_secs_f32();
        let text = format!(
            "the connection to '{}' was given up: the target did not answer for {seconds:.1} s",
            self.name
        );
        tracing::warn!(unit = self.name, seconds, "iSCSI target does not answer; connection given up");
        self.end(&BlockError::new(ErrorKind::Timeout, text));
    }

    fn end(&self, error: &BlockError) {
        self.tasks.kill(error);
        self.signals.close();
        // Whoever waits for room looks whether the connection has ended: it has by now.
        self.roomier.notify(usize::MAX.additional());
    }

    fn closed(&self) -> BlockError {
        BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name))
    }

    /// Logs out, and waits for the target to say so for as long as patience lasts. Commands still in flight end with an error;
    /// there should be none.
    pub async fn close(&self) {
        let ended = self.ended.listen();
        if self.log_out() {
            // Whichever comes first: it is over.
            let _ = rt::timeout(self.patience.logout, ended).await;
        }
        self.end(&self.closed());
    }

    /// Tells the target that this is the end, unless that was done before. Whether it is there to answer.
    fn log_out(&self) -> bool {
        if self.signals.is_closing() {
            return false;
        }
        if self.signals.leave() {
            let mut sending = self.sending.lock();
            self.put_logout(&mut sending);
            // If the target is gone, there is nothing to send.
            let _ = self.send_some(&mut sending);
        }
        true
    }

    /// The target wants the session to end within so many seconds: there is no other command in it.
    pub(super) fn retire(&self, seconds: u16) {
        let time = Duration::from_secs(seconds.max(1).into());
        if self.unwanted.set(time).is_ok() {
            tracing::info!(unit = self.name, "the iSCSI target asks for the end of the session");
            self.tasks.refuse(&self.lost(&Broken::LogoutWanted));
            self.roomier.notify(usize::MAX.additional());
        }
    }

    /// Waits for the end of a session whose target has asked for it.
    pub async fn retired(&self) {
        loop {
            let ended = self.ended.listen();
            if !self.is_retiring() {
                return;
            }
            ended.await;
        }
    }

    /// Logs out of such a session as soon as no command is under way. The commands have the time that the target gives, and its answer to
    /// the logout that of our patience.
    pub(super) fn step_down(self: &Arc<Self>) {
        let Some(time) = self.unwanted.get() else { return };
        if !self.timed.swap(true, Ordering::AcqRel) {
            self.end_within(*time);
        }
        if !self.tasks.are_under_way() && !self.signals.is_leaving() && self.log_out() {
            self.end_within(self.patience.logout);
        }
    }

    fn end_within(self: &Arc<Self>, time: Duration) {
        let connection = Arc::downgrade(self);
        let late = async move {
            rt::sleep(time).await;
            if let Some(connection) = connection.upgrade() {
                connection.lose(&Broken::LogoutWanted);
            }
        };
        rt::spawn_on(Target::Control, late).detach();
    }
}

impl way::Connection for Connection {
    fn dead(&self) -> Option<BlockError> {
        self.tasks.dead()
    }

    /// Logs out, without waiting for the target.
    fn leave(&self) {
        self.log_out();
        self.end(&self.closed());
    }

    fn abort(&self) {
        // It may be gone already.
        let _ = self.stream.abort();
    }

    fn is_retiring(&self) -> bool {
        self.unwanted.get().is_some() && !self.over.load(Ordering::Acquire)
    }
}
