// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Every construct of the language.

use crate::codec::*;
use crate::{Dict, QmpError, Value};

/// What it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Colour {
    /// Like blood,
    /// or wine.
    Red,
    /// `dark-green`.
    DarkGreen,
    /// `3d`.
    _3d,
}

impl Enumeration for Colour {
    const VALUES: &'static [(&'static str, Self)] =
        &[("red", Self::Red), ("dark-green", Self::DarkGreen), ("3d", Self::_3d)];
}
enumeration_codec!(Colour);

/// What things have in common.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Base {
    /// What it is called.
    pub name: String,
    /// Member `note`.
    pub note: Option<String>,
}

impl Object for Base {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: from.required("name")?, note: from.optional("note")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put_optional("note", &self.note);
    }
}
object_codec!(Base);

/// `Derived`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Derived {
    /// What it is called.
    pub name: String,
    /// Member `note`.
    pub note: Option<String>,
    /// Member `size`.
    pub size: Size,
    /// Member `self`.
    pub self_: Option<Vec<Derived>>,
}

impl Object for Derived {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            note: from.optional("note")?,
            size: from.required("size")?,
            self_: from.optional("self")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put_optional("note", &self.note);
        to.put("size", &self.size);
        to.put_optional("self", &self.self_);
    }
}
object_codec!(Derived);

/// `Numbers`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Numbers {
    /// Member `a`.
    pub a: Option<i8>,
    /// Member `b`.
    pub b: Option<i16>,
    /// Member `c`.
    pub c: Option<i32>,
    /// Member `d`.
    pub d: Option<i64>,
    /// Member `e`.
    pub e: Option<i64>,
    /// Member `f`.
    pub f: Option<u8>,
    /// Member `g`.
    pub g: Option<u16>,
    /// Member `h`.
    pub h: Option<u32>,
    /// Member `i`.
    pub i: Option<u64>,
    /// Member `j`.
    pub j: Option<Size>,
    /// Member `k`.
    pub k: Option<f64>,
    /// Member `l`.
    pub l: Option<bool>,
    /// Member `m`.
    pub m: Option<Null>,
    /// Member `n`.
    pub n: Option<Value>,
}

impl Object for Numbers {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            a: from.optional("a")?,
            b: from.optional("b")?,
            c: from.optional("c")?,
            d: from.optional("d")?,
            e: from.optional("e")?,
            f: from.optional("f")?,
            g: from.optional("g")?,
            h: from.optional("h")?,
            i: from.optional("i")?,
            j: from.optional("j")?,
            k: from.optional("k")?,
            l: from.optional("l")?,
            m: from.optional("m")?,
            n: from.optional("n")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("a", &self.a);
        to.put_optional("b", &self.b);
        to.put_optional("c", &self.c);
        to.put_optional("d", &self.d);
        to.put_optional("e", &self.e);
        to.put_optional("f", &self.f);
        to.put_optional("g", &self.g);
        to.put_optional("h", &self.h);
        to.put_optional("i", &self.i);
        to.put_optional("j", &self.j);
        to.put_optional("k", &self.k);
        to.put_optional("l", &self.l);
        to.put_optional("m", &self.m);
        to.put_optional("n", &self.n);
    }
}
object_codec!(Numbers);

/// `Nested`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Nested {
    /// Member `inner`.
    pub inner: Option<Box<Nested>>,
    /// Member `numbers`.
    pub numbers: Vec<i64>,
    /// Member `colours`.
    pub colours: Vec<Colour>,
}

impl Object for Nested {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            inner: from.optional("inner")?,
            numbers: from.required("numbers")?,
            colours: from.required("colours")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("inner", &self.inner);
        to.put("numbers", &self.numbers);
        to.put("colours", &self.colours);
    }
}
object_codec!(Nested);

/// `Shape`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// `circle`.
    Circle,
    /// `square`.
    Square,
    /// `point`.
    Point,
}

impl Enumeration for Shape {
    const VALUES: &'static [(&'static str, Self)] =
        &[("circle", Self::Circle), ("square", Self::Square), ("point", Self::Point)];
}
enumeration_codec!(Shape);

/// `Circle`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Circle {
    /// Member `radius`.
    pub radius: u32,
}

impl Object for Circle {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { radius: from.required("radius")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("radius", &self.radius);
    }
}
object_codec!(Circle);

/// `Square`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Square {
    /// Member `side`.
    pub side: u32,
    /// Member `of`.
    pub of: Option<Either>,
}

impl Object for Square {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { side: from.required("side")?, of: from.optional("of")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("side", &self.side);
        to.put_optional("of", &self.of);
    }
}
object_codec!(Square);

/// The part of [`Flat`] that depends on `kind`.
#[derive(Debug, Clone, PartialEq)]
pub enum FlatBranch {
    /// `circle`.
    Circle(Circle),
    /// `square`.
    Square(Square),
    /// `point`.
    Point,
}

