//! A fixed image: the disk as it is, then its footer.
use api::PreallocMode;
use block::{
    Action, ChildId, Driver, DriverInfo, Edge, Edges, Extent, ExtentKind, Facts, MapChange, Options, Perms,
    Request, Result, Share, Want, WritePlan,
};
use rt::BoxFuture;
use std::sync::Arc;

/// A fixed image.
pub(super) struct Fixed {
    pub edges: Arc<Edges>,
    pub file: ChildId,
    /// Bytes of the disk.
    pub size: u64,
    /// Options without which the file would be another disk.
    pub naming: Options,
}

impl Fixed {
    fn place(&self, offset: u64, len: u64) -> Extent {
        Extent { len, kind: ExtentKind::Data { child: self.file, offset, owned: true } }
    }
}

impl Driver for Fixed {
    fn facts(&self) -> Facts {
        let below = self.edges.with(self.file, |file| file.map(|file| file.facts())).unwrap_or_default();
        Facts {
            mapping: true,
            // Holes of the file are zeroes of the disk.
            thin_data: true,
            can_write_zeroes: below.can_write_zeroes,
            grows_with_zeroes: below.grows_with_zeroes,
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.size
    }

    fn try_map(&self, offset: u64, len: u64, _: Want) -> Option<Extent> {
        Some(self.place(offset, len))
    }

    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(std::future::ready(Ok(self.place(offset, len))))
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        _: MapChange,
        _: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        let action = Action::Forward { child: self.file, offset };
        Box::pin(std::future::ready(Ok(WritePlan { len, action, token: None })))
    }

    fn is_settled(&self, _: u64, _: u64) -> bool {
        true
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.edges.need(self.file)?.flush().await })
    }

    fn resize(&self, _: u64, _: PreallocMode) -> BoxFuture<'_, Result<()>> {
        let text = "Image format driver does not support resize";
        Box::pin(std::future::ready(Err(block::BlockError::unsupported(text))))
    }

    fn child_perms(&self, _: &Edge, parents: Perms, _: bool) -> Perms {
        Perms { need: parents.need.union(Share::READ), ..parents }
    }

    fn naming_options(&self) -> Options {
        self.naming.clone()
    }

    fn info(&self) -> DriverInfo {
        DriverInfo { dirty: Some(false), ..DriverInfo::default() }
    }
}
