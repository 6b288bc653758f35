//! NFS: what a client takes from a server, what a server takes from its client, and the names of files.

use crate::bytes::Bytes;
use nfs::mount::{Mount, Mounted, Root};
use nfs::portmap::{GetAddress, GetPort, port_of};
use nfs::record::{Fragments, MARK, mark};
use nfs::rpc::{AuthStatus, CallHead, Refusal, ReplyHead, message};
use nfs::v3::{self, Handle, Outcome};
use nfs::{Call, Credential, Reader, Status, Xdr, limits};

/// A server's stream of records, each a reply to every procedure. Laws: a record is no longer than may be; what is taken is what is
/// put again, and the same when it is taken again.
pub fn replies(input: &[u8]) {
    for record in records(input) {
        let mut reader = Reader::new(&record);
        let Ok(head) = ReplyHead::take(&mut reader) else { continue };
        returns(&head);
        let results = reader.rest();
        reply::<GetPort>(results);
        if let Ok(address) = <GetAddress as Call>::Reply::take(&mut Reader::new(results)) {
            port_of(&address.0);
        }
        reply::<Mount>(results);
        reply::<v3::GetAttributes>(results);
        reply::<v3::SetAttributes>(results);
        reply::<v3::Lookup>(results);
        reply::<v3::Access>(results);
        reply::<v3::ReadLink>(results);
        reply::<v3::Read>(results);
        reply::<v3::Write>(results);
        reply::<v3::Create>(results);
        reply::<v3::Remove>(results);
        reply::<v3::FileSystemInfo>(results);
        reply::<v3::Commit>(results);
        CallHead::take(&mut Reader::new(&record)).ok();
    }
}

/// The records at the start of a stream, put together.
fn records(input: &[u8]) -> Vec<Vec<u8>> {
    let (mut bytes, mut records) = (Bytes(input), Vec::new());
    let (mut fragments, mut record) = (Fragments::default(), Vec::new());
    loop {
        while fragments.needs_mark() {
            let Ok(mark) = <[u8; MARK]>::try_from(bytes.take(MARK)) else { return records };
            if fragments.begin(mark, limits::REPLY as u64).is_err() {
                return records;
            }
        }
        let part = bytes.take(fragments.left());
        if part.len() < fragments.left() {
            return records;
        }
        fragments.take(part.len());
        record.extend_from_slice(part);
        assert!(record.len() <= limits::REPLY);
        if fragments.is_done() {
            records.push(std::mem::take(&mut record));
            fragments = Fragments::default();
        }
    }
}

fn reply<C: Call>(results: &[u8])
where
    C::Reply: PartialEq,
{
    if let Ok(value) = C::Reply::take(&mut Reader::new(results)) {
        returns(&value);
    }
}

fn returns<T: Xdr + PartialEq>(value: &T) {
    let mut out = Vec::new();
    value.put(&mut out);
    let mut reader = Reader::new(&out);
    assert!(T::take(&mut reader).is_ok_and(|again| again == *value) && reader.rest().is_empty());
}

/// Replies of each shape, and a call.
pub fn reply_seeds() -> Vec<Vec<u8>> {
    let file = || Handle::new(&[7; 28]);
    let time = || v3::Time { seconds: 1, nanoseconds: 2 };
    let attributes = v3::Attributes {
        kind: v3::FileType::Regular,
        mode: 0o644,
        links: 1,
        user: 2,
        group: 3,
        size: 1 << 20,
        used: 4096,
        device: [0; 8],
        file_system: 5,
        number: 6,
        accessed: time(),
        modified: time(),
        changed: time(),
    };
    let known = || Some(attributes.clone());
    let change = || v3::Change { before: None, after: known() };
    let mut seeds = vec![
        answered::<GetPort>(&2049),
        answered::<v3::GetAttributes>(&Outcome(Ok(attributes.clone()))),
        answered::<v3::SetAttributes>(&Outcome(Err((Status::NOSPC, change())))),
        answered::<v3::Read>(&Outcome(Ok(v3::ReadDone {
            attributes: known(),
            count: 8,
            is_end: true,
            len: 8,
        }))),
        answered::<v3::Write>(&Outcome(Ok(v3::WriteDone {
            change: change(),
            count: 8,
            stability: v3::Stability::Unstable,
            verifier: [1; 8],
        }))),
        answered::<v3::Commit>(&Outcome(Ok(v3::CommitDone { change: change(), verifier: [1; 8] }))),
    ];
    if let Some(handle) = file() {
        let flavors = vec![1, 390_003];
        seeds.push(answered::<Mount>(&Mounted(Ok(Root { handle: handle.clone(), flavors }))));
        let found = v3::Found { file: handle.clone(), attributes: known(), folder: None };
        seeds.push(answered::<v3::Lookup>(&Outcome(Ok(found))));
        let credential = Credential { user: 0, group: 0 };
        seeds.extend(message(1, &credential, &v3::Commit { file: handle, offset: 0, count: 0 }, None));
    }
    let refusals = [Refusal::Credentials(AuthStatus::TOO_WEAK), Refusal::NoVersion(4, 4), Refusal::Failed];
    seeds.extend(refusals.map(|refusal| {
        let mut out = Vec::new();
        ReplyHead { xid: 1, outcome: Err(refusal) }.put(&mut out);
        record(&out)
    }));
    seeds
}

fn answered<C: Call>(reply: &C::Reply) -> Vec<u8> {
    let mut out = Vec::new();
    ReplyHead { xid: 1, outcome: Ok(()) }.put(&mut out);
    reply.put(&mut out);
    record(&out)
}

fn record(message: &[u8]) -> Vec<u8> {
    [&mark(message.len()).unwrap_or_default()[..], message].concat()
}

/// The name of a file. Laws: a name is understood in the same way each time.
pub fn location(input: &[u8]) {
    let name = String::from_utf8_lossy(input);
    let graph = tools::image::graph();
    for name in [name.to_string(), format!("nfs:{name}"), format!("nfs://{name}")] {
        let first = graph.protocol_options(&name).ok();
        let second = graph.protocol_options(&name).ok();
        assert!(first.map(|f| f.1) == second.map(|s| s.1));
    }
}

/// Names with parameters of each kind.
pub fn location_seeds() -> Vec<Vec<u8>> {
    [
        "nfs://host/exp/disk",
        "nfs://[::1]:2049/%64isk?uid=0&gid=0x10",
        "nfs://host/d?readahead=65536&tcp-syncnt=3&pagecache=1&debug=2",
        "nfs://host/d?nfsport=2049&mountport=20048&version=3",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
