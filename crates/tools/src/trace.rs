//! Logging to standard error: `--trace FILTER`, or `RUST_LOG` where it is not given.

use crate::failure::Failure;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Begins to log what `filter` says: `TARGET=LEVEL,…`, such as `block=debug,rt=trace`.
pub fn start(filter: &str) -> Result<(), Failure> {
    let targets: Targets = filter.parse().map_err(|error| {
        Failure::new(format_args!("--trace: '{filter}' is no list of TARGET=LEVEL: {error}"))
    })?;
    install(targets);
    Ok(())
}

/// Begins to log what the environment says; by default what goes wrong.
pub fn start_from_environment() {
    let targets = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse().ok());
    install(targets.unwrap_or_else(|| Targets::new().with_default(tracing::Level::ERROR)));
}

fn install(targets: Targets) {
    // A span is logged when it ends, with the time it took: requests, jobs and QMP commands are spans.
    let layer =
        fmt::layer().with_span_events(FmtSpan::CLOSE).with_writer(std::io::stderr).with_filter(targets);
    // A second --trace changes nothing: the first one stands.
    tracing_subscriber::registry().with(layer).try_init().ok();
}
