//! Objects that users make (`object-add`): secrets, throttle groups, iothreads. Drivers, filters and exports refer to them
//! by id, and an object in use can't be deleted.
use crate::error::{BlockError, ErrorKind, Result};
use api::IothreadProperties;
use parking_lot::{Mutex, MutexGuard};
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Most objects.
const MAX_OBJECTS: usize = 4096;

/// A kind of object.
pub trait Object: Any + Send + Sync {
    /// The kind by the schema's name (`qom-type`).
    const KIND: &'static str;
}

/// The objects by id; a handle, cheap to clone.
#[derive(Default, Clone)]
pub struct Objects(Arc<Mutex<Vec<Entry>>>);

#[derive(Clone)]
struct Entry {
    id: String,
    kind: &'static str,
    object: Arc<dyn Any + Send + Sync>,
    /// Nobody made it by itself: it is there as long as somebody holds it.
    implied: bool,
}

impl Entry {
    fn held(&self) -> bool {
        Arc::strong_count(&self.object) > 1
    }
}

impl Objects {
    /// Adds an object. Ids are unique over all kinds.
    pub fn add<T: Object>(&self, id: &str, object: T) -> Result<()> {
        Self::check_id(id)?;
        let mut entries = self.current();
        if entries.iter().any(|entry| entry.id == id) {
            let text = format!("attempt to add duplicate property '{id}' to object (type 'container')");
            return Err(BlockError::invalid(text));
        }
        if entries.len() >= MAX_OBJECTS {
            let text = format!("there are {MAX_OBJECTS} objects already; delete some");
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        entries.push(Entry { id: id.to_owned(), kind: T::KIND, object: Arc::new(object), implied: false });
        Ok(())
    }

    /// The entries that count: an implied object that nobody holds any more is gone.
    fn current(&self) -> MutexGuard<'_, Vec<Entry>> {
        let mut entries = self.0.lock();
        entries.retain(|entry| !entry.implied || entry.held());
        entries
    }

    /// All objects that users made, in the order they came: id and kind.
    pub fn list(&self) -> Vec<(String, &'static str)> {
        let made = |entry: &Entry| (!entry.implied).then(|| (entry.id.clone(), entry.kind));
        self.0.lock().iter().filter_map(made).collect()
    }

    /// Gives all objects that users made to others too.
    pub fn give(&self, others: &Objects) {
        let mine: Vec<Entry> = self.current().iter().filter(|entry| !entry.implied).cloned().collect();
        let mut theirs = others.current();
        for entry in mine {
            if theirs.iter().all(|other| other.id != entry.id) {
                theirs.push(entry);
            }
        }
    }

    /// Holds the object of this id, or makes one that is there as long as somebody holds it.
    pub fn hold_or_imply<T: Object>(&self, id: &str, make: impl FnOnce() -> T) -> Result<Arc<T>> {
        let mut entries = self.current();
        if !entries.iter().any(|entry| entry.id == id) {
            let object = Arc::new(make());
            entries.push(Entry { id: id.to_owned(), kind: T::KIND, object: object.clone(), implied: true });
            return Ok(object);
        }
        drop(entries);
        self.hold(id)
    }

    /// Refuses an id that no object may have: it is a letter, then letters, digits, `-`, `.` or `_`.
    pub fn check_id(id: &str) -> Result<()> {
        let letter = id.starts_with(|c: char| c.is_ascii_alphabetic());
        if letter && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')) {
            return Ok(());
        }
        Err(BlockError::invalid("Parameter 'id' expects an identifier"))
    }

    /// Holds an object: it can't be deleted as long as what is returned is kept.
    pub fn hold<T: Object>(&self, id: &str) -> Result<Arc<T>> {
        let entries = self.current();
        let entry = entries
            .iter()
            .find(|entry| entry.id == id)
            .ok_or_else(|| BlockError::new(ErrorKind::NotFound, format!("No {} with id '{id}'", T::KIND)))?;
        entry.object.clone().downcast().map_err(|_| {
            BlockError::invalid(format!("Object '{id}' is of the kind '{}', not '{}'", entry.kind, T::KIND))
        })
    }

    /// Deletes an object that is not in use.
    pub fn remove(&self, id: &str) -> Result<()> {
        let mut entries = self.0.lock();
        let at = entries.iter().position(|entry| entry.id == id && !entry.implied);
        let at =
            at.ok_or_else(|| BlockError::new(ErrorKind::NotFound, format!("object '{id}' not found")))?;
        // A new holder needs the lock; the others are counted.
        if entries.get(at).is_some_and(Entry::held) {
            let text = format!("object '{id}' is in use, can not be deleted");
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        entries.remove(at);
        Ok(())
    }
}

/// A password or key, as the bytes that were given. No text shows them, and they are wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Object for Secret {
    const KIND: &'static str = "secret";
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A worker by a name that a user gave it. Connections are distributed by load; the name is accepted where one is asked
/// for, and its settings are kept and shown.
#[derive(Default)]
pub struct Iothread(Mutex<IothreadProperties>);

impl Iothread {
    /// One with these settings.
    pub fn new(settings: IothreadProperties) -> Self {
        Self(Mutex::new(settings))
    }

    /// Its settings, as they were given.
    pub fn settings(&self) -> IothreadProperties {
        self.0.lock().clone()
    }

    /// Changes its settings.
    pub fn set(&self, settings: IothreadProperties) {
        *self.0.lock() = settings;
    }
}

impl Object for Iothread {
    const KIND: &'static str = "iothread";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_implied_object_is_there_as_long_as_it_is_held_and_is_in_no_list() {
        let objects = Objects::default();
        let held = objects.hold_or_imply("i", Iothread::default).unwrap();
        assert!(Arc::ptr_eq(&held, &objects.hold_or_imply("i", Iothread::default).unwrap()));
        assert!(objects.add("i", Iothread::default()).unwrap_err().message().contains("duplicate"));
        assert!(objects.list().is_empty());
        assert_eq!(objects.remove("i").unwrap_err().message(), "object 'i' not found");
        drop(held);
        assert!(objects.hold::<Iothread>("i").is_err());
        objects.add("i", Iothread::default()).unwrap();
        assert_eq!(objects.list(), [("i".to_owned(), "iothread")]);
    }

    #[test]
    fn an_object_is_found_by_id_and_kind_and_stays_as_long_as_it_is_held() {
        let objects = Objects::default();
        objects.add("s", Secret::new(b"key".to_vec())).unwrap();
        assert!(objects.add("s", Iothread::default()).unwrap_err().message().contains("duplicate"));
        assert!(objects.add("0", Iothread::default()).unwrap_err().message().contains("identifier"));
        assert_eq!(objects.hold::<Secret>("t").unwrap_err().message(), "No secret with id 't'");
        let wrong = objects.hold::<Iothread>("s").map(drop).unwrap_err();
        assert_eq!(wrong.message(), "Object 's' is of the kind 'secret', not 'iothread'");
        let held = objects.hold::<Secret>("s").unwrap();
        assert_eq!(held.bytes(), b"key");
        assert_eq!(objects.remove("s").unwrap_err().message(), "object 's' is in use, can not be deleted");
        drop(held);
        objects.remove("s").unwrap();
        assert_eq!(objects.remove("s").unwrap_err().message(), "object 's' not found");
    }
}
