//! The options that qcow2 images are opened with, beside those every driver has.
use super::entry::DEFAULT_SLICE;
use super::header::Header;
use super::overlap::Checks;
use api::{Enumeration, Qcow2Options, Qcow2OverlapCheckMode, Qcow2OverlapChecks};
use block::{BlockError, Limits, Opt, Options, Result, not_negative};

/// Default bytes of refcounts held in memory.
const COUNT_CACHE: u64 = 1 << 20;
/// No cache is smaller than this; requests under way must find their pages.
const LEAST_CACHE: u64 = 64 << 10;
/// No cache of tables has room for fewer slices, and none of refcounts for fewer clusters.
const LEAST_PAGES: u64 = 4;
/// Most clusters of refcounts that may be asked to be held, as in the programs whose option it is.
const MOST_COUNT_CLUSTERS: u64 = i32::MAX as u64;
/// Seconds after which a table that nobody uses leaves memory, where nothing else is asked for.
const CLEAN_INTERVAL: u32 = 600;

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
    /// What nothing is written over.
    pub checks: Checks,
    /// log2 of the entries that are read of an L2 table at a time.
    pub slice_bits: u32,
    /// Seconds after which pages that nobody uses leave memory; 0: never.
    pub clean_interval: u32,
    /// Bytes of L1 and L2 pages held in memory.
    pub table_cache: usize,
    /// Bytes of refcount pages held in memory.
    pub count_cache: usize,
}

impl Settings {
    /// What these options mean for this image. `discards`: the node passes discards on.
    pub fn new(options: &Qcow2Options, discards: bool, header: &Header, limits: Limits) -> Result<Self> {
        let lazy_counts = options.lazy_refcounts.unwrap_or(header.has_lazy_refcounts());
        if lazy_counts && header.version < 3 {
            let text = "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level";
            return Err(BlockError::invalid(text));
        }
        let checks = checks(options.overlap_check.as_ref());
        let pass_request = options.pass_discard_request.unwrap_or(discards);
        let pass_snapshot = options.pass_discard_snapshot.unwrap_or(true);
        let pass_other = options.pass_discard_other.unwrap_or(false);
        let keep_discarded = options.discard_no_unref.unwrap_or(false);
        if keep_discarded && header.version < 3 {
            return Err(BlockError::invalid("discard-no-unref is only supported since qcow2 version 3"));
        }
        let slice = entry_size(options, header.cluster_size())?;
        let clean_interval = not_negative("cache-clean-interval", options.cache_clean_interval)?;
        let clean_interval = clean_interval.unwrap_or(u64::from(CLEAN_INTERVAL));
        let clean_interval =
            u32::try_from(clean_interval).map_err(|_| BlockError::invalid("Cache clean interval too big"))?;
        let (table_cache, count_cache) = cache_sizes(options, header, slice, limits)?;
        Ok(Self {
            pass_request,
            pass_snapshot,
            pass_other,
            keep_discarded,
            lazy_counts,
            checks,
            slice_bits: (slice / header.l2_entry_bytes()).ilog2(),
            clean_interval,
            table_cache,
            count_cache,
        })
    }
}

/// Bytes that are read of an L2 table at a time.
fn entry_size(options: &Qcow2Options, cluster_size: u64) -> Result<u64> {
    let size = not_negative("l2-cache-entry-size", options.l2_cache_entry_size)?;
    let size = size.unwrap_or(DEFAULT_SLICE.min(cluster_size));
    if size.is_power_of_two() && (512..=cluster_size).contains(&size) {
        return Ok(size);
    }
    Err(BlockError::invalid(format!(
        "L2 cache entry size must be a power of two between 512 and the cluster size ({cluster_size})"
    )))
}

/// Bytes of tables and of refcounts that are held, with slices of `slice` bytes. What is given holds; of a total, the
/// tables get what the whole disk needs at most, and the refcounts what is left.
fn cache_sizes(
    options: &Qcow2Options,
    header: &Header,
    slice: u64,
    limits: Limits,
) -> Result<(usize, usize)> {
    let cluster_size = header.cluster_size();
    let total = not_negative("cache-size", options.cache_size)?;
    let tables = not_negative("l2-cache-size", options.l2_cache_size)?;
    let counts = not_negative("refcount-cache-size", options.refcount_cache_size)?;
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
    let (name, asked) =
        if counts.is_some() { ("refcount-cache-size", counts) } else { ("cache-size", total) };
    if asked.is_some_and(|size| size / cluster_size > MOST_COUNT_CLUSTERS) {
        return Err(BlockError::invalid(format!(
            "{name} is too big: at most {MOST_COUNT_CLUSTERS} clusters of refcounts can be held"
        )));
    }
    let least_counts = LEAST_CACHE.max(LEAST_PAGES * cluster_size.min(DEFAULT_SLICE));
    let all_tables = header.virtual_size().div_ceil(cluster_size).saturating_mul(header.l2_entry_bytes());
    let (tables, counts) = match (total, tables, counts) {
        (Some(total), None, None) => {
            let tables = total.saturating_sub(least_counts).min(all_tables);
            (tables, total - tables)
        }
        (Some(total), Some(tables), _) => (tables, total - tables),
        (Some(total), None, Some(counts)) => (total - counts, counts),
        (None, tables, counts) => (tables.unwrap_or(limits.cache_bytes), counts.unwrap_or(COUNT_CACHE)),
    };
    let least_tables = LEAST_CACHE.max(LEAST_PAGES * slice);
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    Ok((bytes(tables.max(least_tables)), bytes(counts.max(least_counts))))
}

