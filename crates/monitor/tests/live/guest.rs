//! An image, its node, and a guest that writes to it all the time.
use crate::support::Folder;
use block::{Backend, BackendRequest, Options, Perms, Request};
use monitor::Control;
use rt::{Buf, BufMut, JoinHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// Size of an image that a guest writes to.
pub const SIZE: u64 = 4 << 20;
const BLOCK: u64 = 4096;

/// Makes an image.
pub async fn image(control: &Control, folder: &Folder, name: &str, size: u64) {
    control.graph().create("qcow2", &folder.path(name), size, Options::new()).await.unwrap();
}

/// The command that adds an image as a node.
pub fn add(folder: &Folder, node: &str, file: &str) -> String {
    let file = folder.path(file);
    format!(
        "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'qcow2', 'node-name': '{node}', \
         'file': {{'driver': 'file', 'filename': '{file}'}}}}}}"
    )
}

/// A user of a node, which may write.
pub async fn entry(control: &Control, node: &str) -> Arc<Backend> {
    let node = control.graph().node(node).unwrap();
    let request = BackendRequest { label: "guest".to_owned(), node, perms: Perms::WRITER, pinned: false };
    control.graph().attach(request).await.unwrap()
}

/// A guest at work.
pub struct Guest {
    entry: Arc<Backend>,
    stop: Arc<AtomicBool>,
    /// Answers what of each block was acknowledged last.
    work: JoinHandle<Vec<u8>>,
}

impl Guest {
    /// Begins to write to a node of [`SIZE`].
    pub async fn start(control: &Control, node: &str) -> Self {
        let (entry, stop) = (entry(control, node).await, Arc::new(AtomicBool::new(false)));
        let work = rt::spawn(work(entry.clone(), stop.clone()));
        Self { entry, stop, work }
    }

    /// The name of the node that it has now.
    pub fn node(&self) -> String {
        self.entry.node().name().to_owned()
    }

    /// Ends it: the disk must hold all that it has written.
    pub async fn end(self, control: &Control) {
        self.stop.store(true, Relaxed);
        for (block, byte) in self.work.await.unwrap().iter().enumerate() {
            let (data, result) =
                self.entry.read(block as u64 * BLOCK, BufMut::with_len(BLOCK as usize)).await;
            result.unwrap();
            assert!(data.iter().all(|b| b == byte), "block {block} is not as it was last written");
        }
        control.graph().detach(&self.entry).await.unwrap();
    }
}

/// Writes each block in turn, round after round, with the round's number.
async fn work(entry: Arc<Backend>, stop: Arc<AtomicBool>) -> Vec<u8> {
    let mut last = vec![0; (SIZE / BLOCK) as usize];
    let mut n: u64 = 0;
    while !stop.load(Relaxed) {
        let block = (n * 7919) % (SIZE / BLOCK);
        let byte = (n % 251) as u8;
        let data = Buf::from_slice(&[byte; BLOCK as usize]);
        entry.write(block * BLOCK, data, Request::GUEST).await.unwrap();
        last[block as usize] = byte;
        n += 1;
    }
    last
}
