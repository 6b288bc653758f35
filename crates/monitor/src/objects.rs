//! User objects (`object-add`): checked here, and kept in the graph for what refers to them.
use crate::commands::failed;
use crate::{secret, throttle, tls};
use ::tls::Simple;
use api::{IothreadProperties, ObjectOptions, ObjectOptionsBranch, QmpError};
use block::{Iothread, Objects, ThrottleGroup};

/// Makes an object.
pub(crate) async fn add(objects: &Objects, options: ObjectOptions) -> Result<(), QmpError> {
    let ObjectOptions { id, branch } = options;
    let added = match branch {
        ObjectOptionsBranch::AuthzList(properties) => objects.add(&id, tls::list(properties)),
        ObjectOptionsBranch::AuthzListfile(properties) => {
            let read = rt::blocking(move || tls::list_file(&properties)).await;
            objects.add(&id, read.map_err(failed)?)
        }
        ObjectOptionsBranch::AuthzSimple(properties) => objects.add(&id, Simple::new(properties.identity)),
        ObjectOptionsBranch::Iothread(properties) => {
            check_iothread(&properties)?;
            objects.add(&id, Iothread::new(properties))
        }
        ObjectOptionsBranch::Secret(properties) => {
            let key = secret::key_of(objects, &properties).map_err(failed)?;
            let read = rt::blocking(move || secret::read(properties, key.as_deref())).await;
            objects.add(&id, read.map_err(failed)?)
        }
        ObjectOptionsBranch::ThrottleGroup(properties) => {
            let listed = objects.list().iter().any(|(other, _)| *other == id);
            if !listed && objects.hold::<ThrottleGroup>(&id).is_ok() {
                return Err(QmpError::generic("A group with this name already exists"));
            }
            let group = ThrottleGroup::new(id.as_str());
            group.set_limits(throttle::group_limits(&properties)?).map_err(failed)?;
            objects.add(&id, group)
        }
        ObjectOptionsBranch::TlsCredsPsk(properties) => {
            let read = rt::blocking(move || tls::psk(properties)).await;
            objects.add(&id, read.map_err(failed)?)
        }
        ObjectOptionsBranch::TlsCredsX509(properties) => {
            let password = tls::password_of(objects, &properties).map_err(failed)?;
            let read = rt::blocking(move || tls::x509(properties, password.as_deref())).await;
            objects.add(&id, read.map_err(failed)?)
        }
    };
    added.map_err(failed)
}

/// An iothread's settings belong to QEMU's event loop: they are checked, kept and shown, and have no effect on the workers.
pub(crate) fn check_iothread(properties: &IothreadProperties) -> Result<(), QmpError> {
    let figures = [
        ("aio-max-batch", properties.aio_max_batch),
        ("thread-pool-min", properties.thread_pool_min),
        ("thread-pool-max", properties.thread_pool_max),
        ("poll-max-ns", properties.poll_max_ns),
        ("poll-grow", properties.poll_grow),
        ("poll-shrink", properties.poll_shrink),
    ];
    match figures.into_iter().find(|(_, figure)| figure.is_some_and(|n| n < 0)) {
        None => Ok(()),
        Some((name, _)) => Err(QmpError::generic(format!("{name} value must be in range [0, {}]", i64::MAX))),
    }
}
