//! The options that qcow2 images are opened with, beside those every driver has.
use super::header::Header;
use block::{BlockError, Limits, Options, Result};

/// Default bytes of refcounts held in memory.
const COUNT_CACHE: usize = 1 << 20;
/// No cache is smaller than this; requests under way must find their pages.
const LEAST_CACHE: u64 = 64 << 10;
/// Most clusters of refcounts that may be asked to be held, as in the programs whose option it is.
const MOST_COUNT_CLUSTERS: u64 = i32::MAX as u64;

/// What the options decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// Discards by the guest, and zeroes that may unmap, free space of the file below.
    pub pass_request: bool,
    /// Clusters that snapshots gave up free space of the file below.
    pub pass_snapshot: bool,
    /// All other clusters given up do too.
    pub pass_other: bool,
    /// A discarded cluster keeps its place in the file.
    pub keep_discarded: bool,
    /// Refcounts are written late, under the dirty bit.
    pub lazy_counts: bool,
    /// L2 tables of snapshots are looked for, so that nothing is written over them.
    pub inactive_l2: bool,
    /// Bytes of L1 and L2 pages held in memory.
    pub table_cache: usize,
    /// Bytes of refcount pages held in memory.
    pub count_cache: usize,
}

impl Settings {
    /// Takes this driver's options. `discards`: the node passes discards on.
    pub fn take(options: &mut Options, discards: bool, header: &Header, limits: Limits) -> Result<Self> {
        let lazy_counts = options.take_bool("lazy-refcounts")?.unwrap_or(header.has_lazy_refcounts());
        if lazy_counts && header.version < 3 {
            let text = "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level";
            return Err(BlockError::invalid(text));
        }
        let inactive_l2 = take_overlap_check(options)?;
        let pass_request = options.take_bool("pass-discard-request")?.unwrap_or(discards);
        let pass_snapshot = options.take_bool("pass-discard-snapshot")?.unwrap_or(true);
        let pass_other = options.take_bool("pass-discard-other")?.unwrap_or(false);
        let keep_discarded = options.take_bool("discard-no-unref")?.unwrap_or(false);
        if keep_discarded && header.version < 3 {
            return Err(BlockError::invalid("discard-no-unref is only supported since qcow2 version 3"));
        }
        let (table_cache, count_cache) = take_cache_sizes(options, header.cluster_size(), limits)?;
        if options.take_dict("encrypt")?.is_some() {
            return Err(BlockError::unsupported(
                "option 'encrypt': encrypted qcow2 images are not supported yet",
            ));
        }
        if options.get("data-file").is_some_and(|o| *o != block::Opt::Null) {
            return Err(BlockError::unsupported(
                "option 'data-file': external data files are not supported yet",
            ));
        }
        options.take("data-file");
        Ok(Self {
            pass_request,
            pass_snapshot,
            pass_other,
            keep_discarded,
            lazy_counts,
            inactive_l2,
            table_cache,
            count_cache,
        })
    }
}

fn take_cache_sizes(options: &mut Options, cluster_size: u64, limits: Limits) -> Result<(usize, usize)> {
    let total = options.take_u64("cache-size")?;
    let tables = options.take_u64("l2-cache-size")?;
    let counts = options.take_u64("refcount-cache-size")?;
    if let Some(size) = options.take_u64("l2-cache-entry-size")?
        && !(size.is_power_of_two() && (512..=cluster_size).contains(&size))
    {
        let text = format!(
            "L2 cache entry size must be a power of two between 512 and the cluster size ({cluster_size})"
        );
        return Err(BlockError::invalid(text));
    }
    // Pages are given up by use, not by age: what the interval would give back is within the bound in any case.
    if options.take_u64("cache-clean-interval")?.is_some_and(|seconds| seconds > u64::from(u32::MAX)) {
        return Err(BlockError::invalid("Cache clean interval too big"));
    }
    match (total, tables, counts) {
        (Some(_), Some(_), Some(_)) => {
            let text = "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time";
            return Err(BlockError::invalid(text));
        }
        (Some(total), Some(part), None) if part > total => {
            return Err(BlockError::invalid("l2-cache-size may not exceed cache-size"));
        }
        (Some(total), None, Some(part)) if part > total => {
            return Err(BlockError::invalid("refcount-cache-size may not exceed cache-size"));
        }
        _ => {}
    }
    // A cache of tables is never larger than the image needs; what a total leaves is the refcounts'.
    let (name, asked) =
        if counts.is_some() { ("refcount-cache-size", counts) } else { ("cache-size", total) };
    if asked.is_some_and(|size| size / cluster_size > MOST_COUNT_CLUSTERS) {
        return Err(BlockError::invalid(format!(
            "{name} is too big: at most {MOST_COUNT_CLUSTERS} clusters of refcounts can be held"
        )));
    }
    let bytes = |asked: u64| asked.clamp(LEAST_CACHE, limits.cache_bytes) as usize;
    // A total is shared out: what one cache does not take is the other's.
    let counts =
        counts.or(total.zip(tables).map(|(total, tables)| total - tables)).map_or(COUNT_CACHE, bytes);
    let tables =
        tables.or(total.map(|t| t.saturating_sub(counts as u64))).map_or(limits.cache_bytes as usize, bytes);
    Ok((tables, counts))
}

/// Overlap checks that cost nothing are always on, whatever is asked for. Answers whether the L2 tables of snapshots are
/// to be looked for too: by name, or as part of the template `all`.
fn take_overlap_check(options: &mut Options) -> Result<bool> {
    const ALWAYS_ON: [&str; 8] = [
        "main-header",
        "active-l1",
        "active-l2",
        "refcount-table",
        "refcount-block",
        "snapshot-table",
        "inactive-l1",
        "bitmap-directory",
    ];
    let is_all = |template: Option<String>| match template.as_deref() {
        None | Some("none" | "constant" | "cached") => Ok(false),
        Some("all") => Ok(true),
        Some(other) => Err(BlockError::invalid(format!(
            "Unsupported value '{other}' for qcow2 option 'overlap-check'. Allowed are any of the following: none, \
             constant, cached, all"
        ))),
    };
    if options.get_str("overlap-check").is_some() {
        return is_all(options.take_str("overlap-check")?);
    }
    let Some(mut parts) = options.take_dict("overlap-check")? else { return Ok(false) };
    let all = is_all(parts.take_str("template")?)?;
    let inactive_l2 = parts.take_bool("inactive-l2")?.unwrap_or(all);
    for part in ALWAYS_ON {
        parts.take_bool(part)?;
    }
    parts.finish()?;
    Ok(inactive_l2)
}
