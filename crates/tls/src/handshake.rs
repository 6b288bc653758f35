//! Handshakes: OpenSSL fed with what comes, and what it says sent; then the keys that were agreed on are taken out, and it is let go.
//!
//! The secrets of the two directions are taken as OpenSSL tells them for key logs. No tickets are sent, so that the first record
//! after the handshake is number 0 either way; those of the peer are data for the records already.

use crate::credentials::{Credentials, Endpoint};
use crate::layer::Layer;
use crate::library::Library;
use crate::records::{ACCESS_DENIED, Opener, Sealer, Suite};
use crate::secured::Secured;
use crate::trust::Trust;
use crate::{Authorizer, Channel, Identity, TlsError, names};
use block::{BlockError, Result};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    self, ErrorCode, Ssl, SslContext, SslContextBuilder, SslContextRef, SslMethod, SslOptions, SslRef,
    SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::X509VerifyResult;
use openssl::x509::verify::X509CheckFlags;
use parking_lot::Mutex;
use rt::net::Stream;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// Bytes that are received at a time.
const CHUNK: usize = 16 << 10;
/// Characters of a stranger's name that are told: a distinguished name fits.
const SHOWN: usize = 512;

/// What is noted of a handshake that goes on.
#[derive(Default)]
struct Notes {
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
    /// The user of the shared key, and whether the key is known.
    user: Option<(String, bool)>,
}

/// Where OpenSSL keeps the notes.
static NOTES: LazyLock<Option<Index<Ssl, Mutex<Notes>>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

fn notes(ssl: &SslRef) -> Option<&Mutex<Notes>> {
    NOTES.and_then(|index| ssl.ex_data(index))
}

/// Notes whose shared key is asked for.
pub(crate) fn note_user(ssl: &SslRef, name: String, known: bool) {
    if let Some(notes) = notes(ssl) {
        notes.lock().user = Some((name, known));
    }
}

/// An error of OpenSSL's while something is made ready.
pub(crate) fn library(error: ErrorStack) -> BlockError {
    BlockError::invalid(format!("OpenSSL: {}", reasons(&error)))
}

/// What all credentials have in common.
pub(crate) fn terms(suites: &[Suite]) -> Result<SslContextBuilder> {
    let make = || {
        let mut terms = SslContext::builder(SslMethod::tls())?;
        terms.set_min_proto_version(Some(SslVersion::TLS1_3))?;
        terms.set_max_proto_version(Some(SslVersion::TLS1_3))?;
        let names: Vec<_> = suites.iter().map(|suite| suite.name()).collect();
        terms.set_ciphersuites(&names.join(":"))?;
        terms.set_options(SslOptions::NO_TICKET | SslOptions::CIPHER_SERVER_PREFERENCE);
        terms.set_session_cache_mode(SslSessionCacheMode::OFF);
        terms.set_num_tickets(0)?;
        terms.set_verify(SslVerifyMode::NONE);
        terms.set_keylog_callback(take_secret);
        Ok(terms)
    };
    make().map_err(library)
}

/// Takes the secrets of the two directions from the lines of a key log: `LABEL random secret`.
pub(crate) fn take_secret(ssl: &SslRef, line: &str) {
    let mut words = line.split(' ');
    let (label, Some(secret)) = (words.next().unwrap_or_default(), words.nth(1)) else { return };
    let Some(notes) = notes(ssl) else { return };
    let digit =
        |pair: &[u8], at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16)).unwrap_or(0);
    let bytes = secret.as_bytes().chunks_exact(2).map(|pair| (digit(pair, 0) << 4 | digit(pair, 1)) as u8);
    let secret = Zeroizing::new(bytes.collect::<Vec<u8>>());
    match label {
        "CLIENT_TRAFFIC_SECRET_0" => notes.lock().client = secret,
        "SERVER_TRAFFIC_SECRET_0" => notes.lock().server = secret,
        _ => {}
    }
}

/// Begins TLS as the server of a connected channel, and tells who the client is. With an authorizer only those whom it lets in are
/// taken.
///
/// # Errors
/// Nothing was agreed on in TLS; the channel is of no use any more.
pub async fn accept(
    channel: &Channel,
    credentials: &Credentials,
    authorizer: Option<&Authorizer>,
) -> Result<Option<Identity>, TlsError> {
    let mut ssl = begin(context_of(credentials))?;
    ssl.set_accept_state();
    let agreed = agree(&channel.stream, ssl, None).await?;
    let secured = secure(&agreed, Endpoint::Server)?;
    let identity = identity(agreed.ssl());
    let is_in = match (authorizer, &identity) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(authorizer), Some(identity)) => {
            // The rules may be in a file, which is read again.
            let (authorizer, identity) = (authorizer.clone(), identity.clone());
            rt::blocking(move || authorizer.allows(&identity)).await
        }
    };
    if !is_in {
        secured.say(&channel.stream, ACCESS_DENIED);
    }
    put(channel, secured)?;
    if is_in {
        return Ok(identity);
    }
    let name = identity.map_or_else(|| "a client without a name".to_owned(), |name| shown(&name.0));
    Err(TlsError::Denied(name))
}

