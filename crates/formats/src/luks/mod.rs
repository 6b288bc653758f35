//! `luks`: an encrypted volume, its header in front of its data or in another file.
//!
//! ```text
//! file:  │ LUKS header │ key material of slots │ guest's sectors, encrypted … │
//! or     header: │ LUKS header │ key material │      file: │ guest's sectors, encrypted … │
//! ```
//!
//! Data is mapped one to one behind the header; the core codes it ([`block::Coding`]). Zeroes are data as any other, and what
//! a volume grows by shows what is in the file, decrypted: nothing of it reads as zeroes. Discards are passed over, for the
//! holes that they leave would tell what is in use.
//!
//! LUKS1 is opened, made, and its key slots are changed; LUKS2 is opened.
mod create;

use crate::encryption::{self, CipherCoding, KeySlots, Numbers, Place, Volume};
use api::{ImageInfoSpecific, PreallocMode, QCryptoBlockAmendOptionsLUKS, QCryptoBlockOptionsLUKS};
use block::{
    Action, Amendment, BlockError, ChildId, ChildRole, ChildSpec, Coding, CreateOption, Driver, DriverInfo,
    DriverType, Edge, Edges, ErrorKind, Extent, ExtentKind, Facts, Glimpse, MapChange, Node, Open,
    OpenContext, Opened, OptionKind, Options, Perms, Request, Result, Secret, Share, Want, WritePlan,
};
use rt::BoxFuture;
use std::sync::Arc;

/// The `luks` driver.
pub const LUKS: DriverType = DriverType {
    name: "luks",
    probe: Some(probe),
    open: &Open(open),
    create: Some(&create::CREATE),
    create_options: create::OPTIONS,
    amend_options: AMEND_OPTIONS,
    ..DriverType::FORMAT
};

/// The options of a change of key slots, by the names that stand behind a format's own prefix.
const AMEND_OPTIONS: &[CreateOption] = &[
    CreateOption::new("state", OptionKind::Str, "What the key slots become: active or inactive"),
    CreateOption::new("keyslot", OptionKind::Number, "The key slot, 0 to 7"),
    CreateOption::new("old-secret", OptionKind::Str, "Secret whose key slots are erased"),
    CreateOption::new("new-secret", OptionKind::Str, "Secret that is to open a key slot"),
    CreateOption::new("iter-time", OptionKind::Number, "Milliseconds that trying the new secret takes"),
];

/// The magic, and a version that there is.
fn probe(seen: &Glimpse<'_>) -> u32 {
    if matches!(crypto::luks::version(seen.head), Some(1 | 2)) { 100 } else { 0 }
}

fn open(context: &mut OpenContext, options: QCryptoBlockOptionsLUKS) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (data, file) = context.file().await?;
        let spec = ChildSpec { name: "header".into(), role: ChildRole::METADATA, stored: None };
        let (header, apart) = context.child(spec).await?;
        let detached = apart.is_some();
        let header_file = apart.unwrap_or_else(|| file.clone());
        // A header that stands alone is not as long as it says that the volume is.
        let len = if detached { i64::MAX as u64 } else { file.length() };
        let place = Place { file: header_file.clone(), offset: 0, len };
        let named = |e: BlockError| e.context(format!("LUKS volume '{}'", header_file.filename()));
        let volume = Volume::read(&place).await.map_err(named)?;
        let (payload, stated_len) = volume.payload().map_err(named)?;
        if payload == 0 && !detached {
            let text = "this is the header of a volume whose data is in another file, and would be overwritten as its data; \
                        give it as 'header', and the data as 'file'";
            return Err(named(BlockError::invalid(text)));
        }
        if payload > file.length() {
            let text =
                format!("the data begins at byte {payload}, and '{}' has {}", file.filename(), file.length());
            return Err(named(BlockError::corrupt(text)));
        }
        let limits =
            encryption::limits_of(options.x_max_rounds.map(|n| n.0), options.x_max_memory.map(|n| n.0));
        let coding = if context.common().without_content {
            encryption::locked()
        } else {
            let id = options.key_secret.as_deref();
            let passphrase = encryption::passphrase_of(context.objects(), "key-secret", id)?;
            let key = volume.open(&place, &passphrase, limits).await.map_err(named)?.key;
            let (cipher, first) = volume.cipher(&key)?;
            CipherCoding::of(cipher, Numbers::Guest(first))
        };
        let driver = Luks {
            edges: context.edges().clone(),
            data,
            header: if detached { header } else { data },
            detached,
            payload,
            stated_len,
            sector: volume.sector()?,
            coding,
            slots: KeySlots::new(volume, options.key_secret, limits),
        };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

