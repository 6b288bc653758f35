//! What the filter is told: by options, by a file name, and by a file of rules.
//!
//! ```text
//! blkdebug:RULES:FILE           RULES may be empty
//!
//! [inject-error]                a file of rules: sections, each a rule
//! event = "read_aio"
//! errno = "5"
//! ```
use api::{BlkdebugInjectErrorOptions, BlkdebugOptions, BlkdebugSetStateOptions, Encode};
use block::{BlockError, DriverKind, Opt, Options, Result};

/// The name of the option in which a file name's image is kept until it is known how the image is opened.
const IMAGE_NAME: &str = "x-image";

/// `blkdebug:RULES:FILE`; a name without the prefix is the image's.
pub fn parse_filename(name: &str) -> Result<Options> {
    let Some(rest) = name.strip_prefix("blkdebug:") else {
        return Ok(Options::new().with_str(IMAGE_NAME, name));
    };
    let Some((config, image)) = rest.split_once(':') else {
        return Err(BlockError::invalid(format!("'{name}' names no image: it must be blkdebug:RULES:FILE")));
    };
    let options = Options::new().with_str(IMAGE_NAME, image);
    Ok(if config.is_empty() { options } else { options.with_str("config", config) })
}

/// Older spellings of events, a rule that is not in a list, and the image of a file name.
pub fn adapt(options: &mut Options) -> Result<()> {
    for name in ["inject-error", "set-state"] {
        if let Some(rules) = options.take(name) {
            options.set(name, Opt::List(listed(rules).into_iter().map(with_event).collect()));
        }
    }
    if let Some(name) = options.take_str("filename")? {
        for (name, value) in parse_filename(&name)?.iter() {
            options.set(name, value.clone());
        }
    }
    let Some(filename) = options.take_str(IMAGE_NAME)? else { return Ok(()) };
    let image = options.take_dict("image")?.unwrap_or_default().nested();
    let driver = image.get_str("driver");
    let protocol =
        |name: &str| crate::DRIVERS.iter().any(|d| d.name == name && d.kind == DriverKind::Protocol);
    let image = if driver.is_none_or(protocol) {
        image.with_str("filename", &filename)
    } else {
        let mut image = image;
        let file = image.take_dict("file")?.unwrap_or_default().with_str("filename", &filename);
        image.with("file", Opt::Dict(file))
    };
    options.set("image", Opt::Dict(image));
    Ok(())
}

fn listed(rules: Opt) -> Vec<Opt> {
    match rules {
        Opt::List(rules) => rules,
        Opt::Dict(rules) => {
            let rules = rules.nested();
            if rules.iter().all(|(name, _)| name.parse::<u32>().is_ok()) {
                rules.iter().map(|(_, rule)| rule.clone()).collect()
            } else {
                vec![Opt::Dict(rules)]
            }
        }
        other => vec![other],
    }
}

/// Events were once written with a dot.
fn with_event(rule: Opt) -> Opt {
    let Opt::Dict(mut rule) = rule else { return rule };
    if let Some(event) = rule.get_str("event") {
        let event = event.replace('.', "_");
        rule.set("event", Opt::Str(event));
    }
    Opt::Dict(rule)
}

/// The options that were given, those of each rule by names of their own.
pub fn describe(given: &BlkdebugOptions) -> Options {
    let Ok(Opt::Dict(given)) = Opt::try_from(given.encode()) else { return Options::new() };
    let mut all = Options::new();
    for (name, value) in given.iter() {
        let Opt::List(items) = value else {
            all.set(name, value.clone());
            continue;
        };
        for (number, item) in items.iter().enumerate() {
            let place = format!("{name}.{number}");
            match item {
                Opt::Dict(rule) => {
                    rule.iter()
                        .for_each(|(option, value)| all.set(format!("{place}.{option}"), value.clone()));
                }
                _ => all.set(place, item.clone()),
            }
        }
    }
    all
}

