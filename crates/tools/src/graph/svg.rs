//! The graph as a drawing: one SVG file that needs nothing else.

use super::layout::{self, Layout, Place};
use super::picture::{Item, Kind, Picture};
use crate::failure::Failure;
use std::fmt::Write;

/// More than that nobody looks at.
const MAX_ITEMS: usize = 4096;
/// Longest line of a box in characters; a longer one loses its middle.
const LINE: usize = 44;
/// Width of a character and height of a line.
const LETTER: f64 = 7.3;
const LINE_HEIGHT: f64 = 16.0;
/// Space around the text of a box.
const PAD: f64 = 8.0;
/// Space around the drawing.
const MARGIN: f64 = 20.0;

const STYLE: &str = "text{font:12px monospace;fill:#222}.name{font-weight:bold}.edge{font-size:10px;fill:#555}\
                     rect{stroke:#444;fill:#fff}.device{fill:#e3edfb}.export{fill:#e4f5e4}.job{fill:#fdf0d5}.user{fill:#eee}\
                     .ro{stroke-dasharray:5 3}polyline{fill:none;stroke:#666}svg{background:#fff}";

/// Draws it.
pub(super) fn draw(picture: &Picture) -> Result<String, Failure> {
    if picture.items.len() > MAX_ITEMS {
        return Err(Failure::new(format_args!(
            "the graph has {} items, more than the {MAX_ITEMS} that are drawn; --dot and --text show it",
            picture.items.len()
        )));
    }
    let texts: Vec<_> = picture.items.iter().map(lines).collect();
    let sizes: Vec<_> = texts.iter().map(|lines| box_size(lines)).collect();
    let links: Vec<_> = picture.links.iter().map(|link| (link.from, link.to)).collect();
    let layout = layout::layered(&sizes, &links);
    let (width, height) = (layout.width + 2.0 * MARGIN, layout.height + 2.0 * MARGIN);
    let mut svg = String::new();
    // Writing to a string does not fail.
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} \
         {height:.0}\">\n<title>Block graph</title>\n<style>{STYLE}</style>\n<defs><marker id=\"to\" markerWidth=\"9\" \
         markerHeight=\"8\" refX=\"8\" refY=\"4\" orient=\"auto\"><path d=\"M0,0L9,4L0,8z\" fill=\"#666\"/></marker></defs>\n\
         <g transform=\"translate({MARGIN},{MARGIN})\">"
    )
    .ok();
    edges(&mut svg, picture, &layout);
    for ((item, lines), place) in picture.items.iter().zip(&texts).zip(&layout.places) {
        draw_box(&mut svg, item, lines, place);
    }
    Ok(svg + "</g>\n</svg>\n")
}

fn edges(svg: &mut String, picture: &Picture, layout: &Layout) {
    for (link, route) in picture.links.iter().zip(&layout.routes) {
        let points: Vec<_> = route.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        writeln!(svg, "<polyline points=\"{}\" marker-end=\"url(#to)\"/>", points.join(" ")).ok();
        // At the lower end, where edges of one user stand apart.
        if let [.., (_, above), (x, y)] = route.as_slice() {
            let at = (y - 22.0).max(*above);
            let words = [(&link.role, at), (&link.perms, at + 11.0)];
            for (word, y) in words.into_iter().filter(|(word, _)| !word.is_empty()) {
                writeln!(
                    svg,
                    "<text class=\"edge\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                    x + 6.0,
                    escaped(word)
                )
                .ok();
            }
        }
    }
}

fn draw_box(svg: &mut String, item: &Item, lines: &[String], place: &Place) {
    let class = match item.kind {
        Kind::Node if item.facts.iter().any(|fact| fact == "read-only") => "node ro".to_owned(),
        kind => kind.to_string(),
    };
    let left = place.middle - place.width / 2.0;
    writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"4\"/>",
        place.top, place.width, place.height
    )
    .ok();
    let mut baseline = place.top + PAD - 4.0;
    for (at, line) in lines.iter().enumerate() {
        baseline += LINE_HEIGHT;
        let class = if at == 0 { " class=\"name\"" } else { "" };
        writeln!(svg, "<text{class} x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>", left + PAD, escaped(line))
            .ok();
    }
}

/// Name, facts and file name, each at most [`LINE`] characters long.
fn lines(item: &Item) -> Vec<String> {
    let name = match item.kind {
        Kind::Node => item.name.clone(),
        kind => format!("{kind} {}", item.name),
    };
    let facts = item.facts.join(", ");
    let lines = [Some(name), Some(facts), item.file.clone()];
    lines.into_iter().flatten().filter(|line| !line.is_empty()).map(|line| shortened(&line)).collect()
}

fn shortened(line: &str) -> String {
    let letters: Vec<char> = line.chars().collect();
    if letters.len() <= LINE {
        return line.to_owned();
    }
    let begin = letters.iter().take(LINE / 3);
    let end = letters.iter().skip(letters.len() - (LINE - LINE / 3 - 1));
    begin.chain(&['…']).chain(end).collect()
}

fn box_size(lines: &[String]) -> (f64, f64) {
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    (longest as f64 * LETTER + 2.0 * PAD, lines.len() as f64 * LINE_HEIGHT + PAD)
}

/// Text in XML. Characters that XML does not have become `?`.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            control if control.is_control() => escaped.push('?'),
            letter => escaped.push(letter),
        }
    }
    escaped
}
