//! Where the content of a disk comes from, as a picture: the disk from its start to its end in rows of cells, each coloured by the
//! layer that most of its data is in, the darker the more of it is data.

use crate::console::printable;
use crate::graph::svg::escaped;
use crate::size;
use std::fmt::Write;

/// Cells in a row.
const COLUMNS: usize = 64;

/// No cell is smaller than this, in bytes.
const LEAST: u64 = 4096;

/// Layers that are told apart; those below them count as one.
const LAYERS: usize = 10;

/// The colours of the layers from the top down, for a drawing; those below the last of them share it.
const FILLS: [&str; 6] = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"];

/// The same for a terminal, as foreground colours.
const INKS: [u8; 6] = [34, 33, 32, 31, 35, 36];

/// Side of a cell in a drawing.
const SIDE: usize = 12;

/// How a picture is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Of characters.
    Text,
    /// A drawing that needs nothing else.
    Svg,
}

impl Form {
    fn rows(self) -> u64 {
        match self {
            Form::Text => 16,
            Form::Svg => 64,
        }
    }
}

/// Bytes of a cell by what they are.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    data: [u64; LAYERS],
    zero: u64,
}

impl Cell {
    /// Bytes of data, and the layer that most of them are in.
    fn data(&self) -> (u64, usize) {
        let most = self.data.iter().enumerate().max_by_key(|(depth, bytes)| (**bytes, LAYERS - depth));
        (self.data.iter().sum(), most.map_or(0, |(depth, _)| depth))
    }
}

/// A picture of a range of a disk.
#[derive(Debug)]
pub(super) struct Picture {
    form: Form,
    start: u64,
    /// Bytes of a cell.
    unit: u64,
    cells: Vec<Cell>,
    /// The names of the layers, from the top down.
    layers: Vec<String>,
}

/// What a run of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Data that a layer so many below the top holds.
    Data(u32),
    /// Zeroes that a layer holds without data.
    Zero,
    /// Nothing that any layer holds.
    Nothing,
}

impl Picture {
    /// An empty picture of a range.
    pub fn new(form: Form, range: std::ops::Range<u64>, layers: Vec<String>) -> Picture {
        let length = range.end.saturating_sub(range.start);
        let most = COLUMNS as u64 * form.rows();
        let unit = length.div_ceil(most).max(LEAST).next_multiple_of(LEAST);
        let cells = vec![Cell::default(); length.div_ceil(unit) as usize]; // at most COLUMNS rows of 64
        Picture { form, start: range.start, unit, cells, layers }
    }

    /// Takes in a run of bytes.
    pub fn add(&mut self, start: u64, length: u64, content: Content) {
        let mut at = start.saturating_sub(self.start);
        let end = at + length;
        while at < end && content != Content::Nothing {
            let index = at / self.unit;
            let bytes = ((index + 1) * self.unit).min(end) - at;
            let Some(cell) = self.cells.get_mut(index as usize) else { return };
            match content {
                Content::Data(depth) => {
                    let layer = cell.data.get_mut((depth as usize).min(LAYERS - 1));
                    *layer.unwrap_or(&mut 0) += bytes;
                }
                Content::Zero => cell.zero += bytes,
                Content::Nothing => {}
            }
            at += bytes;
        }
    }

    /// The picture as text; `coloured` for a terminal.
    pub fn draw(&self, coloured: bool) -> String {
        match self.form {
            Form::Text => self.text(coloured),
            Form::Svg => self.svg(),
        }
    }

    /// Bytes of data of each layer, of zeroes, and of all that was looked at.
    fn sums(&self) -> (Vec<u64>, u64, u64) {
        let layers = (0..LAYERS).map(|depth| self.cells.iter().filter_map(|cell| cell.data.get(depth)).sum());
        let zero = self.cells.iter().map(|cell| cell.zero).sum();
        (layers.collect(), zero, self.unit * self.cells.len() as u64)
    }

    fn text(&self, coloured: bool) -> String {
        let mut text = String::new();
        let width = format!("{:#x}", self.start + self.unit * self.cells.len() as u64).len();
        // Writing to a string does not fail.
        for (row, cells) in self.cells.chunks(COLUMNS).enumerate() {
            let at = self.start + (row * COLUMNS) as u64 * self.unit;
            write!(text, "{:>width$} |", format!("{at:#x}")).ok();
            cells.iter().for_each(|cell| text += &self.glyph(cell, coloured));
            text += "|\n";
        }
        writeln!(text, "\na character is {}", size::human(self.unit)).ok();
        let (layers, zero, _) = self.sums();
        for (depth, bytes) in layers.iter().enumerate() {
            let Some(name) = self.layers.get(depth) else { continue };
            let sign = if coloured { inked(depth, "█") } else { sign(depth).to_string() };
            writeln!(text, "{sign} {} of data in {}", size::human(*bytes), printable(name)).ok();
        }
        writeln!(text, "- {} of zeroes without data", size::human(zero)).ok();
        text
    }

    fn glyph(&self, cell: &Cell, coloured: bool) -> String {
        let (data, depth) = cell.data();
        if data == 0 {
            return if cell.zero > 0 { "-" } else { " " }.to_owned();
        }
        if !coloured {
            return sign(depth).to_string();
        }
        let shades = ["░", "▒", "▓", "█"];
        let shade = (data.saturating_mul(4).div_ceil(self.unit)).clamp(1, 4) - 1;
        inked(depth, shades.get(shade as usize).copied().unwrap_or_default())
    }

