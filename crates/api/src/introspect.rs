//! What the server reports about itself, from the schema.

use crate::{
    COMMANDS, CommandInfo, Dict, ErrorClass, INTROSPECTION, OUT_OF_BAND, QmpCapabilitiesArguments, QmpError,
    Value, VersionInfo, VersionTriple, json,
};

/// The QEMU version whose interface this is.
const INTERFACE: VersionTriple = VersionTriple { major: 10, minor: 0, micro: 2 };

/// The version of interface and program.
pub fn version() -> VersionInfo {
    VersionInfo { qemu: INTERFACE, package: concat!("cairn-", env!("CARGO_PKG_VERSION")).into() }
}

/// Whether there is a command of that name.
pub fn is_command(name: &str) -> bool {
    COMMANDS.contains(&name)
}

/// Whether the command of that name can run while others are under way.
pub fn runs_out_of_band(name: &str) -> bool {
    OUT_OF_BAND.contains(&name)
}

pub(crate) async fn query_version() -> Result<VersionInfo, QmpError> {
    Ok(version())
}

pub(crate) async fn query_commands() -> Result<Vec<CommandInfo>, QmpError> {
    Ok(COMMANDS.iter().map(|name| CommandInfo { name: (*name).into() }).collect())
}

pub(crate) async fn query_qmp_schema(arguments: Dict) -> Result<Value, QmpError> {
    crate::codec::decode::<crate::codec::NoArguments>(Value::Dict(arguments))?;
    json::parse(INTROSPECTION).map_err(|e| QmpError::generic(e.to_string()))
}

/// A session takes this command before the negotiation ends and never hands it on; whoever gets here is past it.
pub(crate) async fn qmp_capabilities(_: QmpCapabilitiesArguments) -> Result<(), QmpError> {
    let desc = "Capabilities negotiation is already complete, command ignored".into();
    Err(QmpError { class: ErrorClass::CommandNotFound, desc })
}
