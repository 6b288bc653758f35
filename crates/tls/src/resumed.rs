//! Sessions that go on in another channel: servers may demand it, as proof that both have one client at their other end.

use openssl::ssl::{SslContextRef, SslRef, SslSession};

/// What was agreed on in a channel.
pub(crate) struct Session {
    session: SslSession,
    /// What it was agreed on with.
    terms: *const (),
}

/// Tells terms from each other; they are not used through it.
fn mark(terms: &SslContextRef) -> *const () {
    std::ptr::from_ref(terms).cast()
}

impl Session {
    /// That of a channel, where there is one.
    pub fn of(ssl: &SslRef) -> Option<Self> {
        Some(Self { session: ssl.session()?.to_owned(), terms: mark(ssl.ssl_context()) })
    }

    /// Offers it to a server. One that has other terms is not offered: a full handshake follows.
    #[allow(unsafe_code)]
    pub fn offer(&self, ssl: &mut SslRef) {
        if self.terms != mark(ssl.ssl_context()) {
            return;
        }
        // SAFETY: the session is of the same context as `ssl`, as was just compared: the address of a context is not used
        // again meanwhile, for the channel that the session was taken from keeps it, and is borrowed by whoever offers.
        // A session that can't be used makes a full handshake.
        let _ = unsafe { ssl.set_session(&self.session) };
    }
}
