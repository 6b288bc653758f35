//! Certificates: those of a folder, under the names that QEMU gives them.
//!
//! ```text
//! ca-cert.pem                             whose signatures count; needed
//! ca-crl.pem                              what they have taken back; then each of them must say so
//! server-cert.pem  server-key.pem         a server's own, needed; others of its chain behind it
//! client-cert.pem  client-key.pem         a client's own
//! ```
//!
//! `dh-params.pem` has no use in TLS 1.3. An own certificate is judged when it is read, as a peer would (`sanity-check`).

use crate::credentials::{Endpoint, Settings};
use crate::handshake::{self, library};
use crate::{names, priority};
use block::{BlockError, ErrorKind, Object, Result, Secret};
use openssl::asn1::Asn1Time;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslContext, SslVerifyMode};
use openssl::stack::Stack;
use openssl::x509::store::{X509Lookup, X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{
    X509, X509KeyUsage, X509PurposeId, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult,
};
use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of the largest file.
const MOST: u64 = 1 << 20;

/// Certificates of one end.
pub struct X509Credentials {
    endpoint: Endpoint,
    context: SslContext,
}

impl Object for X509Credentials {
    const KIND: &'static str = "tls-creds-x509";
}

impl X509Credentials {
    /// Reads the folder. `password` is that of an encrypted key.
    ///
    /// # Errors
    /// A file is missing or malformed, a certificate is not valid now or not for this end, the key is not the certificate's or can't
    /// be decrypted; a setting has no meaning here.
    pub fn load(settings: &Settings, sanity_check: bool, password: Option<&Secret>) -> Result<Self> {
        let endpoint = settings.endpoint;
        let suites = priority::parse(settings.priority.as_deref().unwrap_or("NORMAL"))?;
        let authorities = Authorities::read(settings)?;
        let own = Own::read(settings, password)?;
        if sanity_check {
            authorities.check()?;
            own.iter().try_for_each(|own| own.check(endpoint, &authorities))?;
        }
        let mut terms = handshake::terms(&suites)?;
        terms.set_cert_store(authorities.store()?);
        if settings.verify_peer {
            let mode = match endpoint {
                Endpoint::Server => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
                Endpoint::Client => SslVerifyMode::PEER,
            };
            terms.set_verify_callback(mode, |is_fine, context| is_fine || is_anchor_without_list(context));
        }
        if endpoint == Endpoint::Server && settings.verify_peer {
            authorities.certificates.iter().try_for_each(|ca| terms.add_client_ca(ca)).map_err(library)?;
        }
        if let Some(own) = own {
            let wrong = || {
                let text =
                    format!("the key '{}' is not that of '{}'", own.key_path.display(), own.path.display());
                BlockError::invalid(text)
            };
            terms.set_certificate(&own.certificate).map_err(library)?;
            own.chain.into_iter().try_for_each(|link| terms.add_extra_chain_cert(link)).map_err(library)?;
            terms.set_private_key(&own.key).map_err(|_| wrong())?;
            terms.check_private_key().map_err(|_| wrong())?;
        }
        Ok(Self { endpoint, context: terms.build() })
    }

    /// The end that they are for.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    pub(crate) fn context(&self) -> &SslContext {
        &self.context
    }
}

/// Whose signatures count.
struct Authorities {
    path: PathBuf,
    certificates: Vec<X509>,
    /// The file of what they have taken back.
    revoked: Option<PathBuf>,
}

impl Authorities {
    fn read(settings: &Settings) -> Result<Self> {
        let path = settings.path("ca-cert.pem")?;
        let certificates = certificates(&path, &need(&path)?)?;
        let revoked = settings.path("ca-crl.pem")?;
        let revoked = find(&revoked)?.map(|_| revoked);
        Ok(Self { path, certificates, revoked })
    }

    fn store(&self) -> Result<X509Store> {
        let mut store = X509StoreBuilder::new().map_err(library)?;
        for certificate in &self.certificates {
            store.add_cert(certificate.clone()).map_err(library)?;
        }
        // Each of them counts, also one that another has signed.
        let mut flags = X509VerifyFlags::PARTIAL_CHAIN;
        if let Some(path) = &self.revoked {
            let broken =
                |_| BlockError::invalid(format!("'{}' is no list of revoked certificates", path.display()));
            let lookup = store.add_lookup(X509Lookup::file()).map_err(library)?;
            lookup.load_crl_file(path, openssl::ssl::SslFiletype::PEM).map_err(broken)?;
            flags |= X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
        }
        store.set_flags(flags).map_err(library)?;
        Ok(store.build())
    }

    /// Refuses those that are not valid now, or may sign no certificates.
    fn check(&self) -> Result<()> {
        for certificate in &self.certificates {
            check_time(certificate, &self.path)?;
            if certificate.key_usage().is_some_and(|usage| !usage.contains(X509KeyUsage::KEY_CERT_SIGN)) {
                return Err(bad(
                    certificate,
                    &self.path,
                    "its key usage does not allow it to sign certificates",
                ));
            }
        }
        Ok(())
    }
}

/// The authorities of a file, each of which counts by itself.
pub(crate) fn store_of(path: &Path) -> Result<X509Store> {
    let certificates = certificates(path, &need(path)?)?;
    Authorities { path: path.to_owned(), certificates, revoked: None }.store()
}

/// A certificate that is shown to peers, with its key.
struct Own {
    path: PathBuf,
    certificate: X509,
    chain: Vec<X509>,
    key_path: PathBuf,
    key: PKey<Private>,
}

