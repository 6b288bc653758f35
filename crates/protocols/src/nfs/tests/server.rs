//! A small server: mount service and NFS on one port, a folder with a disk, and faults as a test likes.

use super::*;
use nfs::mount::{Mount, MountStatus, Mounted, Root};
use nfs::rpc::{CallHead, ReplyHead};
use nfs::v3::{Change, FileType, Handle, Name, ReadDone, Target, Time, Verifier, WriteDone};
use nfs::xdr::Text;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Bytes of the disk.
pub const SIZE: usize = 1 << 20;
/// The handle of the disk.
pub const DISK: u8 = 2;

/// What the server has, and how it behaves.
pub struct Content {
    pub now: Vec<u8>,
    /// What is there after it has lost power.
    pub durable: Vec<u8>,
    pub verifier: u64,
    /// What names lead to in its one folder, by the first byte of a handle.
    pub names: HashMap<String, u8>,
    /// What is behind handles, but for the disk.
    pub kinds: HashMap<u8, FileType>,
    pub target: String,
    /// The folder that is exported.
    pub export: String,
    /// Most bytes that it says to take, and that it does take.
    pub most: u32,
    pub answers: u32,
    pub calls: usize,
    pub credential: Option<nfs::Credential>,
}

#[derive(Clone)]
pub struct Disk(std::sync::Arc<Mutex<Content>>);

/// A call that has come.
pub struct Asked {
    pub head: CallHead,
    pub arguments: Vec<u8>,
}

impl Asked {
    pub fn is<C: Call>(&self) -> bool {
        (self.head.program, self.head.procedure) == (C::PROGRAM, C::PROCEDURE)
    }

    pub fn arguments<C: Call>(&self) -> C {
        C::take(&mut Reader::new(&self.arguments)).unwrap()
    }

    /// A reply of another server.
    pub fn reply<C: Call>(&self, reply: &C::Reply) -> Vec<u8> {
        let mut out = Vec::new();
        ReplyHead { xid: self.head.xid, outcome: Ok(()) }.put(&mut out);
        reply.put(&mut out);
        record(&out)
    }
}

/// What becomes of a call, beside that it is carried out.
pub enum Act {
    Answer,
    /// These bytes are sent instead of the reply.
    Send(Vec<u8>),
    Nothing,
    HangUp,
}

/// A message as a record of one fragment.
pub fn record(message: &[u8]) -> Vec<u8> {
    [&nfs::record::mark(message.len()).unwrap()[..], message].concat()
}

fn handle(number: u8) -> Handle {
    Handle::new(&[number, 0, 0, 7]).unwrap()
}

fn number(handle: &Handle) -> u8 {
    let mut bytes = Vec::new();
    handle.put(&mut bytes);
    bytes.get(4).copied().unwrap_or(0)
}

const NO_TIME: Time = Time { seconds: 0, nanoseconds: 0 };
pub const UNCHANGED: Change = Change { before: None, after: None };

