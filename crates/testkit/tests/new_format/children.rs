//! The children of a node that has many: given in several ways, listed by name, and all of them reached by what concerns
//! the node.
use crate::{FILES, SIZE, stack};
use block::{BackendRequest, Grant, Graph, Node, Opt, Options, Perms, Policy};
use sim::Sim;
use std::sync::Arc;
use testkit::stack::Session;

const NAMES: [&str; 7] = ["file", "extents.0", "extents.1", "extents.2", "extents.3", "extents.4", "backing"];

pub fn file(name: &str) -> Options {
    Options::new().with_str("driver", "file").with_str("filename", name)
}

/// Runs a test on a machine that has a spread image over a raw one.
fn on_disk<F: Future<Output = ()> + Send + 'static>(test: fn(Graph) -> F) {
    let sim = Sim::new(1);
    sim.run(async move {
        let stack = stack(Some(SIZE));
        stack.create().await.unwrap();
        test(stack.graph()).await;
    });
}

pub fn top() -> Options {
    Options::new().with_str("driver", "spread").with("file", Opt::Dict(file("/top")))
}

pub async fn open(graph: &Graph, options: Options) -> block::Result<Session> {
    let node = graph.open(options, Policy::FOLLOW).await?;
    enter(graph, node).await
}

/// A guest on a node that is open.
pub async fn enter(graph: &Graph, node: Arc<Node>) -> block::Result<Session> {
    let request =
        BackendRequest { label: "guest".to_owned(), node: node.clone(), perms: Perms::WRITER, pinned: false };
    let backend = graph.attach(request).await?;
    Ok(Session { graph: graph.clone(), node, backend })
}

fn names(node: &Node) -> Vec<String> {
    node.edges().all().iter().map(|child| child.name.to_string()).collect()
}

fn files(node: &Node) -> Vec<String> {
    node.edges().all().iter().map(|child| child.node.filename()).collect()
}

#[test]
fn children_are_given_by_the_image_one_by_one_by_a_list_or_as_nodes() {
    on_disk(|graph| async move {
        let listed = FILES.map(|name| Opt::Dict(file(name))).to_vec();
        let mut dotted = top();
        for (n, name) in FILES.iter().enumerate() {
            dotted.set(format!("extents.{n}.driver"), Opt::Str("file".to_owned()));
            dotted.set(format!("extents.{n}.filename"), Opt::Str((*name).to_owned()));
        }
        graph.add(file(FILES[3]).with_str("node-name", "x3")).await.unwrap();
        let raw = Options::new().with_str("driver", "raw").with("file", Opt::Dict(file(FILES[2])));
        let one_is_an_image = top().with("extents.2", Opt::Dict(raw));
        let one_is_a_node = top().with_str("extents.3", "x3");
        let all = ["/top"].into_iter().chain(FILES).chain(["/base"]).map(str::to_owned).collect::<Vec<_>>();
        for options in
            [one_is_a_node, one_is_an_image, top(), top().with("extents", Opt::List(listed)), dotted]
        {
            let session = open(&graph, options).await.unwrap();
            assert_eq!(
                (names(&session.node), files(&session.node)),
                (NAMES.map(str::to_owned).to_vec(), all.clone())
            );
            session.close().await.unwrap();
            // The node that was there before stays, until the file can be opened by somebody else.
            if graph.node("x3").is_some() {
                graph.remove("x3").await.unwrap();
            }
            assert!(graph.nodes().is_empty(), "close gives all back");
        }
        let refused = async |options: Options| {
            let error = open(&graph, options).await.map(drop).unwrap_err();
            assert!(graph.nodes().is_empty(), "what was opened is given back");
            error.message().to_owned()
        };
        assert!(refused(top().with("extents.2", Opt::Null)).await.contains("\"extents.2\""));
        let five = top().with_str("extents.5.driver", "file");
        assert!(refused(five).await.contains("'extents.5.driver'"));
        assert!(refused(top().with_str("extents.1.filename", "/nowhere")).await.contains("/nowhere"));
        let alone = Policy { extents: Grant::Skip, ..Policy::ALONE };
        assert!(graph.open(top(), alone).await.unwrap_err().message().contains("\"extents.0\""));
        assert!(graph.nodes().is_empty());
    });
}

