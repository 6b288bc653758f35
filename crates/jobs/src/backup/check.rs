//! What the arguments of a backup mean, and whether they go together.
use api::{BackupPerf, BitmapSyncMode, BlockdevBackup, Enumeration, MirrorSyncMode};
use block::{BlockError, ErrorKind, NamedBitmap, Node, Result};
use std::sync::Arc;

/// The bitmap of a backup.
#[derive(Clone)]
pub(super) struct UsedBitmap {
    pub(super) bitmap: Arc<NamedBitmap>,
    /// What becomes of it.
    pub(super) mode: BitmapSyncMode,
    /// It says what is copied.
    pub(super) selects: bool,
}

/// How a backup uses the machine.
#[derive(Clone, Copy)]
pub(super) struct Perf {
    pub(super) workers: usize,
    /// Most bytes of a piece.
    pub(super) chunk: Option<u64>,
    /// Least bytes that are copied together.
    pub(super) cluster: Option<u64>,
}

fn invalid<T>(text: impl Into<String>) -> Result<T> {
    Err(BlockError::invalid(text))
}

/// The bitmap that a request names, if it goes with the other arguments.
pub(super) fn bitmap(request: &BlockdevBackup, source: &Node) -> Result<Option<UsedBitmap>> {
    let sync = request.sync;
    let selects = matches!(sync, MirrorSyncMode::Incremental | MirrorSyncMode::Bitmap);
    let mode = match (sync, request.bitmap_mode) {
        (MirrorSyncMode::Incremental, Some(mode)) if mode != BitmapSyncMode::OnSuccess => {
            return invalid("Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
        }
        (MirrorSyncMode::Incremental, _) => Some(BitmapSyncMode::OnSuccess),
        (_, mode) => mode,
    };
    let Some(name) = &request.bitmap else {
        if selects {
            return invalid(format!("must provide a valid bitmap name for '{}' sync mode", sync.name()));
        }
        if mode.is_some() {
            return invalid("Cannot specify bitmap sync mode without a bitmap");
        }
        return Ok(None);
    };
    let missing = || BlockError::new(ErrorKind::NotFound, format!("Bitmap '{name}' could not be found"));
    let bitmap = source.bitmaps().find(name).ok_or_else(missing)?;
    let Some(mode) = mode else { return invalid("Bitmap sync mode must be given when providing a bitmap") };
    match sync {
        MirrorSyncMode::None => {
            return invalid("sync mode 'none' does not produce meaningful bitmap outputs");
        }
        MirrorSyncMode::Full | MirrorSyncMode::Top if mode == BitmapSyncMode::Never => {
            return invalid(format!(
                "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '{}'",
                sync.name()
            ));
        }
        _ => {}
    }
    bitmap.check_usable()?;
    if mode != BitmapSyncMode::Never {
        source.check_bitmap_writable(&bitmap)?;
    }
    Ok(Some(UsedBitmap { bitmap, mode, selects }))
}

/// How it uses the machine.
pub(super) fn perf(given: Option<&BackupPerf>, most: usize) -> Result<Perf> {
    let workers = match given.and_then(|perf| perf.max_workers) {
        None => most,
        Some(workers) if (1..=i64::from(i32::MAX)).contains(&workers) => {
            usize::try_from(workers).unwrap_or(most).min(most)
        }
        Some(_) => return invalid("max-workers must be between 1 and 2147483647"),
    };
    let chunk = match given.and_then(|perf| perf.max_chunk).unwrap_or(0) {
        0 => None,
        chunk => match u64::try_from(chunk) {
            Ok(chunk) => Some(chunk),
            Err(_) => return invalid("max-chunk must be zero (which means no limit) or positive"),
        },
    };
    let cluster = given.and_then(|perf| perf.min_cluster_size).map(|size| size.0);
    Ok(Perf { workers, chunk, cluster })
}

/// Whether the nodes go together.
pub(super) fn nodes(request: &BlockdevBackup, source: &Arc<Node>, target: &Arc<Node>) -> Result<()> {
    if Arc::ptr_eq(source, target) {
        return invalid("Source and target cannot be the same");
    }
    if request.compress == Some(true) && !target.facts().can_compress {
        return invalid(format!("Compression is not supported for this drive {}", target.name()));
    }
    if source.length() != target.length() {
        return invalid("Source and target image have different sizes");
    }
    Ok(())
}
