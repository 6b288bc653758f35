//! Lines of commands: words, quoted ones, switches.

use thiserror::Error;

/// Why a line can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    /// A quote is open.
    #[error("unterminated string")]
    Open,
    /// A letter after a backslash means nothing.
    #[error("unsupported escape code: '\\{0}'")]
    Escape(char),
    /// A word is missing.
    #[error("'{0}' is missing")]
    Missing(&'static str),
    /// There is no such switch.
    #[error("unsupported option '-{0}'")]
    Switch(String),
    /// There are more words than the command takes.
    #[error("extraneous characters at the end of line")]
    TooMany,
}

/// The words of a line; a double quote begins a word that ends with the next one.
pub fn split(line: &str) -> Result<Vec<String>, LineError> {
    let (mut words, mut rest) = (Vec::new(), line.trim_start());
    while let Some(first) = rest.chars().next() {
        let (word, after) = if first == '"' { quoted(&rest[1..])? } else { plain(rest) };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

fn plain(text: &str) -> (String, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word.to_owned(), rest)
}

fn quoted(text: &str) -> Result<(String, &str), LineError> {
    let mut word = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((word, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next().ok_or(LineError::Open)?.1 {
                'n' => word.push('\n'),
                'r' => word.push('\r'),
                c @ ('\\' | '\'' | '"') => word.push(c),
                other => return Err(LineError::Escape(other)),
            },
            c => word.push(c),
        }
    }
    Err(LineError::Open)
}

/// The words of a command by their names, with its switches.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    switches: Vec<char>,
    named: Vec<(&'static str, String)>,
}

impl Words {
    /// Gives words their names. `synopsis` says which there are: `[-f] device [target [format]]`; the last one takes what is left of the
    /// line if it ends with `…`.
    pub fn by(synopsis: &'static str, words: &[String]) -> Result<Words, LineError> {
        let mut rest = words.iter();
        let mut taken = Words::default();
        let known: Vec<char> = synopsis.split_whitespace().filter_map(switch).collect();
        taken.switches(&mut rest, &known)?;
        for name in synopsis.split_whitespace().filter(|name| switch(name).is_none()) {
            let needed = !name.starts_with('[');
            let name = name.trim_matches(['[', ']']);
            let (name, all) = name.strip_suffix('…').map_or((name, false), |name| (name, true));
            match rest.next() {
                Some(word) if all => {
                    let left = rest.by_ref().fold(word.clone(), |text, word| format!("{text} {word}"));
                    taken.named.push((name, left));
                }
                Some(word) => taken.named.push((name, word.clone())),
                None if needed => return Err(LineError::Missing(name)),
                None => {}
            }
            let whole = synopsis.ends_with('…');
            if !whole {
                taken.switches(&mut rest, &known)?;
            }
        }
        if rest.next().is_some() { Err(LineError::TooMany) } else { Ok(taken) }
    }

    /// Takes the switches that come next.
    fn switches(&mut self, rest: &mut std::slice::Iter<'_, String>, known: &[char]) -> Result<(), LineError> {
        while let Some(word) = rest.as_slice().first().filter(|word| is_switch(word)) {
            for letter in word.chars().skip(1) {
                if !known.contains(&letter) {
                    return Err(LineError::Switch(word.trim_start_matches('-').to_owned()));
                }
                self.switches.push(letter);
            }
            rest.next();
        }
        Ok(())
    }

    /// The word of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(other, _)| *other == name).map(|(_, word)| word.as_str())
    }

    /// Whether a switch is given.
    pub fn has(&self, letter: char) -> bool {
        self.switches.contains(&letter)
    }
}

/// The letter of a switch in a synopsis.
fn switch(word: &str) -> Option<char> {
    word.trim_matches(['[', ']']).strip_prefix('-')?.chars().next()
}

fn is_switch(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap_or_default()
    }

    #[test]
    fn words_are_split_and_named() {
        assert_eq!(words(r#"qemu-io d0 "read -P 0x5 0 64k" "#), ["qemu-io", "d0", "read -P 0x5 0 64k"]);
        assert_eq!(words(r#"x "a\"b\\""#), ["x", r#"a"b\"#]);
        assert_eq!(split(r#"x "a"#), Err(LineError::Open));
        assert_eq!(split(r#"x "\q""#), Err(LineError::Escape('q')));
        let eject = |line: &str| Words::by("[-f] device [target]", &words(line));
        let given = eject("-f cd0").unwrap();
        assert_eq!((given.has('f'), given.get("device"), given.get("target")), (true, Some("cd0"), None));
        assert!(eject("cd0 -f").unwrap().has('f'));
        assert_eq!(eject(""), Err(LineError::Missing("device")));
        assert_eq!(eject("-x cd0"), Err(LineError::Switch("x".to_owned())));
        assert_eq!(eject("a b c"), Err(LineError::TooMany));
        let all = Words::by("device command…", &words("d0 read 0 4k")).unwrap();
        assert_eq!(all.get("command"), Some("read 0 4k"));
    }
}
