//! What is put is what is taken; nothing that is taken makes the code fail in another way than by an error.

use crate::mount::{Mount, MountStatus, Mounted, Root};
use crate::portmap::{GetAddress, GetPort, port_of};
use crate::record::{Fragments, MARK, RecordError};
use crate::rpc::{AuthStatus, Call, CallHead, Credential, Refusal, ReplyHead, message};
use crate::v3::*;
use crate::xdr::{Malformed, Reader, Text, Xdr, padding};
use crate::{Status, limits};
use proptest::prelude::*;
use std::fmt::Debug;

fn put<T: Xdr>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.put(&mut out);
    out
}

/// Laws of every type: it comes back as it was, all its bytes are taken, every shorter piece of them is too short.
fn returns<T: Xdr + PartialEq + Debug>(value: &T) {
    let bytes = put(value);
    assert!(bytes.len().is_multiple_of(4));
    let mut reader = Reader::new(&bytes);
    assert_eq!(&T::take(&mut reader).unwrap(), value);
    assert!(reader.rest().is_empty());
    for len in 0..bytes.len() {
        assert_eq!(T::take(&mut Reader::new(&bytes[..len])), Err(Malformed::Short));
    }
}

fn time() -> impl Strategy<Value = Time> {
    any::<(u32, u32)>().prop_map(|(seconds, nanoseconds)| Time { seconds, nanoseconds })
}

fn handle() -> impl Strategy<Value = Handle> {
    proptest::collection::vec(any::<u8>(), 0..=limits::HANDLE).prop_map(|bytes| Handle::new(&bytes).unwrap())
}

fn kind() -> impl Strategy<Value = FileType> {
    prop_oneof![
        Just(FileType::Regular),
        Just(FileType::Folder),
        Just(FileType::BlockDevice),
        Just(FileType::CharacterDevice),
        Just(FileType::Link),
        Just(FileType::Socket),
        Just(FileType::Pipe)
    ]
}

prop_compose! {
    fn attributes()(
        kind in kind(), numbers in any::<(u32, u32, u32, u32)>(), sizes in any::<(u64, u64)>(),
        device in any::<[u8; 8]>(), place in any::<(u64, u64)>(), times in (time(), time(), time()),
    ) -> Attributes {
        Attributes {
            kind, mode: numbers.0, links: numbers.1, user: numbers.2, group: numbers.3, size: sizes.0, used: sizes.1,
            device, file_system: place.0, number: place.1, accessed: times.0, modified: times.1, changed: times.2,
        }
    }
}

fn known() -> impl Strategy<Value = Option<Attributes>> {
    proptest::option::of(attributes())
}

prop_compose! {
    fn change()(
        before in proptest::option::of((any::<u64>(), time(), time())), after in known(),
    ) -> Change {
        let before = before.map(|(size, modified, changed)| Before { size, modified, changed });
        Change { before, after }
    }
}

fn stability() -> impl Strategy<Value = Stability> {
    prop_oneof![Just(Stability::Unstable), Just(Stability::Data), Just(Stability::File)]
}

fn new_attributes() -> impl Strategy<Value = NewAttributes> {
    any::<(Option<u32>, Option<u64>)>().prop_map(|(mode, size)| NewAttributes { mode, size })
}

fn name() -> impl Strategy<Value = Name> {
    (handle(), "[^\0]{0,60}").prop_map(|(folder, name)| Name { folder, name: Text(name) })
}

