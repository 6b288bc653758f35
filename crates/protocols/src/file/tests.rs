//! A CD drive: its disc and its tray, which no machine of the tests has.
use super::*;
use rt::{Allocate, Disc, Errno, FileStat, OpenOptions, RawFile};
use std::io;

/// A drive over a file: what it reads is the disc, while there is one and nobody has changed it.
struct Drive {
    disc: File,
    state: Arc<Mutex<(Disc, bool)>>,
}

impl Drive {
    fn ready(&self) -> io::Result<()> {
        match *self.state.lock() {
            (Disc::Present, false) => Ok(()),
            _ => Err(Errno::IO.into()),
        }
    }
}

impl RawFile for Drive {
    fn try_read(&self, _: u64, _: &mut [u8]) -> Try<usize> {
        Try::WouldBlock
    }

    fn try_write(&self, _: u64, _: &[u8]) -> Try<usize> {
        Try::WouldBlock
    }

    fn read(&self, off: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, io::Result<usize>)> {
        Box::pin(async move {
            match self.ready() {
                Ok(()) => self.disc.read(off, buf).await,
                Err(e) => (buf, Err(e)),
            }
        })
    }

    fn write(&self, _: u64, buf: Buf) -> BoxFuture<'_, (Buf, io::Result<()>)> {
        Box::pin(async { (buf, Err(Errno::ROFS.into())) })
    }

    fn write_durably(&self, off: u64, buf: Buf) -> BoxFuture<'_, (Buf, io::Result<()>)> {
        self.write(off, buf)
    }

    fn sync(&self, _: bool) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn allocate(&self, _: Allocate, _: u64, _: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Err(Errno::ROFS.into()) })
    }

    fn set_len(&self, _: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Err(Errno::ROFS.into()) })
    }

    fn disc(&self) -> BoxFuture<'_, io::Result<Disc>> {
        Box::pin(std::future::ready(Ok(self.state.lock().0)))
    }

    fn len(&self) -> io::Result<u64> {
        self.disc.len()
    }

    fn extent(&self, off: u64) -> BoxFuture<'_, io::Result<FileExtent>> {
        self.disc.extent(off)
    }

    fn stat(&self) -> io::Result<FileStat> {
        self.disc.stat()
    }

    fn alignment(&self) -> u32 {
        1
    }

    fn try_lock(&self, _: u64, _: u64, _: bool) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn test_lock(&self, _: u64, _: u64, _: bool) -> io::Result<bool> {
        Ok(true)
    }
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// A drive, and what a person does to it.
async fn drive(name: &str, disc: &[u8]) -> (FileDriver, Arc<Mutex<(Disc, bool)>>, Scratch) {
    let scratch = Scratch(std::env::temp_dir().join(format!("cairn-drive-{name}-{}", std::process::id())));
    std::fs::write(&scratch.0, disc).unwrap();
    let state = Arc::new(Mutex::new((Disc::Present, false)));
    let disc = rt::fs::open(&scratch.0, &OpenOptions::read_only()).await.unwrap();
    let file = File::new(Drive { disc, state: state.clone() });
    let options = Options::new().with_str("filename", scratch.0.to_str().unwrap());
    let driver = FileDriver::new(options.read().unwrap(), Kind::CdDrive, file, false, None).unwrap();
    (driver, state, scratch)
}

async fn read(driver: &FileDriver, at: u64, len: usize) -> Result<Vec<u8>> {
    let (bytes, result) = driver.read(at, BufMut::with_len(len)).await;
    result.map(|()| bytes.to_vec())
}

#[test]
fn what_a_drive_without_a_disc_lacks_is_told() {
    rt::block_on_control(async {
        let (driver, state, _scratch) = drive("empty", &[7; 4096]).await;
        assert_eq!(read(&driver, 512, 512).await.unwrap(), [7; 512]);
        for (disc, told) in [
            (Disc::Missing, "there is no disc in the drive: insert one"),
            (Disc::TrayOpen, "the drive's tray is open: close it"),
            (Disc::NotReady, "the drive is not ready yet: try again"),
        ] {
            *state.lock() = (disc, false);
            let error = read(&driver, 512, 512).await.unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
            assert_eq!((error.errno(), error.offset()), (Errno::NOMEDIUM.raw_os_error(), Some(512)));
        }
        *state.lock() = (Disc::Present, false);
        assert_eq!(read(&driver, 0, 512).await.unwrap(), [7; 512]);
        assert!(driver.set_writable(true).await.is_err());
    });
}

#[test]
fn another_disc_is_taken_up_by_the_first_request_which_fails() {
    rt::block_on_control(async {
        let (driver, state, scratch) = drive("changed", &[7; 4096]).await;
        std::fs::write(&scratch.0, [8; 8192]).unwrap();
        *state.lock() = (Disc::Present, true);
        assert_eq!(driver.length(), 4096);
        let error = read(&driver, 0, 512).await.unwrap_err();
        assert!(error.to_string().contains("the disc was changed"), "{error}");
        assert_eq!(driver.length(), 8192);
        assert_eq!(read(&driver, 7680, 512).await.unwrap(), [8; 512]);
    });
}

#[test]
fn a_disc_of_another_size_is_noticed_also_where_the_system_reads_it() {
    rt::block_on_control(async {
        for (size, at) in [(1024, 2048), (1024, 512), (8192, 0)] {
            let (driver, _state, scratch) = drive("other", &[7; 4096]).await;
            std::fs::write(&scratch.0, vec![8; size]).unwrap();
            let error = read(&driver, at, 512).await.unwrap_err();
            assert!(error.to_string().contains("the disc was changed"), "{error}");
            assert_eq!(driver.length(), size as u64);
            assert_eq!(read(&driver, 512, 512).await.unwrap(), [8; 512]);
        }
    });
}
