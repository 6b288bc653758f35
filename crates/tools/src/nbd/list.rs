//! `--list`: what a server exports.

use crate::console::Console;
use crate::failure::Failure;
use crate::{out, outln, runtime};
use nbd::TransmissionFlags as Flags;
use nbd::client::{Export, Handshake, HandshakeError, Listed, Step};
use nbd::{Headers, OptionCode, ReplyType};
use rt::net::{Address, Stream};
use std::time::Duration;
use tls::{Channel, Credentials};

/// How long a server may take for the whole list.
const DEADLINE: Duration = Duration::from_secs(30);

/// Bytes that are received at a time.
const CHUNK: usize = 16 << 10;

/// Flags in the order of their bits, with the words for them.
const WORDS: &[(Flags, &str)] = &[
    (Flags::READ_ONLY, "readonly"),
    (Flags::SEND_FLUSH, "flush"),
    (Flags::SEND_FUA, "fua"),
    (Flags::ROTATIONAL, "rotational"),
    (Flags::SEND_TRIM, "trim"),
    (Flags::SEND_WRITE_ZEROES, "zeroes"),
    (Flags::SEND_DF, "df"),
    (Flags::CAN_MULTI_CONN, "multi"),
    (Flags::SEND_CACHE, "cache"),
    (Flags::SEND_FAST_ZERO, "fast-zero"),
    (Flags::BLOCK_STATUS_PAYLOAD, "block-status-payload"),
];

/// Lists the exports of the server at `address`; in TLS with credentials. `hostname`: the name that the server's certificate is for,
/// where it is not that of its address.
pub fn list(
    console: &mut Console,
    address: &Address,
    credentials: Option<&Credentials>,
    hostname: Option<&str>,
) -> Result<u8, Failure> {
    let exports = runtime::run(async {
        match rt::timeout(DEADLINE, ask(address, credentials, hostname)).await {
            Ok(exports) => exports,
            Err(elapsed) => Err(Failure::new(format_args!("{}: {elapsed}", address.place()))),
        }
    })??;
    outln!(console, "exports available: {}", exports.len());
    exports.iter().for_each(|export| show(console, export));
    Ok(0)
}

async fn ask(
    address: &Address,
    credentials: Option<&Credentials>,
    hostname: Option<&str>,
) -> Result<Vec<Listed>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format_args!(
            "Failed to connect to '{}': {}",
            address.place(),
            block::BlockError::from_io(&error)
        ))
    };
    let stream = Stream::connect(address).await.map_err(failed)?;
    let own = match address {
        Address::Tcp { host, .. } => Some(host.as_str()),
        _ => None,
    };
    talk(&Channel::from(stream), credentials.map(|credentials| (credentials, hostname.or(own)))).await
}

async fn talk(
    stream: &Channel,
    secure: Option<(&Credentials, Option<&str>)>,
) -> Result<Vec<Listed>, Failure> {
    let mut handshake = Handshake::list();
    if secure.is_some() {
        handshake = handshake.with_tls();
    }
    let (mut held, mut chunk, mut answer) = (Vec::new(), vec![0; CHUNK], Vec::new());
    loop {
        let got = stream.recv(&mut chunk).await.map_err(Failure::new)?;
        if got == 0 {
            return Err(Failure::new("the server closed the connection in the middle of its list"));
        }
        held.extend_from_slice(chunk.get(..got).unwrap_or_default());
        let (taken, step) = match handshake.advance(&held, &mut answer) {
            Ok(advanced) => advanced,
            Err(error) => {
                // At most the option that ends the session; a server that has closed already needs none.
                let _ = stream.send_all(&answer).await;
                return Err(refused(&error));
            }
        };
        held.drain(..taken.min(held.len()));
        if !answer.is_empty() {
            let sent = stream.send_all(&answer).await;
            answer.clear();
            // The last option only ends the session: a server that has closed already has sent all.
            if !matches!(step, Step::Listed(_)) {
                sent.map_err(Failure::new)?;
            }
        }
        match (step, secure) {
            (Step::Listed(exports), _) => return Ok(exports),
            (Step::StartTls, Some((credentials, hostname))) => {
                handshake.secured(held.len(), &mut answer).map_err(Failure::new)?;
                tls::connect(stream, credentials, hostname).await.map_err(Failure::new)?;
                stream.send_all(&answer).await.map_err(Failure::new)?;
                answer.clear();
            }
            _ => {}
        }
    }
}

fn refused(error: &HandshakeError) -> Failure {
    match error {
        HandshakeError::Refused { option: OptionCode::STARTTLS, message, .. } => {
            let told =
                if message.is_empty() { String::new() } else { format!("\nserver reported: {message}") };
            Failure::new(format_args!("the server does not begin TLS{told}"))
        }
        HandshakeError::Refused { option, code: ReplyType::ERR_TLS_REQD, message, .. } => {
            let told =
                if message.is_empty() { String::new() } else { format!("\nserver reported: {message}") };
            Failure::new(format_args!(
                "the server requires TLS before option {option}\nDid you forget a valid tls-creds?{told}"
            ))
        }
        error => Failure::new(error),
    }
}

fn show(console: &mut Console, listed: &Listed) {
    outln!(console, " export: '{}'", listed.name);
    if !listed.description.is_empty() {
        outln!(console, "  description: {}", listed.description);
    }
    if let Some(export) = &listed.export {
        details(console, export);
    }
}

fn details(console: &mut Console, export: &Export) {
    outln!(console, "  size:  {}", export.size);
    out!(console, "  flags: {:#x} (", export.flags.0);
    for (flag, word) in WORDS {
        if export.flags.contains(*flag) {
            out!(console, " {word}");
        }
    }
    outln!(console, " )");
    if export.sized {
        outln!(console, "  min block: {}", export.minimum_block);
        outln!(console, "  opt block: {}", export.preferred_block);
        outln!(console, "  max block: {}", export.maximum_payload);
    }
    match export.headers {
        Headers::Simple => {}
        Headers::Structured => outln!(console, "  transaction size: 32-bit"),
        Headers::Extended => outln!(console, "  transaction size: 64-bit"),
    }
    if !export.contexts.is_empty() {
        outln!(console, "  available meta contexts: {}", export.contexts.len());
        export.contexts.iter().for_each(|(_, name)| outln!(console, "   {name}"));
    }
}
