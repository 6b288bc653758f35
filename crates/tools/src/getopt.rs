//! Command lines as `getopt_long` reads them, over one table of flags.
//!
//! ```text
//! -abc  -ofile  -o file  --long  --long=value  --long value  --lo (a unique beginning)  operand  --  operand
//! ```
//!
//! Operands may stand among the flags ([`Operands::Anywhere`]) or end them ([`Operands::EndFlags`]); `--` ends the
//! flags in either case, and a lone `-` is an operand.
//!
//! A flag is one row: its names, whether it takes a value, its line in the help (see [`crate::usage`]), and its setter,
//! which changes the settings of its command. So none can be read and then forgotten: one that shall change nothing says
//! so ([`Flag::ignored`]), with the reason. Rows that several commands share are written once, in [`crate::flags`].
//!
//! Written by hand: scripts rely on the rules of `getopt_long` (beginnings of long names, values that are attached, what
//! an error says), which argument parsers of this language do not have.

use crate::failure::Failure;
use thiserror::Error;

/// The flags of one command whose settings are an `S`: groups of rows, in the order of the help.
pub type Table<S> = &'static [&'static [Flag<S>]];

/// One flag of a command whose settings are an `S`.
#[derive(Debug)]
pub struct Flag<S> {
    /// All spellings, with blanks between them: `-q --quiet`. The help shows the first of each kind.
    pub names: &'static str,
    /// What the help calls its value, if it takes one.
    pub value: Option<&'static str>,
    /// One sentence for the help; empty for a flag that the help leaves out.
    pub help: &'static str,
    /// What it does.
    pub effect: Effect<S>,
}

