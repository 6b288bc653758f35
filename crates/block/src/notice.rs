//! What a person should know of an image although nothing fails: told to whoever hears notices of the graph.
use crate::driver::CheckReport;
use std::sync::{Arc, OnceLock};

/// One notice.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'a> {
    /// A sentence that names the image.
    Warning(&'a str),
    /// An image was repaired because it was opened for writing.
    Repaired {
        /// Its file's name.
        image: &'a str,
        /// What was found and mended.
        report: &'a CheckReport,
    },
}

type Listener = Box<dyn Fn(Notice<'_>) + Send + Sync>;

/// Where a graph's notices go; a handle, cheap to clone.
#[derive(Clone, Default)]
pub struct Notices(Arc<OnceLock<Listener>>);

impl Notices {
    /// Tells a notice. It is logged where nobody hears.
    pub fn tell(&self, notice: Notice<'_>) {
        match self.0.get() {
            Some(heard) => heard(notice),
            None => match notice {
                Notice::Warning(text) => tracing::warn!("{text}"),
                Notice::Repaired { image, .. } => tracing::warn!(image, "repaired at open"),
            },
        }
    }

    /// The same for a sentence.
    pub fn warn(&self, text: &str) {
        self.tell(Notice::Warning(text));
    }

    /// Has `heard` told from now on; only the first one asked for is told.
    pub(crate) fn listen(&self, heard: Listener) {
        if self.0.set(heard).is_err() {
            tracing::warn!("somebody hears of notices already");
        }
    }
}
