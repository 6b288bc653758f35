//! The login as a state machine: bytes of the target in, bytes for the target out (section 6.3).
//!
//! ```text
//! names, AuthMethod ─▶ CHAP_A ─▶ CHAP_N, CHAP_R (CHAP_I, CHAP_C) ─▶ operational keys ─▶ Ready
//!        └──────────── none wanted ───────────────────────────────────────┘
//! ```
//!
//! Laws: what was agreed on is within what was offered; a target that has to prove itself is not believed before it has;
//! secrets leave this module only as responses to challenges.
use crate::chap::{self, Algorithm};
use crate::keys::{Keys, KeysError};
use crate::limits;
use crate::negotiation::{Agreed, DigestOffer, agree, offer};
use crate::pdu::{Answer, Header, Numbers, PduError, Request, Stage, padding};
use zeroize::Zeroizing;

/// Something that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A name, and the secret that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// What proves it.
    pub secret: Secret,
}

/// Who logs in where, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Name of this initiator.
    pub initiator: String,
    /// Name of the target; of none, a portal tells which there are (a discovery session, section 4.3).
    pub target: String,
    /// What tells this session from others of the initiator: a target ends the old session when another one with the same
    /// number comes.
    pub isid: [u8; 6],
    /// What this end proves itself with, if it is asked to.
    pub own: Option<Credentials>,
    /// What the target has to prove itself with; needs credentials of this end.
    pub peer: Option<Credentials>,
    /// How it is computed that one has a secret: [`crate::chap::OFFER`], or what a target can do that misreads it.
    pub algorithms: &'static str,
    /// Digests of headers.
    pub header_digest: DigestOffer,
    /// Digests of data.
    pub data_digest: DigestOffer,
}

/// Why a target refused a login (section 11.13.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Whose fault it is: 2 this end's, 3 the target's.
    pub class: u8,
    /// What it is.
    pub detail: u8,
}

impl Refusal {
    /// It is the credentials that are wrong, or missing.
    pub const AUTHENTICATION: Self = Self { class: 2, detail: 1 };
    /// This initiator may not use the target.
    pub const FORBIDDEN: Self = Self { class: 2, detail: 2 };
    /// There is no such target.
    pub const NOT_FOUND: Self = Self { class: 2, detail: 3 };
    /// The target has gone for good.
    pub const REMOVED: Self = Self { class: 2, detail: 4 };

    /// The target could make nothing of what it was sent.
    pub const MISREAD: Self = Self { class: 2, detail: 0 };
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = match (self.class, self.detail) {
            (2, 1) => "authentication failed",
            (2, 2) => "this initiator is not allowed to use it",
            (2, 3) => "there is no such target",
            (2, 4) => "the target was removed",
            (2, 5) => "it has no version of the protocol in common with this initiator",
            (2, 6) => "there are too many connections",
            (2, 7) => "it misses a parameter",
            (2, 8) => "the session can't be joined",
            (2, 9) => "it has no sessions of this kind",
            (2, 10) => "there is no such session",
            (2, 11) => "the request makes no sense to it",
            (2, _) => "it takes this initiator to be at fault",
            (3, 1) => "it is out of service at present",
            (3, 2) => "it has run out of resources",
            (3, _) => "it is at fault itself",
            _ => "for no reason that is known",
        };
        write!(f, "{words} (status {:#06x})", u16::from_be_bytes([self.class, self.detail]))
    }
}

