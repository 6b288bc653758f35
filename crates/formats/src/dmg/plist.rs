//! The property list: XML, of which the tables in base64 are looked at, and nothing else.
//!
//! ```text
//!  plist ─ dict ─ "resource-fork" ─ dict ─ "blkx" ─ array ─ dict ─ "Data" ─ data
//! ```
use super::chunks::{Chunks, TableError};
use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;
use quick_xml::Reader;
use quick_xml::events::Event;
use std::io::{self, BufReader, Read};

/// Elements that may lie inside of each other.
const DEPTH: usize = 32;
/// Elements of a list, of which each table has about ten.
const MOST_ELEMENTS: usize = 1 << 18;

/// Where the tables are: the elements from the outermost on, each with the key that it is at.
const TABLES: [(&str, &str); 5] =
    [("plist", ""), ("dict", "resource-fork"), ("dict", "blkx"), ("array", ""), ("dict", "Data")];

/// What is wrong with a property list.
#[derive(Debug, thiserror::Error)]
pub enum PlistError {
    #[error("{1}, at byte {0} of it")]
    Xml(u64, #[source] quick_xml::Error),
    #[error("elements lie more than {DEPTH} deep in each other")]
    Depth,
    #[error("there are more than {MOST_ELEMENTS} elements")]
    Elements,
    #[error("table {0}: {1}")]
    Table(usize, #[source] TableError),
}

/// Adds the chunks of all tables; tells how many tables there are.
pub fn read(xml: &[u8], chunks: &mut Chunks) -> Result<usize, PlistError> {
    let mut reader = Reader::from_reader(xml);
    let mut open: Vec<(&str, &str)> = Vec::new();
    let (mut tables, mut elements) = (0, 0);
    loop {
        let event = reader.read_event().map_err(|e| PlistError::Xml(reader.error_position(), e))?;
        match event {
            Event::Start(element) => {
                elements += 1;
                if elements > MOST_ELEMENTS {
                    return Err(PlistError::Elements);
                }
                if open.len() == DEPTH {
                    return Err(PlistError::Depth);
                }
                open.push((known(element.name().as_ref()), ""));
            }
            Event::End(_) => drop(open.pop()),
            Event::Text(text) => match open.as_mut_slice() {
                [.., (_, key), (element, _)] if *element == "key" => *key = known(&text),
                [outer @ .., (element, _)] if *element == "data" && is_tables(outer) => {
                    let table = BufReader::new(DecoderReader::new(Dense(text.as_bytes()), &STANDARD));
                    chunks.add_table(table).map_err(|e| PlistError::Table(tables, e))?;
                    tables += 1;
                }
                _ => {}
            },
            Event::Eof => return Ok(tables),
            _ => {}
        }
    }
}

/// An element's name or a key, if it leads to tables; empty otherwise.
fn known(name: &str) -> &'static str {
    let all = TABLES.iter().flat_map(|(element, key)| [*element, *key]).chain(["key", "data"]);
    all.into_iter().find(|known| *known == name).unwrap_or_default()
}

fn is_tables(open: &[(&str, &str)]) -> bool {
    open.len() == TABLES.len()
        && open
            .iter()
            .zip(TABLES)
            .all(|((element, key), (want, at))| *element == want && (*key == at || at.is_empty()))
}

/// Text without the blanks in it.
struct Dense<'a>(&'a [u8]);

impl Read for Dense<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let (Some((byte, rest)), Some(to)) = (self.0.split_first(), buf.get_mut(filled)) {
            self.0 = rest;
            if !byte.is_ascii_whitespace() {
                *to = *byte;
                filled += 1;
            }
        }
        Ok(filled)
    }
}