#[test]
fn a_create_claims_each_of_its_files_and_gives_all_back_or_keeps_all() {
    on_disk(|graph| async move {
        let made = async |extents: &str, backing: Option<&str>| {
            let mut options = Options::new().with_str("extents", extents);
            if let Some(backing) = backing {
                options = options.with_str("backing_file", backing).with_str("backing_fmt", "raw");
            }
            graph.create("spread", "/new", SIZE, options).await
        };
        let there = async |name: &str| rt::fs::stat(name.as_ref()).await.is_ok();
        made("/y", None).await.unwrap();
        assert!(there("/new").await && there("/y.0").await && there("/y.4").await);
        rt::fs::unlink("/new".as_ref()).await.unwrap();

        // A file that was there stays, and what is in it too; those that were made go.
        graph.create("raw", "/z.3", 512, Options::new()).await.unwrap();
        let user = graph.add(file("/z.3").with_str("node-name", "z3")).await.unwrap();
        let error = made("/z", None).await.unwrap_err();
        assert!(error.message().contains("'z3'"), "{error}");
        assert!(there("/z.3").await && user.length() == 512);
        for gone in ["/new", "/z.0", "/z.2", "/z.4"] {
            assert!(!there(gone).await, "{gone}");
        }
        graph.remove("z3").await.unwrap();
        let error = made("/z", Some("/z.3")).await.unwrap_err();
        assert!(error.message().contains("backing file"), "{error}");
        assert!(made("/z", Some("/base")).await.is_ok() && graph.nodes().is_empty());
    });
}

#[test]
fn any_child_is_reopened_inside_or_replaced_by_name_unless_its_tables_are_in_memory() {
    on_disk(|graph| async move {
        let session = open(&graph, top().with_str("node-name", "top")).await.unwrap();
        session.write(0, &[7; SIZE as usize], true).await.unwrap();
        let kept = || {
            let file = session.node.primary().unwrap();
            top()
                .with_str("node-name", "top")
                .with("file", Opt::Str(file.name().to_owned()))
                .with("backing", Opt::Str(session.node.backing().unwrap().name().to_owned()))
        };
        let extent =
            |n: u32| session.node.edges().all().into_iter().find(|c| c.name.index == Some(n)).unwrap().node;
        let others = [extent(0).name().to_owned(), extent(4).name().to_owned()];

        // What is not said of stays, what follows its parent does so.
        let direct = kept().with("cache", Opt::Dict(Options::new().with("no-flush", Opt::Bool(true))));
        graph.reopen(vec![direct]).await.unwrap();
        assert!(extent(3).common().no_flush);
        // One of them is given options of its own.
        let own = file(FILES[1]).with("cache", Opt::Dict(Options::new().with("no-flush", Opt::Bool(false))));
        graph
            .reopen(vec![kept().with("cache.no-flush", Opt::Bool(true)).with("extents.1", Opt::Dict(own))])
            .await
            .unwrap();
        assert!(!extent(1).common().no_flush && extent(2).common().no_flush);

        // One is replaced by a node that holds the same.
        graph.create("raw", "/copy", extent(2).length(), Options::new()).await.unwrap();
        let (bytes, result) = extent(2).read(0, rt::BufMut::with_len(extent(2).length() as usize)).await;
        result.unwrap();
        let copy = graph.add(file("/copy").with_str("node-name", "copy")).await.unwrap();
        copy.write(0, bytes.freeze(), block::Request::GUEST).await.unwrap();
        graph.reopen(vec![kept().with_str("extents.2", "copy")]).await.unwrap();
        assert_eq!(
            (extent(2).name(), extent(0).name(), extent(4).name()),
            ("copy", &*others[0], &*others[1])
        );
        assert_eq!(session.read(0, SIZE).await.unwrap(), vec![7; SIZE as usize]);
        session.write(0, &[8; SIZE as usize], true).await.unwrap();

        // What can't be leaves everything as it was.
        graph.create("raw", "/short", 512, Options::new()).await.unwrap();
        graph.add(file("/short").with_str("node-name", "short")).await.unwrap();
        for (wrong, words) in [
            (kept().with_str("extents.2", "short"), "too short"),
            (kept().with("extents.2", Opt::Null), "\"extents.2\""),
            (kept().with_str("extents.2", "top"), "cycle"),
            (kept().with_str("extents.2", "nobody"), "'nobody'"),
            (kept().with_str("extents.7", "copy"), "'extents.7'"),
            (kept().with_str("file", "copy"), "Cannot change the option 'file'"),
        ] {
            let error = graph.reopen(vec![wrong]).await.unwrap_err();
            assert!(error.message().contains(words), "{error}");
        }
        assert_eq!(extent(2).name(), "copy");
        assert_eq!(session.read(0, SIZE).await.unwrap(), vec![8; SIZE as usize]);
        session.close().await.unwrap();
        graph.close_all().await.unwrap();
    });
}

