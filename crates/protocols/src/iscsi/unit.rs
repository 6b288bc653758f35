//! What a unit is: asked once when it is opened, and again on each new session, for it must be the same.

use super::connection::{Connection, Payload};
use super::execute::{Command, Phase, execute};
use crate::way::Connection as _;
use block::{BlockError, ErrorKind, MAX_LENGTH, Result};
use iscsi::Lun;
use iscsi::scsi::command::{self, Width};
use iscsi::scsi::{
    BlockLimits, Capacity, Identification, Inquiry, Provisioning, Units, WriteControl, pages, serial_number,
    supports,
};
use rt::BufMut;

/// Longest data of one command, in bytes.
const LONGEST: u64 = 8 << 20;
/// Blocks that one command gives back or makes zeroes where the unit tells no bound, in bytes.
const LONGEST_EMPTY: u64 = 1 << 30;
/// Bytes of an answer to a question about the unit.
const ANSWER: usize = 252;
/// Bounds of the size of a block, in bytes.
const BLOCKS: std::ops::RangeInclusive<u32> = 512..=65536;

/// A unit.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub capacity: Capacity,
    /// What it is, by its own word.
    identification: Option<Identification>,
    serial: Option<Vec<u8>>,
    pub limits: BlockLimits,
    pub provisioning: Provisioning,
    pub control: WriteControl,
    /// It knows a command that empties its cache, if it says that it has one; `None` where it does not say.
    flushes: Option<bool>,
    /// It knows WRITE SAME(16); `None` where it does not say.
    pub write_same: Option<bool>,
    pub width: Width,
}

impl Unit {
    /// Asks the unit of a new session.
    pub async fn ask(connection: &Connection) -> Result<Self> {
        let ask = Questions(connection);
        let inquiry = match ask.needed("INQUIRY", command::inquiry(None, ANSWER as u16)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(ask.missing().await),
            answer => Inquiry::parse(&answer?).ok_or_else(|| ask.nonsense("INQUIRY"))?,
        };
        if !inquiry.present {
            return Err(ask.missing().await);
        }
        let writable = match inquiry.kind {
            Inquiry::DISK | Inquiry::SIMPLE_DISK => true,
            Inquiry::CD => false,
            kind => {
                let text = format!("'{}' is no disk: it is a device of type {kind:#04x}", connection.name());
                return Err(BlockError::invalid(text));
            }
        };
        let ready = Command::of("TEST UNIT READY", command::test_unit_ready());
        execute(connection, &ready, Payload::default(), Phase::Beginning).await.1?;
        let (capacity, width) = ask.capacity().await?;
        // Pages of other kinds of devices mean something else.
        let known = if writable { ask.pages().await? } else { Vec::new() };
        let page = async |code: u8| match known.contains(&code) {
            true => ask.optional(command::inquiry(Some(code), ANSWER as u16)).await,
            false => Ok(None),
        };
        let limits = page(0xb0).await?.and_then(|page| BlockLimits::parse(&page)).unwrap_or_default();
        let provisioning = page(0xb2).await?.and_then(|page| Provisioning::parse(&page));
        let identification = page(0x83).await?.and_then(|page| Identification::parse(&page));
        let serial = page(0x80).await?.and_then(|page| serial_number(&page).map(<[u8]>::to_vec));
        let control = ask.optional(command::mode_sense_6(0x3f, ANSWER as u8)).await?;
        let unknown = WriteControl { protected: false, durable_writes: false, cached: None };
        let mut control = control.and_then(|page| WriteControl::parse(&page)).unwrap_or(unknown);
        control.protected |= !writable;
        let flushes = match control.cached {
            Some(true) => ask.knows_a_flush().await?,
            _ => None,
        };
        let write_same = ask.knows(command::WRITE_SAME_16).await?;
        Ok(Self {
            capacity,
            identification,
            serial,
            limits,
            provisioning: provisioning.unwrap_or_default(),
            control,
            flushes,
            write_same: write_same.filter(|_| width == Width::Sixteen),
            width,
        })
    }

    /// What it has answered may be lost with its power. What does not say is taken to be so.
    pub fn is_cached(&self) -> bool {
        self.control.cached != Some(false)
    }