/// Begins TLS as the client of a connected channel. `hostname` is the name that the server's certificate has to be for.
///
/// # Errors
/// Nothing was agreed on in TLS; the channel is of no use any more.
pub async fn connect(
    channel: &Channel,
    credentials: &Credentials,
    hostname: Option<&str>,
) -> Result<(), TlsError> {
    let mut ssl = begin(context_of(credentials))?;
    ssl.set_connect_state();
    if matches!(credentials, Credentials::X509(_)) {
        match hostname.filter(|name| !name.is_empty()) {
            Some(name) => expect(&mut ssl, name).map_err(|e| TlsError::Handshake(reasons(&e)))?,
            None if ssl.verify_mode().contains(SslVerifyMode::PEER) => return Err(TlsError::NoHostname),
            None => {}
        }
    }
    let agreed = agree(&channel.stream, ssl, hostname).await?;
    put(channel, secure(&agreed, Endpoint::Client)?)
}

/// Begins TLS 1.2 or 1.3 as the client of a server that anybody may run, whose certificate has to be for the host (a name, or an
/// address), unless nobody is asked about it. Where sessions go on in other channels, what was agreed on in `earlier`, a channel
/// to the same server, is offered; a server that does not take it up makes a full handshake.
///
/// # Errors
/// Nothing was agreed on in TLS; the channel is of no use any more.
pub async fn reach(
    channel: &Channel,
    trust: &Trust,
    host: &str,
    earlier: Option<&Channel>,
) -> Result<(), TlsError> {
    let mut ssl = begin(trust.context())?;
    ssl.set_connect_state();
    expect(&mut ssl, host).map_err(|e| TlsError::Handshake(reasons(&e)))?;
    let earlier = earlier.filter(|_| trust.resumes());
    if let Some(session) = earlier.and_then(|channel| channel.tls.get()?.session()) {
        session.offer(&mut ssl);
    }
    let agreed = agree(&channel.stream, ssl, Some(host)).await?;
    if trust.resumes() || agreed.ssl().version2() != Some(SslVersion::TLS1_3) {
        return put(channel, Library::new(agreed));
    }
    put(channel, secure(&agreed, Endpoint::Client)?)
}

fn context_of(credentials: &Credentials) -> &SslContextRef {
    match credentials {
        Credentials::X509(x509) => x509.context(),
        Credentials::Psk(psk) => psk.context(),
    }
}

fn begin(context: &SslContextRef) -> Result<Ssl, TlsError> {
    let mut ssl = Ssl::new(context).map_err(|e| TlsError::Handshake(reasons(&e)))?;
    let index = NOTES.ok_or_else(|| TlsError::Handshake("OpenSSL has no room for notes".into()))?;
    ssl.set_ex_data(index, Mutex::default());
    Ok(ssl)
}

/// Has the server's certificate compared with a name or an address.
fn expect(ssl: &mut SslRef, name: &str) -> Result<(), ErrorStack> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return ssl.param_mut().set_ip(address);
    }
    ssl.set_hostname(name)?;
    ssl.param_mut().set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
    ssl.param_mut().set_host(name)
}

/// What OpenSSL reads and writes.
#[derive(Default)]
pub(crate) struct Pipe {
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
    sent: usize,
}

