//! Documentation blocks: what stands before a definition.
//!
//! ```text
//! ##
//! # @Name:
//! #
//! # Overview, any number of lines.
//! #
//! # @member: What it says, its further lines
//! #     indented.
//! #
//! # Returns: tagged sections stay part of the overview.
//! ##
//! ```

use crate::{Error, Location};

/// The documentation of one definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doc {
    /// The text about the whole, paragraphs separated by empty lines.
    pub overview: String,
    /// The text about each member, argument, branch or value, in the order given.
    pub members: Vec<(String, String)>,
}

impl Doc {
    /// The text about one member.
    pub fn member(&self, name: &str) -> Option<&str> {
        self.members.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str())
    }
}

/// A block that names a definition, or one that stands for itself.
pub(crate) enum Block {
    Definition(String, Doc),
    Free(String),
}

pub(crate) fn parse(at: &Location, lines: &[String]) -> Result<Block, Error> {
    let mut rest = lines.iter().skip_while(|l| l.is_empty());
    let Some(first) = rest.next() else {
        return Ok(Block::Free(String::new()));
    };
    let Some(symbol) = first.strip_prefix('@') else {
        return Ok(Block::Free(lines.join("\n").trim().to_string()));
    };
    let Some(symbol) = symbol.strip_suffix(':') else {
        return Err(Error::new(at, "the first line of a definition's documentation is '# @NAME:'"));
    };
    let mut doc = Doc::default();
    let mut in_member = false;
    for line in rest {
        if let Some((name, text)) = member_line(line) {
            if doc.member(name).is_some() {
                return Err(Error::new(at, format!("'@{name}' is documented twice")));
            }
            doc.members.push((name.to_string(), text.trim().to_string()));
            in_member = true;
        } else if in_member && (line.is_empty() || line.starts_with(' ')) {
            extend(doc.members.last_mut().map(|(_, text)| text), line.trim());
        } else {
            in_member = false;
            extend(Some(&mut doc.overview), line);
        }
    }
    doc.overview = doc.overview.trim().to_string();
    for (_, text) in &mut doc.members {
        *text = text.trim().to_string();
    }
    Ok(Block::Definition(symbol.to_string(), doc))
}

fn member_line(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('@')?.split_once(':').filter(|(name, _)| !name.contains(' '))
}

fn extend(text: Option<&mut String>, line: &str) {
    if let Some(text) = text {
        text.push('\n');
        text.push_str(line);
    }
}
