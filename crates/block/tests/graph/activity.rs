//! Whose images are: what is let go, and who takes it over.
use crate::*;
use futures_util::future::poll_immediate;
use std::pin::pin;

/// A guest's entry, which copes with its node's being let go.
async fn tolerant(graph: &Graph, node: &str) -> Arc<Backend> {
    let node = graph.need_node(node).unwrap();
    let request = BackendRequest { label: "guest".to_owned(), node, perms: Perms::WRITER, pinned: false };
    graph.attach_tolerant(request).await.unwrap()
}

#[test]
fn a_guests_request_that_met_a_closed_gate_waits_for_the_machine_to_go_on() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d")).await.unwrap();
        let (device, node) = (graph.add_device("d0").unwrap(), graph.need_node("d").unwrap());
        let request = BackendRequest {
            label: "guest".to_owned(),
            node: node.clone(),
            perms: Perms::WRITER,
            pinned: false,
        };
        let guest = graph.attach_guest(request, &device, true).await.unwrap();
        let mut change = graph.change().await;
        change.quiesce(std::slice::from_ref(&node)).await.unwrap();
        let mut write = pin!(guest.write(0, Buf::from_slice(&[1; 512]), Request::GUEST));
        let mut other = pin!(guest.flush());
        let mut third = pin!(guest.read(0, BufMut::with_len(512)));
        assert!(poll_immediate(&mut write).await.is_none() && poll_immediate(&mut other).await.is_none());
        assert!(poll_immediate(&mut third).await.is_none());
        // Stopped, and let go: its image is another program's.
        graph.running().stop();
        change.inactivate(std::slice::from_ref(&node)).await.unwrap();
        change.end(Ok(())).await.unwrap();
        for _ in 0..3 {
            assert!(poll_immediate(&mut write).await.is_none(), "it was neither done nor refused");
            assert!(poll_immediate(&mut other).await.is_none(), "nor called durable");
            assert!(poll_immediate(&mut third).await.is_none(), "nor answered from what is out of date");
        }
        graph.activate(&node).await.unwrap();
        graph.running().go_on();
        write.await.unwrap();
        other.await.unwrap();
        third.await.1.unwrap();
    });
}

#[test]
fn while_images_are_handed_over_nobody_takes_them_over_nor_does_later_who_asked_before() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("d")).await.unwrap();
        graph.add(memory("e")).await.unwrap();
        let (d, e) = (graph.need_node("d").unwrap(), graph.need_node("e").unwrap());
        let _guest = tolerant(&graph, "d").await;
        graph.inactivate(&e).await.unwrap();

        let handed_over = graph.hand_over_all().await.unwrap();
        assert_eq!(graph.activate(&d).await.unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(graph.activate_all().await.unwrap_err().kind(), ErrorKind::Busy);
        let turn = graph.change().await;
        let mut waits = pin!(graph.activate_all());
        assert!(poll_immediate(&mut waits).await.is_none());
        drop(handed_over);
        turn.end(Ok(())).await.unwrap();
        assert_eq!(waits.await.unwrap_err().kind(), ErrorKind::Busy, "the other program may have it by now");
        assert!(!d.is_active());
        graph.activate(&d).await.unwrap();

        graph.hand_over_all().await.unwrap().take_back().await.unwrap();
        assert!(d.is_active() && !e.is_active(), "what was not let go then is not taken back");
        graph.activate_all().await.unwrap();
        assert!(e.is_active());
    });
}

#[test]
fn an_image_whose_layers_are_not_all_durable_is_not_let_go() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("breaks").with("fail-flush", Opt::Bool(true))).await.unwrap();
        graph.add(memory("well")).await.unwrap();
        graph.add(overlay("base", "breaks")).await.unwrap();
        let base = attach(&graph, "base", Perms::WRITER).await.unwrap();
        base.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await.unwrap();
        graph.detach(&base).await.unwrap();
        let top = graph.add(overlay("top", "well").with_str("backing", "base")).await.unwrap();
        assert_eq!(graph.inactivate(&top).await.unwrap_err().kind(), ErrorKind::Io);
        assert!(top.is_active() && graph.need_node("breaks").unwrap().is_active());
    });
}

#[test]
fn what_a_stopped_machine_had_under_way_is_waited_for_and_made_durable() {
    rt::block_on_control(async {
        let graph = graph();
        let node = graph.add(memory("d").with("fail-flush", Opt::Bool(true))).await.unwrap();
        let device = graph.add_device("d0").unwrap();
        let request = BackendRequest { label: "guest".to_owned(), node, perms: Perms::WRITER, pinned: false };
        let guest = graph.attach_guest(request, &device, true).await.unwrap();
        let inside = guest.stay().await.unwrap();
        graph.running().stop();
        let mut settled = pin!(graph.settle_guests());
        assert!(poll_immediate(&mut settled).await.is_none(), "a request is under way");
        drop(inside);
        assert_eq!(settled.await.unwrap_err().kind(), ErrorKind::Io, "and what it wrote is not durable");
        graph.detach(&guest).await.ok();
        graph.settle_guests().await.unwrap();
    });
}