impl Pipe {
    /// What has come and was not read.
    pub fn rest(&self) -> &[u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// Sends what was written. `WouldBlock` as long as something is left.
    pub fn send(&mut self, stream: &Stream) -> io::Result<()> {
        while let Some(left) = self.output.get(self.sent..).filter(|left| !left.is_empty()) {
            match stream.try_send(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    /// Receives at most so many bytes, when all that came was read: how many; 0 is the end.
    pub fn receive(&mut self, stream: &Stream, most: usize) -> io::Result<usize> {
        self.input.resize(most, 0);
        let got = stream.try_recv(&mut self.input);
        self.input.truncate(*got.as_ref().unwrap_or(&0));
        self.at = 0;
        got
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.rest().read(buf)?;
        self.at += n;
        if n == 0 && !buf.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
    }
}

impl Write for Pipe {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Moves bytes until both ends agree.
async fn agree(stream: &Stream, ssl: Ssl, hostname: Option<&str>) -> Result<SslStream<Pipe>, TlsError> {
    let mut tls =
        SslStream::new(ssl, Pipe::default()).map_err(|error| TlsError::Handshake(reasons(&error)))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        // Signatures take long: other clients of this worker are served meanwhile.
        let step;
        (tls, step) = rt::compute(move || {
            let step = tls.do_handshake();
            (tls, step)
        })
        .await;
        let out = std::mem::take(&mut tls.get_mut().output);
        let sent = stream.send_all(&out).await;
        match step {
            Ok(()) => {
                sent?;
                return Ok(tls);
            }
            Err(error) if error.code() == ErrorCode::WANT_READ => sent?,
            // The alert that says so may not have arrived.
            Err(error) => return Err(failure(tls.ssl(), &error, hostname)),
        }
        let n = stream.recv(&mut chunk).await?;
        if n == 0 {
            return Err(TlsError::Closed);
        }
        let pipe = tls.get_mut();
        pipe.input.drain(..pipe.at);
        pipe.at = 0;
        pipe.input.extend_from_slice(chunk.get(..n).unwrap_or_default());
    }
}

/// Puts the channel into TLS.
fn put(channel: &Channel, layer: impl Layer + 'static) -> Result<(), TlsError> {
    let twice = |_| TlsError::Handshake("the channel is in TLS already".to_owned());
    channel.tls.set(Box::new(layer)).map_err(twice)
}

/// The records for what was agreed on in TLS 1.3.
fn secure(agreed: &SslStream<Pipe>, end: Endpoint) -> Result<Secured, TlsError> {
    let failed = |what: &str| TlsError::Handshake(what.to_owned());
    let ssl = agreed.ssl();
    let suite = ssl.current_cipher().and_then(|cipher| Suite::named(cipher.name()));
    let suite = suite.ok_or_else(|| failed("the cipher that was agreed on is not one of those allowed"))?;
    let notes = notes(ssl).ok_or_else(|| failed("OpenSSL has lost its notes"))?;
    let (client, server) = {
        let mut notes = notes.lock();
        (std::mem::take(&mut notes.client), std::mem::take(&mut notes.server))
    };
    let (sends, receives) = match end {
        Endpoint::Client => (client, server),
        Endpoint::Server => (server, client),
    };
    let sealer = Sealer::new(suite, sends).map_err(|e| failed(&e.to_string()))?;
    let opener = Opener::new(suite, receives).map_err(|e| failed(&e.to_string()))?;
    Ok(Secured::new(sealer, opener, agreed.get_ref().rest()))
}

/// Who the client is, as it has proved.
fn identity(ssl: &SslRef) -> Option<Identity> {
    if let Some(certificate) = ssl.peer_certificate() {
        return Some(Identity(names::text(certificate.subject_name())));
    }
    let user = notes(ssl)?.lock().user.clone();
    user.filter(|(_, known)| *known).map(|(name, _)| Identity(name))
}

/// Why a handshake failed.
fn failure(ssl: &SslRef, error: &ssl::Error, hostname: Option<&str>) -> TlsError {
    let verdict = ssl.verify_result();
    if verdict != X509VerifyResult::OK && ssl.verify_mode().contains(SslVerifyMode::PEER) {
        let is_name = matches!(verdict.as_raw(), HOSTNAME_MISMATCH | IP_ADDRESS_MISMATCH);
        return TlsError::Certificate(match hostname {
            Some(name) if is_name => format!("it does not match the hostname {name}"),
            _ => verdict.error_string().to_owned(),
        });
    }
    let stranger = notes(ssl).and_then(|notes| notes.lock().user.clone()).filter(|(_, known)| !known);
    if let Some((name, _)) = stranger {
        return TlsError::Handshake(format!("the user '{}' of a shared key is not known", shown(&name)));
    }
    let told = error.ssl_error().map(reasons).filter(|text| !text.is_empty());
    TlsError::Handshake(told.unwrap_or_else(|| "the peer broke it off".to_owned()))
}

/// `X509_V_ERR_HOSTNAME_MISMATCH` and `X509_V_ERR_IP_ADDRESS_MISMATCH`.
const HOSTNAME_MISMATCH: i32 = 62;
const IP_ADDRESS_MISMATCH: i32 = 64;

/// What OpenSSL tells of an error, without places in its source.
pub(crate) fn reasons(error: &ErrorStack) -> String {
    let mut all: Vec<&str> = error.errors().iter().filter_map(|error| error.reason()).collect();
    all.dedup();
    all.join("; ")
}

/// A stranger's text for people: short, and on one line.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
