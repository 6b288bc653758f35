//! `quorum`: one disk in several children; what it shows is what enough of them agree on.
//!
//! ```text
//!            ┌▶ children.0 ─┐
//! request ─ lease ▶ children.1 ─┼─▶ vote: `vote-threshold` of them say the same ─▶ answer
//!            └▶ children.2 ─┘        others are reported, and rewritten if that is asked for
//! ```
//!
//! - Changes go to all children, and succeed where they do in enough of them. Reads ask all and compare ([`vote`]); with
//!   `read-pattern=fifo` they ask one after the other until one answers.
//! - Changes of overlapping ranges take turns, and reads wait for them: else children would differ although none is wrong.
//! - A child that has failed a change which succeeded, or a flush, is behind: fifo reads ask it last, a vote prefers what
//!   others say, and its flushes count only where no child's fails.
//! - Children come and go ([`Membership`]); there are never fewer than the threshold.
//!
//! Bounds: as many buffers of a read's length as there are children.
mod options;
mod vote;

use api::{PreallocMode, QuorumOpType, QuorumOptions, QuorumReadPattern};
use block::{
    BlockError, ChildId, ChildName, ChildRole, ChildSpec, Common, Driver, DriverType, Edge, Edges, ErrorKind,
    Extent, ExtentKind, Facts, Flags, Leases, Membership, Node, Notice, Notices, Open, OpenContext, Opened,
    Options, Perms, Reopened, Request, Result, Share, Want,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};

/// The `quorum` driver.
pub const QUORUM: DriverType = DriverType { name: "quorum", open: &Open(open), ..DriverType::PROTOCOL };

/// The list that the children are of.
const CHILDREN: &str = "children";
const ROLE: ChildRole = ChildRole::DATA.union(ChildRole::NAMED).union(ChildRole::IMAGE);

struct Quorum {
    edges: Arc<Edges>,
    /// Children that must agree.
    threshold: usize,
    fifo: bool,
    /// Children that were outvoted get what the others have.
    rewrites: bool,
    /// There are two, and the program ends when they differ.
    verifies: bool,
    leases: Arc<Leases>,
    /// Children that have failed a change which was acknowledged, or a flush, or that alone were shrunk.
    behind: Mutex<HashSet<ChildId>>,
    notices: Notices,
    node: OnceLock<Weak<Node>>,
    options: QuorumOptions,
}

/// A child, with the edge that leads to it.
struct Member {
    id: ChildId,
    node: Arc<Node>,
}

