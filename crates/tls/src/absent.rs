//! In place of what needs OpenSSL, where the program was built without it: credentials can't be made, so nothing is agreed on.

use crate::credentials::{Endpoint, Settings};
use crate::{Authorizer, Channel, Credentials, Identity, TlsError};
use block::{BlockError, Object, Result, Secret};
use rt::net::Stream;
use std::convert::Infallible;
use std::io::{self, IoSlice};

/// Certificates: none can be had.
pub struct X509Credentials(Infallible);
/// Shared keys: none can be had.
pub struct PskCredentials(Infallible);

impl Object for X509Credentials {
    const KIND: &'static str = "tls-creds-x509";
}

impl Object for PskCredentials {
    const KIND: &'static str = "tls-creds-psk";
}

/// A stream in TLS: there is none.
pub(crate) struct Secured(Infallible);

impl Secured {
    pub fn holds_more(&self) -> bool {
        match self.0 {}
    }

    pub fn try_flush(&self, _: &Stream) -> io::Result<()> {
        match self.0 {}
    }

    pub fn say_the_end(&self, _: &Stream) {
        match self.0 {}
    }

    pub fn try_recv(&self, _: &Stream, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub fn try_send(&self, _: &Stream, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0 {}
    }
}

fn absent<T>() -> Result<T> {
    Err(BlockError::unsupported("this program was built without TLS"))
}

impl X509Credentials {
    /// Always refused.
    pub fn load(_: &Settings, _: bool, _: Option<&Secret>) -> Result<Self> {
        absent()
    }

    /// Of none.
    pub fn endpoint(&self) -> Endpoint {
        match self.0 {}
    }
}

impl PskCredentials {
    /// Always refused.
    pub fn load(_: &Settings, _: Option<String>) -> Result<Self> {
        absent()
    }

    /// Of none.
    pub fn endpoint(&self) -> Endpoint {
        match self.0 {}
    }
}

/// With credentials that nobody has.
pub async fn accept(
    _: &Channel,
    credentials: &Credentials,
    _: Option<&Authorizer>,
) -> Result<Option<Identity>, TlsError> {
    nobody(credentials)
}

/// With credentials that nobody has.
pub async fn connect(_: &Channel, credentials: &Credentials, _: Option<&str>) -> Result<(), TlsError> {
    nobody(credentials)
}

fn nobody(credentials: &Credentials) -> ! {
    match credentials {
        Credentials::X509(x509) => match x509.0 {},
        Credentials::Psk(psk) => match psk.0 {},
    }
}
