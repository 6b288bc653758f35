//! The addresses of one name: the next one is tried beside those that have not answered yet (RFC 8305, "happy eyeballs"), so that
//! one that nobody answers at costs a moment, not the whole time that there is.

use super::{Stream, resolve};
use crate::timeout;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an address has before the next one is tried beside it (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// The first connection to any address of `host`.
pub(super) async fn first<F: Future<Output = io::Result<Stream>>>(
    host: &str,
    port: u16,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<Stream> {
    let addresses = resolve(host, port).await?;
    let nobody = io::Error::new(io::ErrorKind::NotFound, format!("'{host}' has no address"));
    first_of(addresses, connect).await.unwrap_or(Err(nobody))
}

/// What an address failed with, the less telling first: that there is no way to it from here (of a family that this host lacks, most
/// often), that nobody answered, and all that somebody answered or this host refused.
fn telling(error: &io::Error) -> u8 {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => 0,
        Some(libc::ETIMEDOUT) => 1,
        _ => 2,
    }
}

/// The first connection to any of these; `None` if there are none. The other attempts are given up. Where all fail, the most telling
/// error is told, of the first address that has it.
async fn first_of<F: Future<Output = io::Result<Stream>>>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Option<io::Result<Stream>> {
    let mut waiting = families_in_turn(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failed: Option<io::Error> = None;
    loop {
        attempts.extend(waiting.next().map(&connect));
        let answer = match waiting.len() {
            0 => attempts.next().await,
            // Nobody has answered in time: the next one is tried, too.
            _ => timeout(STAGGER, attempts.next()).await.ok().flatten(),
        };
        match answer {
            Some(Err(error)) => {
                if failed.as_ref().is_none_or(|before| telling(before) < telling(&error)) {
                    failed = Some(error);
                }
            }
            None if attempts.is_empty() => return failed.map(Err),
            None => {}
            connected => return connected,
        }
    }
}

/// The same addresses, those of both families by turns: a family that does not work here costs one moment.
fn families_in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (like_first, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let mut others = others.into_iter();
    let mut turns: Vec<_> =
        like_first.into_iter().flat_map(|address| [Some(address), others.next()]).flatten().collect();
    turns.extend(others);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Listener, socket};
    use crate::{Config, Runtime};
    use std::os::fd::{AsFd, OwnedFd};

    fn run<T>(test: impl Future<Output = T>) -> T {
        Runtime::new(Config { workers: Some(1), ..Config::default() }).unwrap().block_on(test)
    }

    /// An address where connections are asked for in vain: its queue is full, and nobody takes one out of it.
    fn black_hole() -> (SocketAddr, Vec<OwnedFd>) {
        let listener = socket::tcp(false).unwrap();
        socket::bind_and_listen(listener.as_fd(), &([127, 0, 0, 1], 0).into(), false, 0).unwrap();
        let address = socket::local_addr(listener.as_fd()).unwrap();
        let mut kept = vec![listener];
        for _ in 0..4 {
            let asking = socket::tcp(false).unwrap();
            // Begun; the first ones fill the queue.
            let _ = socket::connect(asking.as_fd(), &address);
            kept.push(asking);
        }
        (address, kept)
    }

    #[test]
    fn an_address_where_nobody_answers_holds_up_no_other() {
        run(async {
            let (hole, _kept) = black_hole();
            let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap().remove(0);
            let good = socket::local_addr(listener.as_fd()).unwrap();
            let connecting = first_of(vec![hole, hole, good], Stream::connect_to);
            // As long as one system tries one address takes longer.
            let stream = timeout(Duration::from_secs(60), connecting).await.unwrap().unwrap().unwrap();
            assert_eq!(stream.peer_address(), Some(good));
        });
    }

    #[test]
    fn one_that_refuses_is_passed_over_and_when_all_fail_it_is_told() {
        run(async {
            let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap().remove(0);
            let good = socket::local_addr(listener.as_fd()).unwrap();
            let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let refusing = bound.local_addr().unwrap();
            drop(bound);
            let stream = first_of(vec![refusing, good], Stream::connect_to).await.unwrap().unwrap();
            assert_eq!(stream.peer_address(), Some(good));
            let error = first_of(vec![refusing, refusing], Stream::connect_to).await.unwrap().err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            assert!(first_of(Vec::new(), Stream::connect_to).await.is_none());
        });
    }

    #[test]
    fn an_address_that_says_more_is_told_of_whichever_fails_first() {
        run(async {
            let codes = [libc::ENETUNREACH, libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EAFNOSUPPORT];
            for turn in 0..codes.len() {
                let addresses = (1..=codes.len()).map(|port| ([127, 0, 0, 1], port as u16).into()).collect();
                let fails = async |address: SocketAddr| {
                    let code = codes[(usize::from(address.port()) + turn) % codes.len()];
                    Err(io::Error::from_raw_os_error(code))
                };
                let error = first_of(addresses, fails).await.unwrap().err().unwrap();
                assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
            }
            let unreachable = async |_| Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
            let error = first_of(vec![([127, 0, 0, 1], 1).into()], unreachable).await.unwrap().err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
        });
    }

    #[test]
    fn families_take_turns_and_nobody_is_left_out() {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let given = list(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let turns = list(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(families_in_turn(given), turns);
        let given = list(&["1.1.1.1:1", "[::1]:1", "[::2]:1"]);
        assert_eq!(families_in_turn(given.clone()), given);
    }
}
