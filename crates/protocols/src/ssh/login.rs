//! How the user proves who he is.
//!
//! ```text
//! key-file ─▶ this key                 password-secret ─▶ this password     both: the key, then the password
//! neither  ─▶ the keys of the agent (SSH_AUTH_SOCK), then ~/.ssh/id_ed25519, id_ecdsa, id_rsa
//! ```
//!
//! What is named is tried and nothing else. Secrets are in no message.

use super::account;
use super::location::{Location, Proof};
use super::transport::Session;
use block::{BlockError, ErrorKind, Objects, Result, Secret};
use russh::client::{AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::agent::{AgentIdentity, client::AgentClient};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, decode_secret_key};
use russh::{MethodKind, MethodSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Most bytes of a file with a key.
const MOST: u64 = 64 << 10;

/// Most keys of an agent that are tried; servers end a session that fails too often.
const KEYS: usize = 64;

/// Most questions of a server that are answered with the password.
const QUESTIONS: usize = 4;

/// The files with the user's own keys, in the order in which they are tried.
const OWN: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// What the options name: the secrets themselves.
#[derive(Clone, Default)]
pub(super) struct Keys {
    passphrase: Option<Arc<Secret>>,
    password: Option<Arc<Secret>>,
}

impl Keys {
    /// Those that the options name. As long as they are kept, the objects can't be deleted.
    pub fn find(objects: &Objects, proof: &Proof) -> Result<Self> {
        let hold = |id: &Option<String>| id.as_deref().map(|id| objects.hold::<Secret>(id)).transpose();
        Ok(Self { passphrase: hold(&proof.key_secret)?, password: hold(&proof.password_secret)? })
    }
}

/// The bytes of a secret as text.
fn text<'a>(secret: &'a Secret, what: &str) -> Result<&'a str> {
    let failed = |_| BlockError::invalid(format!("the secret that is the {what} is no text"));
    std::str::from_utf8(secret.bytes()).map_err(failed)
}

/// Whether the server was convinced.
enum Outcome {
    LoggedIn,
    /// What else it would take.
    Not(MethodSet),
}

impl From<AuthResult> for Outcome {
    fn from(result: AuthResult) -> Self {
        match result {
            AuthResult::Success => Self::LoggedIn,
            AuthResult::Failure { remaining_methods, .. } => Self::Not(remaining_methods),
        }
    }
}

/// Logs the user in.
pub(super) async fn log_in(session: &mut Session, location: &Location, keys: &Keys) -> Result<()> {
    let user = &location.user;
    // A server that wants no proof says so here, and another one what it takes.
    let Outcome::Not(mut takes) = session.authenticate_none(user).await.map_err(broken)?.into() else {
        return Ok(());
    };
    let refused = |text: String| BlockError::new(ErrorKind::Permission, text);
    if let Some(file) = &location.proof.key_file {
        let key = load(PathBuf::from(file), keys.passphrase.clone()).await?;
        match with_key(session, user, key).await? {
            Outcome::LoggedIn => return Ok(()),
            Outcome::Not(left) => takes = left,
        }
        if keys.password.is_none() {
            return Err(refused(format!(
                "failed to authenticate as '{user}' using publickey authentication and the key '{file}'"
            )));
        }
    }
    if let Some(password) = &keys.password {
        return match with_password(session, user, text(password, "password")?, &takes).await? {
            Outcome::LoggedIn => Ok(()),
            Outcome::Not(_) => Err(refused(format!(
                "failed to authenticate as '{user}' with the password of password-secret"
            ))),
        };
    }
    if !takes.contains(&MethodKind::PublicKey) {
        return Err(refused(format!(
            "the SSH server takes no keys of '{user}': give a password by 'password-secret'"
        )));
    }
    if with_agent(session, user).await? || with_own_keys(session, user).await? {
        return Ok(());
    }
    Err(refused(
        "failed to authenticate using publickey authentication and the identities held by your ssh-agent"
            .to_owned(),
    ))
}

fn broken(error: russh::Error) -> BlockError {
    BlockError::of(ErrorKind::Io, error).context("logging in")
}

/// The digest that a signature with an RSA key is of; other keys have their own.
async fn digest(session: &Session, is_rsa: bool) -> Result<Option<HashAlg>> {
    if !is_rsa {
        return Ok(None);
    }
    // A server that does not tell is taken for one that is not older than SHA-2.
    let told = session.best_supported_rsa_hash().await.map_err(broken)?;
    Ok(told.unwrap_or(Some(HashAlg::Sha512)))
}

