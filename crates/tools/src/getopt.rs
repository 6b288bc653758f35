//! Command lines as `getopt_long` reads them, over one table of flags.
//!
//! ```text
//! -abc  -ofile  -o file  --long  --long=value  --long value  --lo (a unique beginning)  operand  --  operand
//! ```
//!
//! Operands may stand among the flags ([`Operands::Anywhere`]) or end them ([`Operands::EndFlags`]); `--` ends the
//! flags in either case, and a lone `-` is an operand. The table also makes the help (see [`crate::usage`]), so a flag
//! is described in one place.

use thiserror::Error;

/// Whether a flag takes a value, and the name of that value in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A bare flag.
    Nothing,
    /// A flag with a value, which the help calls by this name.
    Value(&'static str),
}

/// One flag: what it is called, what it takes, what it does.
#[derive(Clone, Copy, Debug)]
pub struct Flag<I> {
    /// What the program calls it.
    pub id: I,
    /// The letter after one dash.
    pub short: Option<char>,
    /// The word after two dashes; more than one spelling may lead to the same `id`, as flags of their own.
    pub long: Option<&'static str>,
    /// Its value.
    pub takes: Takes,
    /// One sentence for the help; empty for a second spelling that the help leaves out.
    pub help: &'static str,
}

impl<I> Flag<I> {
    /// A flag that takes nothing.
    pub const fn bare(id: I, short: Option<char>, long: Option<&'static str>, help: &'static str) -> Flag<I> {
        Flag { id, short, long, takes: Takes::Nothing, help }
    }

    /// A flag that takes a value.
    pub const fn valued(
        id: I,
        short: Option<char>,
        long: Option<&'static str>,
        value: &'static str,
        help: &'static str,
    ) -> Flag<I> {
        Flag { id, short, long, takes: Takes::Value(value), help }
    }
}

/// Where operands may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// Among the flags.
    Anywhere,
    /// The first one ends the flags, and what follows is left as it is.
    EndFlags,
}

/// What a command line said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<I> {
    /// The flags in the order given, each with its value (empty if it takes none).
    pub flags: Vec<(I, String)>,
    /// What is no flag, in the order given.
    pub operands: Vec<String>,
}

impl<I: PartialEq> Parsed<I> {
    /// True if the flag was given.
    pub fn has(&self, id: I) -> bool {
        self.flags.iter().any(|(given, _)| *given == id)
    }
}

/// Why a command line cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OptError {
    /// `--word` names no flag.
    #[error("unrecognized option '--{0}'")]
    Unrecognized(String),
    /// `-x` names no flag.
    #[error("invalid option -- '{0}'")]
    Invalid(char),
    /// `--word` begins several flags.
    #[error("option '--{word}' is ambiguous; possibilities:{}", quoted(.possibilities))]
    Ambiguous {
        /// What was given.
        word: String,
        /// What it may have meant.
        possibilities: Vec<&'static str>,
    },
    /// `-x` wants a value.
    #[error("option requires an argument -- '{0}'")]
    ShortNeedsValue(char),
    /// `--word` wants a value.
    #[error("option '--{0}' requires an argument")]
    LongNeedsValue(&'static str),
    /// `--word=value`, but the flag takes none.
    #[error("option '--{0}' doesn't allow an argument")]
    TakesNoValue(&'static str),
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!(" '--{word}'")).collect()
}

/// Reads `args` (without the program's name) by the table.
pub fn parse<I: Copy + PartialEq>(
    table: &[Flag<I>],
    args: &[String],
    operands: Operands,
) -> Result<Parsed<I>, OptError> {
    let mut parsed = Parsed { flags: Vec::new(), operands: Vec::new() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            break;
        } else if let Some(word) = arg.strip_prefix("--") {
            parsed.flags.push(long(table, word, &mut rest)?);
        } else if let Some(cluster) = arg.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
            short(table, cluster, &mut rest, &mut parsed.flags)?;
        } else {
            parsed.operands.push(arg.clone());
            if operands == Operands::EndFlags {
                break;
            }
        }
    }
    parsed.operands.extend(rest.cloned());
    Ok(parsed)
}

fn long<'a, I: Copy + PartialEq>(
    table: &[Flag<I>],
    word: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(I, String), OptError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let (flag, name) = find_long(table, name)?;
    match (flag.takes, value) {
        (Takes::Nothing, None) => Ok((flag.id, String::new())),
        (Takes::Nothing, Some(_)) => Err(OptError::TakesNoValue(name)),
        (Takes::Value(_), Some(value)) => Ok((flag.id, value.to_owned())),
        (Takes::Value(_), None) => match rest.next() {
            Some(value) => Ok((flag.id, value.clone())),
            None => Err(OptError::LongNeedsValue(name)),
        },
    }
}

