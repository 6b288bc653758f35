//! Handing the machine over, for people.

use super::{Asked, Told};
use api::{
    BitmapMigrationNodeAlias, Dict, Encode, Enumeration, MigrationCapability, MigrationCapabilityStatus,
    MigrationCommands, MigrationSettingsCommands, MigrationStatus, QmpError, Value,
};
use migration::Place;
use std::fmt::Write;
use std::future::ready;

fn told(error: QmpError) -> Told {
    Told::error(error.desc)
}

/// Hands the machine over, and waits for the end of that unless it is to go on alone.
pub async fn migrate(asked: &Asked<'_>) -> Result<String, Told> {
    if asked.words.has('r') {
        let mut arguments = Dict::new();
        arguments.insert("uri", asked.word("uri"));
        arguments.insert("resume", true);
        return asked.ask("migrate", arguments).await.map(|_| String::new());
    }
    let place = Place::parse(asked.word("uri")).map_err(|error| Told::error(error.to_string()))?;
    // People see no events: nothing has to wait for an answer.
    asked.control.begin_hand_over(place, ready(())).await.map_err(told)?;
    if asked.words.has('d') {
        return Ok(String::new());
    }
    asked.control.until_hand_over_rests().await;
    let info = asked.control.query_migrate().await.map_err(told)?;
    match info.status {
        Some(MigrationStatus::Failed) => Err(Told::error(info.error_desc.unwrap_or_default())),
        _ => Ok(String::new()),
    }
}

/// Switches something that a hand-over does.
pub async fn set_capability(asked: &Asked<'_>) -> Result<String, Told> {
    let (name, state) = (asked.word("capability"), asked.word("state"));
    let capability = MigrationCapability::from_name(name)
        .ok_or_else(|| Told::error(format!("invalid parameter value: {name}")))?;
    let state = match state {
        "on" => true,
        "off" => false,
        other => return Err(Told::error(format!("'{other}' is neither on nor off"))),
    };
    let change = MigrationCapabilityStatus { capability, state };
    let mut arguments = Dict::new();
    arguments.insert("capabilities", vec![change].encode());
    asked.ask("migrate-set-capabilities", arguments).await.map(|_| String::new())
}

/// Sets a parameter: a number of bytes, a switch, or a text.
pub async fn set_parameter(asked: &Asked<'_>) -> Result<String, Told> {
    let (name, value) = (asked.word("parameter"), asked.word("value"));
    let current = asked.control.query_migrate_parameters().await.map_err(told)?.encode();
    let Some(current) = current.get(name) else {
        return Err(Told::error(format!("invalid parameter value: {name}")));
    };
    let number = || api::parse_size(value).ok().and_then(|number| i64::try_from(number).ok());
    let value = match (current, number()) {
        (Value::Int(_), Some(number)) => Value::Int(number),
        (Value::Int(_), None) => return Err(Told::error(format!("'{value}' is not a number"))),
        (Value::Bool(_), _) => Value::Bool(value == "on"),
        _ => Value::String(value.to_owned()),
    };
    let mut arguments = Dict::new();
    arguments.insert(name, value);
    asked.ask("migrate-set-parameters", arguments).await.map(|_| String::new())
}

/// `info migrate`.
pub async fn tell(asked: &Asked<'_>) -> Result<String, Told> {
    let info = asked.control.query_migrate().await.map_err(told)?;
    let mut text = String::new();
    let Some(status) = info.status else { return Ok(text) };
    let why = info.error_desc.map(|why| format!(" ({why})")).unwrap_or_default();
    let _ = writeln!(text, "Migration status: {}{why}", status.name());
    for (name, value) in [
        ("total time", info.total_time),
        ("downtime", info.downtime),
        ("expected downtime", info.expected_downtime),
        ("setup", info.setup_time),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "{name}: {value} ms");
        }
    }
    if let Some(ram) = info.ram {
        let _ = writeln!(text, "transferred ram: {} kbytes", ram.transferred >> 10);
        let _ = writeln!(text, "throughput: {:.2} mbps", ram.mbps);
    }
    Ok(text)
}

/// `info migrate_capabilities`.
pub async fn capabilities(asked: &Asked<'_>) -> Result<String, Told> {
    let all = asked.control.query_migrate_capabilities().await.map_err(told)?;
    let mut text = String::new();
    for MigrationCapabilityStatus { capability, state } in all {
        let _ = writeln!(text, "{}: {}", capability.name(), if state { "on" } else { "off" });
    }
    Ok(text)
}

/// `info migrate_parameters`.
pub async fn parameters(asked: &Asked<'_>) -> Result<String, Told> {
    let mut parameters = asked.control.query_migrate_parameters().await.map_err(told)?;
    let mapping = parameters.block_bitmap_mapping.take();
    let mut text = String::new();
    if let Value::Dict(members) = parameters.encode() {
        for (name, value) in members {
            let _ = match value {
                Value::Bool(on) => writeln!(text, "{name}: {}", if on { "on" } else { "off" }),
                Value::String(word) if word.is_empty() => writeln!(text, "{name}: ''"),
                Value::String(word) => writeln!(text, "{name}: {word}"),
                other => writeln!(text, "{name}: {other}"),
            };
        }
    }
    if let Some(nodes) = mapping {
        let _ = writeln!(text, "block-bitmap-mapping:");
        for BitmapMigrationNodeAlias { node_name, alias, bitmaps } in nodes {
            let _ = writeln!(text, "  '{node_name}' -> '{alias}'");
            for bitmap in bitmaps {
                let _ = writeln!(text, "    '{}' -> '{}'", bitmap.name, bitmap.alias);
            }
        }
    }
    Ok(text)
}
