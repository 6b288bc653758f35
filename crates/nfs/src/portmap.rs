//! Portmapper and rpcbind: which port a program of a server has.
//!
//! Specification: RFC 1833.

use crate::rpc::Call;
use crate::xdr::{Text, layout};

/// The program.
const PROGRAM: u32 = 100_000;
/// The port on which it is asked.
pub const PORT: u16 = 111;
/// The number of TCP.
pub const TCP: u32 = 6;

layout! {
    /// `PMAPPROC_GETPORT`: asks a portmapper; 0 is the answer where there is none.
    GetPort {
        /// The program that is looked for.
        program: u32,
        /// Its version.
        version: u32,
        /// The transport, by its number among the protocols over IP.
        protocol: u32,
        /// Of no meaning.
        port: u32,
    }

    /// `RPCBPROC_GETADDR`: asks rpcbind; nothing is the answer where there is none.
    GetAddress {
        /// The program that is looked for.
        program: u32,
        /// Its version.
        version: u32,
        /// The transport: `tcp`, `tcp6`.
        transport: Text<64>,
        /// The caller's address, which may be empty.
        address: Text<256>,
        /// Of no meaning.
        owner: Text<256>,
    }
}

impl Call for GetPort {
    const PROGRAM: u32 = PROGRAM;
    const VERSION: u32 = 2;
    const PROCEDURE: u32 = 3;
    const NAME: &'static str = "GETPORT";
    type Reply = u32;
}

impl Call for GetAddress {
    const PROGRAM: u32 = PROGRAM;
    const VERSION: u32 = 3;
    const PROCEDURE: u32 = 3;
    const NAME: &'static str = "GETADDR";
    type Reply = Text<256>;
}

/// The port of a universal address, which ends with the two bytes of the port: `127.0.0.1.8.1`, `::1.8.1`.
pub fn port_of(universal: &str) -> Option<u16> {
    let (rest, low) = universal.rsplit_once('.')?;
    let (_, high) = rest.rsplit_once('.')?;
    Some(u16::from_be_bytes([high.parse().ok()?, low.parse().ok()?]))
}
