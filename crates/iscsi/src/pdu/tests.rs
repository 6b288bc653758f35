//! Each PDU both ways.
use super::*;
use proptest::prelude::*;

fn stage() -> impl Strategy<Value = Stage> {
    prop_oneof![Just(Stage::Security), Just(Stage::Operational), Just(Stage::FullFeature)]
}

fn any_lun() -> impl Strategy<Value = Lun> {
    (0..=Lun::MOST).prop_map(|number| Lun::of(number).unwrap())
}

fn any_request() -> impl Strategy<Value = Request> {
    let transfer = prop_oneof![Just(Transfer::Nothing), Just(Transfer::Read), Just(Transfer::Write)];
    prop_oneof![
        (any_lun(), any::<[u32; 4]>()).prop_map(|(lun, [tag, target_tag, command, status])| {
            Request::Nop { lun, tag, target_tag, command, status }
        }),
        (any_lun(), transfer, any::<[u8; 16]>(), any::<bool>(), any::<[u32; 4]>()).prop_map(
            |(lun, transfer, block, complete, [tag, expected, command, status])| Request::Command {
                lun,
                tag,
                block,
                transfer,
                expected,
                complete,
                command,
                status
            }
        ),
        (stage(), proptest::option::of(stage()), any::<[u8; 6]>(), any::<(bool, u16)>(), any::<[u32; 3]>())
            .prop_map(|(stage, next, isid, (continues, tsih), [tag, command, status])| {
                Request::Login { stage, next, continues, isid, tsih, tag, command, status }
            }),
        (any_lun(), any::<bool>(), any::<[u32; 5]>()).prop_map(
            |(lun, last, [tag, target_tag, status, number, offset])| Request::DataOut {
                lun,
                tag,
                target_tag,
                status,
                number,
                offset,
                last
            }
        ),
        any::<[u32; 4]>().prop_map(|[tag, target_tag, command, status]| Request::Text {
            tag,
            target_tag,
            command,
            status
        }),
        any::<[u32; 3]>().prop_map(|[tag, command, status]| Request::Logout { tag, command, status }),
    ]
}

fn residual() -> impl Strategy<Value = Residual> {
    prop_oneof![
        Just(Residual::None),
        any::<u32>().prop_map(Residual::Under),
        any::<u32>().prop_map(Residual::Over)
    ]
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let event = prop_oneof![
        Just(AsyncEvent::Sense),
        any::<u16>().prop_map(AsyncEvent::LogoutWanted),
        any::<u16>().prop_map(AsyncEvent::Dropped),
        any::<u16>().prop_map(AsyncEvent::NegotiationWanted),
        (5u8..).prop_map(AsyncEvent::Other)
    ];
    prop_oneof![
        (any_lun(), any::<[u32; 2]>()).prop_map(|(lun, [tag, target_tag])| Answer::Nop {
            lun,
            tag,
            target_tag
        }),
        any::<[u32; 2]>().prop_map(|[tag, target_tag]| Answer::Text { tag, target_tag }),
        (residual(), any::<[u8; 2]>(), any::<u32>()).prop_map(|(residual, [response, status], tag)| {
            Answer::Response { tag, response, status, residual }
        }),
        (residual(), any::<Option<u8>>(), any::<bool>(), any::<[u32; 3]>()).prop_map(
            |(residual, status, last, [tag, number, offset])| Answer::DataIn {
                tag,
                number,
                offset,
                last,
                status,
                residual: if status.is_some() { residual } else { Residual::None }
            }
        ),
        (any_lun(), any::<[u32; 5]>()).prop_map(|(lun, [tag, target_tag, number, offset, len])| {
            Answer::Ready { lun, tag, target_tag, number, offset, len }
        }),
        (stage(), proptest::option::of(stage()), any::<[u8; 6]>(), any::<(bool, u16, u32, [u8; 2])>())
            .prop_map(|(stage, next, isid, (continues, tsih, tag, [class, detail]))| Answer::Login {
                stage,
                next,
                continues,
                isid,
                tsih,
                tag,
                class,
                detail
            }),
        any::<(u32, u8)>().prop_map(|(tag, response)| Answer::Logout { tag, response }),
        event.prop_map(Answer::Async),
        any::<u8>().prop_map(|reason| Answer::Reject { reason }),
    ]
}

proptest! {
    #[test]
    fn requests_come_back(request in any_request(), data in 0usize..1 << 24) {
        let header = request.encode(data);
        prop_assert_eq!(Request::parse(&header), Ok(request));
        prop_assert_eq!(Lengths::of(&header), Lengths { further: 0, data });
    }

    #[test]
    fn answers_come_back(answer in any_answer(), numbers in any::<[u32; 3]>(), data in 0usize..1 << 24) {
        let [stat, expected_command, most_command] = numbers;
        let numbers = Numbers { stat, expected_command, most_command };
        let header = answer.encode(numbers, data);
        prop_assert_eq!(Answer::parse(&header), Ok((answer, numbers)));
        prop_assert_eq!(Lengths::of(&header).data, data);
    }

    #[test]
    fn no_header_is_too_strange(header in proptest::collection::vec(any::<u8>(), HEADER)) {
        let header: Header = header.try_into().unwrap();
        let _ = (Answer::parse(&header), Request::parse(&header));
    }
}

#[test]
fn units_are_numbered_in_two_ways() {
    assert_eq!(Lun::of(7), Some(Lun([0, 7, 0, 0, 0, 0, 0, 0])));
    assert_eq!(Lun::of(0x1234), Some(Lun([0x52, 0x34, 0, 0, 0, 0, 0, 0])));
    assert_eq!(Lun::of(0x4000), None);
    assert_eq!((0..9).map(padding).collect::<Vec<_>>(), [0, 3, 2, 1, 0, 3, 2, 1, 0]);
}
