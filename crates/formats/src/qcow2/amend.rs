//! Changing what an image is: its version, how wide its refcounts are and when they are written, its size, its key slots.
//!
//! ```text
//!  judge · settle · [version 3] · [key slots] · [{new refcounts} {header}] · [{header: data file, lazy}] · [size] · [zeroes · version 2]
//! ```
//!
//! Laws:
//! - all that can be refused is refused before the first write;
//! - each step leaves a whole image, durably, before the next one begins; within a step one write of the header's first
//!   sector is the change, and what it leads to was durable before;
//! - no request is inside, and no table waits for anything.
//!
//! Where things are: here what is asked for, and the order · `width` refcounts of another width · `zeroes`
//! zero clusters where there may be none.
//! Specification: qcow2.rst, "Header".
mod width;
mod zeroes;

use super::driver::Qcow2;
use super::encryption;
use super::header::{AUTOCLEAR_DATA_RAW, BITMAPS, COMPATIBLE_LAZY_REFCOUNTS, Header, INCOMPATIBLE_DIRTY};
use super::image::Image;
use super::resize;
use api::{PreallocMode, QCryptoBlockAmendOptionsLUKS};
use block::metacache::Order;
use block::{Amendment, BlockError, CreateOption, OptionKind, Options, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// The options of `amend`. Scripts know what is said of them.
pub(super) const OPTIONS: &[CreateOption] = &[
    CreateOption::new("backing_file", OptionKind::Str, "File name of a base image"),
    CreateOption::new("backing_fmt", OptionKind::Str, "Image format of the base image"),
    CreateOption::new("compat", OptionKind::Str, "Compatibility level (v2 [0.10] or v3 [1.1])"),
    CreateOption::new("data_file", OptionKind::Str, "File name of an external data file"),
    CreateOption::new(
        "data_file_raw",
        OptionKind::Bool,
        "The external data file must stay valid as a raw image",
    ),
    CreateOption::new(
        "encrypt.state",
        OptionKind::Str,
        "Select new state of affected keyslots (active/inactive)",
    ),
    CreateOption::new("encrypt.keyslot", OptionKind::Number, "Select a single keyslot to modify explicitly"),
    CreateOption::new("encrypt.old-secret", OptionKind::Str, "Select all keyslots that match this password"),
    CreateOption::new(
        "encrypt.new-secret",
        OptionKind::Str,
        "New secret to set in the matching keyslots. Empty string to erase",
    ),
    CreateOption::new("encrypt.iter-time", OptionKind::Number, "Time to spend in PBKDF in milliseconds"),
    CreateOption::new("lazy_refcounts", OptionKind::Bool, "Postpone refcount updates"),
    CreateOption::new("refcount_bits", OptionKind::Number, "Width of a reference count entry in bits"),
    CreateOption::SIZE,
];

/// Whether these options are about key slots only.
pub(super) fn is_about_slots(options: &Options) -> bool {
    options.iter().all(|(name, _)| name == "encrypt")
}

/// What an image is to be.
struct Plan {
    version: u32,
    refcount_order: u32,
    lazy: bool,
    size: Option<u64>,
    slots: Option<QCryptoBlockAmendOptionsLUKS>,
    /// The data file's name; empty for none.
    data_file: Option<String>,
    /// The data file may become something else than a raw image of the disk.
    raw_no_more: bool,
}

impl Plan {
    /// What options ask for, as far as the image's header can tell whether it can be had.
    fn new(mut options: Options, header: &Header) -> Result<Self> {
        let slots = options.take_dict("encrypt")?.map(encryption::slot_options).transpose()?;
        let compat = options.take_str("compat")?;
        let plan = Self {
            version: compat.map_or(Ok(header.version), |level| version_of(&level))?,
            refcount_order: match options.take_u64("refcount-bits")? {
                Some(bits) => order_of(bits)?,
                None => header.refcount_order,
            },
            lazy: false,
            size: options.take_u64("size")?,
            slots,
            data_file: options.take_str("data-file")?,
            raw_no_more: options
                .take_bool("data-file-raw")?
                .map_or(Ok(false), |raw| raw_no_more(raw, header))?,
        };
        let lazy = options.take_bool("lazy-refcounts")?;
        check_backing(&mut options, header)?;
        check_data_file(plan.data_file.as_deref(), header)?;
        options.finish()?;
        if plan.version < 3 && lazy == Some(true) {
            let text = "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)";
            return Err(BlockError::invalid(text));
        }
        let lazy = plan.version >= 3 && lazy.unwrap_or(header.has_lazy_refcounts());
        let plan = Self { lazy, ..plan };
        plan.check_versions(header)?;
        if let Some(size) = plan.size {
            // The disk gets its size under the version that can do more.
            resize::check_size(header, plan.version.max(header.version), size)?;
        }
        Ok(plan)
    }

    fn check_versions(&self, header: &Header) -> Result<()> {
        if self.version < 3 && self.refcount_order != 4 {
            let text = if header.version < 3 {
                "Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)"
            } else {
                "compat=0.10 requires refcount_bits=16"
            };
            return Err(BlockError::invalid(text));
        }
        if self.version < header.version {
            check_features(header)?;
        }
        if self.version != header.version {
            header.check_version(self.version)?;
        }
        Ok(())
    }

    /// Whether the version is to change, how wide refcounts are, or when they are written.
    fn changes(&self, header: &Header) -> bool {
        (self.version, self.refcount_order, self.lazy)
            != (header.version, header.refcount_order, header.has_lazy_refcounts())
    }
}

fn version_of(level: &str) -> Result<u32> {
    match level {
        "0.10" | "v2" => Ok(2),
        "1.1" | "v3" => Ok(3),
        other => Err(BlockError::invalid(format!("Unknown compatibility level {other}"))),
    }
}

fn order_of(bits: u64) -> Result<u32> {
    if bits.is_power_of_two() && bits <= 64 {
        return Ok(bits.trailing_zeros());
    }
    Err(BlockError::invalid("Refcount width must be a power of two and may not exceed 64 bits"))
}

/// Whether an image has nothing but what version 2 has too, or can do without.
fn check_features(header: &Header) -> Result<()> {
    let features = header.incompatible & !INCOMPATIBLE_DIRTY;
    if header.has_data_file() {
        return Err(BlockError::unsupported("Cannot downgrade an image with a data file"));
    }
    if features != 0 {
        let text = format!("Cannot downgrade an image with incompatible features {features:#x} set");
        return Err(BlockError::unsupported(text));
    }
    if header.extension(BITMAPS).is_some() {
        let text = "Cannot downgrade an image with bitmaps: version 2 has none. 'cairn img bitmap --remove' removes \
                    those that are listed, 'cairn img check -r leaks' those that are invalid";
        return Err(BlockError::unsupported(text));
    }
    Ok(())
}

/// The backing file changes by `rebase`, which looks at what the disk shows; here it can only be said as it is.
fn check_backing(options: &mut Options, header: &Header) -> Result<()> {
    let (name, format) = (options.take_str("backing-file")?, options.take_str("backing-fmt")?);
    let differs = |said: Option<String>, is: Option<&str>| said.is_some_and(|said| said != is.unwrap_or(""));
    if differs(name, header.backing_name.as_deref()) || differs(format, header.backing_format().as_deref()) {
        let text = "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.";
        return Err(BlockError::unsupported(text));
    }
    Ok(())
}

fn check_data_file(name: Option<&str>, header: &Header) -> Result<()> {
    match name {
        Some(_) if !header.has_data_file() => {
            let text = "data-file can only be set for images that use an external data file";
            Err(BlockError::invalid(text))
        }
        Some(name) => Ok(header.check_data_file(name)?),
        None => Ok(()),
    }
}

/// Whether the data file is raw and is not to stay so. One that is not would have to be written anew to become it.
fn raw_no_more(raw: bool, header: &Header) -> Result<bool> {
    if raw && !header.is_data_raw() {
        return Err(BlockError::invalid("data-file-raw cannot be set on existing images"));
    }
    Ok(!raw && header.is_data_raw())
}

impl Qcow2 {
    /// Makes the image what the options of `amendment` say.
    pub(super) async fn amend_image(&self, amendment: Amendment<'_>) -> Result<()> {
        let Amendment { options, force, objects, progress } = amendment;
        let image = &self.image;
        let header = image.header.read().clone();
        let plan = Plan::new(options, &header)?;
        let encryption = match (&self.encryption, &plan.slots) {
            (None, Some(_)) => return Err(BlockError::invalid("the image is not encrypted")),
            (Some(encryption), Some(_)) if !encryption.has_slots() => {
                let text = "an image with the old AES encryption has no key slots";
                return Err(BlockError::unsupported(text));
            }
            (encryption, _) => encryption.as_ref(),
        };
        if plan.refcount_order != header.refcount_order {
            image.check_width(plan.refcount_order).await?;
        }
        let down = plan.version < header.version;
        if down {
            self.check_downgrade(plan.size.unwrap_or(header.virtual_size())).await?;
        }
        if plan.changes(&header) {
            self.count_at_once().await?;
        }
        if plan.version > header.version {
            self.settle_tables().await?;
            self.upgrade().await?;
        }
        if let (Some(encryption), Some(options)) = (encryption, &plan.slots) {
            let (file, header) = (image.order.file.node()?, image.header.read().clone());
            encryption.amend(&file, &header, options, objects, force).await?;
        }
        if plan.refcount_order != header.refcount_order {
            self.settle_tables().await?;
            image.change_width(plan.refcount_order, progress).await?;
        }
        if let Some(name) = &plan.data_file {
            self.settle_tables().await?;
            image.store_header(async |header, file| header.set_data_file(file, name).await).await?;
        }
        if plan.raw_no_more {
            self.settle_tables().await?;
            image.switch_header(|h| h.autoclear &= !AUTOCLEAR_DATA_RAW).await?;
        }
        if plan.lazy != header.has_lazy_refcounts() {
            self.settle_tables().await?;
            image.set_lazy(plan.lazy).await?;
        }
        if let Some(size) = plan.size.filter(|size| *size != image.size.load(Acquire)) {
            image.resize(size, PreallocMode::Off).await?;
        }
        if down {
            self.settle_tables().await?;
            self.downgrade(progress).await?;
        }
        Ok(())
    }

    /// Has counts written when they change from now on, and the header say so.
    async fn count_at_once(&self) -> Result<()> {
        self.image.settings.write().lazy_counts = false;
        self.settle().await?;
        if self.image.header.read().is_dirty() {
            let text = "refcounts of the image may be wrong; 'cairn img check -r all' repairs them";
            return Err(BlockError::corrupt(text));
        }
        Ok(())
    }

    /// Whether the image, as one of `size` bytes, can be one of version 2.
    async fn check_downgrade(&self, size: u64) -> Result<()> {
        if !self.image.bitmaps.list().is_empty() {
            return Err(BlockError::unsupported(
                "Cannot downgrade an image with bitmaps: version 2 has none",
            ));
        }
        if !self.entries_fit_version_2(size).await? {
            let text = "Internal snapshots prevent downgrade of image: version 2 knows only those of disks of the \
                        image's size, with less than 4 GiB of machine state";
            return Err(BlockError::unsupported(text));
        }
        // Entries that wait in memory are looked at when they are on disk.
        Order::flush(&self.image).await?;
        let with_zeroes = !self.zeroes().await?.is_empty();
        let shows_backing = self.image.shows_backing();
        let header = self.image.header.read();
        if with_zeroes && header.crypt_method != 0 && shows_backing {
            let text =
                "Cannot downgrade an encrypted image that hides clusters of its backing file by zeroes";
            return Err(BlockError::unsupported(text));
        }
        Ok(())
    }

    async fn zeroes(&self) -> Result<zeroes::Tables> {
        let snapshots = self.listed.read().snapshots.list.clone();
        self.image.tables_with_zeroes(&snapshots).await
    }

    /// Makes an image of version 3 one of version 2.
    async fn downgrade(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<()> {
        let image = &self.image;
        let tables = self.zeroes().await?;
        let l1_entries =
            self.listed.read().snapshots.list.iter().map(|s| u64::from(s.l1_entries)).sum::<u64>()
                + u64::from(image.header.read().l1_entries);
        image.expand_zeroes(&tables, l1_entries, progress).await?;
        image.store_header(async |header, file| header.set_version(file, 2).await).await
    }

    /// Makes an image of version 2 one of version 3.
    async fn upgrade(&self) -> Result<()> {
        self.complete_entries().await?;
        self.image.store_header(async |header, file| header.set_version(file, 3).await).await
    }
}

impl Image {
    /// Has the header say whether counts may be written late: from the next time that the image is opened on they are.
    async fn set_lazy(self: &Arc<Self>, lazy: bool) -> Result<()> {
        let bit = COMPATIBLE_LAZY_REFCOUNTS;
        let switch =
            |h: &mut Header| h.compatible = if lazy { h.compatible | bit } else { h.compatible & !bit };
        self.switch_header(switch).await
    }
}
