//! Lack of space: told as such where it costs nothing, and as a lost sync where it may have cost data.

use super::*;

/// What becomes of a durable write and of durable zeroes where every command with FUA lacks space; `room`: for those without
/// there is some.
async fn durable_changes(socket: &Path, room: bool) -> [ErrorKind; 2] {
    let listener = bound(socket).await;
    let server = rt::spawn(async move {
        let guest = greet(&listener, ALL).await;
        while let Some((request, _)) = guest.next_request().await {
            if request.command == Command::DISC {
                break;
            }
            let to = guest.reply_to(&request);
            let mut reply = to.success().to_vec();
            if request.flags.contains(CommandFlags::FUA) || !room {
                reply.clear();
                to.put_error(&mut reply, ErrorCode::ENOSPC, "no space", None);
            }
            guest.stream.send_all(&reply).await.unwrap();
        }
    });
    let driver = connect(socket).await.unwrap();
    let fua = block::Request::GUEST.with(Flags::FUA);
    let written = driver.write(0, Buf::from_slice(&[1; 512]), fua).await.unwrap_err();
    let zeroed = driver.write_zeroes(0, 512, fua).await.unwrap_err();
    let plain = driver.write(0, Buf::from_slice(&[1; 512]), block::Request::GUEST).await;
    assert_eq!(plain.is_ok(), room);
    driver.close().await.unwrap();
    server.await.unwrap();
    [written.kind(), zeroed.kind()]
}

#[test]
fn lack_of_space_for_a_durable_change_is_a_lost_sync_where_the_same_is_taken_without_it() {
    run(async |socket: &Path| assert_eq!(durable_changes(socket, false).await, [ErrorKind::NoSpace; 2]));
    run(async |socket: &Path| assert_eq!(durable_changes(socket, true).await, [ErrorKind::Io; 2]));
}
