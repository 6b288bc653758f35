//! The options that every driver has.
use crate::error::{BlockError, Result};
use crate::options::{Opt, Options};
use api::{BlockdevCommonOptions, BlockdevDetectZeroesOptions, BlockdevDiscardOptions};

/// What `discard` requests do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Discard {
    /// They are dropped.
    #[default]
    Ignore,
    /// They reach the storage.
    Unmap,
}

/// Options every driver has.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// No writes.
    pub read_only: bool,
    /// Fall back to read-only where writing is refused.
    pub auto_read_only: bool,
    /// Take no locks and share everything.
    pub force_share: bool,
    /// O_DIRECT (`cache.direct`).
    pub direct: bool,
    /// Flushes are omitted, their order is kept (`cache.no-flush`).
    pub no_flush: bool,
    /// Each write ends like FUA (`cache.writeback=false`).
    pub write_through: bool,
    /// What discards do.
    pub discard: Discard,
    /// Writes of zeroes become write-zeroes.
    pub detect_zeroes: bool,
    /// … and may give up space.
    pub detect_zeroes_unmap: bool,
    /// Opened to be repaired: a mark that refuses writes (corrupt, not closed cleanly) does not refuse the open.
    /// Guest data is not written.
    pub for_repair: bool,
    /// Opened to be looked at: guest data is neither read nor written, so that an encrypted image needs no key.
    pub without_content: bool,
    /// Opened inactive (`active=off`): the image belongs to another program, until it is taken over.
    pub inactive: bool,
}

impl Common {
    /// What a file child takes over. Zeroes are looked for above, in what guests write.
    pub(crate) fn of_file(&self) -> Self {
        Self { detect_zeroes: false, detect_zeroes_unmap: false, ..self.clone() }
    }

    /// Takes the options every driver has, over those inherited.
    pub(crate) fn take(options: &mut Options, inherited: Option<Self>) -> Result<Self> {
        let mut common = inherited.unwrap_or_default();
        adapt_common(options, &mut common)?;
        let given: BlockdevCommonOptions = options.take_typed()?;
        let cache = given.cache.unwrap_or_default();
        common.read_only = given.read_only.unwrap_or(common.read_only);
        common.auto_read_only = given.auto_read_only.unwrap_or(common.auto_read_only);
        common.force_share = given.force_share.unwrap_or(common.force_share);
        common.inactive = given.active.map_or(common.inactive, |active| !active);
        common.direct = cache.direct.unwrap_or(common.direct);
        common.no_flush = cache.no_flush.unwrap_or(common.no_flush);
        common.discard = match given.discard {
            None => common.discard,
            Some(BlockdevDiscardOptions::Ignore) => Discard::Ignore,
            Some(BlockdevDiscardOptions::Unmap) => Discard::Unmap,
        };
        if let Some(detect) = given.detect_zeroes {
            common.detect_zeroes = detect != BlockdevDetectZeroesOptions::Off;
            common.detect_zeroes_unmap = detect == BlockdevDetectZeroesOptions::Unmap;
        }
        if common.detect_zeroes_unmap && common.discard != Discard::Unmap {
            return Err(BlockError::invalid(
                "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
            ));
        }
        if common.force_share && !common.read_only {
            return Err(BlockError::invalid("force-share=on can only be used with read-only images"));
        }
        Ok(common)
    }
}

/// Words that command lines know and the schema does not.
fn adapt_common(options: &mut Options, common: &mut Common) -> Result<()> {
    let word = match options.get_str("discard") {
        Some("on") => Some("unmap"),
        Some("off") => Some("ignore"),
        _ => None,
    };
    if let Some(word) = word {
        options.set("discard", Opt::Str(word.to_owned()));
    }
    if let Some(mut cache) = options.take_dict("cache")? {
        common.write_through = cache.take_bool("writeback")?.map_or(common.write_through, |on| !on);
        options.set("cache", Opt::Dict(cache));
    }
    Ok(())
}
