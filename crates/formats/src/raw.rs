//! `raw`: the bytes of its file as they are, or a window (`offset`, `size`) of them.
//!
//! A raw image whose format was guessed keeps a [`Guard`] on the bytes that probes look at.
mod guard;
#[cfg(test)]
mod tests;

use api::{PreallocMode, RawOptions};
use block::{
    Action, BlockError, Common, CreateOption, Driver, DriverInfo, DriverType, Edge, ErrorKind, Extent,
    ExtentKind, Facts, Filtered, MapChange, Open, OpenContext, Opened, Opt, OptionKind, Options, PLAIN,
    Perms, Reopened, Request, RequestLimits, Result, Share, Want, WritePlan, not_negative,
};
use guard::{Guard, GuardedChange};
use rt::{BoxFuture, Buf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

const SECTOR: u64 = 512;

/// The size that stands for "as long as the file is".
const WHOLE: u64 = u64::MAX;

/// The `raw` driver.
pub const RAW: DriverType = DriverType {
    name: "raw",
    fallback: true,
    open: &Open(open),
    create: Some(&PLAIN.measured()),
    create_options: &[
        CreateOption::SIZE,
        // What it can be is told by the protocol.
        CreateOption::new("preallocation", OptionKind::Str, ""),
    ],
    ..DriverType::FORMAT
};

fn open(context: &mut OpenContext, options: RawOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let window = window(&options)?;
        let (child, file) = context.file().await?;
        let window = window.map(|w| w.within(file.length())).transpose()?;
        let raw = Raw {
            below: Filtered::new(context.edges().clone(), child),
            offset: AtomicU64::new(window.map_or(0, |w| w.offset)),
            size: AtomicU64::new(window.map_or(WHOLE, |w| w.size)),
            guard: context.probed().then(|| Guard::new(context.registry().clone())),
        };
        if raw.guard.is_some() && !context.common().read_only {
            tracing::warn!(
                image = file.filename(),
                "the image's format was guessed to be raw; changes of its start or end that would make it another format are refused"
            );
        }
        Ok(Opened { driver: Arc::new(raw), filename: None })
    })
}

/// The window as asked for.
#[derive(Clone, Copy)]
struct Asked {
    offset: u64,
    size: Option<u64>,
}

/// A window inside the file.
#[derive(Clone, Copy)]
struct Window {
    offset: u64,
    size: u64,
}

fn window(options: &RawOptions) -> Result<Option<Asked>> {
    let (offset, size) = (not_negative("offset", options.offset)?, not_negative("size", options.size)?);
    if size.is_some_and(|s| s % SECTOR != 0) {
        return Err(BlockError::invalid("Specified size is not multiple of 512"));
    }
    Ok((offset.is_some() || size.is_some()).then_some(Asked { offset: offset.unwrap_or(0), size }))
}

impl Asked {
    fn within(self, file: u64) -> Result<Window> {
        let Some(room) = file.checked_sub(self.offset) else {
            return Err(BlockError::invalid(format!(
                "Offset ({}) cannot be greater than size of the containing file ({file})",
                self.offset
            )));
        };
        let size = self.size.unwrap_or(room);
        if size > room {
            return Err(BlockError::invalid(format!(
                "The sum of offset ({}) and size ({size}) has to be smaller or equal to the  actual size of the containing file ({file})",
                self.offset
            )));
        }
        Ok(Window { offset: self.offset, size })
    }
}

struct Raw {
    /// The file.
    below: Filtered,
    /// The window; changed only while the gates above are closed.
    offset: AtomicU64,
    size: AtomicU64,
    /// Keeps the file from looking like another format, where the format was guessed.
    guard: Option<Guard>,
}

impl Raw {
    fn offset(&self) -> u64 {
        self.offset.load(Relaxed)
    }

    /// The window's size, if there is a window.
    fn size(&self) -> Option<u64> {
        Some(self.size.load(Acquire)).filter(|size| *size != WHOLE)
    }

    fn file_length(&self) -> u64 {
        self.below.length()
    }

    /// Where a range is; guarded bytes are never written without a look at the data.
    fn place(&self, offset: u64, len: u64, want: Want) -> Extent {
        let at = self.offset() + offset;
        let (len, guarded) = match &self.guard {
            Some(_) if want == Want::Write => Guard::split(at, len),
            _ => (len, false),
        };
        Extent { len, kind: ExtentKind::Data { child: self.below.child(), offset: at, owned: !guarded } }
    }

    /// Refuses what would be written behind the end of a window, which is that of all space there is.
    fn inside(&self, offset: u64, len: u64) -> Result<()> {
        match self.size() {
            Some(size) if offset.checked_add(len).is_none_or(|end| end > size) => {
                let text =
                    format!("{len} bytes at {offset:#x} end behind the end of the window ({size:#x} bytes)");
                Err(BlockError::new(ErrorKind::NoSpace, text).at(offset))
            }
            _ => Ok(()),
        }
    }

