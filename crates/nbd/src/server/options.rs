//! The data of the options that carry any, parsed strictly: nothing missing, nothing left over.

use crate::InfoType;
use crate::reader::Reader;

/// Data of `INFO` and `GO`: an export's name and the information items wanted.
pub(super) struct InfoRequest<'a> {
    pub name: &'a str,
    /// 16-bit information types, in wire order.
    items: &'a [u8],
}

impl<'a> InfoRequest<'a> {
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(data);
        let name = reader.counted_string()?;
        let count = usize::from(reader.u16()?);
        let items = reader.0;
        (items.len() == count * 2).then_some(Self { name, items })
    }

    pub fn wants(&self, item: InfoType) -> bool {
        self.items.chunks_exact(2).any(|wanted| wanted == item.0.to_be_bytes())
    }
}

/// Data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`: an export's name and queries.
pub(super) struct MetaRequest<'a> {
    pub export: &'a str,
    queries: Vec<&'a str>,
}

impl<'a> MetaRequest<'a> {
    /// The option's length has been bounded, so the number of queries is.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(data);
        let export = reader.counted_string()?;
        let count = reader.u32()?;
        let mut queries = Vec::new();
        for _ in 0..count {
            queries.push(reader.counted_string()?);
        }
        reader.0.is_empty().then_some(Self { export, queries })
    }

    /// A query selects a context only by its full name.
    pub fn selects(&self, context: &str) -> bool {
        self.queries.contains(&context)
    }

    /// No query at all lists everything; a query that ends where a leaf name would begin (`base:`) lists
    /// every context it is the beginning of.
    pub fn lists(&self, context: &str) -> bool {
        self.queries.is_empty()
            || self
                .queries
                .iter()
                .any(|query| *query == context || query.ends_with(':') && context.starts_with(query))
    }
}
