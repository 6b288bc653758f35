//! The names of a parent.
//!
//! Specification: MS-VHDX 2.6.2.6.
use super::words::{Guid, guid_at, u16_at, u32_at};

/// The one kind of locator there is.
const VHDX: Guid = Guid::of(0xb04a_efb7_d19e_4a81, 0xb789_25b8_e944_5913);

/// What an image says of its parent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Parent {
    /// Its name as one of this system.
    pub name: Option<String>,
    /// What it is known by: one of these.
    pub linkage: Vec<Guid>,
}

/// Reads the locator; nothing is told by one of another kind.
pub(super) fn parse(locator: &[u8]) -> Parent {
    let mut parent = Parent::default();
    if guid_at(locator, 0) != VHDX {
        return parent;
    }
    let text = |offset: u32, len: u16| {
        let bytes = locator.get(offset as usize..)?.get(..len.into())?;
        let units: Vec<u16> = bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        Some(String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned())
    };
    let entries = locator.get(20..).unwrap_or_default().chunks_exact(12).take(u16_at(locator, 18).into());
    let pairs: Vec<_> = entries
        .filter_map(|entry| {
            let key = text(u32_at(entry, 0), u16_at(entry, 8))?;
            Some((key, text(u32_at(entry, 4), u16_at(entry, 10))?))
        })
        .collect();
    let value = |key: &str| pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
    parent.linkage =
        ["parent_linkage", "parent_linkage2"].iter().filter_map(|key| Guid::parse(value(key)?)).collect();
    let names = ["relative_path", "volume_path", "absolute_win32_path"];
    parent.name = names.iter().find_map(|key| crate::windows::name_here(value(key)?));
    parent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locator_is_a_list_of_keys_and_values() {
        let pairs =
            [("parent_linkage", "{2DC27766-F623-4200-9D64-115E9BFD4A08}"), ("relative_path", r".\base.vhdx")];
        let mut bytes = VHDX.0.to_vec();
        bytes.extend([0, 0, 2, 0]);
        let mut texts = Vec::new();
        for (key, value) in pairs {
            let [key, value] =
                [key, value].map(|text| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
            let at = 20 + 2 * 12 + texts.len() as u32;
            bytes.extend(at.to_le_bytes());
            bytes.extend((at + key.len() as u32).to_le_bytes());
            bytes.extend((key.len() as u16).to_le_bytes());
            bytes.extend((value.len() as u16).to_le_bytes());
            texts.extend([key, value].concat());
        }
        bytes.extend(texts);
        let parent = parse(&bytes);
        assert_eq!(parent.name.as_deref(), Some("base.vhdx"));
        assert_eq!(parent.linkage, [Guid::of(0x2dc2_7766_f623_4200, 0x9d64_115e_9bfd_4a08)]);
        assert_eq!(parse(&bytes[..40]), Parent::default());
        assert_eq!(parse(&[]), Parent::default());
    }
}