/// The structures that are checked: those of the template, with single ones on or off.
fn checks(given: Option<&Qcow2OverlapChecks>) -> Checks {
    let flags = match given {
        None => return Checks::CACHED,
        Some(Qcow2OverlapChecks::Mode(mode)) => return Checks::of_template(*mode),
        Some(Qcow2OverlapChecks::Flags(flags)) => flags,
    };
    let mut checks = flags.template.map_or(Checks::CACHED, Checks::of_template);
    let single = [
        ("main-header", flags.main_header),
        ("active-l1", flags.active_l1),
        ("active-l2", flags.active_l2),
        ("refcount-table", flags.refcount_table),
        ("refcount-block", flags.refcount_block),
        ("snapshot-table", flags.snapshot_table),
        ("inactive-l1", flags.inactive_l1),
        ("inactive-l2", flags.inactive_l2),
        ("bitmap-directory", flags.bitmap_directory),
    ];
    for (name, on) in single {
        if let Some(on) = on {
            checks.set(name, on);
        }
    }
    checks
}

/// Brings the other forms of options into the schema's.
pub(super) fn adapt(options: &mut Options) -> Result<()> {
    adapt_overlap_check(options)?;
    super::encryption::adapt_open(options)
}

/// A template may stand beside single checks: it is one of them then.
fn adapt_overlap_check(options: &mut Options) -> Result<()> {
    const NAME: &str = "overlap-check";
    let flat = match options.get(NAME) {
        Some(Opt::Str(_)) => options.take_str(NAME)?,
        _ => None,
    };
    let Some(mut parts) = options.take_dict(NAME)?.or(flat.is_some().then(Options::new)) else {
        return Ok(());
    };
    if let (Some(flat), Some(nested)) = (&flat, parts.get_str("template"))
        && flat != nested
    {
        return Err(BlockError::invalid(format!(
            "'{NAME}' is '{flat}' and '{NAME}.template' is '{nested}': give only one of the two"
        )));
    }
    if let Some(flat) = flat {
        parts.set("template", Opt::Str(flat));
    }
    if let Some(template) = parts.get_str("template")
        && Qcow2OverlapCheckMode::from_name(template).is_none()
    {
        return Err(BlockError::invalid(format!(
            "Unsupported value '{template}' for qcow2 option '{NAME}'. Allowed are any of the following: none, \
             constant, cached, all"
        )));
    }
    options.set(NAME, Opt::Dict(parts));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(disk: u64, options: Options) -> Result<(u64, u64)> {
        let header = Header::new(3, 16, disk);
        let settings = Settings::new(&options.read()?, false, &header, Limits::default())?;
        Ok((settings.table_cache as u64, settings.count_cache as u64))
    }

    fn given(sizes: &[(&str, u64)]) -> Options {
        sizes.iter().fold(Options::new(), |all, (name, size)| all.with(name, Opt::Uint(*size)))
    }

    #[test]
    fn caches_have_the_sizes_that_are_asked_for() {
        const M: u64 = 1 << 20;
        const T: u64 = 1 << 40;
        let sizes = |asked: &[(&str, u64)]| sizes(T, given(asked)).unwrap();
        assert_eq!(sizes(&[]), (32 * M, M));
        assert_eq!(sizes(&[("l2-cache-size", 100 * M)]), (100 * M, M));
        assert_eq!(sizes(&[("l2-cache-size", 1), ("refcount-cache-size", 1)]), (64 << 10, 64 << 10));
        assert_eq!(sizes(&[("refcount-cache-size", 7 * M)]), (32 * M, 7 * M));
        assert_eq!(sizes(&[("cache-size", 8 * M)]), (8 * M - (64 << 10), 64 << 10));
        // 1 TiB in clusters of 64 KiB has 128 MiB of tables.
        assert_eq!(sizes(&[("cache-size", 200 * M)]), (128 * M, 72 * M));
        assert_eq!(sizes(&[("cache-size", 8 * M), ("l2-cache-size", 5 * M)]), (5 * M, 3 * M));
        assert_eq!(sizes(&[("cache-size", 8 * M), ("refcount-cache-size", 5 * M)]), (3 * M, 5 * M));
        assert_eq!(sizes(&[("l2-cache-size", 1), ("l2-cache-entry-size", 65536)]).0, 256 << 10);
    }

    #[test]
    fn single_overlap_checks_go_over_the_template() {
        let given = |pairs: &[(&str, &str)]| {
            let mut options = pairs.iter().fold(Options::new(), |all, (name, word)| all.with_str(name, word));
            options = options.nested();
            adapt(&mut options)?;
            options.read::<Qcow2Options>().map(|options| checks(options.overlap_check.as_ref()))
        };
        let on = |pairs: &[(&str, &str)]| given(pairs).unwrap().count();
        assert_eq!(on(&[]), 8);
        assert_eq!(on(&[("overlap-check", "none")]), 0);
        assert_eq!(on(&[("overlap-check", "constant")]), 5);
        assert_eq!(on(&[("overlap-check", "all")]), 9);
        assert_eq!(on(&[("overlap-check.template", "all"), ("overlap-check.active-l2", "off")]), 8);
        assert_eq!(on(&[("overlap-check", "none"), ("overlap-check.main-header", "on")]), 1);
        assert_eq!(on(&[("overlap-check", "all"), ("overlap-check.template", "all")]), 9);
        let refused = given(&[("overlap-check", "none"), ("overlap-check.template", "all")]).unwrap_err();
        assert!(refused.message().contains("give only one of the two"), "{refused}");
        let refused = given(&[("overlap-check.bogus", "on")]).unwrap_err();
        assert!(refused.message().contains("'overlap-check.bogus'"), "{refused}");
    }
}