impl Disk {
    pub fn new() -> Self {
        let names = [("disk", DISK), ("link", 3), ("folder", 1), ("pipe", 4)];
        Self(std::sync::Arc::new(Mutex::new(Content {
            now: vec![0; SIZE],
            durable: vec![0; SIZE],
            verifier: 1,
            names: names.map(|(name, number)| (name.to_owned(), number)).into(),
            kinds: [(1, FileType::Folder), (3, FileType::Link), (4, FileType::Pipe)].into(),
            target: "disk".to_owned(),
            export: "/exp".to_owned(),
            most: 1 << 20,
            answers: 1 << 20,
            calls: 0,
            credential: None,
        })))
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut Content) -> T) -> T {
        look(&mut self.0.lock())
    }

    /// What was not durable is lost, and the server is another one.
    pub fn lose_power(&self) {
        self.with(|content| {
            content.now = content.durable.clone();
            content.verifier += 1;
        });
    }

    /// Serves all connections side by side; `act` decides about each call, when it has been carried out.
    pub async fn serve(self, listener: Listener, act: impl FnMut(&Asked, &[u8]) -> Act + Send + 'static) {
        let act = std::sync::Arc::new(Mutex::new(act));
        while let Ok(stream) = listener.accept().await {
            let (disk, act) = (self.clone(), act.clone());
            rt::spawn(async move {
                let decide = move |asked: &Asked, reply: &[u8]| (act.lock())(asked, reply);
                disk.serve_one(&stream, decide).await;
            })
            .detach();
        }
    }

    /// Serves one connection until it ends.
    pub async fn serve_one(&self, stream: &Stream, act: impl FnMut(&Asked, &[u8]) -> Act) {
        self.serve_until(stream, act).await;
        let _ = stream.shutdown();
    }

    /// The same without ending it.
    pub async fn serve_until(&self, stream: &Stream, mut act: impl FnMut(&Asked, &[u8]) -> Act) {
        while let Some(asked) = next_call(stream).await {
            let reply = self.carry_out(&asked);
            let bytes = match act(&asked, &reply) {
                Act::Answer => record(&reply),
                Act::Send(bytes) => bytes,
                Act::Nothing => continue,
                Act::HangUp => break,
            };
            if stream.send_all(&bytes).await.is_err() {
                break;
            }
        }
    }

    /// Carries a call out: the reply's message.
    fn carry_out(&self, asked: &Asked) -> Vec<u8> {
        let mut content = self.0.lock();
        content.calls += 1;
        content.credential = Some(asked.head.credential);
        let mut out = Vec::new();
        ReplyHead { xid: asked.head.xid, outcome: Ok(()) }.put(&mut out);
        content.answer(asked, &mut out);
        out
    }
}

impl Content {
    fn attributes(&self, number: u8) -> Attributes {
        let kind = self.kinds.get(&number).copied().unwrap_or(FileType::Regular);
        let size = if number == DISK { self.now.len() as u64 } else { 0 };
        Attributes {
            kind,
            mode: 0o644,
            links: 1,
            user: 0,
            group: 0,
            size,
            used: size,
            device: [0; 8],
            file_system: 5,
            number: number.into(),
            accessed: NO_TIME,
            modified: NO_TIME,
            changed: NO_TIME,
        }
    }

    fn change(&self) -> Change {
        Change { before: None, after: Some(self.attributes(DISK)) }
    }

    fn verifier(&self) -> Verifier {
        self.verifier.to_be_bytes()
    }

    fn lookup(&self, at: &Name) -> Result<u8, (Status, Option<Attributes>)> {
        self.names.get(&at.name.0).copied().ok_or((Status::NOENT, None))
    }