/// The rules of a file.
#[derive(Debug, Default, PartialEq)]
pub struct Rules {
    /// Those that fail requests.
    pub faults: Vec<BlkdebugInjectErrorOptions>,
    /// Those that change the state.
    pub changes: Vec<BlkdebugSetStateOptions>,
}

/// Reads a file of rules; `name` is for messages.
pub fn parse_rules(name: &str, text: &str) -> Result<Rules> {
    let mut sections: Vec<(usize, &str, Options)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let wrong = |what: &str| BlockError::invalid(format!("'{name}', line {number}: {what}"));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.push((number, section.split_whitespace().next().unwrap_or_default(), Options::new()));
            continue;
        }
        let value = line.split_once('=').and_then(|(key, value)| {
            let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
            Some((key.trim(), value))
        });
        let (key, value) = value.ok_or_else(|| wrong("neither [SECTION] nor KEY = \"VALUE\""))?;
        let (.., options) = sections.last_mut().ok_or_else(|| wrong("it is in no section"))?;
        options.set(key, Opt::Str(value.to_owned()));
    }
    let mut rules = Rules::default();
    for (number, section, options) in sections {
        let told = |e: BlockError| e.context(format_args!("'{name}', line {number}"));
        let Opt::Dict(options) = with_event(Opt::Dict(options)) else { continue };
        match section {
            "inject-error" => rules.faults.push(options.read().map_err(told)?),
            "set-state" => rules.changes.push(options.read().map_err(told)?),
            _ => {
                let text = format!("'{name}', line {number}: there is no section '{section}' of rules");
                return Err(BlockError::invalid(text));
            }
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{BlkdebugEvent, Enumeration};

    #[test]
    fn a_file_of_rules_is_read_with_both_spellings_of_events() {
        let text = "# one\n[inject-error]\nevent = \"l1_grow.alloc_table\"\nonce =\"on\"\n\n[set-state]\nevent = \"read_aio\"\nstate = \"1\"\nnew_state = \"2\"\n";
        let rules = parse_rules("f", text).unwrap();
        assert_eq!(rules.faults[0].event, BlkdebugEvent::L1GrowAllocTable);
        assert_eq!(rules.faults[0].once, Some(true));
        assert_eq!((rules.changes[0].state, rules.changes[0].new_state), (Some(1), 2));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_line() {
        for (text, why) in [
            ("event = \"x\"", "line 1: it is in no section"),
            ("[inject-error]\nevent", "line 2"),
            ("[other]\n", "section 'other'"),
            ("[inject-error]\nevent = \"no\"", "line 1"),
        ] {
            let told = parse_rules("f", text).unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn every_event_may_be_written_with_dots() {
        for (name, _) in BlkdebugEvent::VALUES {
            let dotted = Opt::Dict(Options::new().with_str("event", &name.replace('_', ".")));
            assert_eq!(with_event(dotted), Opt::Dict(Options::new().with_str("event", name)));
        }
    }

    #[test]
    fn a_file_name_leads_to_the_image_in_whichever_format() {
        let named = parse_filename("blkdebug:c:/a:b").unwrap();
        assert_eq!(named, Options::new().with_str(IMAGE_NAME, "/a:b").with_str("config", "c"));
        let mut raw = parse_filename("blkdebug::/a").unwrap();
        adapt(&mut raw).unwrap();
        assert_eq!(raw, Options::new().with("image", Opt::Dict(Options::new().with_str("filename", "/a"))));
        let mut qcow2 = parse_filename("/a")
            .unwrap()
            .with("image", Opt::Dict(Options::new().with_str("driver", "qcow2")));
        adapt(&mut qcow2).unwrap();
        let Some(Opt::Dict(image)) = qcow2.get("image") else { panic!() };
        assert_eq!(image.get("file"), Some(&Opt::Dict(Options::new().with_str("filename", "/a"))));
        assert!(parse_filename("blkdebug:/a").is_err());
    }
}
