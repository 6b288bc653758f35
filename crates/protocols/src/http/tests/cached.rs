//! What was read and is kept on disk.

use super::server::{Came, answer, good};
use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// A driver that keeps what it reads, and reads nothing ahead.
async fn keeping(url: &str, bytes: Option<u64>) -> Result<HttpDriver> {
    let mut options = options(url);
    options.readahead = Some(0);
    options.cache_path = Some(std::env::temp_dir().display().to_string());
    options.cache_disk_size = bytes.map(api::Size);
    open_with(options, &Objects::default()).await
}

/// A server whose file may be another one by now.
async fn server(is_other: Arc<AtomicBool>) -> Server {
    let file = content(SIZE);
    Server::start(move |came: &Came| {
        let whole = good(came, &file);
        if !is_other.load(Ordering::Relaxed) {
            return Served::Bytes(whole);
        }
        Served::Bytes(answer("412 Precondition Failed", "", b""))
    })
    .await
}

#[test]
fn what_was_read_is_read_again_without_the_server_and_never_beside_another_version() {
    run(async {
        let is_other = Arc::new(AtomicBool::new(false));
        let server = server(is_other.clone()).await;
        let driver = keeping(&server.url, None).await.unwrap();
        for at in [0, 1 << 20, 5 << 18, SIZE as u64 - 8192] {
            read(&driver, at, 8192).await.unwrap();
        }
        // What is kept may be written a little later: until it is, it is asked for again.
        let kept = async {
            loop {
                let asked = server.came().len();
                read(&driver, 1 << 20, 8192).await.unwrap();
                if server.came().len() == asked {
                    break;
                }
            }
        };
        rt::timeout(Duration::from_secs(60), kept).await.unwrap();
        is_other.store(true, Ordering::Relaxed);
        let got = read(&driver, (1 << 20) + 100, 8000).await.unwrap();
        assert!(got.iter().zip((1 << 20) + 100..).all(|(got, at)| *got == byte(at)));
        let error = read(&driver, (1 << 20) - 4096, 8192).await.unwrap_err();
        assert!(error.to_string().contains("has changed since it was opened"), "{error}");
    });
}

#[test]
fn a_file_is_read_right_whatever_part_of_it_has_room() {
    run(async {
        let server = server(Arc::default()).await;
        for bytes in [64 << 10, 1 << 20, 16 << 20] {
            let driver = keeping(&server.url, Some(bytes)).await.unwrap();
            for piece in [SIZE, 100_000, 5000, 1 << 20] {
                check(&driver, piece).await;
            }
        }
    });
}

#[test]
fn what_can_t_be_told_from_another_version_is_not_kept() {
    run(async {
        let file = content(SIZE);
        let server = Server::start(move |came: &Came| {
            let whole = good(came, &file);
            let end = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let head = String::from_utf8_lossy(&whole[..end]).replace("ETag: ", "X: ");
            Served::Bytes([head.as_bytes(), &whole[end..]].concat())
        })
        .await;
        let error = keeping(&server.url, None).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("neither ETag nor Last-Modified"), "{error}");
    });
}

#[test]
fn a_bound_without_a_folder_or_a_folder_that_is_none_is_refused() {
    run(async {
        let server = server(Arc::default()).await;
        let refused = |path: Option<&str>, bytes: Option<u64>| {
            let mut options = options(&server.url);
            options.cache_path = path.map(str::to_owned);
            options.cache_disk_size = bytes.map(api::Size);
            async move { open_with(options, &Objects::default()).await.map(drop).unwrap_err().to_string() }
        };
        assert!(refused(None, Some(1 << 20)).await.contains("cache-path"));
        assert!(refused(Some("/tmp"), Some(4096)).await.contains("cache-disk-size is from 65536"));
        assert!(refused(Some("/no/such/folder"), None).await.contains("'/no/such/folder': No such file"));
    });
}
