//! What stands between a channel's user and its stream, once it is in TLS.

use rt::net::Stream;
use std::io::{self, IoSlice};

/// TLS over a stream. Each direction is used by one task at a time, but for the end, which anybody may tell.
pub(crate) trait Layer: Send + Sync {
    /// Something can be had without receiving.
    fn holds_more(&self) -> bool;

    /// Goes on with what was taken and not sent. `WouldBlock` as long as something is left.
    fn try_flush(&self, stream: &Stream) -> io::Result<()>;

    /// Receives what is there; 0 is the end.
    fn try_recv(&self, stream: &Stream, buf: &mut [u8]) -> io::Result<usize>;

    /// Takes what there is room for, and sends what it can.
    fn try_send(&self, stream: &Stream, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Tells the peer that nothing more comes; not one that takes nothing: it sees the end all the same.
    fn say_the_end(&self, stream: &Stream);

    /// What another channel to the same server can go on with, where there is something.
    #[cfg(feature = "openssl")]
    fn session(&self) -> Option<crate::resumed::Session> {
        None
    }
}