    /// It says that it has a cache, and that it knows no command that empties it.
    pub fn can_not_flush(&self) -> bool {
        self.flushes == Some(false)
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        // It was checked when it was read.
        self.capacity.blocks.saturating_mul(self.block_size())
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> u64 {
        self.capacity.block_size.into()
    }

    /// Longest data of one command, in bytes: whole blocks.
    pub fn longest(&self) -> u64 {
        let told = (self.limits.transfer > 0).then(|| u64::from(self.limits.transfer));
        let most = u64::from(self.width.most_blocks()).min(told.unwrap_or(u64::MAX));
        most.min(LONGEST / self.block_size()).max(1) * self.block_size()
    }

    /// Most blocks of one WRITE SAME.
    pub fn most_same(&self) -> u64 {
        self.most_empty(self.limits.write_same)
    }

    /// Most blocks of one UNMAP.
    pub fn most_unmap(&self) -> u64 {
        self.most_empty(match self.limits.unmap {
            u32::MAX => 0,
            most => most.into(),
        })
    }

    fn most_empty(&self, told: u64) -> u64 {
        let most = if told > 0 { told } else { u64::MAX };
        most.min(LONGEST_EMPTY / self.block_size()).min(self.width.most_blocks().into())
    }

    /// It can make zeroes of blocks and give back their space at the same time.
    pub fn zeroes_by_unmap(&self) -> bool {
        self.provisioning.write_same && self.capacity.zeroes
    }

    /// Why another unit can't take the place of this one, if so: it is another one, or lacks what is relied on. It may have become
    /// larger, or know more; whether it may be written is seen when it is.
    pub fn differs(&self, other: &Self) -> Option<&'static str> {
        let lacks = |had: bool, has: bool| had && !has;
        match other {
            _ if other.capacity.block_size != self.capacity.block_size => Some("another size of blocks"),
            _ if other.capacity.blocks < self.capacity.blocks => Some("less space"),
            _ if other.identification != self.identification || other.serial != self.serial => {
                Some("another identity")
            }
            _ if lacks(self.control.durable_writes, other.control.durable_writes)
                || lacks(self.capacity.zeroes, other.capacity.zeroes)
                || lacks(self.width == Width::Sixteen, other.width == Width::Sixteen) =>
            {
                Some("fewer features")
            }
            _ if other.longest() < self.longest()
                || other.most_same() < self.most_same()
                || other.most_unmap() < self.most_unmap() =>
            {
                Some("narrower limits")
            }
            _ => None,
        }
    }
}

/// Asks a unit about itself.
struct Questions<'c>(&'c Connection);

impl Questions<'_> {
    /// The answer to a question that every unit has.
    async fn needed(&self, what: &'static str, block: [u8; 16]) -> Result<Vec<u8>> {
        self.answer(&Command::of(what, block), ANSWER).await
    }

    /// The answer to a question that a unit need not have.
    async fn optional(&self, block: [u8; 16]) -> Result<Option<Vec<u8>>> {
        match self.answer(&Command::of("question about the unit", block), ANSWER).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if self.0.dead().is_some() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Whether it knows a command; `None` where it does not say.
    async fn knows(&self, code: u8) -> Result<Option<bool>> {
        let answer = self.optional(command::report_supported(code, 64)).await?;
        Ok(answer.and_then(|answer| supports(&answer)))
    }

    /// Whether it knows a command that empties its cache.
    async fn knows_a_flush(&self) -> Result<Option<bool>> {
        let (ten, sixteen) = command::SYNCHRONIZE_CACHE;
        Ok(match self.knows(ten).await? {
            Some(false) => self.knows(sixteen).await?,
            known => known,
        })
    }

    async fn answer(&self, command: &Command, len: usize) -> Result<Vec<u8>> {
        let payload = Payload { data: None, buf: Some(BufMut::zeroed(len)) };
        let (buf, result) = execute(self.0, command, payload, Phase::Beginning).await;
        let received = result?.received;
        Ok(buf.and_then(|buf| buf.get(..received).map(<[u8]>::to_vec)).unwrap_or_default())
    }

    async fn pages(&self) -> Result<Vec<u8>> {
        let answer = self.optional(command::inquiry(Some(0), ANSWER as u16)).await?;
        Ok(answer.map(|answer| pages(&answer).to_vec()).unwrap_or_default())
    }

    /// How large the unit is, and which commands reach all of it.
    async fn capacity(&self) -> Result<(Capacity, Width)> {
        let long = Command::of("READ CAPACITY(16)", command::read_capacity_16(Capacity::LEN as u32));
        let (capacity, width) = match self.answer(&long, Capacity::LEN).await {
            Ok(answer) => (Capacity::parse_16(&answer), Width::Sixteen),
            Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error),
            Err(_) => {
                let short = Command::of("READ CAPACITY(10)", command::read_capacity_10());
                (Capacity::parse_10(&self.answer(&short, 8).await?), Width::Ten)
            }
        };
        let capacity = capacity.ok_or_else(|| self.nonsense("READ CAPACITY"))?;
        let Capacity { blocks, block_size, .. } = capacity;
        if !block_size.is_power_of_two() || !BLOCKS.contains(&block_size) {
            let text = format!("'{}' has blocks of {block_size} bytes, which can't be used", self.0.name());
            return Err(BlockError::unsupported(text));
        }
        let size = blocks.checked_mul(block_size.into()).filter(|size| *size <= MAX_LENGTH);
        size.map(|_| (capacity, width)).ok_or_else(|| {
            let text = format!(
                "'{}' says that it has {blocks} blocks of {block_size} bytes: more than can be used",
                self.0.name()
            );
            BlockError::new(ErrorKind::Limit, text)
        })
    }

    fn nonsense(&self, what: &str) -> BlockError {
        let text = format!("'{}' gave no sensible answer to {what}", self.0.name());
        BlockError::new(ErrorKind::Io, text)
    }

    /// There is no such unit; those that there are, which unit 0 tells.
    async fn missing(&self) -> BlockError {
        let ask = Command::of("REPORT LUNS", command::report_luns(ANSWER as u32));
        let answer = self.answer(&Command { lun: Some(Lun::default()), ..ask }, ANSWER).await;
        let units = answer.map(|answer| Units::parse(&answer).0).unwrap_or_default();
        let numbers: Vec<_> = units.iter().map(|unit| Lun(*unit).to_string()).collect();
        let others = match numbers.is_empty() {
            true => String::new(),
            false => format!("; there are: {}", numbers.join(", ")),
        };
        BlockError::new(ErrorKind::NotFound, format!("'{}': there is no such unit{others}", self.0.name()))
    }
}
