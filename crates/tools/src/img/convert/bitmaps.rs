//! Dirty bitmaps of the source, copied into the target.

use super::Args;
use crate::console::Console;
use crate::failure::Failure;
use crate::image::Image;
use block::{NamedBitmap, NewBitmap, Node};
use std::sync::Arc;

/// The bitmaps that the one source keeps, the newest first, if they are asked for. Refuses before anything is made what can't
/// be copied.
pub(super) fn bitmaps_to_copy(
    console: &mut Console,
    args: &Args,
    sources: &[Image],
) -> Result<Vec<Arc<NamedBitmap>>, Failure> {
    if !args.bitmaps {
        return Ok(Vec::new());
    }
    let [source] = sources else {
        return Err(Failure::new("Copying bitmaps only possible with single source"));
    };
    if !source.node().driver().info().bitmaps {
        return Err(Failure::new("Source lacks bitmap support"));
    }
    let mut copied = Vec::new();
    for bitmap in source.node().bitmaps().all().iter().rev().filter(|bitmap| bitmap.is_persistent()) {
        let name = bitmap.name();
        if bitmap.is_consistent() {
            copied.push(bitmap.clone());
        } else if args.skip_broken {
            console.warning(format_args!("Skipping inconsistent bitmap '{name}'"));
        } else {
            console.fail(&Failure::new(format_args!("Cannot copy inconsistent bitmap '{name}'")));
            console.note("Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it");
            return Err(Failure::silent(1));
        }
    }
    Ok(copied)
}

/// Has the target keep copies of these bitmaps; where a conversion `goes_on` in place of those that it has.
pub(super) async fn copy_bitmaps(
    bitmaps: &[Arc<NamedBitmap>],
    target: &Arc<Node>,
    goes_on: bool,
) -> Result<(), Failure> {
    for bitmap in bitmaps {
        // An earlier command may have come as far as this.
        if goes_on && let Some(earlier) = target.bitmaps().find(bitmap.name()) {
            target.remove_bitmap(&earlier).await?;
        }
        let new = NewBitmap {
            name: bitmap.name().to_owned(),
            granularity: Some(bitmap.bits().granularity()),
            persistent: true,
            enabled: bitmap.is_enabled(),
        };
        let copied = target.add_bitmap(new).and_then(|copy| {
            let merged = target.merge_bitmaps(&copy, std::slice::from_ref(bitmap));
            merged.inspect_err(|_| target.bitmaps().remove(&copy))
        });
        copied.map_err(|error| {
            Failure::new(format_args!("Failed to populate bitmap {}: {error}", bitmap.name())).because(&error)
        })?;
    }
    Ok(())
}