fn failed<T, F>((status, told): (u32, F)) -> Outcome<T, F> {
    Outcome(Err((Status(status.max(1)), told)))
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        any::<(u32, u32)>().prop_map(|(low, high)| Refusal::Rpc(low, high)),
        any::<u32>().prop_map(|status| Refusal::Credentials(AuthStatus(status))),
        Just(Refusal::NoProgram),
        any::<(u32, u32)>().prop_map(|(low, high)| Refusal::NoVersion(low, high)),
        Just(Refusal::NoProcedure),
        Just(Refusal::Arguments),
        Just(Refusal::Failed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arguments_come_back_as_they_were(
        file in handle(), offset in any::<u64>(), count in any::<u32>(), stability in stability(), name in name(),
        new in new_attributes(), only_if in proptest::option::of(time()), guarded in any::<bool>(), path in "[^\0]{0,200}",
    ) {
        returns(&Null);
        returns(&GetAttributes { file: file.clone() });
        returns(&SetAttributes { file: file.clone(), new, only_if });
        returns(&Lookup { of: name.clone() });
        returns(&Access { file: file.clone(), wanted: count });
        returns(&ReadLink { link: file.clone() });
        returns(&Read { file: file.clone(), offset, count });
        returns(&Write { file: file.clone(), offset, count, stability });
        let how = if guarded { CreateHow::Guarded } else { CreateHow::Unchecked };
        returns(&Create { at: name.clone(), how, new });
        returns(&Remove { of: name });
        returns(&FileSystemInfo { of: file.clone() });
        returns(&Commit { file, offset, count });
        returns(&Mount { path: Text(path) });
        returns(&GetPort { program: count, version: 3, protocol: 6, port: 0 });
        let empty = || Text(String::new());
        returns(&GetAddress { program: count, version: 3, transport: Text("tcp".into()), address: empty(), owner: empty() });
    }

    #[test]
    fn replies_come_back_as_they_were(
        known in known(), change in change(), attributes in attributes(), file in handle(), numbers in any::<[u32; 8]>(),
        offset in any::<u64>(), end in any::<bool>(), verifier in any::<Verifier>(), stability in stability(),
        time in time(), path in "[^\0]{0,200}", status in any::<u32>(), flavors in proptest::collection::vec(any::<u32>(), 0..9),
    ) {
        returns::<<GetAttributes as Call>::Reply>(&Outcome(Ok(attributes)));
        returns::<<GetAttributes as Call>::Reply>(&failed((status, ())));
        returns::<<SetAttributes as Call>::Reply>(&Outcome(Ok(change.clone())));
        returns::<<SetAttributes as Call>::Reply>(&failed((status, change.clone())));
        returns(&Found { file: file.clone(), attributes: known.clone(), folder: known.clone() });
        returns(&Allowed { attributes: known.clone(), allowed: numbers[0] });
        returns(&Target { attributes: known.clone(), path: Text(path) });
        returns(&ReadDone { attributes: known.clone(), count: numbers[0], is_end: end, len: numbers[1] });
        returns(&WriteDone { change: change.clone(), count: numbers[0], stability, verifier });
        returns(&Created { file: Some(file.clone()), attributes: known.clone(), folder: change.clone() });
        returns(&CommitDone { change, verifier });
        returns(&Info {
            attributes: known, read_most: numbers[0], read_best: numbers[1], read_unit: numbers[2], write_most: numbers[3],
            write_best: numbers[4], write_unit: numbers[5], folder_best: numbers[6], file_most: offset, time_step: time,
            properties: numbers[7],
        });
        returns(&Mounted(Ok(Root { handle: file, flavors })));
        returns(&Mounted(Err(MountStatus(status.max(1)))));
    }

    #[test]
    fn heads_come_back_as_they_were(
        xid in any::<u32>(), user in any::<u32>(), group in any::<u32>(), refusal in proptest::option::of(refusal()),
        payload in proptest::option::of(0usize..100_000),
    ) {
        returns(&ReplyHead { xid, outcome: refusal.map_or(Ok(()), Err) });
        let (credential, call) = (Credential { user, group }, Commit { file: Handle::new(&[7]).unwrap(), offset: 1, count: 2 });
        let bytes = message(xid, &credential, &call, payload).unwrap();
        let (mark, record) = bytes.split_at(MARK);
        let mut fragments = Fragments::default();
        fragments.begin(mark.try_into().unwrap(), u64::MAX).unwrap();
        let behind = payload.map_or(0, |len| len + padding(len));
        prop_assert_eq!(fragments.left(), record.len() + behind);
        let mut reader = Reader::new(record);
        let head = CallHead::take(&mut reader).unwrap();
        let (program, version, procedure) = (Commit::PROGRAM, Commit::VERSION, Commit::PROCEDURE);
        prop_assert_eq!(head, CallHead { xid, program, version, procedure, credential });
        prop_assert_eq!(Commit::take(&mut reader).unwrap(), call);
        prop_assert_eq!(reader.rest().len(), if payload.is_some() { 4 } else { 0 });
    }

    #[test]
    fn noise_is_an_error_or_a_value(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        fn take<T: Xdr>(noise: &[u8]) {
            let _ = T::take(&mut Reader::new(noise));
        }
        take::<ReplyHead>(&noise);
        take::<Mounted>(&noise);
        take::<<GetAddress as Call>::Reply>(&noise);
        take::<<Lookup as Call>::Reply>(&noise);
        take::<<Read as Call>::Reply>(&noise);
        take::<<Write as Call>::Reply>(&noise);
        take::<<FileSystemInfo as Call>::Reply>(&noise);
        let _ = CallHead::take(&mut Reader::new(&noise));
    }
}

#[test]
fn lengths_beyond_the_bounds_are_refused_before_anything_is_taken() {
    let long = put(&u32::MAX);
    assert_eq!(Handle::take(&mut Reader::new(&long)), Err(Malformed::Long(u32::MAX as usize, 64)));
    assert!(Handle::new(&[0; 65]).is_none());
    let flavors = [put(&0u32), put(&Handle::new(&[]).unwrap()), put(&65u32)].concat();
    assert_eq!(Mounted::take(&mut Reader::new(&flavors)), Err(Malformed::Long(65, 64)));
    let target = [put(&0u32), put(&1025u32)].concat();
    assert_eq!(Target::take(&mut Reader::new(&target)), Err(Malformed::Long(1025, 1024)));
}

#[test]
fn fragments_without_bytes_and_records_without_end_are_refused() {
    let mark = |len: u32, last: bool| (len | u32::from(last) << 31).to_be_bytes();
    let mut fragments = Fragments::default();
    assert!(fragments.needs_mark() && !fragments.is_done());
    assert_eq!(fragments.begin(mark(0, false), 100), Err(RecordError::Empty));
    let mut fragments = Fragments::default();
    for _ in 0..10 {
        fragments.begin(mark(10, false), 100).unwrap();
        assert!(!fragments.needs_mark());
        fragments.take(10);
        assert!(fragments.needs_mark() && !fragments.is_done());
    }
    assert_eq!(fragments.begin(mark(1, true), 100), Err(RecordError::Long(101, 100)));
    let mut fragments = Fragments::default();
    fragments.begin(mark(0, true), 100).unwrap();
    assert!(fragments.is_done());
}

#[test]
fn every_status_of_the_protocol_has_its_name_and_error() {
    assert_eq!((Status::STALE.to_string().as_str(), Status::STALE.errno()), ("NFS3ERR_STALE", 116));
    assert_eq!((Status::DQUOT.to_string().as_str(), Status::DQUOT.errno()), ("NFS3ERR_DQUOT", 122));
    assert_eq!((Status(4711).to_string().as_str(), Status(4711).errno()), ("status 4711", 5));
}

#[test]
fn a_universal_address_ends_with_a_port() {
    assert_eq!(port_of("127.0.0.1.8.1"), Some(2049));
    assert_eq!(port_of("::1.8.1"), Some(2049));
    for wrong in ["", "8", "8.1", "a.b.c", "1.2.3.4.256.1", "1.2.3.4.8.-1"] {
        assert_eq!(port_of(wrong), None, "{wrong}");
    }
}

/// A reply that a server of another project has sent (nfs-ganesha 4.3 to GETATTR of a folder), byte for byte.
#[test]
fn a_reply_of_another_server_is_understood() {
    let hex = include_str!("../tests/getattr-reply.hex");
    let bytes: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let mut reader = Reader::new(&bytes[MARK..]);
    assert!(ReplyHead::take(&mut reader).unwrap().outcome.is_ok());
    let Outcome(reply) = <GetAttributes as Call>::Reply::take(&mut reader).unwrap();
    let attributes = reply.unwrap();
    assert_eq!((attributes.kind, attributes.mode & 0o7777), (FileType::Folder, 0o755));
    assert!(reader.rest().is_empty());
}
