//! Credentials and authorization as users give them (`tls-creds-*`, `authz-*`), in the schema's words.
use api::{
    AuthZListFileProperties, AuthZListProperties, QAuthZListFormat, QAuthZListPolicy, QAuthZListRule,
    QCryptoTLSCredsEndpoint, TlsCredsPskProperties, TlsCredsX509Properties,
};
use block::{BlockError, Objects, Result, Secret};
use std::path::Path;
use std::sync::Arc;
use tls::{Endpoint, List, ListFile, Policy, PskCredentials, Rule, Settings, X509Credentials};

fn settings(
    endpoint: Option<QCryptoTLSCredsEndpoint>,
    dir: Option<String>,
    verify_peer: Option<bool>,
    priority: Option<String>,
) -> Settings {
    let endpoint = match endpoint {
        None | Some(QCryptoTLSCredsEndpoint::Client) => Endpoint::Client,
        Some(QCryptoTLSCredsEndpoint::Server) => Endpoint::Server,
    };
    Settings { endpoint, dir: dir.map(Into::into), verify_peer: verify_peer.unwrap_or(true), priority }
}

/// The secret with the password of a key, if there is one.
pub fn password_of(objects: &Objects, properties: &TlsCredsX509Properties) -> Result<Option<Arc<Secret>>> {
    properties.passwordid.as_deref().map(|id| objects.hold(id)).transpose()
}

/// Certificates; it reads their files.
pub fn x509(properties: TlsCredsX509Properties, password: Option<&Secret>) -> Result<X509Credentials> {
    let TlsCredsX509Properties { verify_peer, dir, endpoint, priority, sanity_check, passwordid: _ } =
        properties;
    X509Credentials::load(
        &settings(endpoint, dir, verify_peer, priority),
        sanity_check.unwrap_or(true),
        password,
    )
}

/// Shared keys; it reads their file.
pub fn psk(properties: TlsCredsPskProperties) -> Result<PskCredentials> {
    let TlsCredsPskProperties { verify_peer, dir, endpoint, priority, username } = properties;
    PskCredentials::load(&settings(endpoint, dir, verify_peer, priority), username)
}

/// Rules.
pub fn list(properties: AuthZListProperties) -> List {
    let policy = |policy| match policy {
        QAuthZListPolicy::Deny => Policy::Deny,
        QAuthZListPolicy::Allow => Policy::Allow,
    };
    let rule = |rule: QAuthZListRule| Rule {
        matches: rule.r#match,
        policy: policy(rule.policy),
        glob: rule.format == Some(QAuthZListFormat::Glob),
    };
    List {
        policy: properties.policy.map_or(Policy::Deny, policy),
        rules: properties.rules.unwrap_or_default().into_iter().map(rule).collect(),
    }
}

/// Rules in a file, which it reads.
pub fn list_file(properties: &AuthZListFileProperties) -> Result<ListFile> {
    let parse = |text: &str| {
        let value = api::json::parse(text).map_err(|e| BlockError::invalid(e.to_string()))?;
        api::codec::decode(value).map(list).map_err(|e| BlockError::invalid(e.to_string()))
    };
    ListFile::open(Path::new(&properties.filename), properties.refresh.unwrap_or(true), parse)
}
