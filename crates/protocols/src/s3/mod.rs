//! `s3`: an object of a store that speaks S3, as a disk, to be read.
//!
//! It is read as a file of a web server is ([`crate::http`]), by requests that are signed. An object has versions of its own; one of
//! them can be named.

#[cfg(test)]
mod tests;

use crate::http::{Location, Read, Settings, Signer};
use crate::readahead;
use api::BlockdevOptionsS3;
use block::{
    BlockError, DriverType, Objects, Open, OpenContext, Opened, Opt, Options, Result, Secret, not_negative,
};
use rt::BoxFuture;
use std::sync::Arc;

/// The `s3` driver.
pub(crate) const S3: DriverType = DriverType {
    name: "s3",
    prefixes: &["s3:"],
    parse_filename: Some(parse_filename),
    adapt: Some(crate::http::adapt_readahead),
    open: &Open(open),
    ..DriverType::PROTOCOL
};

/// The region where none is told.
const REGION: &str = "us-east-1";

/// Reads `s3://bucket/key`. The key is what follows, as it is: stores have no other form of it.
fn parse_filename(name: &str) -> Result<Options> {
    let place = name.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
    match place.filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty()) {
        Some((bucket, key)) => Ok(Options::new().with_str("bucket", bucket).with_str("key", key)),
        None => Err(BlockError::invalid(format!("'{name}' is not 's3://bucket/key'"))),
    }
}

fn open(context: &mut OpenContext, options: BlockdevOptionsS3) -> BoxFuture<'_, Result<Opened>> {
    let again: Read = |options, objects| settings(options.read()?, objects);
    Box::pin(async move { crate::http::open(context, |objects| settings(options, objects), again).await })
}

/// What the options say, else the environment, as the tools of AWS read it.
fn told(option: Option<String>, variables: &[&str]) -> Option<String> {
    let of_environment = || variables.iter().find_map(|name| std::env::var(name).ok());
    option.or_else(of_environment).filter(|text| !text.is_empty())
}

/// Who signs, if anybody: public objects are had by requests that are not signed.
fn signer(options: &BlockdevOptionsS3, region: &str, objects: &Objects) -> Result<Option<Signer>> {
    let secret = |id: &Option<String>| -> Result<Option<Arc<Secret>>> {
        id.as_ref().map(|id| objects.hold(id)).transpose()
    };
    let (key, token) = (secret(&options.secret_key_secret)?, secret(&options.session_token_secret)?);
    match (&options.access_key, key) {
        (Some(id), Some(key)) => {
            // A secret that was read from a file may end with the end of its line.
            let key = Secret::new(key.bytes().trim_ascii().to_vec());
            Signer::new(id.clone(), key, token.as_deref(), region.to_owned()).map(Some)
        }
        (None, None) if token.is_none() => Ok(None),
        _ => Err(BlockError::invalid("'access-key' and 'secret-key-secret' are given together, or neither")),
    }
}

fn settings(options: BlockdevOptionsS3, objects: &Objects) -> Result<Settings> {
    let naming = naming(&options);
    let region = told(options.region.clone(), &["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let region = region.unwrap_or_else(|| REGION.to_owned());
    let signer = signer(&options, &region, objects)?;
    let endpoint = told(options.endpoint.clone(), &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    let (bucket, key) = (&options.bucket, &options.key);
    if bucket.is_empty() || key.is_empty() || !bucket.bytes().all(is_of_bucket) {
        return Err(BlockError::invalid(format!("'{bucket}' is no name of a bucket, or the key is empty")));
    }
    // A store of one's own has seldom a name for each bucket, and a certificate for none with a dot.
    let in_path = options.path_style.unwrap_or(endpoint.is_some() || bucket.contains('.'));
    let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let (mut location, user) = Location::parse(&endpoint)?;
    if user.is_some() {
        // It would be in names, and is of no use to a store.
        return Err(BlockError::invalid(
            "an endpoint names no user: give 'access-key' and 'secret-key-secret' instead",
        ));
    }
    let folder = location.target.trim_end_matches('/').to_owned();
    if folder.contains('?') {
        return Err(BlockError::invalid("an endpoint has no query"));
    }
    location.target = match in_path {
        true => format!("{folder}/{bucket}/{}", encoded(key, b"/")),
        false => {
            location.server.host = format!("{bucket}.{}", location.server.host);
            format!("{folder}/{}", encoded(key, b"/"))
        }
    };
    if let Some(version) = &options.version {
        location.target.push_str(&format!("?versionId={}", encoded(version, b"")));
    }
    let settings = Settings {
        url: format!("s3://{bucket}/{key}"),
        timeout: crate::url::timeout(options.timeout)?,
        readahead: readahead::checked(not_negative("readahead", options.readahead)?)?,
        proxy: options.proxy,
        verify: options.sslverify.unwrap_or(true),
        cafile: options.cafile.map(Into::into),
        signer,
        naming,
        ..Settings::at(location, options.connections, options.cache_size)?
    };
    settings.kept_in(options.cache_path, options.cache_disk_size)
}

fn is_of_bucket(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_".contains(&byte)
}

/// With all but letters, digits and `-._~`, and what is kept, as `%XX`.
fn encoded(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Options that say which object it is and who may read it. The URL is enough where the environment says the rest.
fn naming(options: &BlockdevOptionsS3) -> Options {
    let mut naming = Options::new().with_str("bucket", &options.bucket).with_str("key", &options.key);
    if let Some(style) = options.path_style {
        naming.set("path-style", Opt::Bool(style));
    }
    if let Some(verify) = options.sslverify {
        naming.set("sslverify", Opt::Bool(verify));
    }
    for (name, value) in [
        ("version", &options.version),
        ("endpoint", &options.endpoint),
        ("region", &options.region),
        ("access-key", &options.access_key),
        ("secret-key-secret", &options.secret_key_secret),
        ("session-token-secret", &options.session_token_secret),
        ("cafile", &options.cafile),
    ] {
        if let Some(value) = value {
            naming.set(name, Opt::Str(value.clone()));
        }
    }
    naming
}
