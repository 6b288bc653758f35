//! Distinguished names as text, the last part of the certificate's first: `CN=client,O=Cairn`.
//!
//! Specification: RFC 4514, with the short names that GnuTLS adds to it, since rules of administrators are written so.

use openssl::nid::Nid;
use openssl::x509::{X509NameEntryRef, X509NameRef};

/// Types of parts, and their short names.
const SHORT: &[(Nid, &str)] = &[
    (Nid::COMMONNAME, "CN"),
    (Nid::ORGANIZATIONNAME, "O"),
    (Nid::ORGANIZATIONALUNITNAME, "OU"),
    (Nid::COUNTRYNAME, "C"),
    (Nid::LOCALITYNAME, "L"),
    (Nid::STATEORPROVINCENAME, "ST"),
    (Nid::DOMAINCOMPONENT, "DC"),
    (Nid::USERID, "UID"),
    (Nid::STREETADDRESS, "street"),
    (Nid::TITLE, "title"),
    (Nid::SURNAME, "surName"),
    (Nid::GIVENNAME, "givenName"),
    (Nid::INITIALS, "initials"),
    (Nid::SERIALNUMBER, "serialNumber"),
    (Nid::PKCS9_EMAILADDRESS, "EMAIL"),
];

/// The text of a name.
pub(crate) fn text(name: &X509NameRef) -> String {
    let mut parts: Vec<String> = name.entries().map(part).collect();
    parts.reverse();
    parts.join(",")
}

fn part(entry: &X509NameEntryRef) -> String {
    let nid = entry.object().nid();
    let short = SHORT.iter().find(|(other, _)| *other == nid).map(|(_, short)| *short);
    let text = entry.data().to_string().ok();
    match (short, text) {
        (Some(short), Some(text)) => format!("{short}={}", escape(&text)),
        // A type without a name: its number, and the bytes.
        _ => {
            let bytes: String = entry.data().as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}=#{bytes}", entry.object())
        }
    }
}

/// Sets apart what has a meaning in a name.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let is_edge = at == 0 && (c == ' ' || c == '#') || at == last && c == ' ';
        match c {
            '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\{:02x}", u32::from(c))),
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', c]),
            _ if is_edge => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::x509::X509Name;

    #[test]
    fn a_name_is_told_last_part_first_and_what_has_a_meaning_is_set_apart() {
        let mut builder = X509Name::builder().unwrap();
        for (nid, text) in [
            (Nid::LOCALITYNAME, "R'lyeh"),
            (Nid::ORGANIZATIONNAME, "Smith, Sons+Co "),
            (Nid::COMMONNAME, "#1\n"),
        ] {
            builder.append_entry_by_nid(nid, text).unwrap();
        }
        assert_eq!(text(&builder.build()), "CN=\\#1\\0a,O=Smith\\, Sons\\+Co\\ ,L=R'lyeh");
    }
}