/// What a flag does.
#[derive(Debug)]
pub enum Effect<S> {
    /// Prints the help, and nothing else is done.
    Help,
    /// Prints the version, and nothing else is done.
    Version,
    /// Changes a setting.
    Set(fn(&mut S)),
    /// Changes a setting, or refuses to.
    Try(fn(&mut S) -> Result<(), Failure>),
    /// Changes a setting as its value says.
    Take(fn(&mut S, &str) -> Result<(), Failure>),
    /// Changes nothing, for this reason.
    Ignore(&'static str),
    /// Is refused with these words.
    Refuse(&'static str),
}

impl<S> Flag<S> {
    const fn new(names: &'static str, help: &'static str, effect: Effect<S>) -> Flag<S> {
        Flag { names, value: None, help, effect }
    }

    /// `-h --help`.
    pub const fn help() -> Flag<S> {
        Flag::new("-h --help", "print this help", Effect::Help)
    }

    /// `-V --version`.
    pub const fn version() -> Flag<S> {
        Flag::new("-V --version", "print the version", Effect::Version)
    }

    /// A flag without a value.
    pub const fn set(names: &'static str, help: &'static str, set: fn(&mut S)) -> Flag<S> {
        Flag::new(names, help, Effect::Set(set))
    }

    /// A flag without a value that may be refused.
    pub const fn attempt(
        names: &'static str,
        help: &'static str,
        set: fn(&mut S) -> Result<(), Failure>,
    ) -> Flag<S> {
        Flag::new(names, help, Effect::Try(set))
    }

    /// A flag with a value, which the help calls `value`.
    pub const fn take(
        names: &'static str,
        value: &'static str,
        help: &'static str,
        set: fn(&mut S, &str) -> Result<(), Failure>,
    ) -> Flag<S> {
        Flag { names, value: Some(value), help, effect: Effect::Take(set) }
    }

    /// A flag without a value that is read and changes nothing; `why` says why that is right.
    pub const fn ignored(names: &'static str, help: &'static str, why: &'static str) -> Flag<S> {
        Flag::new(names, help, Effect::Ignore(why))
    }

    /// A flag that is known and refused: what it is for is not here. The help may leave it out.
    pub const fn refused(
        names: &'static str,
        value: Option<&'static str>,
        help: &'static str,
        why: &'static str,
    ) -> Flag<S> {
        Flag { names, value, help, effect: Effect::Refuse(why) }
    }

    /// The letters that it is called by.
    pub fn shorts(&self) -> impl Iterator<Item = char> {
        self.names.split(' ').filter(|name| !name.starts_with("--")).filter_map(|name| name.chars().nth(1))
    }

    /// The words that it is called by, without their dashes.
    pub fn longs(&self) -> impl Iterator<Item = &'static str> + use<S> {
        self.names.split(' ').filter_map(|name| name.strip_prefix("--"))
    }

    fn apply(&self, settings: &mut S, value: &str) -> Result<(), Failure> {
        match self.effect {
            Effect::Set(set) => {
                set(settings);
                Ok(())
            }
            Effect::Try(set) => set(settings),
            Effect::Take(set) => set(settings, value),
            Effect::Refuse(why) => Err(Failure::new(why)),
            Effect::Help | Effect::Version | Effect::Ignore(_) => Ok(()),
        }
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
#[derive(Debug)]
pub struct Parsed<S: 'static> {
    /// The flags in the order given, each with its value (empty if it takes none).
    pub flags: Vec<(&'static Flag<S>, String)>,
    /// What is no flag, in the order given.
    pub operands: Vec<String>,
}

/// What a command line asks for.
pub enum Asked<S> {
    /// To work, with these settings and operands.
    Work(S, Vec<String>),
    /// Only for help.
    Help,
    /// Only for the version.
    Version,
}

impl<S: 'static> Parsed<S> {
    /// Lets each flag change the settings, in the order given.
    pub fn apply(&self, settings: &mut S) -> Result<(), Failure> {
        self.flags.iter().try_for_each(|(flag, value)| flag.apply(settings, value))
    }

    /// What is asked for, when `settings` are those of a command line without a flag. Help and version go before everything
    /// else, even before what would be refused.
    pub fn asked(self, mut settings: S) -> Result<Asked<S>, Failure> {
        for (flag, _) in &self.flags {
            match flag.effect {
                Effect::Help => return Ok(Asked::Help),
                Effect::Version => return Ok(Asked::Version),
                _ => {}
            }
        }
        self.apply(&mut settings)?;
        Ok(Asked::Work(settings, self.operands))
    }
}

/// Reads a command line: [`parse`], then [`Parsed::asked`].
pub fn read<S>(
    table: Table<S>,
    args: &[String],
    operands: Operands,
    settings: S,
) -> Result<Asked<S>, Failure> {
    parse(table, args, operands).map_err(Failure::usage)?.asked(settings)
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

/// All rows of a table.
pub fn rows<S>(table: Table<S>) -> impl Iterator<Item = &'static Flag<S>> {
    table.iter().copied().flatten()
}

/// Reads `args` (without the program's name) by the table.
pub fn parse<S>(table: Table<S>, args: &[String], operands: Operands) -> Result<Parsed<S>, OptError> {
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

fn long<'a, S>(
    table: Table<S>,
    word: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(&'static Flag<S>, String), OptError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let (flag, name) = find_long(table, name)?;
    match (flag.value, value) {
        (None, None) => Ok((flag, String::new())),
        (None, Some(_)) => Err(OptError::TakesNoValue(name)),
        (Some(_), Some(value)) => Ok((flag, value.to_owned())),
        (Some(_), None) => match rest.next() {
            Some(value) => Ok((flag, value.clone())),
            None => Err(OptError::LongNeedsValue(name)),
        },
    }
}

/// The flag called `name`, or the one that it is a unique beginning of, with its full name.
fn find_long<S>(table: Table<S>, name: &str) -> Result<(&'static Flag<S>, &'static str), OptError> {
    let named = || rows(table).flat_map(|flag| flag.longs().map(move |long| (flag, long)));
    if let Some(exact) = named().find(|(_, long)| *long == name) {
        return Ok(exact);
    }
    let candidates: Vec<_> = named().filter(|(_, long)| long.starts_with(name)).collect();
    match candidates.as_slice() {
        [] => Err(OptError::Unrecognized(name.to_owned())),
        [first, others @ ..] if others.iter().all(|other| std::ptr::eq(other.0, first.0)) => Ok(*first),
        several => Err(OptError::Ambiguous {
            word: name.to_owned(),
            possibilities: several.iter().map(|(_, long)| *long).collect(),
        }),
    }
}

fn short<'a, S>(
    table: Table<S>,
    cluster: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    flags: &mut Vec<(&'static Flag<S>, String)>,
) -> Result<(), OptError> {
    let mut letters = cluster.chars();
    while let Some(letter) = letters.next() {
        let flag = rows(table).find(|flag| flag.shorts().any(|short| short == letter));
        let flag = flag.ok_or(OptError::Invalid(letter))?;
        if flag.value.is_none() {
            flags.push((flag, String::new()));
            continue;
        }
        let value = match letters.as_str() {
            "" => rest.next().ok_or(OptError::ShortNeedsValue(letter))?.clone(),
            attached => attached.to_owned(),
        };
        flags.push((flag, value));
        break;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fmt::Debug;

    /// Fails where a flag of the table changes nothing in the settings, though it is not among those that the table
    /// ignores or refuses, or `elsewhere` names as taking effect outside of them. `values` gives each flag a value that
    /// is not what the settings begin with.
    pub fn each_flag_changes_the_settings<S: Debug>(
        table: Table<S>,
        begin: fn() -> S,
        values: &[(&str, &str)],
        elsewhere: &[&str],
    ) {
        let before = format!("{:?}", begin());
        for flag in rows(table) {
            let name = flag.names.split(' ').next().unwrap();
            let value = values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
            assert!(!matches!(flag.effect, Effect::Take(_)) || !value.is_empty(), "{name}: no value to try");
            let mut settings = begin();
            let applied = flag.apply(&mut settings, value);
            match flag.effect {
                Effect::Refuse(why) => assert!(applied.is_err() && !why.is_empty(), "{name}"),
                Effect::Ignore(why) => assert!(!why.is_empty(), "{name}"),
                Effect::Help | Effect::Version => {}
                _ if elsewhere.contains(&name) => {}
                _ => {
                    applied.unwrap_or_else(|failure| panic!("{name} {value}: {}", failure.message()));
                    assert_ne!(format!("{settings:?}"), before, "{name} {value} changes nothing");
                }
            }
        }
    }

    /// Fails where two flags of a table share a spelling, or one has none.
    pub fn names_are_unique<S>(table: Table<S>) {
        let mut names: Vec<_> = rows(table).flat_map(|flag| flag.names.split(' ')).collect();
        assert!(
            names.iter().all(|name| name.len() == 2 && !name.ends_with('-') || name.len() > 3),
            "{names:?}"
        );
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{names:?}");
    }

    #[derive(Debug, Default, PartialEq)]
    struct Settings {
        quiet: bool,
        format: String,
        backing: String,
        backing_format: String,
    }

    fn store(place: &mut String, value: &str) -> Result<(), Failure> {
        value.clone_into(place);
        Ok(())
    }

    const TABLE: Table<Settings> = &[
        &[Flag::help(), Flag::set("-q --quiet", "no output", |s| s.quiet = true)],
        &[
            Flag::take("-f --format --form-of-old", "FMT", "format", |s, v| store(&mut s.format, v)),
            Flag::take("-b --backing", "FILE", "backing file", |s, v| store(&mut s.backing, v)),
            Flag::take("-F --backing-format", "FMT", "its format", |s, v| store(&mut s.backing_format, v)),
            Flag::ignored("-i", "", "there is nothing to ignore"),
            Flag::refused("-x", None, "", "not here"),
        ],
    ];

    fn words(line: &str) -> Vec<String> {
        line.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect()
    }

    fn parsed(line: &str, operands: Operands) -> Result<Parsed<Settings>, OptError> {
        parse(TABLE, &words(line), operands)
    }

    fn settings(line: &str) -> Settings {
        match read(TABLE, &words(line), Operands::Anywhere, Settings::default()) {
            Ok(Asked::Work(settings, _)) => settings,
            _ => panic!("{line}"),
        }
    }

    #[test]
    fn values_may_be_attached_or_stand_apart() {
        for line in ["-f raw", "-fraw", "--format raw", "--format=raw", "--form raw", "--fo=raw"] {
            assert_eq!(settings(line), Settings { format: "raw".into(), ..Settings::default() }, "{line}");
        }
        let both = Settings { quiet: true, format: "raw".into(), ..Settings::default() };
        assert_eq!(settings("-qfraw"), both);
    }

    #[test]
    fn of_several_values_the_last_one_counts() {
        assert_eq!(settings("-f raw -f qcow2").format, "qcow2");
    }

    #[test]
    fn operands_stand_anywhere_until_two_dashes() {
        let parsed = parsed("a -q b - -- -f", Operands::Anywhere).unwrap();
        assert_eq!(parsed.operands, ["a", "b", "-", "-f"]);
        assert_eq!(parsed.flags.len(), 1);
    }

    #[test]
    fn the_first_operand_may_end_the_flags() {
        let parsed = parsed("-q create -f x", Operands::EndFlags).unwrap();
        assert_eq!(parsed.operands, ["create", "-f", "x"]);
    }

    #[test]
    fn a_beginning_must_be_unique_and_an_exact_name_always_is() {
        assert_eq!(settings("--backing x").backing, "x");
        let error = parsed("--back x", Operands::Anywhere).unwrap_err();
        assert_eq!(
            error.to_string(),
            "option '--back' is ambiguous; possibilities: '--backing' '--backing-format'"
        );
        assert_eq!(settings("--f x").format, "x", "two spellings of one flag are no ambiguity");
    }

    #[test]
    fn help_goes_before_what_is_refused_and_what_is_refused_before_work() {
        let asked = |line: &str| read(TABLE, &words(line), Operands::Anywhere, Settings::default());
        assert!(matches!(asked("-x --help"), Ok(Asked::Help)));
        assert_eq!(asked("-x").err().unwrap().message(), "not here");
        assert_eq!(settings("-i"), Settings::default());
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
            assert_eq!(parsed(line, Operands::Anywhere).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn a_flag_that_changes_nothing_is_found_out() {
        const FORGOTTEN: Table<Settings> = &[&[Flag::take("-f", "FMT", "", |_, _| Ok(()))]];
        let check = || each_flag_changes_the_settings(FORGOTTEN, Settings::default, &[("-f", "x")], &[]);
        assert!(std::panic::catch_unwind(check).is_err());
        let values = [("-f", "x"), ("-b", "y"), ("-F", "z")];
        each_flag_changes_the_settings(TABLE, Settings::default, &values, &[]);
        names_are_unique(TABLE);
    }
}
