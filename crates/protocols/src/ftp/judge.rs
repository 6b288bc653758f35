//! What FTP servers say, as programs that test its reader drive it: on bytes of their own.

use super::reply::Replies;

/// Reads all that a server says, `piece` bytes at a time: each reply with what it may tell (a size, ports, features), and what is wrong
/// at last.
pub fn judge_replies(bytes: &[u8], piece: usize) -> Vec<String> {
    let (mut replies, mut all) = (Replies::default(), Vec::new());
    for part in bytes.chunks(piece.max(1)) {
        replies.push(part);
        loop {
            match replies.next() {
                Ok(None) => break,
                Ok(Some(reply)) => {
                    let ports = (reply.extended_port(), reply.passive_port());
                    let shown = reply.to_string();
                    assert!(shown.chars().count() <= 300 && !shown.contains(char::is_control), "{shown}");
                    all.push(format!("{shown} {:?} {ports:?} {}", reply.size(), reply.lists("UTF8")));
                }
                Err(error) => {
                    all.push(error.to_string());
                    return all;
                }
            }
        }
    }
    all
}