    fn answer(&mut self, asked: &Asked, out: &mut Vec<u8>) {
        if asked.is::<Mount>() {
            let wanted = asked.arguments::<Mount>().path.0;
            let root = Root { handle: handle(1), flavors: vec![1] };
            return Mounted(if wanted == self.export { Ok(root) } else { Err(MountStatus::ACCESS) }).put(out);
        }
        if asked.is::<v3::Lookup>() {
            let found = self.lookup(&asked.arguments::<v3::Lookup>().of);
            let found = found.map(|number| v3::Found {
                file: handle(number),
                // Not all servers tell.
                attributes: Some(self.attributes(number)).filter(|_| number != DISK),
                folder: None,
            });
            return <v3::Lookup as Call>::Reply::put(&Outcome(found), out);
        }
        if asked.is::<v3::GetAttributes>() {
            let number = number(&asked.arguments::<v3::GetAttributes>().file);
            return <v3::GetAttributes as Call>::Reply::put(&Outcome(Ok(self.attributes(number))), out);
        }
        if asked.is::<v3::SetAttributes>() {
            if let Some(size) = asked.arguments::<v3::SetAttributes>().new.size {
                self.now.resize(size as usize, 0);
                self.durable.resize(size as usize, 0);
            }
            return <v3::SetAttributes as Call>::Reply::put(&Outcome(Ok(self.change())), out);
        }
        if asked.is::<v3::Access>() {
            let allowed = asked.arguments::<v3::Access>().wanted;
            return <v3::Access as Call>::Reply::put(
                &Outcome(Ok(v3::Allowed { attributes: None, allowed })),
                out,
            );
        }
        if asked.is::<v3::ReadLink>() {
            let target = Target { attributes: None, path: Text(self.target.clone()) };
            return <v3::ReadLink as Call>::Reply::put(&Outcome(Ok(target)), out);
        }
        if asked.is::<v3::Read>() {
            return self.read(&asked.arguments(), out);
        }
        if asked.is::<v3::Write>() {
            let mut reader = Reader::new(&asked.arguments);
            let call = v3::Write::take(&mut reader).unwrap();
            let data = reader.opaque(2 << 20).unwrap();
            assert_eq!(data.len(), call.count as usize);
            return self.write(&call, data, out);
        }
        if asked.is::<v3::Create>() {
            let at = asked.arguments::<v3::Create>().at;
            let created = match self.lookup(&at) {
                Ok(_) => Err((Status::EXIST, UNCHANGED)),
                Err(_) => {
                    self.names.insert(at.name.0, 9);
                    Ok(v3::Created { file: Some(handle(9)), attributes: None, folder: UNCHANGED })
                }
            };
            return <v3::Create as Call>::Reply::put(&Outcome(created), out);
        }
        if asked.is::<v3::Remove>() {
            self.names.remove(&asked.arguments::<v3::Remove>().of.name.0);
            return <v3::Remove as Call>::Reply::put(&Outcome(Ok(UNCHANGED)), out);
        }
        if asked.is::<v3::FileSystemInfo>() {
            let most = self.most;
            let info = v3::Info {
                attributes: None,
                read_most: most,
                read_best: most,
                read_unit: 1,
                write_most: most,
                write_best: most,
                write_unit: 1,
                folder_best: most,
                file_most: u64::MAX,
                time_step: NO_TIME,
                properties: 0,
            };
            return <v3::FileSystemInfo as Call>::Reply::put(&Outcome(Ok(info)), out);
        }
        if asked.is::<v3::Commit>() {
            self.durable = self.now.clone();
            let done = v3::CommitDone { change: self.change(), verifier: self.verifier() };
            return <v3::Commit as Call>::Reply::put(&Outcome(Ok(done)), out);
        }
        if asked.is::<v3::Null>() {
            return;
        }
        panic!("a call that is not made: {:?}", asked.head);
    }

    fn read(&self, call: &v3::Read, out: &mut Vec<u8>) {
        let from = (call.offset as usize).min(self.now.len());
        let to = (from + call.count.min(self.answers) as usize).min(self.now.len());
        let count = (to - from) as u32;
        let attributes = Some(self.attributes(DISK)).filter(|_| call.offset.is_multiple_of(2));
        let done = ReadDone { attributes, count, is_end: to == self.now.len(), len: count };
        <v3::Read as Call>::Reply::put(&Outcome(Ok(done)), out);
        out.extend_from_slice(&self.now[from..to]);
        out.resize(out.len() + nfs::xdr::padding(to - from), 0);
    }

    fn write(&mut self, call: &v3::Write, data: &[u8], out: &mut Vec<u8>) {
        let data = &data[..data.len().min(self.answers as usize)];
        let range = call.offset as usize..call.offset as usize + data.len();
        for (content, durable) in [(&mut self.now, false), (&mut self.durable, true)] {
            if content.len() < range.end {
                content.resize(range.end, 0);
            }
            if !durable || call.stability != Stability::Unstable {
                content[range.clone()].copy_from_slice(data);
            }
        }
        let done = WriteDone {
            change: self.change(),
            count: data.len() as u32,
            stability: call.stability,
            verifier: self.verifier(),
        };
        <v3::Write as Call>::Reply::put(&Outcome(Ok(done)), out);
    }
}

/// The next call of a connection.
pub async fn next_call(stream: &Stream) -> Option<Asked> {
    let mut mark = [0; 4];
    stream.recv_exact(&mut mark).await.ok()?;
    let mark = u32::from_be_bytes(mark);
    assert!(mark >> 31 == 1, "a call is one fragment");
    let mut message = vec![0; (mark & !(1 << 31)) as usize];
    stream.recv_exact(&mut message).await.ok()?;
    let mut reader = Reader::new(&message);
    let head = CallHead::take(&mut reader).unwrap();
    Some(Asked { head, arguments: reader.rest().to_vec() })
}