    /// The plan of zeroes or of a discard, which a guard holds its turn for.
    async fn plan_zeroes(&self, offset: u64, len: u64, change: MapChange) -> Result<WritePlan> {
        let at = self.offset() + offset;
        let mut plan =
            WritePlan { len, action: Action::Forward { child: self.below.child(), offset: at }, token: None };
        let Some(guard) = &self.guard else { return Ok(plan) };
        if !Guard::touches(at) {
            return Ok(plan);
        }
        let file = self.below.node()?;
        let turn = guard.turn().await;
        match guard.judge(&file, GuardedChange::Zeroes(at..at.saturating_add(len))).await {
            Ok(()) => plan.token = Some(Box::new(turn)),
            // A discard may leave everything as it is.
            Err(e) if change == MapChange::Discard && e.kind() == ErrorKind::Permission => {
                plan.action = Action::Nothing
            }
            Err(e) => return Err(e.at(offset)),
        }
        Ok(plan)
    }
}

impl Driver for Raw {
    /// Nothing is changed where there is neither window nor guard.
    fn filtered(&self) -> Option<&Filtered> {
        (self.size().is_none() && self.guard.is_none()).then_some(&self.below)
    }

    fn facts(&self) -> Facts {
        let below = self.below.facts();
        // A window does not grow by what is written to it.
        let grows_with_zeroes = below.grows_with_zeroes && self.size().is_none();
        Facts { cluster_size: None, grows_with_zeroes, ..below }
    }

    fn info(&self) -> DriverInfo {
        // Where the content decides on the format, whoever writes is to write whole sectors: those that are judged.
        let alignment = self.guard.as_ref().map(|_| SECTOR);
        DriverInfo {
            limits: RequestLimits { alignment, ..RequestLimits::default() },
            ..DriverInfo::default()
        }
    }

    fn length(&self) -> u64 {
        // A disk consists of whole sectors: what a file lacks to the last one reads as zeroes.
        self.size().unwrap_or_else(|| self.file_length().next_multiple_of(SECTOR))
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        let refused = want == Want::Write && self.inside(offset, len).is_err();
        (!refused).then(|| self.place(offset, len, want))
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            if want == Want::Write {
                self.inside(offset, len)?;
            }
            Ok(self.place(offset, len, want))
        })
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        _: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(async move {
            self.inside(offset, len)?;
            match change {
                MapChange::Data => {
                    let len = self.place(offset, len, Want::Write).len;
                    Ok(WritePlan { len, action: Action::Direct, token: None })
                }
                MapChange::Zero | MapChange::Discard => self.plan_zeroes(offset, len, change).await,
            }
        })
    }

    /// Writes guarded bytes.
    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (file, at) = (self.below.node()?, self.offset() + offset);
            let Some(guard) = &self.guard else { return file.write(at, data, request).await };
            let _turn = guard.turn().await;
            guard.judge(&file, GuardedChange::Data(at, &data)).await.map_err(|e| e.at(offset))?;
            file.write(at, data, request).await
        })
    }

    fn is_settled(&self, _: u64, _: u64) -> bool {
        true
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.below.run(|file| async move { file.flush().await })
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let file = self.below.node()?;
            match self.size() {
                None => {
                    let _turn = match &self.guard {
                        Some(guard) => {
                            let turn = guard.turn().await;
                            guard.judge(&file, GuardedChange::Length(size)).await?;
                            Some(turn)
                        }
                        None => None,
                    };
                    file.set_length(size, preallocation).await
                }
                Some(_) if self.offset().checked_add(size).is_none_or(|end| end > file.length()) => Err(
                    BlockError::new(ErrorKind::Limit, "Disk size can't be larger than the containing file"),
                ),
                Some(_) => {
                    self.size.store(size, Release);
                    Ok(())
                }
            }
        })
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            let window = window(&options.read()?)?;
            let window = window.map(|w| w.within(self.below.node()?.length())).transpose()?;
            Ok(Box::new(move || {
                self.offset.store(window.map_or(0, |w| w.offset), Release);
                self.size.store(window.map_or(WHOLE, |w| w.size), Release);
            }) as Reopened<'a>)
        })
    }

    fn child_perms(&self, _: &Edge, parents: Perms, _: bool) -> Perms {
        match self.naming_options().is_empty() {
            true => parents,
            // The window must stay inside the file.
            false => Perms { share: parents.share.without(Share::RESIZE), ..parents },
        }
    }

    fn naming_options(&self) -> Options {
        let (mut options, size) = (Options::new(), self.size.load(Relaxed));
        if size != WHOLE {
            options.set("offset", Opt::Uint(self.offset()));
            options.set("size", Opt::Uint(size));
        }
        options
    }
}