/// Why a login failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// A header is wrong.
    #[error("a PDU of the login can't be understood: {0}")]
    Pdu(#[from] PduError),
    /// A text is wrong.
    #[error("the text of the login can't be understood: {0}")]
    Keys(#[from] KeysError),
    /// Another PDU came than belongs to the login.
    #[error("the target sent a PDU that does not belong to the login")]
    Unexpected,
    /// The target answered with a value that was not offered.
    #[error("the target answered '{value}' for '{key}', which is not among what was offered")]
    Value {
        /// The key.
        key: String,
        /// Its value, shortened.
        value: String,
    },
    /// A key is missing.
    #[error("the target left out '{0}'")]
    Missing(&'static str),
    /// The target refused.
    #[error("the target refused the login: {0}")]
    Refused(Refusal),
    /// There are no credentials.
    #[error("the target wants to know who it is (CHAP): give 'user' and 'password-secret'")]
    NeedsCredentials,
    /// The target did not prove itself.
    #[error("the target could not prove that it is '{0}': its secret is another one")]
    Impostor(String),
    /// The target does not prove itself.
    #[error("the target does not prove who it is, which 'target-user' and 'target-password-secret' demand")]
    Unproved,
    /// The target sent the challenge back.
    #[error("the target sent back the challenge that it was given")]
    Reflected,
    /// It does not come to an end.
    #[error("the login takes more than {} answers", limits::ROUNDS)]
    Endless,
}

impl LoginError {
    pub(crate) fn value(key: &str, value: &str) -> Self {
        let shown: String = value.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::Value { key: key.to_owned(), value: shown }
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These bytes are to be sent.
    Send(Vec<u8>),
    /// The target is to be found elsewhere: `host[:port]`, as it was sent.
    Elsewhere(String),
    /// The session is open.
    Ready {
        /// What it is carried out by.
        agreed: Agreed,
        /// The numbers to begin with: `stat` is that of the last answer.
        numbers: Numbers,
    },
}

/// Where the login stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The methods were offered.
    Methods,
    /// The algorithms were offered.
    Algorithms,
    /// The target's challenge was answered; whether it is to answer ours.
    Proved { algorithm: Algorithm, waits: bool },
    /// The operational keys were offered.
    Offered,
}

/// The tag of all PDUs of the login.
const TAG: u32 = 0;
/// The number of the first command.
const FIRST_COMMAND: u32 = 1;

/// A login that is under way.
#[derive(Debug)]
pub struct Login<'p> {
    profile: &'p Profile,
    /// Of the challenge to the target: its identifier and itself.
    challenge: (u8, [u8; 16]),
    state: State,
    text: Vec<u8>,
    /// The keys of the operational stage so far.
    operational: Keys,
    rounds: usize,
    /// Number of the next answer.
    status: u32,
}

impl<'p> Login<'p> {
    /// Begins: the login, and what is to be sent first. `random` is for the challenge to the target.
    pub fn begin(profile: &'p Profile, random: [u8; 17]) -> (Self, Vec<u8>) {
        let [identifier, challenge @ ..] = random;
        let login = Self {
            profile,
            challenge: (identifier, challenge),
            state: State::Methods,
            text: Vec::new(),
            operational: Keys::default(),
            rounds: 0,
            status: 0,
        };
        let method = match (&profile.own, &profile.peer) {
            (None, _) => "None",
            (Some(_), None) => "CHAP,None",
            (Some(_), Some(_)) => "CHAP",
        };
        let mut keys = Keys::default();
        keys.set("InitiatorName", &*profile.initiator);
        if profile.target.is_empty() {
            keys.set("SessionType", "Discovery");
        } else {
            keys.set("SessionType", "Normal");
            keys.set("TargetName", &*profile.target);
        }
        keys.set("AuthMethod", method);
        // Without credentials there is nothing to wait for.
        let next = profile.own.is_none().then_some(Stage::Operational);
        let first = login.request(Stage::Security, next, &keys);
        (login, first)
    }

    fn request(&self, stage: Stage, next: Option<Stage>, keys: &Keys) -> Vec<u8> {
        let text = keys.encode();
        let request = Request::Login {
            stage,
            next,
            continues: false,
            isid: self.profile.isid,
            tsih: 0,
            tag: TAG,
            command: FIRST_COMMAND,
            status: self.status,
        };
        let mut bytes = request.encode(text.len()).to_vec();
        bytes.extend_from_slice(&text);
        bytes.resize(bytes.len() + padding(text.len()), 0);
        bytes
    }

    /// Takes a PDU of the target: its header and its data, without padding.
    pub fn advance(&mut self, header: &Header, data: &[u8]) -> Result<Step, LoginError> {
        let (answer, numbers) = Answer::parse(header)?;
        let Answer::Login { stage, next, continues, isid, tag, class, detail, .. } = answer else {
            return Err(LoginError::Unexpected);
        };
        self.rounds += 1;
        if self.rounds > limits::ROUNDS {
            return Err(LoginError::Endless);
        }
        if tag != TAG {
            return Err(LoginError::Unexpected);
        }
        self.text.extend_from_slice(data);
        if self.text.len() > limits::TEXT {
            return Err(KeysError::TooLong.into());
        }
        match class {
            0 => {}
            1 => {
                let keys = Keys::parse(&self.text)?;
                let address = keys.get("TargetAddress").ok_or(LoginError::Missing("TargetAddress"))?;
                return Ok(Step::Elsewhere(address.to_owned()));
            }
            _ => return Err(LoginError::Refused(Refusal { class, detail })),
        }
        let own = if self.state == State::Offered { Stage::Operational } else { Stage::Security };
        if isid != self.profile.isid || stage != own || next.is_some_and(|_| continues) {
            return Err(LoginError::Unexpected);
        }
        self.status = numbers.stat.wrapping_add(1);
        if continues {
            return Ok(Step::Send(self.request(own, None, &Keys::default())));
        }
        let keys = Keys::parse(&std::mem::take(&mut self.text))?;
        match self.state {
            State::Methods => self.method(&keys, next),
            State::Algorithms => self.prove(&keys),
            State::Proved { algorithm, waits } => self.believe(&keys, next, algorithm, waits),
            State::Offered => self.agree(&keys, next, numbers),
        }
    }

    fn method(&mut self, keys: &Keys, next: Option<Stage>) -> Result<Step, LoginError> {
        match keys.get("AuthMethod") {
            Some("CHAP") if self.profile.own.is_some() => {
                self.state = State::Algorithms;
                let mut keys = Keys::default();
                keys.set("CHAP_A", self.profile.algorithms);
                Ok(Step::Send(self.request(Stage::Security, None, &keys)))
            }
            Some("CHAP") | Some("Reject") if self.profile.own.is_none() => Err(LoginError::NeedsCredentials),
            // A target that goes on without a word wants nothing.
            Some("None") | None if self.profile.peer.is_some() => Err(LoginError::Unproved),
            Some("None") | None => self.leave_security(next),
            Some(value) => Err(LoginError::value("AuthMethod", value)),
        }
    }

    /// Answers the challenge, and gives one.
    fn prove(&mut self, keys: &Keys) -> Result<Step, LoginError> {
        let get = |key: &'static str| keys.get(key).ok_or(LoginError::Missing(key));
        let own = self.profile.own.as_ref().ok_or(LoginError::NeedsCredentials)?;
        let number = get("CHAP_A")?;
        let offered = self.profile.algorithms.split(',').any(|offered| offered == number);
        let algorithm = Algorithm::of(number).filter(|_| offered);
        let algorithm = algorithm.ok_or_else(|| LoginError::value("CHAP_A", number))?;
        let identifier = get("CHAP_I")?;
        let identifier: u8 = identifier.parse().map_err(|_| LoginError::value("CHAP_I", identifier))?;
        let challenge = get("CHAP_C")?;
        let challenge = chap::to_bytes(challenge).ok_or_else(|| LoginError::value("CHAP_C", challenge))?;
        let (own_identifier, own_challenge) = self.challenge;
        if challenge == own_challenge {
            return Err(LoginError::Reflected);
        }
        let mut keys = Keys::default();
        keys.set("CHAP_N", &*own.user);
        keys.set("CHAP_R", chap::to_text(&algorithm.response(identifier, &own.secret.0, &challenge)));
        let waits = self.profile.peer.is_some();
        if waits {
            keys.set("CHAP_I", own_identifier.to_string());
            keys.set("CHAP_C", chap::to_text(&own_challenge));
        }
        self.state = State::Proved { algorithm, waits };
        Ok(Step::Send(self.request(Stage::Security, Some(Stage::Operational), &keys)))
    }

    /// Judges the target's own response, if there has to be one.
    fn believe(
        &mut self,
        keys: &Keys,
        next: Option<Stage>,
        algorithm: Algorithm,
        waits: bool,
    ) -> Result<Step, LoginError> {
        if let Some(peer) = self.profile.peer.as_ref().filter(|_| waits) {
            let name = keys.get("CHAP_N").ok_or(LoginError::Unproved)?;
            let response = keys.get("CHAP_R").and_then(chap::to_bytes).ok_or(LoginError::Unproved)?;
            let (identifier, challenge) = &self.challenge;
            let expected = algorithm.response(*identifier, &peer.secret.0, challenge);
            if name != peer.user || !chap::same(&response, &expected) {
                return Err(LoginError::Impostor(peer.user.clone()));
            }
            self.state = State::Proved { algorithm, waits: false };
        }
        self.leave_security(next)
    }

    fn offer(&self) -> Keys {
        let Profile { header_digest, data_digest, target, .. } = self.profile;
        offer(*header_digest, *data_digest, !target.is_empty())
    }

    fn leave_security(&mut self, next: Option<Stage>) -> Result<Step, LoginError> {
        match next {
            Some(Stage::Operational) => {
                self.state = State::Offered;
                let keys = self.offer();
                Ok(Step::Send(self.request(Stage::Operational, Some(Stage::FullFeature), &keys)))
            }
            None => {
                let keys = Keys::default();
                Ok(Step::Send(self.request(Stage::Security, Some(Stage::Operational), &keys)))
            }
            // It was not asked for.
            Some(_) => Err(LoginError::Unexpected),
        }
    }

    fn agree(&mut self, keys: &Keys, next: Option<Stage>, numbers: Numbers) -> Result<Step, LoginError> {
        let offered = self.offer();
        let mut replies = Keys::default();
        for (key, value) in keys.iter() {
            if self.operational.get(key).is_some() {
                return Err(KeysError::Twice(key.to_owned()).into());
            }
            self.operational.set(key, value);
            let told = ["TargetPortalGroupTag", "TargetAlias", "TargetAddress"].contains(&key);
            if offered.get(key).is_none() && !told {
                // Nothing beyond the offer is known here, nor needed (section 6.2).
                replies.set(key, "NotUnderstood");
            }
        }
        match next {
            Some(Stage::FullFeature) => {
                let (header, data) = (self.profile.header_digest, self.profile.data_digest);
                let agreed = agree(header, data, &self.operational)?;
                Ok(Step::Ready { agreed, numbers })
            }
            None => Ok(Step::Send(self.request(Stage::Operational, Some(Stage::FullFeature), &replies))),
            Some(_) => Err(LoginError::Unexpected),
        }
    }
}

#[cfg(test)]
mod tests;
