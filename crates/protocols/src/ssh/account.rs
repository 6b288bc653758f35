//! Who the user of this process is: the name that a server is told if none is given, and where the files of SSH are.

use std::path::{Path, PathBuf};

/// Most bytes of the list of users that are read.
const MOST: u64 = 1 << 20;

/// The user's line in the list of users: `name:password:uid:gid:comment:home:shell`.
fn entry() -> Option<Vec<String>> {
    let list = rt::fs::read_bounded(Path::new("/etc/passwd"), MOST).ok()?;
    let list = String::from_utf8_lossy(&list);
    let user = rt::fs::user().to_string();
    let mut entries = list.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = entries.find(|fields| fields.get(2) == Some(&user.as_str()))?;
    Some(found.into_iter().map(str::to_owned).collect())
}

/// The user's name, by the list of users, or by what the environment says.
pub(super) fn name() -> Option<String> {
    let named = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    entry()
        .and_then(|fields| fields.into_iter().next())
        .or_else(|| named("LOGNAME"))
        .or_else(|| named("USER"))
}

/// The user's folder for SSH, by what the environment says, or by the list of users.
pub(super) fn folder() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.or_else(|| entry()?.get(5).map(PathBuf::from)).map(|home| home.join(".ssh"))
}