#[test]
fn what_is_asked_of_storage_reaches_every_file_of_it() {
    on_disk(|graph| async move {
        // A file that the image names may be given further options.
        let session = open(&graph, top().with_str("extents.1.locking", "off")).await.unwrap();
        session.write(0, &[7; SIZE as usize], true).await.unwrap();
        let node = &session.node;
        let parts = node.edges().all().into_iter().filter(|child| child.name.name != "backing");
        let sum: Option<u64> = parts.map(|child| child.node.allocated_size()).sum();
        assert_eq!(node.allocated_size(), sum);
        assert!(sum > node.primary().unwrap().allocated_size());
        session.close().await.unwrap();
    });
}

#[test]
fn permissions_and_access_reach_every_child_and_close_gives_them_back() {
    on_disk(|graph| async move {
        let mut options = top();
        let mut extents: Vec<Arc<Node>> = Vec::new();
        for (n, name) in FILES.iter().enumerate() {
            let options = file(name).with_str("node-name", &format!("x{n}"));
            extents.push(graph.add(options).await.unwrap());
        }
        options.set("extents", Opt::List((0..5).map(|n| Opt::Str(format!("x{n}"))).collect()));
        let session = open(&graph, options).await.unwrap();
        for (n, extent) in extents.iter().enumerate() {
            let parents = graph.parents(extent);
            let edge = session.node.edges().edge(parents[0].id).unwrap();
            assert_eq!((parents.len(), edge.name().to_string()), (1, format!("extents.{n}")));
            let label = "other".to_owned();
            let other = BackendRequest { label, node: extent.clone(), perms: Perms::WRITER, pinned: false };
            let refused = graph.attach(other).await.map(drop).unwrap_err();
            assert!(refused.message().contains(&format!("'x{n}'")), "{}", refused.message());
        }
        session.write(0, &[7; SIZE as usize], false).await.unwrap();
        let access = |node: &Node| node.edges().all().iter().map(|c| c.node.read_only()).collect::<Vec<_>>();
        assert_eq!(access(&session.node), [false, false, false, false, false, false, true]);
        let node = session.node.clone();
        graph.set_perms(&session.backend, Perms::READER).await.unwrap();
        graph.set_writable(&node, false).await.unwrap();
        // The monitor's own nodes stay as they were opened; the file goes with its image.
        assert_eq!(access(&node), [true, false, false, false, false, false, true]);
        for extent in &extents {
            // Nobody writes through the image any more: each can be switched.
            graph.set_writable(extent, false).await.unwrap();
        }
        graph.set_writable(&node, true).await.unwrap();
        assert_eq!(access(&node), [false, false, false, false, false, false, true]);
        session.write(0, &[8; SIZE as usize], true).await.unwrap();
        assert_eq!(session.read(0, SIZE).await.unwrap(), vec![8; SIZE as usize]);
        session.close().await.unwrap();
        for extent in &extents {
            assert!(graph.users(extent).is_empty());
            let label = "other".to_owned();
            let other = BackendRequest { label, node: extent.clone(), perms: Perms::WRITER, pinned: false };
            graph.detach(&graph.attach(other).await.unwrap()).await.unwrap();
        }
        graph.close_all().await.unwrap();
        assert!(graph.nodes().is_empty());
    });
}