async fn with_key(session: &mut Session, user: &str, key: PrivateKey) -> Result<Outcome> {
    let digest = digest(session, key.algorithm().is_rsa()).await?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), digest);
    session.authenticate_publickey(user, key).await.map(Outcome::from).map_err(broken)
}

/// By the keys that an agent holds, one after the other. An agent that is not there holds none.
async fn with_agent(session: &mut Session, user: &str) -> Result<bool> {
    let Ok(mut agent) = AgentClient::connect_env().await else { return Ok(false) };
    let Ok(identities) = agent.request_identities().await else { return Ok(false) };
    for identity in identities.into_iter().take(KEYS) {
        let digest = digest(session, identity.public_key().algorithm().is_rsa()).await?;
        let result = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                session.authenticate_publickey_with(user, key, digest, &mut agent).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                session.authenticate_certificate_with(user, certificate, digest, &mut agent).await
            }
        };
        match result {
            Ok(result) if result.success() => return Ok(true),
            // A key that the agent does not sign with is one less.
            Ok(_) | Err(_) if session.is_closed() => return Ok(false),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

/// By the keys in the user's own files, as far as they are there and need no passphrase.
async fn with_own_keys(session: &mut Session, user: &str) -> Result<bool> {
    let Some(folder) = account::folder() else { return Ok(false) };
    for name in OWN {
        let Ok(key) = load(folder.join(name), None).await else { continue };
        if session.is_closed() {
            return Ok(false);
        }
        if matches!(with_key(session, user, key).await?, Outcome::LoggedIn) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// By a password: asked for as such, or as the answer to a question.
async fn with_password(
    session: &mut Session,
    user: &str,
    password: &str,
    takes: &MethodSet,
) -> Result<Outcome> {
    let mut outcome = Outcome::Not(takes.clone());
    if takes.contains(&MethodKind::Password) {
        outcome = session.authenticate_password(user, password).await.map_err(broken)?.into();
    }
    let asks = matches!(&outcome, Outcome::Not(takes) if takes.contains(&MethodKind::KeyboardInteractive));
    if !asks || session.is_closed() {
        return Ok(outcome);
    }
    let mut response = session.authenticate_keyboard_interactive_start(user, None).await.map_err(broken)?;
    for _ in 0..QUESTIONS {
        let prompts = match response {
            KeyboardInteractiveAuthResponse::Success => return Ok(Outcome::LoggedIn),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, .. } => {
                return Ok(Outcome::Not(remaining_methods));
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        // What is shown while it is typed is no password.
        if prompts.len() > 1 || prompts.iter().any(|prompt| prompt.echo) {
            return Ok(Outcome::Not(MethodSet::empty()));
        }
        let answers = prompts.iter().map(|_| password.to_owned()).collect();
        response = session.authenticate_keyboard_interactive_respond(answers).await.map_err(broken)?;
    }
    Ok(Outcome::Not(MethodSet::empty()))
}

/// Reads a private key. A passphrase takes a while: it is done where nobody waits for the thread of SSH.
async fn load(file: PathBuf, passphrase: Option<Arc<Secret>>) -> Result<PrivateKey> {
    let work = move || read_key(&file, passphrase.as_deref());
    let ended = |_| BlockError::new(ErrorKind::Io, "reading a key ended unexpectedly");
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

fn read_key(file: &Path, passphrase: Option<&Secret>) -> Result<PrivateKey> {
    let shown = file.display();
    let bytes = rt::fs::read_bounded(file, MOST)
        .map(Zeroizing::new)
        .map_err(|error| BlockError::os(format!("the key '{shown}' could not be read"), &error))?;
    let no_key = || BlockError::invalid(format!("'{shown}' holds no private key"));
    let key = std::str::from_utf8(&bytes).map_err(|_| no_key())?;
    let passphrase = passphrase.map(|secret| text(secret, "passphrase of the key")).transpose()?;
    decode_secret_key(key, passphrase).map_err(|error| match (error, passphrase) {
        (russh::keys::Error::KeyIsEncrypted, None) => {
            BlockError::invalid(format!("the key '{shown}' has a passphrase: give it by 'key-secret'"))
        }
        (_, Some(_)) => BlockError::new(
            ErrorKind::Permission,
            format!("the key '{shown}' could not be read: its passphrase may be another one"),
        ),
        (_, None) => no_key(),
    })
}
