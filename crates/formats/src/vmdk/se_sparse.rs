//! A sparse file of today's ESX hosts, which is only read: tables of 64-bit words.
//!
//! ```text
//!  header ─▶ directory: one word a table ─▶ table: one word a grain ─▶ grain
//!   0 a hole · 1 unmapped, 2 zeroed: zeroes · 3 with the number of a grain, its low 12 bits in front of the others
//! ```
//!
//! A file whose journal must be replayed first is refused: its tables are not what they say.
//! The layout is public as VMware's products write it, and as the peer reads it; there is no specification.
use super::header::{SECTOR, sectors, u64_at};
use block::metacache::{Le64, MetadataFile, Order};
use block::{BlockError, ChildId, Domain, Edges, Extent, ExtentKind, Result, Want};
use std::sync::Arc;

const MAGIC: u64 = 0xcafe_babe;
const VOLATILE_MAGIC: u64 = 0xcafe_cafe;
const VERSION: u64 = 0x2_0000_0001;
/// Sectors of a grain, and of a table.
const GRAIN: u64 = 8;
const TABLE: u64 = 64;
const ENTRIES: u64 = TABLE * SECTOR / 8;
/// Words of a page of the directory.
const DIRECTORY_ENTRIES: u64 = 512;
const DIRECTORY: u64 = 1 << 40;
/// The kind of a word.
const KIND: u64 = 0xf << 60;

/// A sparse file of 64-bit words.
pub struct SeSparse {
    order: Order<Le64>,
    edges: Arc<Edges>,
    child: ChildId,
    /// Bytes of the disk.
    pub len: u64,
    directory: u64,
    directory_len: u64,
    tables: u64,
    tables_len: u64,
    grains: u64,
}

/// What a word of a table says.
enum Entry {
    Hole,
    Zero,
    At(u64),
    Wrong,
}

impl SeSparse {
    /// Reads the headers.
    pub async fn open(
        edges: &Arc<Edges>,
        child: ChildId,
        domain: &Arc<Domain>,
        cache: usize,
    ) -> Result<Arc<Self>> {
        let file = MetadataFile::new(edges.clone(), child, "vmdk");
        let name = file.name();
        let corrupt = |text: &str| BlockError::corrupt(text).about_file(&name);
        let head = file.read(0, SECTOR).await?;
        let field = |index: usize| u64_at(&head, index * 8).unwrap_or(0);
        if field(0) != MAGIC {
            return Err(corrupt("this is no seSparse extent: its magic number is another"));
        }
        if field(1) != VERSION {
            let text = format!("Unsupported version: {:#x}", field(1));
            return Err(BlockError::unsupported(text).about_file(&name));
        }
        if (field(3), field(4)) != (GRAIN, TABLE) {
            return Err(corrupt("grains or tables of this size are unknown"));
        }
        let volatile = file.read(sectors(field(10))?, SECTOR).await?;
        if u64_at(&volatile, 0) != Some(VOLATILE_MAGIC) {
            return Err(corrupt("the volatile header has another magic number"));
        }
        if volatile.get(24).is_some_and(|replay| *replay != 0) {
            return Err(BlockError::unsupported(
                "Replaying journal is not supported: let its host open it first",
            ));
        }
        let area = |index: usize| Ok::<_, BlockError>((sectors(field(index))?, sectors(field(index + 1))?));
        let ((directory, directory_len), (tables, tables_len), (grains, _)) =
            (area(16)?, area(18)?, area(24)?);
        let len = sectors(field(2))?;
        let needed = len.div_ceil(GRAIN * SECTOR * ENTRIES) * 8;
        if directory_len < needed {
            return Err(corrupt("the directory is too short for the disk"));
        }
        let order = Order::new(file, domain.clone(), cache);
        Ok(Arc::new(Self {
            order,
            edges: edges.clone(),
            child,
            len,
            directory,
            directory_len,
            tables,
            tables_len,
            grains,
        }))
    }

