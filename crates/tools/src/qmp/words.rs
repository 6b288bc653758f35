//! A line as words: blanks part them, quotes and JSON hold them together.
//!
//! ```text
//! blockdev-add driver=raw file='{"driver": "file"}' note="two words"
//! blockdev-add driver=raw file={"driver": "file", "filename": "a b"}
//! ```
//!
//! In '…' everything stands for itself; in "…" and outside of quotes a backslash takes the meaning of what follows it.
//! A value that begins with `{` or `[` goes on to where that closes, with its own quotes in it.

/// Why a line is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfinished {
    /// A quote is open.
    #[error("a quote is not closed")]
    Quote,
    /// `{` or `[` is open.
    #[error("'{{' or '[' is not closed")]
    Json,
}

/// Parts a line.
pub(super) fn split(line: &str) -> Result<Vec<String>, Unfinished> {
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.peek().is_none() {
            return Ok(words);
        }
        words.push(word(&mut letters)?);
    }
}

type Letters<'l> = std::iter::Peekable<std::str::Chars<'l>>;

fn word(letters: &mut Letters<'_>) -> Result<String, Unfinished> {
    let mut word = String::new();
    while let Some(letter) = letters.next_if(|letter| !letter.is_whitespace()) {
        match letter {
            '\'' => loop {
                match letters.next().ok_or(Unfinished::Quote)? {
                    '\'' => break,
                    letter => word.push(letter),
                }
            },
            '"' => loop {
                match letters.next().ok_or(Unfinished::Quote)? {
                    '"' => break,
                    '\\' => word.push(letters.next().ok_or(Unfinished::Quote)?),
                    letter => word.push(letter),
                }
            },
            '\\' => word.extend(letters.next()),
            '{' | '[' if word.is_empty() || word.ends_with('=') => json(letter, letters, &mut word)?,
            letter => word.push(letter),
        }
    }
    Ok(word)
}

/// JSON as it stands, to where it closes.
fn json(first: char, letters: &mut Letters<'_>, word: &mut String) -> Result<(), Unfinished> {
    word.push(first);
    let (mut open, mut quote) = (1_usize, None);
    while open > 0 {
        let letter = letters.next().ok_or(Unfinished::Json)?;
        word.push(letter);
        match (quote, letter) {
            (Some(_), '\\') => word.extend(letters.next()),
            (Some(end), letter) if letter == end => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '{' | '[') => open += 1,
            (None, '}' | ']') => open -= 1,
            (None, _) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_part_words_and_quotes_and_json_hold_them_together() {
        for (line, want) in [
            ("  a  b=c ", vec!["a", "b=c"]),
            (r#"a b="c d" e='f "g"'"#, vec!["a", "b=c d", "e=f \"g\""]),
            (r#"a {"b": "c } d"} e"#, vec!["a", r#"{"b": "c } d"}"#, "e"]),
            (r#"a b=[1, {"x": '\'}'}]"#, vec!["a", r#"b=[1, {"x": '\'}'}]"#]),
            (r"a b=c\ d e{f", vec!["a", "b=c d", "e{f"]),
            ("", vec![]),
        ] {
            assert_eq!(split(line).unwrap(), want, "{line}");
        }
        assert_eq!(split("a 'b"), Err(Unfinished::Quote));
        assert_eq!(split("a b={\"c\": \"}\""), Err(Unfinished::Json));
    }
}
