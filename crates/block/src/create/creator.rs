//! What a driver gives for its images to be made: functions with options of its own type of the schema.
use super::{MeasureRequest, Measured, Places};
use crate::backend::Backend;
use crate::error::Result;
use crate::node::Node;
use crate::objects::Objects;
use crate::options::{Opt, Options};
use api::codec::Object;
use rt::BoxFuture;
use std::sync::Arc;

/// A place for an image, which others are kept away from until it is given back.
pub trait Claim: Send + Sync {
    /// What the place is opened with, besides the options of its name.
    fn opened_with(&self) -> Options {
        Options::new()
    }

    /// Makes what is in it durable, with its name.
    fn settle(&self) -> BoxFuture<'_, Result<()>>;

    /// Gives the place back with what was made in it.
    fn keep(self: Box<Self>);

    /// Gives the place back after a failure; a file that the claim made is removed.
    fn undo(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

/// What a driver is told when it makes an image.
pub struct CreateRequest<'a, O> {
    /// The opened, writable file that the image is made in; of a protocol the node itself.
    pub file: Arc<Node>,
    /// Virtual size in bytes.
    pub size: u64,
    /// What is asked of the image.
    pub options: O,
    /// Where further files of the image come from.
    pub places: &'a mut Places,
}

/// Makes images with options of the schema's type `O`.
pub struct Create<O> {
    /// Turns options of command lines that the schema does not have so into what it has, or refuses them by name. Underscores in
    /// names are dashes already.
    pub adapt: Option<fn(&mut Options) -> Result<()>>,
    /// Judges the size, in bytes, and the options of an image that is to be made.
    pub judge: fn(u64, &O) -> Result<()>,
    /// Makes an image of what was judged; durable when it returns.
    pub create: for<'a> fn(CreateRequest<'a, O>) -> BoxFuture<'a, Result<()>>,
    /// Tells how large the image would be.
    pub measure: Option<Measure<O>>,
}

type Measure<O> = for<'a> fn(MeasureRequest<'a, O>) -> BoxFuture<'a, Result<Measured>>;

/// A [`Create`], whatever its options.
pub trait Creator: Sync {
    /// Options as command lines give them, in the words of the schema.
    fn adapt(&self, options: Options) -> Result<Options>;

    /// Judges the size, in bytes, and the options of an image that is to be made.
    fn judge(&self, size: u64, options: Options) -> Result<()>;

    /// Makes an image in the file.
    fn create<'a>(
        &'a self,
        file: Arc<Node>,
        size: u64,
        options: Options,
        places: &'a mut Places,
    ) -> BoxFuture<'a, Result<()>>;

    /// Tells how large an image would be, if the driver can.
    fn measure<'a>(
        &'a self,
        size: u64,
        options: Options,
        source: Option<&'a Backend>,
    ) -> BoxFuture<'a, Result<Option<Measured>>>;
}

impl<O: Object + Send> Create<O> {
    fn read(&self, options: Options) -> Result<O> {
        let mut options = renamed(options).nested();
        options.take("size");
        options.read()
    }
}

impl<O: Object + Send> Creator for Create<O> {
    fn adapt(&self, options: Options) -> Result<Options> {
        let mut options = renamed(options).nested();
        self.adapt.map_or(Ok(()), |adapt| adapt(&mut options))?;
        Ok(options)
    }

    fn judge(&self, size: u64, options: Options) -> Result<()> {
        (self.judge)(size, &self.read(options)?)
    }

    fn create<'a>(
        &'a self,
        file: Arc<Node>,
        size: u64,
        options: Options,
        places: &'a mut Places,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let options = self.read(options)?;
            (self.judge)(size, &options)?;
            (self.create)(CreateRequest { file, size, options, places }).await
        })
    }

    fn measure<'a>(
        &'a self,
        size: u64,
        options: Options,
        source: Option<&'a Backend>,
    ) -> BoxFuture<'a, Result<Option<Measured>>> {
        Box::pin(async move {
            let options = self.read(options)?;
            (self.judge)(0, &options)?;
            let Some(measure) = self.measure else { return Ok(None) };
            measure(MeasureRequest { size, options, source }).await.map(Some)
        })
    }
}

/// The place that is to be claimed for an image.
pub struct PlaceRequest<'a, O> {
    /// Its name.
    pub filename: &'a str,
    /// The options that the name stands for, in the words of the schema.
    pub location: Options,
    /// The objects that options may refer to by id.
    pub objects: &'a Objects,
    /// What is asked of it.
    pub options: O,
}

/// Claims places by their names, with options of the schema's type `O`: a file is there when it returns, and what was in it is
/// unchanged.
pub struct ClaimPlace<O>(pub for<'a> fn(&'a str, O) -> Claiming<'a>);

/// Claims places by the options that their names stand for, as [`ClaimPlace`] else.
pub struct ClaimLocation<O>(pub for<'a> fn(PlaceRequest<'a, O>) -> Claiming<'a>);

/// A claim under way.
pub type Claiming<'a> = BoxFuture<'a, Result<Box<dyn Claim>>>;

/// A [`ClaimPlace`] or [`ClaimLocation`], whatever its options.
pub trait Claimer: Sync {
    /// Claims a place for an image.
    fn claim<'a>(&'a self, place: PlaceRequest<'a, Options>) -> Claiming<'a>;
}

impl<O: Object + Send> Claimer for ClaimPlace<O> {
    fn claim<'a>(&'a self, place: PlaceRequest<'a, Options>) -> Claiming<'a> {
        Box::pin(async move { (self.0)(place.filename, renamed(place.options).nested().read()?).await })
    }
}

impl<O: Object + Send> Claimer for ClaimLocation<O> {
    fn claim<'a>(&'a self, place: PlaceRequest<'a, Options>) -> Claiming<'a> {
        Box::pin(async move {
            let PlaceRequest { filename, location, objects, options } = place;
            let options = renamed(options).nested().read()?;
            (self.0)(PlaceRequest { filename, location, objects, options }).await
        })
    }
}

/// Command lines have underscores where the schema has dashes.
pub(crate) fn renamed(options: Options) -> Options {
    let mut all = Options::new();
    options.iter().for_each(|(name, value): (&str, &Opt)| all.set(name.replace('_', "-"), value.clone()));
    all
}
