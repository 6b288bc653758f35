//! Changing what an image is: passphrases, options of its format.
use crate::create::creator::renamed;
use crate::driver::Amendment;
use crate::error::{BlockError, ErrorKind, Result};
use crate::graph::Graph;
use crate::node::Node;
use crate::options::Options;
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
        node.driver().amend(amendment).await
    }
}