impl Own {
    fn read(settings: &Settings, password: Option<&Secret>) -> Result<Option<Self>> {
        let end = settings.endpoint.name();
        let path = settings.path(&format!("{end}-cert.pem"))?;
        let key_path = settings.path(&format!("{end}-key.pem"))?;
        let text = match settings.endpoint {
            Endpoint::Server => need(&path)?,
            Endpoint::Client => match (find(&path)?, find(&key_path)?) {
                (Some(text), Some(_)) => text,
                // A server that wants none takes a client without.
                (None, None) => return Ok(None),
                (Some(_), None) => return Err(missing(&key_path)),
                (None, Some(_)) => return Err(missing(&path)),
            },
        };
        let mut all = certificates(&path, &text)?;
        let certificate = all.remove(0);
        let key = key(&key_path, &need(&key_path)?, password)?;
        Ok(Some(Self { path, certificate, chain: all, key_path, key }))
    }

    /// Judges it as a peer would.
    fn check(&self, endpoint: Endpoint, authorities: &Authorities) -> Result<()> {
        check_time(&self.certificate, &self.path)?;
        let purpose = match endpoint {
            Endpoint::Server => X509PurposeId::SSL_SERVER,
            Endpoint::Client => X509PurposeId::SSL_CLIENT,
        };
        let verdict = || {
            let mut param = X509VerifyParam::new()?;
            param.set_purpose(purpose)?;
            // Whether it was taken back is the peer's to judge: the list here is about the peers.
            let mut store = X509StoreBuilder::new()?;
            authorities.certificates.iter().try_for_each(|ca| store.add_cert(ca.clone()))?;
            store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
            store.set_param(&param)?;
            let mut chain = Stack::new()?;
            self.chain.iter().try_for_each(|link| chain.push(link.clone()))?;
            let mut context = X509StoreContext::new()?;
            context.init(&store.build(), &self.certificate, &chain, |context| {
                let fine = context.verify_cert()?;
                let who = context.current_cert().map(ToOwned::to_owned);
                Ok((fine, context.error().error_string(), context.error_depth(), who))
            })
        };
        match verdict().map_err(library)? {
            (true, ..) => Ok(()),
            (false, why, 0, _) => Err(bad(
                &self.certificate,
                &self.path,
                &format!("it is not one for a {}: {why}", endpoint.name()),
            )),
            (false, why, _, signer) => {
                Err(bad(signer.as_deref().unwrap_or(&self.certificate), &authorities.path, why))
            }
        }
    }
}

fn check_time(certificate: &X509Ref, path: &Path) -> Result<()> {
    let now = Asn1Time::days_from_now(0).map_err(library)?;
    if certificate.not_after() < now {
        return Err(bad(certificate, path, &format!("it has expired on {}", certificate.not_after())));
    }
    if certificate.not_before() > now {
        return Err(bad(certificate, path, &format!("it is not valid before {}", certificate.not_before())));
    }
    Ok(())
}

fn bad(certificate: &X509Ref, path: &Path, why: &str) -> BlockError {
    let name = names::text(certificate.subject_name());
    BlockError::invalid(format!("the certificate '{}' ({name}) can't be used: {why}", path.display()))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<X509>> {
    let all = X509::stack_from_pem(pem).ok().filter(|all| !all.is_empty());
    all.ok_or_else(|| BlockError::invalid(format!("'{}' has no certificates in PEM", path.display())))
}

fn key(path: &Path, pem: &[u8], password: Option<&Secret>) -> Result<PKey<Private>> {
    let is_encrypted = Cell::new(false);
    // With a callback of our own nobody is asked at a terminal.
    let answer = |place: &mut [u8]| {
        is_encrypted.set(true);
        let bytes = password.map(Secret::bytes).unwrap_or_default();
        let fits = place.get_mut(..bytes.len());
        Ok(fits.map_or(0, |place| {
            place.copy_from_slice(bytes);
            bytes.len()
        }))
    };
    PKey::private_key_from_pem_callback(pem, answer).map_err(|_| {
        let why = match (is_encrypted.get(), password) {
            (true, None) => "is encrypted: 'passwordid' has to name a secret with its password",
            (true, Some(_)) => "can't be decrypted with the password of 'passwordid'",
            (false, _) => "has no private key in PEM",
        };
        BlockError::invalid(format!("'{}' {why}", path.display()))
    })
}

/// The content of a file, if it is there.
fn find(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let failed =
        |e: &io::Error| BlockError::os(format!("Unable to access credentials '{}'", path.display()), e);
    match rt::fs::read_bounded(path, MOST) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

fn need(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    find(path)?.ok_or_else(|| missing(path))
}

fn missing(path: &Path) -> BlockError {
    let text = format!("Unable to access credentials '{}': No such file or directory", path.display());
    BlockError::new(ErrorKind::NotFound, text)
}
/// OpenSSL's numbers of what is wrong where there is no list of revoked certificates.
const UNABLE_TO_GET_CRL: i32 = 3;
const UNABLE_TO_GET_CRL_ISSUER: i32 = 33;

/// Whether all that is wrong is that there is no list of revoked certificates about whom the folder itself trusts: the end of a chain
/// behind a leaf, about which nobody else could say anything.
fn is_anchor_without_list(context: &mut X509StoreContextRef) -> bool {
    let lacks_list = [UNABLE_TO_GET_CRL, UNABLE_TO_GET_CRL_ISSUER].contains(&context.error().as_raw());
    let (at, len) = (context.error_depth() as usize, context.chain().map_or(0, |chain| chain.len()));
    let is_anchor = lacks_list && len > 1 && at + 1 == len;
    if is_anchor {
        context.set_error(X509VerifyResult::OK);
    }
    is_anchor
}