/// The flag called `name`, or the one that it is a unique beginning of, with its full name.
fn find_long<'t, I: Copy + PartialEq>(
    table: &'t [Flag<I>],
    name: &str,
) -> Result<(&'t Flag<I>, &'static str), OptError> {
    let named = || table.iter().filter_map(|flag| flag.long.map(|long| (flag, long)));
    if let Some(exact) = named().find(|(_, long)| *long == name) {
        return Ok(exact);
    }
    let candidates: Vec<_> = named().filter(|(_, long)| long.starts_with(name)).collect();
    match candidates.as_slice() {
        [] => Err(OptError::Unrecognized(name.to_owned())),
        [first, others @ ..] if others.iter().all(|other| other.0.id == first.0.id) => Ok(*first),
        several => Err(OptError::Ambiguous {
            word: name.to_owned(),
            possibilities: several.iter().map(|(_, long)| *long).collect(),
        }),
    }
}

fn short<'a, I: Copy>(
    table: &[Flag<I>],
    cluster: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    flags: &mut Vec<(I, String)>,
) -> Result<(), OptError> {
    let mut letters = cluster.chars();
    while let Some(letter) = letters.next() {
        let flag = table.iter().find(|flag| flag.short == Some(letter)).ok_or(OptError::Invalid(letter))?;
        if flag.takes == Takes::Nothing {
            flags.push((flag.id, String::new()));
            continue;
        }
        let value = match letters.as_str() {
            "" => rest.next().ok_or(OptError::ShortNeedsValue(letter))?.clone(),
            attached => attached.to_owned(),
        };
        flags.push((flag.id, value));
        break;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Id {
        Quiet,
        Format,
        Backing,
        BackingFormat,
    }

    const TABLE: &[Flag<Id>] = &[
        Flag::bare(Id::Quiet, Some('q'), Some("quiet"), "no output"),
        Flag::valued(Id::Format, Some('f'), Some("format"), "FMT", "format"),
        Flag::valued(Id::Format, None, Some("form-of-old"), "FMT", ""),
        Flag::valued(Id::Backing, Some('b'), Some("backing"), "FILE", "backing file"),
        Flag::valued(Id::BackingFormat, Some('F'), Some("backing-format"), "FMT", "its format"),
    ];

    fn read(line: &str, operands: Operands) -> Result<Parsed<Id>, OptError> {
        let args: Vec<String> = line.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
        parse(TABLE, &args, operands)
    }

    fn flags(line: &str) -> Vec<(Id, String)> {
        read(line, Operands::Anywhere).unwrap().flags
    }

    #[test]
    fn values_may_be_attached_or_stand_apart() {
        let want = vec![(Id::Format, "raw".to_owned())];
        for line in ["-f raw", "-fraw", "--format raw", "--format=raw", "--form raw", "--fo=raw"] {
            assert_eq!(flags(line), want, "{line}");
        }
        assert_eq!(flags("-qfraw"), vec![(Id::Quiet, String::new()), (Id::Format, "raw".into())]);
    }

    #[test]
    fn operands_stand_anywhere_until_two_dashes() {
        let parsed = read("a -q b - -- -f", Operands::Anywhere).unwrap();
        assert_eq!(parsed.operands, ["a", "b", "-", "-f"]);
        assert_eq!(parsed.flags.len(), 1);
    }

    #[test]
    fn the_first_operand_may_end_the_flags() {
        let parsed = read("-q create -f x", Operands::EndFlags).unwrap();
        assert_eq!(parsed.operands, ["create", "-f", "x"]);
    }

    #[test]
    fn a_beginning_must_be_unique_and_an_exact_name_always_is() {
        assert_eq!(flags("--backing x")[0].0, Id::Backing);
        let error = read("--back x", Operands::Anywhere).unwrap_err();
        assert_eq!(
            error.to_string(),
            "option '--back' is ambiguous; possibilities: '--backing' '--backing-format'"
        );
        assert_eq!(flags("--f x")[0].0, Id::Format, "two spellings of one flag are no ambiguity");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, text) in [
            ("--foo", "unrecognized option '--foo'"),
            ("--foo=3", "unrecognized option '--foo'"),
            ("-qZ", "invalid option -- 'Z'"),
            ("-f", "option requires an argument -- 'f'"),
            ("--format", "option '--format' requires an argument"),
            ("--quiet=1", "option '--quiet' doesn't allow an argument"),
        ] {
            assert_eq!(read(line, Operands::Anywhere).unwrap_err().to_string(), text);
        }
    }
}
