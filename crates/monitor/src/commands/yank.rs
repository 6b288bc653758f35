//! Connections that no longer answer are given up.
use crate::chardev::Connections;
use crate::control::Control;
use api::{
    ErrorClass, QmpError, YankArguments, YankCommands, YankInstance, YankInstanceBlockNode,
    YankInstanceChardev,
};
use block::Node;
use std::sync::Arc;

/// What has a connection.
enum Connected {
    Node(Arc<Node>),
    Chardev(Arc<Connections>),
}

impl Connected {
    fn instance(&self) -> YankInstance {
        match self {
            Self::Node(node) => {
                YankInstance::BlockNode(YankInstanceBlockNode { node_name: node.name().to_owned() })
            }
            Self::Chardev(its) => YankInstance::Chardev(YankInstanceChardev { id: its.id().to_owned() }),
        }
    }

    fn cut(&self) {
        match self {
            Self::Node(node) => {
                if let Some(cut) = node.driver().cut() {
                    cut();
                }
            }
            Self::Chardev(its) => its.cut(),
        }
    }
}

impl Control {
    /// All that has a connection.
    fn connected(&self) -> Vec<Connected> {
        let nodes = self.graph().nodes();
        let nodes = nodes.iter().filter(|node| node.driver().cut().is_some()).cloned().map(Connected::Node);
        nodes.chain(self.connections().into_iter().map(Connected::Chardev)).collect()
    }
}

impl YankCommands for Control {
    async fn yank(&self, arguments: YankArguments) -> Result<(), QmpError> {
        let all = self.connected();
        let find = |wanted: &YankInstance| {
            let missing =
                || QmpError { class: ErrorClass::DeviceNotFound, desc: "Instance not found".to_owned() };
            all.iter().find(|one| one.instance() == *wanted).ok_or_else(missing)
        };
        // All of them, or none.
        let wanted = arguments.instances.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        wanted.into_iter().for_each(Connected::cut);
        Ok(())
    }

    async fn query_yank(&self) -> Result<Vec<YankInstance>, QmpError> {
        Ok(self.connected().iter().map(Connected::instance).collect())
    }
}
