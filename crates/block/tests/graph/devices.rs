//! Devices: changes of one that meet, and names that devices and nodes share.
use crate::*;

fn disk_model() -> Model {
    let id = "m".to_owned();
    Model {
        path: format!("/{id}"),
        id,
        removable: true,
        tray: None,
        writes: true,
        has_status: true,
        shares_writing: false,
    }
}

#[test]
fn a_model_that_comes_while_a_medium_is_put_in_uses_it_as_it_does() {
    rt::block_on_control(async {
        let graph = graph();
        let node = graph.add(memory("n")).await.unwrap();
        let device = graph.add_device("d").unwrap();
        let change = graph.change().await;
        let putting = {
            let (graph, device) = (graph.clone(), device.clone());
            rt::spawn(async move { graph.put_in(&device, node).await })
        };
        let plugging = {
            let (graph, device) = (graph.clone(), device.clone());
            rt::spawn(async move { graph.plug(&device, disk_model()).await })
        };
        rt::sleep(Duration::from_millis(20)).await;
        change.end(Ok(())).await.unwrap();
        putting.await.unwrap().unwrap();
        plugging.await.unwrap().unwrap();
        assert!(device.medium().unwrap().perms().need.has(Share::WRITE));
        assert_eq!(graph.plug(&device, disk_model()).await.unwrap_err().kind(), ErrorKind::Busy);
    });
}

#[test]
fn a_device_that_is_deleted_while_a_medium_is_put_in_keeps_none() {
    rt::block_on_control(async {
        let graph = graph();
        let node = graph.add(memory("n")).await.unwrap();
        let device = graph.add_device("d").unwrap();
        let change = graph.change().await;
        let putting = {
            let (graph, device, node) = (graph.clone(), device.clone(), node.clone());
            rt::spawn(async move { graph.put_in(&device, node).await })
        };
        let deleting = {
            let (graph, device) = (graph.clone(), device.clone());
            rt::spawn(async move { graph.remove_device(&device).await })
        };
        rt::sleep(Duration::from_millis(20)).await;
        change.end(Ok(())).await.unwrap();
        putting.await.unwrap().ok();
        deleting.await.unwrap().unwrap();
        assert!(graph.device("d").is_none() && device.medium().is_none());
        assert!(graph.users(&node).is_empty());
        assert_eq!(graph.put_in(&device, node).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(graph.plug(&device, disk_model()).await.unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_device_that_was_deleted_under_its_model_goes_with_the_model_and_what_was_put_in_since() {
    rt::block_on_control(async {
        let graph = graph();
        let node = graph.add(memory("n")).await.unwrap();
        let device = graph.add_device("d").unwrap();
        graph.plug(&device, disk_model()).await.unwrap();
        graph.remove_device(&device).await.unwrap();
        graph.put_in(&device, node.clone()).await.unwrap();
        graph.unplug(&device).await.unwrap();
        assert!(graph.users(&node).is_empty() && device.medium().is_none());
        graph.remove("n").await.unwrap();
    });
}

#[test]
fn a_device_whose_medium_fails_as_it_is_closed_is_deleted_all_the_same() {
    rt::block_on_control(async {
        let graph = graph();
        let node = graph.open(memory("n").with("fail-flush", Opt::Bool(true)), Policy::ALONE).await.unwrap();
        let device = graph.add_device("d").unwrap();
        // Where nothing was acknowledged, nothing is lost.
        graph.put_in(&device, node).await.unwrap();
        graph.remove_device(&device).await.unwrap();
        let node = graph.open(memory("n").with("fail-flush", Opt::Bool(true)), Policy::ALONE).await.unwrap();
        node.write(0, Buf::from_slice(&[1; 512]), Request::DRIVER).await.unwrap();
        let device = graph.add_device("d").unwrap();
        graph.put_in(&device, node).await.unwrap();
        assert_eq!(graph.remove_device(&device).await.unwrap_err().kind(), ErrorKind::Io);
        assert!(graph.device("d").is_none() && graph.nodes().is_empty() && graph.entries().is_empty());
    });
}

#[test]
fn no_node_is_called_as_a_device_is() {
    rt::block_on_control(async {
        let graph = graph();
        graph.add(memory("n")).await.unwrap();
        graph.add_device("d").unwrap();
        let device = "Device name 'n' conflicts with an existing node name";
        assert_eq!(graph.add_device("n").unwrap_err().message(), device);
        let node = "node-name=d is conflicting with a device id";
        assert_eq!(graph.check_free("d").unwrap_err().message(), node);
        assert_eq!(graph.add(memory("d")).await.unwrap_err().message(), node);
        assert_eq!(graph.nodes().len(), 1);
    });
}
