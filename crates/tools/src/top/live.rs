//! The figures on a terminal, renewed until somebody presses q or the server ends.

use super::Settings;
use super::figures::{Figures, Smooth};
use super::sample::Sample;
use super::view::{self, Line};
use crate::client::Client;
use crate::failure::Failure;
use futures_util::future::{Either, select};
use rt::net::Stream;
use rt::signal::{self, HANGUP, INTERRUPT, TERMINATE};
use rt::stdio;
use rt::terminal::{self, RESIZED, SUSPEND, Screen};
use std::pin::pin;
use std::time::Duration;

const SIGNALS: [i32; 5] = [INTERRUPT, TERMINATE, HANGUP, RESIZED, SUSPEND];
/// A terminal that does not tell its size.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// What happened while figures were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It is time for the next look.
    Time,
    /// The lines are to be drawn again.
    Redraw,
    Up,
    Down,
    Leave,
    Suspend,
}

/// Shows them.
pub(super) async fn show(mut client: Client, socket: &str, settings: &Settings) -> Result<(), Failure> {
    let wrong = |e| Failure::new(format_args!("the terminal: {e}"));
    let keys = stdio::stdin().map_err(wrong)?;
    let mut before = Sample::ask(&mut client).await?;
    // Before the terminal is entered: a signal that comes first must not leave it as it is.
    signal::catch(&SIGNALS).map_err(wrong)?;
    let mut screen = Screen::enter().map_err(wrong)?;
    let (mut first, mut smooth) = (0_usize, Smooth::default());
    let mut figures = Figures::between(&before, &before, &mut smooth);
    let mut looks = 0;
    let mut next_ns = rt::now_ns();
    loop {
        let lines = view::lines(&figures);
        let size = terminal::size().unwrap_or(USUAL_SIZE);
        first = first.min(lines.len().saturating_sub(1));
        let title = format!(
            " {socket}  {}  {} nodes, {} exports, {} jobs  every {} s  q: quit",
            figures.server,
            figures.nodes.len(),
            figures.exports.len(),
            figures.jobs.len(),
            settings.interval.as_secs_f64()
        );
        draw(&screen, &title, &lines, first, size).map_err(wrong)?;
        if settings.count.is_some_and(|count| looks >= count) {
            return Ok(());
        }
        let pause = Duration::from_nanos(next_ns.saturating_sub(rt::now_ns()));
        for heard in heard(&keys, pause).await.map_err(wrong)? {
            match heard {
                Heard::Time => next_ns = rt::now_ns(),
                Heard::Redraw => {}
                Heard::Up => first = first.saturating_sub(1),
                Heard::Down => first += 1,
                Heard::Leave => return Ok(()),
                Heard::Suspend => screen = screen.suspend().map_err(wrong)?,
            }
        }
        if rt::now_ns() >= next_ns {
            let now = Sample::ask(&mut client).await?;
            figures = Figures::between(&before, &now, &mut smooth);
            before = now;
            looks += 1;
            let interval = u64::try_from(settings.interval.as_nanos()).unwrap_or(u64::MAX);
            next_ns = rt::now_ns().saturating_add(interval);
        }
    }
}

fn draw(
    screen: &Screen,
    title: &str,
    lines: &[Line],
    first: usize,
    size: (usize, usize),
) -> std::io::Result<()> {
    screen.show(&view::screen(title, lines, first, size))
}

/// Waits for keys, a signal or the end of the pause.
async fn heard(keys: &Stream, pause: Duration) -> std::io::Result<Vec<Heard>> {
    let mut pressed = [0; 64];
    let key = Box::pin(keys.recv(&mut pressed));
    let signal = pin!(signal::next_signal(&SIGNALS));
    let pause = pin!(rt::sleep(pause));
    let got = match select(select(key, signal), pause).await {
        Either::Right(_) => return Ok(vec![Heard::Time]),
        Either::Left((Either::Right((signal, _)), _)) => {
            return Ok(vec![match signal? {
                RESIZED => Heard::Redraw,
                SUSPEND => Heard::Suspend,
                _ => Heard::Leave,
            }]);
        }
        Either::Left((Either::Left((got, _)), _)) => got?,
    };
    Ok(keys_in(pressed.get(..got).unwrap_or_default()))
}

/// What keys mean; the end of the input is a wish to leave.
fn keys_in(mut pressed: &[u8]) -> Vec<Heard> {
    if pressed.is_empty() {
        return vec![Heard::Leave];
    }
    let mut heard = Vec::new();
    while !pressed.is_empty() {
        let (meaning, rest) = match pressed {
            [0x1b, b'[' | b'O', b'A', rest @ ..] | [b'k', rest @ ..] => (Heard::Up, rest),
            [0x1b, b'[' | b'O', b'B', rest @ ..] | [b'j', rest @ ..] => (Heard::Down, rest),
            [b'q' | b'Q' | 4, rest @ ..] => (Heard::Leave, rest),
            [b' ', rest @ ..] => (Heard::Time, rest),
            [_, rest @ ..] => (Heard::Redraw, rest),
            [] => break,
        };
        heard.push(meaning);
        pressed = rest;
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says_also_several_at_once() {
        for (keys, want) in [
            (&b"q"[..], vec![Heard::Leave]),
            (b"", vec![Heard::Leave]),
            (b"\x1b[A\x1bOB ", vec![Heard::Up, Heard::Down, Heard::Time]),
            (b"xq", vec![Heard::Redraw, Heard::Leave]),
        ] {
            assert_eq!(keys_in(keys), want, "{keys:?}");
        }
    }
}
