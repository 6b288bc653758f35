//! Changing what an image is: passphrases, options of its format.
use crate::blockers::Operations;
use crate::create::creator::renamed;
use crate::driver::Amendment;
use crate::error::{BlockError, ErrorKind, Result};
use crate::graph::{BackendRequest, Graph};
use crate::node::Node;
use crate::options::{Opt, Options};
use crate::perm::{Perms, Share};
use std::sync::Arc;

impl Graph {
    /// Changes what a node's image is, by options of its driver. The caller has an entry with the permission to write.
    pub async fn amend(
        &self,
        node: &Arc<Node>,
        options: Options,
        force: bool,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<()> {
        if node.driver_type().amend_options.is_empty() {
            let text = format!("Format driver '{}' does not support option amendment", node.driver_name());
            return Err(BlockError::unsupported(text));
        }
        if node.read_only() {
            let text = format!("'{}' is read-only", node.name());
            return Err(BlockError::new(ErrorKind::ReadOnly, text));
        }
        let amendment =
            Amendment { options: renamed(options).nested(), force, objects: self.objects(), progress };
        if node.driver().amends_beside_requests(&amendment.options) {
            return node.driver().amend(amendment).await;
        }
        self.amend_in_quiet(node, amendment).await
    }

    /// The same with no request inside. Users that don't share what may change are in the way.
    async fn amend_in_quiet(&self, node: &Arc<Node>, amendment: Amendment<'_>) -> Result<()> {
        let mut change = self.change().await;
        let amended = async {
            node.check_operation(Operations::RESIZE)?;
            let need = Share::READ.union(Share::WRITE).union(Share::RESIZE);
            let perms = Perms { need, share: Share::ALL };
            let request =
                BackendRequest { label: "amendment".to_owned(), node: node.clone(), perms, pinned: true };
            let entry = change.attach(request)?;
            change.quiesce(std::slice::from_ref(node)).await?;
            let size = match amendment.options.get("size") {
                Some(&Opt::Uint(size)) => {
                    node.bitmaps.check_length(size)?;
                    size
                }
                _ => node.length(),
            };
            let amended = node.resizing(size, node.driver().amend(amendment)).await;
            // An amendment that failed may have come that far.
            self.tell_length(node);
            amended?;
            change.take_off(&entry);
            Ok(())
        };
        let amended = amended.await;
        change.end(amended).await
    }
}
