//! The file in which an image is made: its old content goes, and it gets its length.
use api::PreallocMode;
use block::{BlockError, ErrorKind, Node, Request, Result};
use rt::BufMut;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of zeroes that are written at a time.
const PIECE: u64 = 1 << 20;

/// Refuses a file that has fewer bytes and can't grow.
pub(crate) fn require_room(file: &Node, need: u64) -> Result<()> {
    let room = file.length();
    if need <= room || file.facts().grows_with_zeroes {
        return Ok(());
    }
    let text = format!("the image needs {need} bytes, '{}' has {room}", file.filename());
    Err(BlockError::new(ErrorKind::NoSpace, text))
}

/// Takes the old content away; of a device, which keeps it, the first `head` bytes. Answers whether the file reads as zeroes
/// everywhere from now on.
pub(crate) async fn empty(file: &Arc<Node>, head: usize) -> Result<bool> {
    let grows = file.facts().grows_with_zeroes;
    if file.length() > 0 {
        match file.driver().resize(0, PreallocMode::Off).await {
            Err(_) if !grows => erase(file, head).await?,
            emptied => emptied?,
        }
    }
    Ok(file.length() == 0 && grows)
}

/// Takes the old content away, and makes the file `len` bytes long. A device keeps its length, which must do, and all but the
/// first `head` bytes.
pub(crate) async fn make_of_length(file: &Arc<Node>, len: u64, head: usize) -> Result<()> {
    if file.facts().grows_with_zeroes {
        file.driver().resize(0, PreallocMode::Off).await?;
        return file.driver().resize(len, PreallocMode::Off).await;
    }
    require_room(file, len)?;
    erase(file, head).await
}

/// No old header may be found when the power goes before the new one is there.
async fn erase(file: &Arc<Node>, head: usize) -> Result<()> {
    file.write(0, BufMut::zeroed(head).freeze(), Request::DRIVER).await?;
    file.flush().await
}

/// Writes zeroes that take their space: what is changed there later needs none that the file system may not have.
pub(crate) async fn write_zeroes(file: &Arc<Node>, range: Range<u64>) -> Result<()> {
    for at in range.clone().step_by(PIECE as usize) {
        let zeroes = BufMut::zeroed(PIECE.min(range.end - at) as usize);
        file.write(at, zeroes.freeze(), Request::DRIVER).await?;
    }
    Ok(())
}