    fn file_len(&self) -> u64 {
        self.edges.with(self.child, |file| file.map_or(0, |file| file.length()))
    }

    fn damaged(&self, offset: u64, what: String) -> BlockError {
        BlockError::corrupt(what).about_file(&self.order.file.name()).at(offset)
    }

    /// Forgets what was read.
    pub fn forget(&self) {
        self.order.tables.clear();
    }

    /// Where a table is; `None`: there is none.
    async fn table_place(&self, table: u64) -> Result<Option<u64>> {
        let first = table / DIRECTORY_ENTRIES * DIRECTORY_ENTRIES;
        let len = (self.directory_len / 8 - first).min(DIRECTORY_ENTRIES) * 8;
        let place = self.directory + first * 8;
        if place + len > self.file_len() {
            return Err(self.damaged(place, "the grain directory lies beyond the end of the file".to_owned()));
        }
        let page = self.order.page(DIRECTORY | (table / DIRECTORY_ENTRIES), place, len).await?;
        let word = page.word((table % DIRECTORY_ENTRIES) as usize);
        if word == 0 {
            return Ok(None);
        }
        let number = word & 0xffff_ffff;
        let at = number * TABLE * SECTOR;
        let sound = word & !0xffff_ffff == 1 << 60
            && at < self.tables_len
            && self.tables + at + TABLE * SECTOR <= self.file_len();
        let wrong = || {
            self.damaged(
                place,
                format!("the entry of grain table {table} ({word:#x}) leads out of the tables"),
            )
        };
        sound.then_some(Some(self.tables + at)).ok_or_else(wrong)
    }

    fn entry(&self, word: u64) -> Entry {
        match word & KIND {
            0 if word == 0 => Entry::Hole,
            k if k == 1 << 60 || k == 2 << 60 => Entry::Zero,
            k if k == 3 << 60 => {
                let grain = (word >> 48 & 0xfff) | (word & 0xffff_ffff_ffff) << 12;
                let place = grain.checked_mul(GRAIN * SECTOR).and_then(|at| at.checked_add(self.grains));
                place.filter(|place| *place < self.file_len()).map_or(Entry::Wrong, Entry::At)
            }
            _ => Entry::Wrong,
        }
    }

    /// The mapping of the start of a range.
    pub async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        let grain = GRAIN * SECTOR;
        let (table, index) = (offset / grain / ENTRIES, (offset / grain % ENTRIES) as usize);
        let clip = |grains: u64, kind| {
            let left = ((offset / grain + grains) * grain).min(self.len) - offset;
            Ok(Extent { len: if want == Want::Status { left } else { left.min(len.max(1)) }, kind })
        };
        let Some(place) = self.table_place(table).await? else {
            return clip(ENTRIES - index as u64, ExtentKind::HOLE);
        };
        let page = self.order.page(table, place, TABLE * SECTOR).await?;
        let alike = |is: &dyn Fn(u64, Entry) -> bool| {
            let words = (0..).zip(page.words_from(index));
            words.take_while(|(n, word)| is(*n, self.entry(*word))).count() as u64
        };
        match self.entry(page.word(index)) {
            Entry::Hole => clip(alike(&|_, entry| matches!(entry, Entry::Hole)), ExtentKind::HOLE),
            Entry::Zero => {
                let zeroes = ExtentKind::Zero { reserved: None };
                clip(alike(&|_, entry| matches!(entry, Entry::Zero)), zeroes)
            }
            Entry::At(at) => {
                let data = ExtentKind::Data { child: self.child, offset: at + offset % grain, owned: false };
                clip(alike(&|n, entry| matches!(entry, Entry::At(place) if place == at + n * grain)), data)
            }
            Entry::Wrong => {
                let text =
                    format!("the entry of guest offset {offset:#x} ({:#x}) is wrong", page.word(index));
                Err(self.damaged(place + index as u64 * 8, text))
            }
        }
    }
}