impl FlatBranch {
    /// The value of `kind` that goes with this branch.
    pub fn kind(&self) -> Shape {
        match self {
            Self::Circle(_) => Shape::Circle,
            Self::Square(_) => Shape::Square,
            Self::Point => Shape::Point,
        }
    }

    fn take_branch(tag: Shape, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            Shape::Circle => Self::Circle(Object::take(from)?),
            Shape::Square => Self::Square(Object::take(from)?),
            Shape::Point => Self::Point,
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Circle(inner) => inner.put(to),
            Self::Square(inner) => inner.put(to),
            Self::Point => {}
        }
    }
}

/// `Flat`.
#[derive(Debug, Clone, PartialEq)]
pub struct Flat {
    /// Member `colour`.
    pub colour: Option<Colour>,
    /// What depends on `kind`.
    pub branch: FlatBranch,
}

impl Object for Flat {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("kind")?;
        let colour = from.optional("colour")?;
        let branch = FlatBranch::take_branch(tag, from)?;
        Ok(Self { colour, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("kind", &self.branch.kind());
        to.put_optional("colour", &self.colour);
        self.branch.put_branch(to);
    }
}
object_codec!(Flat);

/// `ShapeBase`.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapeBase {
    /// Member `kind`.
    pub kind: Shape,
}

impl Object for ShapeBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { kind: from.required("kind")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("kind", &self.kind);
    }
}
object_codec!(ShapeBase);

/// `OnlyTag`.
#[derive(Debug, Clone, PartialEq)]
pub enum OnlyTag {
    /// `circle`.
    Circle(Circle),
    /// `square`.
    Square,
    /// `point`.
    Point,
}

impl OnlyTag {
    /// The value of `kind` that goes with this branch.
    pub fn kind(&self) -> Shape {
        match self {
            Self::Circle(_) => Shape::Circle,
            Self::Square => Shape::Square,
            Self::Point => Shape::Point,
        }
    }

    fn take_branch(tag: Shape, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            Shape::Circle => Self::Circle(Object::take(from)?),
            Shape::Square => Self::Square,
            Shape::Point => Self::Point,
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Circle(inner) => inner.put(to),
            Self::Square => {}
            Self::Point => {}
        }
    }
}

impl Object for OnlyTag {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("kind")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("kind", &self.kind());
        self.put_branch(to);
    }
}
object_codec!(OnlyTag);

/// The values of `type` in `Simple`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SimpleKind {
    /// `text`.
    Text,
    /// `shape`.
    Shape,
    /// `list`.
    List,
}

impl Enumeration for SimpleKind {
    const VALUES: &'static [(&'static str, Self)] =
        &[("text", Self::Text), ("shape", Self::Shape), ("list", Self::List)];
}
enumeration_codec!(SimpleKind);

/// `Simple`.
#[derive(Debug, Clone, PartialEq)]
pub enum Simple {
    /// `text`.
    Text(String),
    /// `shape`.
    Shape(Flat),
    /// `list`.
    List(Vec<i64>),
}

impl Simple {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> SimpleKind {
        match self {
            Self::Text(_) => SimpleKind::Text,
            Self::Shape(_) => SimpleKind::Shape,
            Self::List(_) => SimpleKind::List,
        }
    }

    fn take_branch(tag: SimpleKind, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            SimpleKind::Text => Self::Text(from.required("data")?),
            SimpleKind::Shape => Self::Shape(from.required("data")?),
            SimpleKind::List => Self::List(from.required("data")?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Text(inner) => to.put("data", inner),
            Self::Shape(inner) => to.put("data", inner),
            Self::List(inner) => to.put("data", inner),
        }
    }
}

impl Object for Simple {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("type")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type());
        self.put_branch(to);
    }
}
object_codec!(Simple);

/// The values of `type` in `SimpleBased`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SimpleBasedKind {
    /// `shape`.
    Shape,
}

impl Enumeration for SimpleBasedKind {
    const VALUES: &'static [(&'static str, Self)] = &[("shape", Self::Shape)];
}
enumeration_codec!(SimpleBasedKind);

/// The part of [`SimpleBased`] that depends on `type`.
#[derive(Debug, Clone, PartialEq)]
pub enum SimpleBasedBranch {
    /// `shape`.
    Shape(Circle),
}

impl SimpleBasedBranch {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> SimpleBasedKind {
        match self {
            Self::Shape(_) => SimpleBasedKind::Shape,
        }
    }

    fn take_branch(tag: SimpleBasedKind, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            SimpleBasedKind::Shape => Self::Shape(from.required("data")?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Shape(inner) => to.put("data", inner),
        }
    }
}

