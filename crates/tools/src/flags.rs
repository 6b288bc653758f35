//! Flags that several commands share, each written once.
//!
//! A group is joined into the table of a command whose settings have the part that it sets (`has_parts!`):
//! `&source("format of the image")`. Names and words of a row are its caller's where commands differ in them.

use crate::cache::{self, Cache};
use crate::creation::OptionList;
use crate::failure::Failure;
use crate::getopt::Flag;
use crate::image::{self, Source};
use crate::{object, trace};
use api::{Enumeration, PreallocMode};

/// Says which fields of a command's settings the shared flags set.
macro_rules! has_parts {
    ($settings:ty { $($field:ident: $part:ty),+ $(,)? }) => {
        $(impl AsMut<$part> for $settings {
            fn as_mut(&mut self) -> &mut $part {
                &mut self.$field
            }
        })+
    };
}
pub(crate) use has_parts;

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// For people.
    #[default]
    Human,
    /// For scripts.
    Json,
}

/// How much a command says while it works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verbosity {
    /// Nothing but errors.
    pub quiet: bool,
    /// How far it is.
    pub progress: bool,
}

impl Verbosity {
    /// Whether to show how far it is: quiet goes before progress.
    pub fn shows_progress(self) -> bool {
        self.progress && !self.quiet
    }
}

/// What a new image is to be.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Its format, if one was given.
    pub format: Option<String>,
    /// Its `-o` options.
    pub options: OptionList,
}

impl Target {
    /// Its format; the plain one where none was given.
    pub fn format(&self) -> &str {
        self.format.as_deref().unwrap_or_else(|| image::plain_format())
    }
}

/// The backing file of a new image, or of a changed one.
#[derive(Clone, Debug, Default)]
pub struct Backing {
    /// Its name, if one was given.
    pub name: Option<String>,
    /// Its format, if one was given.
    pub format: Option<String>,
}

/// `-q --quiet`.
pub const fn quiet<S: AsMut<Verbosity>>() -> Flag<S> {
    Flag::set("-q --quiet", "print nothing but errors", |s| s.as_mut().quiet = true)
}

/// `-p --progress`.
pub const fn progress<S: AsMut<Verbosity>>() -> Flag<S> {
    Flag::set("-p --progress", "show how far it is", |s| s.as_mut().progress = true)
}

/// `--output human|json`.
pub const fn output<S: AsMut<Output>>() -> Flag<S> {
    Flag::take("--output", "human|json", "how to print (human)", |s, word| {
        *s.as_mut() = match word {
            "human" => Output::Human,
            "json" => Output::Json,
            other => {
                return Err(Failure::usage(format_args!("--output expects 'human' or 'json' not '{other}'")));
            }
        };
        Ok(())
    })
}

/// The format of a source.
pub const fn format<S: AsMut<Source>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::take(names, "FMT", help, |s, format| {
        s.as_mut().format = Some(format.to_owned());
        Ok(())
    })
}

/// The name of a source is a list of options.
pub const fn image_opts<S: AsMut<Source>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::set(names, help, |s| s.as_mut().image_opts = true)
}

/// What the image called FILE is: `-f --format` and `--image-opts`.
pub const fn source<S: AsMut<Source>>(format_help: &'static str) -> [Flag<S>; 2] {
    [format("-f --format", format_help), image_opts("--image-opts", "FILE is a list of options, not a name")]
}

/// The help of `-f` for most commands.
pub const FORMAT_OF_THE_IMAGE: &str = "format of the image; found by its content if left out";

/// `-U --force-share`.
pub const fn force_share<S: AsMut<Source>>(help: &'static str) -> Flag<S> {
    Flag::set("-U --force-share", help, |s| s.as_mut().force_share = true)
}

/// The internal snapshot that is read instead of the disk.
pub const fn snapshot<S: AsMut<Source>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::take(names, "SNAPSHOT", help, |s, text| {
        s.as_mut().snapshot = Some(image::snapshot_name(text)?);
        Ok(())
    })
}

/// The cache mode of an image.
pub const fn cache<S: AsMut<Source>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::take(names, cache::MODES, help, |s, mode| {
        s.as_mut().cache = Cache::parse(mode).map_err(Failure::new)?;
        Ok(())
    })
}

/// The cache mode of an image that is read.
pub const fn source_cache<S: AsMut<Source>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::take(names, cache::MODES, help, |s, mode| {
        s.as_mut().cache = read_source_cache(mode)?;
        Ok(())
    })
}

/// Reads the cache mode of an image that is read.
pub fn read_source_cache(mode: &str) -> Result<Cache, Failure> {
    Cache::parse_for("Invalid source cache option", mode).map_err(Failure::new)
}

/// The page cache is passed by.
pub const fn no_cache<S: AsMut<Source>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::set(names, help, |s| s.as_mut().cache = Cache::NONE)
}

/// How requests reach the kernel.
pub const fn aio<S: AsMut<Source>>(names: &'static str) -> Flag<S> {
    Flag::take(names, "threads|native|io_uring", "how requests reach the kernel", |s, mode| {
        s.as_mut().aio = Some(cache::parse_aio(mode).map_err(Failure::new)?);
        Ok(())
    })
}

/// The same as `-i native`.
pub const fn native_aio<S: AsMut<Source>>(names: &'static str) -> Flag<S> {
    Flag::set(names, "as -i native", |s| s.as_mut().aio = Some("native"))
}

/// Whether a discard gives space back.
pub const fn discard<S: AsMut<Source>>(names: &'static str) -> Flag<S> {
    Flag::take(names, "ignore|unmap", "what becomes of discards", |s, mode| {
        s.as_mut().discard = cache::parse_discard(mode).map_err(Failure::new)?;
        Ok(())
    })
}

/// Nothing is written.
pub const fn read_only<S: AsMut<Source>>(help: &'static str) -> Flag<S> {
    Flag::set("-r --read-only", help, |s| s.as_mut().writable = false)
}

/// The format of a new image.
pub const fn target_format<S: AsMut<Target>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::take(names, "FMT", help, |s, format| {
        s.as_mut().format = Some(format.to_owned());
        Ok(())
    })
}

/// The options of a new image.
pub const fn target_options<S: AsMut<Target>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::take(names, "OPTIONS", help, |s, list| s.as_mut().options.add(list))
}

/// The backing file of an image.
pub const fn backing<S: AsMut<Backing>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::take(names, "FILE", help, |s, name| {
        s.as_mut().name = Some(name.to_owned());
        Ok(())
    })
}

/// The format of the backing file.
pub const fn backing_format<S: AsMut<Backing>>(names: &'static str, help: &'static str) -> Flag<S> {
    Flag::take(names, "FMT", help, |s, format| {
        s.as_mut().format = Some(format.to_owned());
        Ok(())
    })
}

/// Reads how space is allocated for what an image grows by.
pub fn read_preallocation(word: &str) -> Result<PreallocMode, Failure> {
    PreallocMode::from_name(word)
        .ok_or_else(|| Failure::new(format_args!("Invalid preallocation mode '{word}'")))
}

/// `--object`.
pub const fn object<S>() -> Flag<S> {
    Flag::take("--object", "TYPE,id=ID,...", "make an object, such as a secret", |_, text| {
        object::accept(text)
    })
}

/// `-T --trace`; `help` has an example.
pub const fn trace<S>(help: &'static str) -> Flag<S> {
    Flag::take("-T --trace", "FILTER", help, |_, filter| trace::start(filter))
}
