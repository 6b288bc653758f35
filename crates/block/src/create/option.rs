//! The options of `create` by the names that command lines know them by (`-o`).

/// One option, for its parser and for `-o help`.
#[derive(Debug, Clone, Copy)]
pub struct CreateOption {
    /// Name.
    pub name: &'static str,
    /// What its value is.
    pub kind: OptionKind,
    /// One line of help; empty for what is known, but refused by name: no help lists it.
    pub help: &'static str,
    /// The value that is told where none is given.
    pub default: Option<&'static str>,
    /// What is made with it on has no size.
    pub without_size: bool,
}

/// The kind of a create option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// Text.
    Str,
    /// on or off.
    Bool,
    /// A plain number.
    Number,
    /// Bytes, with suffixes.
    Size,
}

impl CreateOption {
    /// The virtual size, which every image has.
    pub const SIZE: Self = Self::new("size", OptionKind::Size, "Virtual disk size");

    /// An option of which nothing is told where it is not given.
    pub const fn new(name: &'static str, kind: OptionKind, help: &'static str) -> Self {
        Self { name, kind, help, default: None, without_size: false }
    }

    /// An option that is known and refused by name.
    pub const fn later(name: &'static str, kind: OptionKind) -> Self {
        Self::new(name, kind, "")
    }

    /// The same for an option that, when it is on, makes what has no size.
    #[must_use]
    pub const fn without_size(self) -> Self {
        Self { without_size: true, ..self }
    }

    /// The same with a value that is told where none is given.
    #[must_use]
    pub const fn default(self, value: &'static str) -> Self {
        Self { default: Some(value), ..self }
    }
}