/// `SimpleBased`.
#[derive(Debug, Clone, PartialEq)]
pub struct SimpleBased {
    /// What it is called.
    pub name: String,
    /// Member `note`.
    pub note: Option<String>,
    /// What depends on `type`.
    pub branch: SimpleBasedBranch,
}

impl Object for SimpleBased {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let name = from.required("name")?;
        let note = from.optional("note")?;
        let tag = from.required("type")?;
        let branch = SimpleBasedBranch::take_branch(tag, from)?;
        Ok(Self { name, note, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put_optional("note", &self.note);
        to.put("type", &self.branch.r#type());
        self.branch.put_branch(to);
    }
}
object_codec!(SimpleBased);

/// `Either`.
#[derive(Debug, Clone, PartialEq)]
pub enum Either {
    /// `shape`.
    Shape(Box<Flat>),
    /// `name`.
    Name(String),
    /// `nothing`.
    Nothing,
    /// `list`.
    List(Vec<String>),
}

impl Decode for Either {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Dict(_) => Ok(Self::Shape(Decode::decode(value, at)?)),
            Value::String(_) => Ok(Self::Name(Decode::decode(value, at)?)),
            Value::Null => Ok(Self::Nothing),
            Value::List(_) => Ok(Self::List(Decode::decode(value, at)?)),
            _ => Err(at.wrong_type("Either")),
        }
    }
}

impl Encode for Either {
    fn encode(&self) -> Value {
        match self {
            Self::Shape(inner) => inner.encode(),
            Self::Name(inner) => inner.encode(),
            Self::Nothing => Value::Null,
            Self::List(inner) => inner.encode(),
        }
    }
}

/// `Scalar`.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `number`.
    Number(i64),
    /// `many`.
    Many(Vec<i64>),
}

impl Decode for Scalar {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Int(_) | Value::Uint(_) | Value::Float(_) => Ok(Self::Number(Decode::decode(value, at)?)),
            Value::List(_) => Ok(Self::Many(Decode::decode(value, at)?)),
            Value::String(_) if at.scalars_are_text() => Ok(Self::Number(Decode::decode(value, at)?)),
            _ => Err(at.wrong_type("Scalar")),
        }
    }
}

impl Encode for Scalar {
    fn encode(&self) -> Value {
        match self {
            Self::Number(inner) => inner.encode(),
            Self::Many(inner) => inner.encode(),
        }
    }
}

/// Arguments of `take-members`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TakeMembersArguments {
    /// Member `x`.
    pub x: i64,
    /// Member `y`.
    pub y: Option<Either>,
}

impl Object for TakeMembersArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { x: from.required("x")?, y: from.optional("y")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("x", &self.x);
        to.put_optional("y", &self.y);
    }
}
object_codec!(TakeMembersArguments);

/// Arguments of `take-nested`.
#[derive(Debug, Clone, PartialEq)]
pub struct TakeNestedArguments {
    /// Member `nested`.
    pub nested: Nested,
    /// Member `tag`.
    pub tag: OnlyTag,
    /// Member `scalar`.
    pub scalar: Option<Scalar>,
}

impl Object for TakeNestedArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            nested: from.required("nested")?,
            tag: from.required("tag")?,
            scalar: from.optional("scalar")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("nested", &self.nested);
        to.put("tag", &self.tag);
        to.put_optional("scalar", &self.scalar);
    }
}
object_codec!(TakeNestedArguments);

/// Data of event `SOMETHING_HAPPENED`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SomethingHappened {
    /// Member `when`.
    pub when: Option<i64>,
}

impl Object for SomethingHappened {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { when: from.optional("when")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("when", &self.when);
    }
}
object_codec!(SomethingHappened);

/// The handlers of section `constructs`.
pub trait ConstructsCommands: Send + Sync {
    /// Takes a union.
    fn take_flat(&self, arguments: Flat) -> impl Future<Output = Result<Flat, QmpError>> + Send;

    /// `take-members`.
    fn take_members(
        &self,
        arguments: TakeMembersArguments,
    ) -> impl Future<Output = Result<Vec<Derived>, QmpError>> + Send;

    /// `take-struct`.
    fn take_struct(&self, arguments: Numbers) -> impl Future<Output = Result<Numbers, QmpError>> + Send;

    /// `take-nothing`.
    fn take_nothing(&self) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// `raw`.
    fn raw(&self, arguments: Dict) -> impl Future<Output = Result<Value, QmpError>> + Send;

    /// `urgent`.
    fn urgent(&self) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// `vanish`.
    fn vanish(&self) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// `take-simple`.
    fn take_simple(&self, arguments: Simple) -> impl Future<Output = Result<SimpleBased, QmpError>> + Send;

    /// `take-nested`.
    fn take_nested(
        &self,
        arguments: TakeNestedArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
