//! The driver against correct and faulty servers, all in this process.

mod answers;
mod cached;
mod faults;
mod reads;
mod roads;
pub(crate) mod server;

use super::*;
use block::Secret;
use server::{Served, Server};
use std::time::Duration;

const SIZE: usize = 3 << 20;

/// What the file holds.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

fn content(len: usize) -> Vec<u8> {
    (0..len as u64).map(byte).collect()
}

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let config = rt::Config { workers: Some(1), ..rt::Config::default() };
    rt::Runtime::new(config).unwrap().block_on(test)
}

/// The options of a driver; no proxy of the environment is asked.
fn options(url: &str) -> BlockdevOptionsCurlHttp {
    let mut options = Options::new().with_str("url", url).with_str("proxy", "");
    adapted(&mut options);
    options.read().unwrap()
}

fn adapted(options: &mut Options) {
    super::options::adapt(options).unwrap();
}

async fn open_with(options: BlockdevOptionsCurlHttp, objects: &Objects) -> Result<HttpDriver> {
    let scheme = if options.url.starts_with("https") { "https" } else { "http" };
    HttpDriver::open(Settings::of(options, scheme, objects)?, objects.clone(), again).await
}

fn again(options: Options, objects: &Objects) -> Result<Settings> {
    Settings::of(options.read()?, "http", objects)
}

async fn open_at(url: &str) -> Result<HttpDriver> {
    open_with(options(url), &Objects::default()).await
}

async fn refused(url: &str) -> BlockError {
    match open_at(url).await {
        Ok(_) => panic!("'{url}' was opened"),
        Err(error) => error,
    }
}

async fn read(driver: &HttpDriver, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut buf = BufMut::with_len(len);
    let here = driver.try_read(offset, &mut buf)?;
    let front = buf.split_to(here);
    let (back, result) = driver.read(offset + here as u64, buf).await;
    result?;
    Ok([&front[..], &back[..]].concat())
}

/// Reads all of it in such pieces, and compares.
async fn check(driver: &HttpDriver, piece: usize) {
    let mut at = 0;
    while at < driver.length() {
        let len = piece.min((driver.length() - at) as usize);
        let got = read(driver, at, len).await.unwrap();
        assert!(got.iter().zip(at..).all(|(got, at)| *got == byte(at)), "at {at}");
        at += len as u64;
    }
}
