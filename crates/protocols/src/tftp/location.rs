//! Where a file is, and how it is transferred: options, and the file names that stand for them.
//!
//! `tftp://host[:port]/name` (RFC 3617). The name is sent without the slash after the server; `tftp://host//boot/x` means
//! `/boot/x`.

use super::packet;
use crate::uri::unescape_bytes;
use crate::url::{self, Url};
use api::BlockdevOptionsTftp;
use block::{BlockError, Result};
use std::time::Duration;

/// The registered port of the protocol.
const PORT: u16 = 69;
/// Bytes of a block that is asked for, where nothing else is said: with its headers it fits into an Ethernet frame.
const BLOCK: u16 = 1428;
/// Shortest and longest block (RFC 2348).
const BLOCKS: (u64, u64) = (8, 65464);
/// Blocks that are sent for one acknowledgement, where nothing else is said.
const WINDOW: u16 = 16;
/// Fewest and most of them: so many of the longest blocks are 16 MiB.
const WINDOWS: (u64, u64) = (1, 256);
/// Bytes that are kept of a file, where nothing else is said.
const CACHE: u64 = 64 << 20;
/// Fewest and most bytes that can be kept.
const CACHES: (u64, u64) = (1 << 20, 4 << 30);
/// Longest name: with the options a request has to fit into one packet that any server takes.
const MOST_NAME: usize = 400;

/// A file on a server, and how it is transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// The URL, which is the name of the node.
    pub url: String,
    pub host: String,
    pub port: u16,
    /// The name of the file, as the server is told it.
    pub name: Vec<u8>,
    pub terms: Terms,
}

/// How a file is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// Bytes of a block that are asked for.
    pub block: u16,
    /// Blocks for one acknowledgement that are asked for.
    pub window: u16,
    /// How long a server may be silent.
    pub timeout: Duration,
    /// Bytes that are fetched beyond what was asked for.
    pub readahead: u64,
    /// Bytes that are kept of the file.
    pub cache: u64,
}

impl Location {
    /// The file that the driver's options mean.
    pub fn of(options: BlockdevOptionsTftp) -> Result<Self> {
        let terms = Terms::of(&options)?;
        let parts = Url::parse(&options.url)?;
        let wrong = |what: &str| BlockError::invalid(format!("'{}': {what}", url::shown(&options.url)));
        if parts.scheme != "tftp" {
            return Err(wrong("the driver tftp is for URLs that begin with 'tftp://'"));
        }
        if parts.user.is_some() {
            return Err(wrong("TFTP knows no users and no passwords"));
        }
        let path = match parts.path.split_once(";mode=") {
            None => parts.path,
            Some((path, "octet")) => path,
            Some(_) => return Err(wrong("images are transferred in the mode octet only")),
        };
        let name = unescape_bytes(path)
            .ok_or_else(|| wrong("a % in a URL is followed by two hexadecimal digits"))?;
        if name.len() > MOST_NAME {
            return Err(wrong("the name of a file is at most 400 bytes long"));
        }
        if packet::read_request(&name, terms.block, terms.window).is_none() {
            return Err(wrong("a file is named behind the server, without a zero byte"));
        }
        let (host, port) = (parts.host.to_owned(), parts.port.unwrap_or(PORT));
        Ok(Self { host, port, name, terms, url: options.url })
    }
}

impl Terms {
    fn of(options: &BlockdevOptionsTftp) -> Result<Self> {
        let cache = within("cache-size", options.cache_size.map_or(CACHE, |size| size.0), CACHES)?;
        let block = options.blksize.unwrap_or(BLOCK);
        within("blksize", block.into(), BLOCKS)?;
        let window = options.windowsize.unwrap_or(WINDOW);
        within("windowsize", window.into(), WINDOWS)?;
        let readahead = crate::readahead::checked(block::not_negative("readahead", options.readahead)?)?;
        let timeout = url::timeout(options.timeout)?;
        Ok(Self { block, window, timeout, readahead: readahead.min(cache / 2), cache })
    }
}

fn within(name: &str, value: u64, (least, most): (u64, u64)) -> Result<u64> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(BlockError::invalid(format!("{name} is from {least} to {most}"))),
    }
}