fn open(context: &mut OpenContext, options: QuorumOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let count = context.listed(CHILDREN);
        let threshold = options::check(&options, count)?;
        let mut length = None;
        for index in 0..count as u32 {
            let name = ChildName { name: CHILDREN, index: Some(index) };
            let (_, child) = context.needed(ChildSpec { name, role: ROLE, stored: None }).await?;
            same_length(*length.get_or_insert(child.length()), &child)?;
        }
        let driver = Quorum {
            edges: context.edges().clone(),
            threshold,
            fifo: options.read_pattern == Some(QuorumReadPattern::Fifo),
            rewrites: options.rewrite_corrupted.unwrap_or(false),
            verifies: options.blkverify.unwrap_or(false),
            leases: Leases::new(),
            behind: Mutex::default(),
            notices: context.notices(),
            node: OnceLock::new(),
            options,
        };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

fn same_length(length: u64, child: &Node) -> Result<()> {
    match child.length() == length {
        true => Ok(()),
        false => Err(BlockError::invalid(format!(
            "the children of a quorum must be equally long: '{}' has {} bytes, another one {length}",
            child.name(),
            child.length()
        ))),
    }
}

impl Quorum {
    fn members(&self) -> Vec<Member> {
        self.edges.all().into_iter().map(|child| Member { id: child.id, node: child.node }).collect()
    }

    /// Reports a child that has failed, or that was outvoted.
    fn bad(
        &self,
        operation: QuorumOpType,
        member: &Member,
        (offset, len): (u64, u64),
        error: Option<&BlockError>,
    ) {
        self.notices.tell(Notice::QuorumBad { operation, node: &member.node, offset, len, error });
    }

    /// There is no majority.
    fn failed(&self, (offset, len): (u64, u64)) {
        if let Some(node) = self.node.get().and_then(Weak::upgrade) {
            self.notices.tell(Notice::QuorumFailed { node: &node, offset, len });
        }
    }

    /// Does something to all children; tells of those that fail. Succeeds where enough do.
    async fn all<F: Future<Output = Result<()>>>(
        &self,
        operation: QuorumOpType,
        range: (u64, u64),
        work: impl Fn(Arc<Node>) -> F,
    ) -> Result<()> {
        let members = self.members();
        let results = join_all(members.iter().map(|member| work(member.node.clone()))).await;
        let mut failed = HashSet::new();
        for (member, result) in members.iter().zip(&results) {
            if let Err(error) = result {
                failed.insert(member.id);
                self.bad(operation, member, range, Some(error));
            }
        }
        {
            let mut behind = self.behind.lock();
            // Where one can't flush, what it holds must be durable in enough others that hold it too.
            let all_count = operation != QuorumOpType::Flush || failed.is_empty();
            let done = members.iter().filter(|member| !failed.contains(&member.id));
            let done = done.filter(|member| all_count || !behind.contains(&member.id)).count();
            // Nobody is behind for want of a change that nobody was told of; but a flush that fails may lose earlier ones.
            if done >= self.threshold || operation == QuorumOpType::Flush {
                behind.extend(failed);
            }
            if done >= self.threshold {
                return Ok(());
            }
        }
        if operation != QuorumOpType::Flush {
            self.failed(range);
        }
        Err(vote::error(results.into_iter().filter_map(Result::err)))
    }

    async fn change<F: Future<Output = Result<()>>>(
        &self,
        (offset, len): (u64, u64),
        work: impl Fn(Arc<Node>) -> F,
    ) -> Result<()> {
        let _lease = self.leases.lease(offset, offset.saturating_add(len), true).await;
        self.all(QuorumOpType::Write, (offset, len), work).await
    }

    /// Asks one child after the other, those that are behind last.
    async fn read_first(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let mut members = self.members();
        {
            let behind = self.behind.lock();
            members.sort_by_key(|member| behind.contains(&member.id));
        }
        let range = (offset, buf.len() as u64);
        let mut result = Err(BlockError::new(ErrorKind::Closed, "the quorum has no children"));
        for member in &members {
            (buf, result) = self.read_one(member, offset, buf).await;
            match &result {
                Ok(()) => break,
                Err(error) => self.bad(QuorumOpType::Read, member, range, Some(error)),
            }
        }
        (buf, result)
    }

    /// Asks one. A child that is shorter than the rest does not have the zeroes that are read behind its end.
    async fn read_one(&self, member: &Member, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let end = offset.saturating_add(buf.len() as u64).min(self.length());
        if member.node.length() < end {
            let text = format!("'{}' is shorter than the other children of its quorum", member.node.name());
            return (buf, Err(BlockError::new(ErrorKind::Io, text).at(offset)));
        }
        member.node.read_or_zero(offset, buf).await
    }

    /// Asks all, and compares.
    async fn read_all(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let (members, range) = (self.members(), (offset, buf.len() as u64));
        // The first one fills the buffer of whoever asks.
        let further = members.iter().skip(1).map(|_| BufMut::with_len(buf.len())).collect::<Vec<_>>();
        let buffers = std::iter::once(buf).chain(further);
        let reads = members.iter().zip(buffers).map(|(member, into)| self.read_one(member, offset, into));
        let (mut buffers, results): (Vec<_>, Vec<_>) = join_all(reads).await.into_iter().unzip();
        for (member, result) in members.iter().zip(&results) {
            if let Err(error) = result {
                self.bad(QuorumOpType::Read, member, range, Some(error));
            }
        }
        let groups = vote::groups(&buffers, &results);
        let answered: usize = groups.iter().map(Vec::len).sum();
        let behind = self.behind.lock().clone();
        let is_behind = |place: &usize| members.get(*place).is_some_and(|member| behind.contains(&member.id));
        // Those that are behind may all say the same old data. Where enough others agree they don't decide.
        let weight =
            |group: &[usize]| (group.len() >= self.threshold && !group.iter().all(is_behind), group.len());
        let winners = groups.iter().map(Vec::as_slice);
        let winners = winners.rev().max_by_key(|group| weight(group)).unwrap_or_default();
        let result = if answered < self.threshold {
            Err(vote::error(results.into_iter().filter_map(Result::err)))
        } else if self.verifies && groups.len() > 1 {
            let error = vote::difference(&buffers, offset);
            self.notices.tell(Notice::Diverged(&error.message()));
            Err(error)
        } else if winners.len() < self.threshold {
            let text = format!("only {} of {} children agree on what is read", winners.len(), members.len());
            Err(BlockError::new(ErrorKind::Io, text).at(offset))
        } else {
            Ok(())
        };
        let winner = winners.first().copied().unwrap_or(0);
        if result.is_err() {
            self.failed(range);
            return (buffers.swap_remove(winner), result);
        }
        let mut data = buffers.swap_remove(winner);
        let losers = groups.iter().flatten().filter(|place| !winners.contains(place));
        let losers: Vec<_> = losers.filter_map(|place| members.get(*place)).collect();
        losers.iter().for_each(|loser| self.bad(QuorumOpType::Read, loser, range, None));
        let old = winners.iter().all(is_behind);
        let spoilt: Vec<_> = losers.into_iter().filter(|loser| !old || behind.contains(&loser.id)).collect();
        if self.rewrites && !spoilt.is_empty() {
            data = rewrite(offset, data, &spoilt).await;
        }
        (data, Ok(()))
    }
}

/// Gives those that were outvoted what the others have. What fails is reported by the next read.
async fn rewrite(offset: u64, data: BufMut, losers: &[&Member]) -> BufMut {
    let data = data.freeze();
    join_all(losers.iter().map(|loser| async {
        if let Err(error) = loser.node.write(offset, data.clone(), Request::DRIVER).await {
            tracing::warn!(node = loser.node.name(), %error, "an outvoted child could not be rewritten");
        }
    }))
    .await;
    data.try_into_mut().unwrap_or_else(|shared| BufMut::from_slice(&shared))
}

impl Driver for Quorum {
    fn facts(&self) -> Facts {
        let grows = self.members().iter().all(|member| member.node.facts().grows_with_zeroes);
        Facts { can_write_zeroes: true, grows_with_zeroes: grows, ..Facts::default() }
    }

    fn length(&self) -> u64 {
        let (members, behind) = (self.members(), self.behind.lock());
        let member = members.iter().find(|member| !behind.contains(&member.id)).or(members.first());
        member.map_or(0, |member| member.node.length())
    }

    fn try_map(&self, _: u64, _: u64, _: Want) -> Option<Extent> {
        None
    }

    /// What status tells: zeroes where all children say so, else data.
    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            let _lease = self.leases.lease(offset, offset.saturating_add(len), false).await;
            let (mut len, mut zero) = (len, 0);
            for member in self.members() {
                let status = match member.node.status(offset, len, None).await {
                    Ok(status) => status,
                    Err(error) => {
                        self.bad(QuorumOpType::Read, &member, (offset, len), Some(&error));
                        return Ok(Extent { len, kind: ExtentKind::Stored });
                    }
                };
                len = len.min(status.len);
                zero += usize::from(status.zero);
            }
            let zero = zero >= self.threshold && zero == self.members().len();
            let kind = if zero { ExtentKind::Zero { reserved: None } } else { ExtentKind::Stored };
            Ok(Extent { len, kind })
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let _lease = self.leases.lease(offset, offset.saturating_add(buf.len() as u64), false).await;
            if self.fifo { self.read_first(offset, buf).await } else { self.read_all(offset, buf).await }
        })
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.change((offset, data.len() as u64), |node| {
                let data = data.clone();
                async move { node.write(offset, data, request).await }
            })
            .await
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            // One may be able to do it fast where another one is not.
            let request = request.without(Flags::NO_FALLBACK);
            self.change((offset, len), |node| async move { node.write_zeroes(offset, len, request).await })
                .await
        })
    }

    /// What was discarded reads as whatever each child likes: it is left as it is, so that they agree.
    fn discard(&self, _: u64, _: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.all(QuorumOpType::Flush, (0, 0), |node| async move { node.flush().await }))
    }

    /// All of them, or none as far as that can be. What was cut off does not come back: children that were shrunk before one
    /// could not be are behind.
    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (members, old) = (self.members(), self.length());
            for (number, member) in members.iter().enumerate() {
                let Err(error) = member.node.set_length(size, preallocation).await else { continue };
                for done in members.iter().take(number) {
                    if size < old {
                        self.behind.lock().insert(done.id);
                        self.bad(QuorumOpType::Write, done, (size, old - size), Some(&error));
                    } else if let Err(error) = done.node.set_length(old, PreallocMode::Off).await {
                        tracing::error!(node = done.node.name(), %error, "a child keeps a length of its own");
                    }
                }
                return Err(error);
            }
            Ok(())
        })
    }

    fn allocated_size(&self) -> Option<u64> {
        self.members().iter().map(|member| member.node.allocated_size()).sum()
    }

    fn reopen<'a>(&'a self, _: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        let name = self.node.get().and_then(Weak::upgrade).map(|node| node.name().to_owned());
        let text = format!("the quorum '{}' can't be reopened", name.unwrap_or_default());
        Box::pin(std::future::ready(Err(BlockError::unsupported(text))))
    }

    /// Others may not make one child differ from the rest.
    fn child_perms(&self, child: &Edge, parents: Perms, _: bool) -> Perms {
        let _ = child;
        let need = if self.rewrites { parents.need.union(Share::WRITE) } else { parents.need };
        Perms { need, share: parents.share.without(Share::WRITE.union(Share::RESIZE)) }
    }

    fn naming_options(&self) -> Options {
        options::describe(&self.options)
    }

    fn membership(&self) -> Option<&dyn Membership> {
        Some(self)
    }

    fn attached(&self, node: &Arc<Node>) {
        // Told once.
        let _ = self.node.set(Arc::downgrade(node));
    }
}

impl Membership for Quorum {
    fn list(&self) -> (&'static str, ChildRole) {
        (CHILDREN, ROLE)
    }

    fn may_join(&self, child: &Node) -> Result<()> {
        if self.verifies {
            return Err(BlockError::invalid("Cannot add a child to a quorum in blkverify mode"));
        }
        let members = self.members();
        options::check_count(members.len() + 1)?;
        // A child that comes gets the place, and the id, of one that has left.
        self.behind.lock().retain(|id| members.iter().any(|member| member.id == *id));
        same_length(self.length(), child)
    }

    fn may_leave(&self) -> Result<()> {
        match self.members().len() > self.threshold {
            true => Ok(()),
            false => Err(BlockError::invalid(format!(
                "The number of children cannot be lower than the vote threshold {}",
                self.threshold
            ))),
        }
    }
}