/// An open volume.
struct Luks {
    edges: Arc<Edges>,
    data: ChildId,
    /// The file with the header; the same where that is not apart.
    header: ChildId,
    detached: bool,
    /// Where the data begins, in bytes.
    payload: u64,
    /// Bytes of the data, where the header says so.
    stated_len: Option<u64>,
    /// Bytes of a sector.
    sector: u64,
    coding: Arc<dyn Coding>,
    slots: KeySlots,
}

impl Luks {
    fn file(&self) -> Result<Arc<Node>> {
        self.edges.need(self.data)
    }

    fn place(&self) -> Result<Place> {
        let file = self.edges.need(self.header)?;
        let len = if self.detached { i64::MAX as u64 } else { file.length() };
        Ok(Place { file, offset: 0, len })
    }
}

impl Driver for Luks {
    fn facts(&self) -> Facts {
        Facts { mapping: true, alignment: 1, ..Facts::default() }
    }

    fn length(&self) -> u64 {
        let room = self.edges.with(self.data, |file| file.map_or(0, |file| file.length()));
        let room = room.saturating_sub(self.payload);
        let len = self.stated_len.map_or(room, |stated| stated.min(room));
        len - len % self.sector
    }

    fn coding(&self) -> Option<Arc<dyn Coding>> {
        Some(self.coding.clone())
    }

    fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
        let kind = ExtentKind::Data { child: self.data, offset: self.payload + offset, owned: true };
        Some(Extent { len, kind })
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        let nowhere = || BlockError::invalid("the volume has no data there");
        Box::pin(std::future::ready(self.try_map(offset, len, want).ok_or_else(nowhere)))
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        _: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        let action = match change {
            MapChange::Data => Action::Forward { child: self.data, offset: self.payload + offset },
            MapChange::Zero => Action::AsData,
            MapChange::Discard => Action::Nothing,
        };
        Box::pin(std::future::ready(Ok(WritePlan { len, action, token: None })))
    }

    fn is_settled(&self, _: u64, _: u64) -> bool {
        true
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.file()?.flush().await })
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.stated_len.is_some() {
                let text = "the LUKS2 header states how long the volume is; cryptsetup can change that";
                return Err(BlockError::unsupported(text));
            }
            let end =
                size.checked_next_multiple_of(self.sector).and_then(|size| size.checked_add(self.payload));
            let end = end.filter(|end| i64::try_from(*end).is_ok());
            let too_large = || BlockError::new(ErrorKind::Limit, "the requested file size is too large");
            let preallocation = create::of_file(preallocation);
            self.file()?.set_length(end.ok_or_else(too_large)?, preallocation).await
        })
    }

    /// The data needs of its file what the parents need of it; the header is not kept in memory to be written from.
    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        if child.role().has(ChildRole::DATA) {
            return Perms { need: parents.need.union(Share::READ), ..parents };
        }
        let need = if read_only { Share::READ } else { Share::READ.union(Share::WRITE) };
        Perms { need, share: Share::READ.union(Share::WRITE_UNCHANGED) }
    }

    fn naming_options(&self) -> Options {
        encryption::naming_options("key-secret", self.slots.key_secret())
    }

    fn info(&self) -> DriverInfo {
        DriverInfo {
            dirty: Some(false),
            encrypted: true,
            specific: self.slots.describe(self.detached).map(ImageInfoSpecific::Luks),
            ..DriverInfo::default()
        }
    }

    fn judge_passphrase<'a>(&'a self, passphrase: &'a Secret) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.slots.judge(&self.place()?, passphrase).await })
    }

    fn amend<'a>(&'a self, amendment: Amendment<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let options: QCryptoBlockAmendOptionsLUKS = amendment.options.read()?;
            self.slots.amend(&self.place()?, &options, amendment.objects, amendment.force).await
        })
    }
}
