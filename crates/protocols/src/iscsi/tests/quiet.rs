//! What is not worth a warning.
use super::*;
use parking_lot::Mutex;
use std::fmt::Debug;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The warnings of this process, each with its fields.
static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listening;

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Listening {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        HEARD.lock().push(words.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The warnings that name a unit at this port.
fn warnings(port: u16) -> Vec<String> {
    HEARD.lock().iter().filter(|words| words.contains(&format!(":{port}/"))).cloned().collect()
}

#[test]
fn the_end_of_a_session_is_told_as_a_loss_only_where_it_is_one() {
    // Nobody else in this process listens.
    let _ = tracing::subscriber::set_global_default(Listening);
    run(async || {
        for clean in [true, false] {
            let (listener, port) = bound().await;
            let disk = Disk::new(Rules::default());
            rt::spawn(disk.clone().serve(listener)).detach();
            let driver = connect(port, patient()).await.unwrap();
            write(&driver, 0, &[1; 512]).await.unwrap();
            driver.flush().await.unwrap();
            if !clean {
                disk.fuse.store(0, std::sync::atomic::Ordering::Relaxed);
                read(&driver, 0, 512).await.unwrap_err();
            }
            driver.close().await.unwrap();
            assert_eq!(warnings(port).is_empty(), clean, "{:?}", warnings(port));
        }
    });
}
