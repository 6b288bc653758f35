//! What hand-overs do, and how.
use api::{
    Dict, Encode, Enumeration, MigMode, MigrationCapability, MigrationCapabilityStatus, MigrationParameters,
    MultiFDCompression, QmpError, StrOrNull, Value, ZeroPageDetection,
};
use migration::Mapping;

/// Longest time that a machine may be said to stand still, in milliseconds.
const MOST_DOWNTIME: u64 = 2_000_000;

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    on: Vec<MigrationCapability>,
    parameters: MigrationParameters,
    mapping: Option<Mapping>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { on: Vec::new(), parameters: usual(), mapping: None }
    }
}

/// Parameters where nothing was said; but for the names of bitmaps they are kept and shown, and have no effect.
fn usual() -> MigrationParameters {
    MigrationParameters {
        announce_initial: Some(50),
        announce_max: Some(550),
        announce_rounds: Some(5),
        announce_step: Some(100),
        throttle_trigger_threshold: Some(50),
        cpu_throttle_initial: Some(20),
        cpu_throttle_increment: Some(10),
        cpu_throttle_tailslow: Some(false),
        tls_creds: Some(StrOrNull::S(String::new())),
        tls_hostname: Some(StrOrNull::S(String::new())),
        tls_authz: Some(StrOrNull::S(String::new())),
        max_bandwidth: Some(128 << 20),
        avail_switchover_bandwidth: Some(0),
        downtime_limit: Some(300),
        x_checkpoint_delay: Some(20_000),
        multifd_channels: Some(2),
        xbzrle_cache_size: Some(64 << 20),
        max_postcopy_bandwidth: Some(0),
        max_cpu_throttle: Some(99),
        multifd_compression: Some(MultiFDCompression::None),
        multifd_zlib_level: Some(1),
        multifd_qatzip_level: Some(1),
        multifd_zstd_level: Some(1),
        block_bitmap_mapping: None,
        x_vcpu_dirty_limit_period: Some(1000),
        vcpu_dirty_limit: Some(1),
        mode: Some(MigMode::Normal),
        zero_page_detection: Some(ZeroPageDetection::Multifd),
        direct_io: Some(false),
    }
}

impl Settings {
    /// Whether it does this.
    pub(crate) fn does(&self, capability: MigrationCapability) -> bool {
        self.on.contains(&capability)
    }

    /// Whether each step is told.
    pub(super) fn tells_events(&self) -> bool {
        self.does(MigrationCapability::Events)
    }

    /// Says what it does.
    pub(crate) fn set(&mut self, changes: &[MigrationCapabilityStatus]) {
        for MigrationCapabilityStatus { capability, state } in changes {
            self.on.retain(|on| on != capability);
            if *state {
                self.on.push(*capability);
            }
        }
    }

    /// All that it can do, and whether it does.
    pub(crate) fn capabilities(&self) -> Vec<MigrationCapabilityStatus> {
        let all = MigrationCapability::VALUES.iter().map(|(_, capability)| *capability);
        all.map(|capability| MigrationCapabilityStatus { capability, state: self.does(capability) }).collect()
    }

    /// How it does it.
    pub(crate) fn parameters(&self) -> MigrationParameters {
        let mapping = self.mapping.as_ref().map(|mapping| mapping.nodes().to_vec());
        MigrationParameters { block_bitmap_mapping: mapping, ..self.parameters.clone() }
    }

    /// The names of bitmaps.
    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        self.mapping.as_ref()
    }

    /// Says how it does it; what is not said stays.
    pub(crate) fn change(&mut self, given: MigrationParameters) -> Result<(), QmpError> {
        if given.downtime_limit.is_some_and(|limit| limit > MOST_DOWNTIME) {
            let text = "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms";
            return Err(QmpError::generic(text));
        }
        if let Some(nodes) = &given.block_bitmap_mapping {
            let mapping = Mapping::new(nodes.clone());
            self.mapping = Some(mapping.map_err(|error| QmpError::generic(error.to_string()))?);
        }
        let given = MigrationParameters { block_bitmap_mapping: None, ..given };
        let all = [self.parameters.encode(), given.encode()].into_iter().filter_map(|value| match value {
            Value::Dict(members) => Some(members),
            _ => None,
        });
        let mut kept = Dict::new();
        for (name, value) in all.flatten() {
            kept.insert(name, value);
        }
        let decoded = api::codec::decode(Value::Dict(kept));
        let mut changed: MigrationParameters =
            decoded.map_err(|error| QmpError::generic(error.to_string()))?;
        for name in [&mut changed.tls_creds, &mut changed.tls_hostname, &mut changed.tls_authz] {
            // Nothing is shown as an empty text.
            name.take_if(|name| matches!(name, StrOrNull::N));
            name.get_or_insert_with(|| StrOrNull::S(String::new()));
        }
        self.parameters = changed;
        Ok(())
    }
}
