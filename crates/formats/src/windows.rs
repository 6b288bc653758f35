//! Names of files as Windows has them.

/// A name of Windows as one of this system: relative names with slashes, of others the last part.
pub(crate) fn name_here(name: &str) -> Option<String> {
    let name = name.replace('\\', "/");
    let mut name = name.as_str();
    while let Some(rest) = name.strip_prefix("./") {
        // Further slashes would make it an absolute one.
        name = rest.trim_start_matches('/');
    }
    let absolute = name.starts_with('/') || name.as_bytes().get(1) == Some(&b':');
    plain(if absolute { name.rsplit(['/', ':']).next().unwrap_or_default() } else { name })
}

/// A name, unless it is empty, or would be taken for a protocol's: those have a colon in front of the first slash.
pub(crate) fn plain(name: &str) -> Option<String> {
    let plain = !name.is_empty() && !name.split('/').next().is_some_and(|first| first.contains(':'));
    plain.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_windows_lead_beside_the_image() {
        for (windows, here) in [
            (r".\base.vhd", Some("base.vhd")),
            (r"..\disks\base.vhd", Some("../disks/base.vhd")),
            (r"C:\disks\base.vhd", Some("base.vhd")),
            (r"\\server\share\base.vhd", Some("base.vhd")),
            ("base.vhd", Some("base.vhd")),
            (r"C:/disks/base.vhd", Some("base.vhd")),
            ("//server/share/base.vhd", Some("base.vhd")),
            ("/etc/base.vhd", Some("base.vhd")),
            (r".\/etc/base.vhd", Some("etc/base.vhd")),
            (r".\C:\etc/base.vhd", Some("base.vhd")),
            ("nbd:host:1", None),
            ("", None),
            (r"C:\", None),
        ] {
            assert_eq!(name_here(windows).as_deref(), here, "{windows}");
        }
    }
}