    fn svg(&self) -> String {
        let rows = self.cells.len().div_ceil(COLUMNS);
        let legend = self.layers.len().min(LAYERS) + 1;
        let (width, height) = (COLUMNS * SIDE + 120, (rows + legend + 2) * (SIDE + 4) + 20);
        let mut svg = String::new();
        // Writing to a string does not fail.
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
             <title>Allocation</title>\n<style>text{{font:11px monospace;fill:#222}}svg{{background:#fff}}</style>\n\
             <rect x=\"110\" y=\"10\" width=\"{}\" height=\"{}\" fill=\"#f4f4f4\"/>",
            COLUMNS * SIDE,
            rows * SIDE
        )
        .ok();
        for (row, cells) in self.cells.chunks(COLUMNS).enumerate() {
            let (at, y) = (self.start + (row * COLUMNS) as u64 * self.unit, 10 + row * SIDE);
            if row % 4 == 0 {
                writeln!(svg, "<text x=\"104\" y=\"{}\" text-anchor=\"end\">{at:#x}</text>", y + 10).ok();
            }
            for (column, cell) in cells.iter().enumerate() {
                let (data, depth) = cell.data();
                if data == 0 && cell.zero == 0 {
                    continue;
                }
                let (fill, part) = if data > 0 { (fill(depth), data) } else { ("#bbb", cell.zero) };
                let opacity = 0.25 + 0.75 * (part as f64 / self.unit as f64).min(1.0);
                let place = at + column as u64 * self.unit;
                writeln!(
                    svg,
                    "<rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{fill}\" fill-opacity=\"{opacity:.2}\">\
                     <title>{place:#x}: {} of data, {} of zeroes</title></rect>",
                    110 + column * SIDE,
                    SIDE - 1,
                    SIDE - 1,
                    size::human(data),
                    size::human(cell.zero)
                )
                .ok();
            }
        }
        let (layers, zero, _) = self.sums();
        let named = self.layers.iter().take(LAYERS).zip(layers).enumerate();
        let lines = named.map(|(depth, (name, bytes))| {
            (fill(depth), format!("{} of data in {}", size::human(bytes), escaped(name)))
        });
        let zeroes = [("#bbb", format!("{} of zeroes without data", size::human(zero)))];
        let each = [("#fff", format!("a cell is {}", size::human(self.unit)))];
        for (line, (fill, words)) in lines.chain(zeroes).chain(each).enumerate() {
            let y = 24 + rows * SIDE + line * (SIDE + 4);
            writeln!(svg, "<rect x=\"110\" y=\"{y}\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"{fill}\"/>")
                .ok();
            writeln!(svg, "<text x=\"128\" y=\"{}\">{words}</text>", y + 10).ok();
        }
        svg + "</svg>\n"
    }
}

/// The sign of a layer in text without colours.
fn sign(depth: usize) -> char {
    u32::try_from(depth).ok().and_then(|depth| char::from_digit(depth, 10)).unwrap_or('+')
}

fn inked(depth: usize, text: &str) -> String {
    let ink = INKS.get(depth.min(INKS.len() - 1)).copied().unwrap_or_default();
    format!("\x1b[{ink}m{text}\x1b[0m")
}

fn fill(depth: usize) -> &'static str {
    FILLS.get(depth.min(FILLS.len() - 1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_shows_the_layer_that_most_of_its_data_is_in() {
        let layers = vec!["top".to_owned(), "<base>".to_owned()];
        let mut picture = Picture::new(Form::Text, 0..64 << 20, layers.clone());
        let unit = picture.unit;
        assert_eq!((picture.cells.len(), unit), (1024, 65536));
        picture.add(0, unit, Content::Data(0));
        picture.add(unit, unit / 4, Content::Data(0));
        picture.add(unit + unit / 4, unit / 2, Content::Data(1));
        picture.add(2 * unit, unit / 2, Content::Zero);
        picture.add(4 * unit, 70 * unit, Content::Data(12));
        let text = picture.draw(false);
        let first = text.lines().next().unwrap();
        assert!(first.ends_with(&format!("|01- {}|", "9".repeat(60))), "{text}");
        assert!(text.contains("\n1 32 KiB of data in <base>\n- 32 KiB of zeroes without data\n"), "{text}");
        assert!(picture.draw(true).contains("\x1b[34m█\x1b[0m\x1b[33m▓\x1b[0m- "));

        let mut drawing = Picture::new(Form::Svg, 1 << 30..1 << 40, layers);
        drawing.add(1 << 30, 1 << 39, Content::Data(0));
        let svg = drawing.draw(false);
        assert!(
            svg.len() < 1 << 20
                && svg.contains("of data in &lt;base&gt;</text>")
                && svg.ends_with("</svg>\n")
        );
    }

    #[test]
    fn the_smallest_and_the_largest_disk_have_a_picture() {
        for length in [0, 1, 4096, 1 << 62] {
            let mut picture = Picture::new(Form::Svg, 0..length, Vec::new());
            picture.add(0, length, Content::Data(0));
            assert!(picture.cells.len() <= 64 * 64 && picture.draw(false).ends_with("</svg>\n"), "{length}");
        }
    }
}
