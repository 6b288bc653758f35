//! The filter as a node.
use block::{ErrorKind, Graph, Node, Opt, Options, Policy, Registry};
use std::sync::Arc;

fn graph() -> Graph {
    Graph::new(Registry::new(&[crate::DRIVERS]), |_| Ok(Options::new()))
}

/// A filter over a disk without content, with one rule and an alignment.
fn options(rule: &[(&str, &str)], align: u64) -> Options {
    let rule = rule.iter().fold(Options::new(), |rule, (name, value)| rule.with_str(name, value));
    let image = Options::new().with_str("driver", "null-co").with_str("node-name", "image");
    Options::new()
        .with_str("driver", "blkdebug")
        .with_str("node-name", "filter")
        .with("align", Opt::Uint(align))
        .with("inject-error", Opt::List(vec![Opt::Dict(rule)]))
        .with("image", Opt::Dict(image))
}

async fn open(graph: &Graph, options: Options) -> Arc<Node> {
    graph.open(options, Policy::ALONE).await.unwrap()
}

#[test]
fn a_question_for_what_is_stored_fails_where_a_rule_says_so() {
    rt::block_on_control(async {
        let graph = graph();
        let rule = [("event", "none"), ("iotype", "block-status"), ("errno", "28")];
        let filter = open(&graph, options(&rule, 512)).await;
        assert_eq!(filter.status(0, 4096, None).await.unwrap_err().kind(), ErrorKind::NoSpace);
        let image = graph.node("image").unwrap();
        assert_eq!(image.status(0, 4096, None).await.unwrap().len, 4096);
        graph.close_all().await.unwrap();
    });
}

#[test]
fn a_reopen_keeps_rules_and_limits_and_refuses_others() {
    rt::block_on_control(async {
        let graph = graph();
        let rule = [("event", "read_aio")];
        open(&graph, options(&rule, 512)).await;
        let again = |rule: &[(&str, &str)], align| {
            let options = options(rule, align).with_str("image", "image");
            graph.reopen(vec![options])
        };
        again(&rule, 512).await.unwrap();
        assert!(again(&rule, 4096).await.is_err());
        assert!(again(&[("event", "write_aio")], 512).await.is_err());
        graph.close_all().await.unwrap();
    });
}
