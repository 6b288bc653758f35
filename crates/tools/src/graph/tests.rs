use super::*;
use crate::getopt::{self, Asked};
use api::json;

/// What QEMU 10 and we tell of a device and an export over an overlay, with a job; the last comes first in lists.
fn replies() -> Replies {
    let read = |text: &str| json::parse(text).unwrap();
    Replies {
        nodes: read(
            "[{'node-name': 'top', 'drv': 'qcow2', 'ro': false, 'file': '/i/<&\">.q', 'image': {'virtual-size': 67108864}},
              {'node-name': 'f', 'drv': 'file', 'ro': false, 'file': '/i/top.q', 'image': {'virtual-size': 196608}},
              {'node-name': 'base', 'drv': 'raw', 'ro': true, 'file': '/i/base', 'image': {'virtual-size': 67108864},
               'dirty-bitmaps': [{'name': 'b0'}]}]",
        ),
        devices: read("[{'device': 'd0', 'qdev': 'v0', 'removable': true, 'inserted': {'node-name': 'top'}}]"),
        exports: read("[{'id': 'e0', 'type': 'nbd', 'node-name': 'top', 'shutting-down': false}]"),
        jobs: read("[{'id': 'j', 'type': 'mirror', 'status': 'ready', 'current-progress': 1048576, 'total-progress': 2097152}]"),
        graph: read(
            "{'nodes': [{'id': 4, 'type': 'block-driver', 'name': 'f'}, {'id': 2, 'type': 'block-driver', 'name': 'top'},
                        {'id': 5, 'type': 'block-driver', 'name': 'base'}, {'id': 6, 'type': 'block-job', 'name': 'j'},
                        {'id': 3, 'type': 'block-backend', 'name': ''}, {'id': 1, 'type': 'block-backend', 'name': 'd0'}],
              'edges': [{'parent': 2, 'child': 5, 'name': 'backing', 'perm': [], 'shared-perm': ['consistent-read']},
                        {'parent': 2, 'child': 4, 'name': 'file', 'perm': ['resize', 'write', 'consistent-read'], 'shared-perm': []},
                        {'parent': 6, 'child': 2, 'name': 'main node', 'perm': [], 'shared-perm': ['write']},
                        {'parent': 3, 'child': 2, 'name': 'root', 'perm': ['consistent-read'], 'shared-perm': ['write-unchanged']},
                        {'parent': 1, 'child': 2, 'name': 'root', 'perm': ['write', 'consistent-read'], 'shared-perm': []}]}",
        ),
    }
}

#[test]
fn each_user_has_its_tree_and_a_node_is_described_once() {
    let text = text::draw(&Picture::of(&replies()));
    let want = "\
device d0 [v0, removable]
└─ rw--/---- top [qcow2, 64 MiB] /i/<&\">.q
   ├─ file rw-s/---- f [file, 192 KiB] /i/top.q
   └─ backing ----/r--- base [raw, read-only, 64 MiB, bitmap b0] /i/base
export e0 [top, nbd]
└─ r---/--u- top (above)
job j [mirror, ready, 1 MiB of 2 MiB]
└─ ----/-w-- top (above)
";
    assert_eq!(text, want);
}

#[test]
fn a_server_without_the_debugging_command_still_has_its_graph_drawn() {
    let mut replies = replies();
    replies.graph = api::Value::Null;
    let text = text::draw(&Picture::of(&replies));
    assert!(text.starts_with("device d0 [v0, removable]\n└─ top [qcow2, 64 MiB]"), "{text}");
    assert!(text.contains("export e0 [top, nbd]\n└─ top (above)\n"), "{text}");
}

#[test]
fn a_circle_and_names_with_control_characters_do_no_harm() {
    let mut replies = replies();
    replies.nodes = json::parse(
        "[{'node-name': 'a', 'drv': 'x', 'file': 'one\\u001b[2Jtwo\\n'}, {'node-name': 'b', 'drv': 'x'}]",
    )
    .unwrap();
    replies.graph = json::parse(
        "{'nodes': [{'id': 1, 'type': 'block-driver', 'name': 'a'}, {'id': 2, 'type': 'block-driver', 'name': 'b'}],
          'edges': [{'parent': 1, 'child': 2, 'name': 'n'}, {'parent': 2, 'child': 1, 'name': 'n'},
                    {'parent': 7, 'child': 9}, {'parent': 'x'}]}",
    )
    .unwrap();
    let picture = Picture::of(&replies);
    let text = text::draw(&picture);
    assert!(text.contains("one?[2Jtwo?"), "{text}");
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()));
    assert!(svg::draw(&picture).is_ok_and(|svg| !svg.contains('\u{1b}')));
    assert!(!dot::draw(&picture).contains('\u{1b}'));
}

#[test]
fn dot_and_svg_escape_what_they_would_read_otherwise() {
    let picture = Picture::of(&replies());
    let dot = dot::draw(&picture);
    assert!(dot.contains(r#"label="top\nqcow2, 64 MiB\n/i/<&\">.q"]"#), "{dot}");
    assert!(dot.contains(r#"n3 -> "#) || dot.contains(" -> "), "{dot}");
    let svg = svg::draw(&picture).unwrap();
    assert!(svg.contains("/i/&lt;&amp;&quot;&gt;.q"), "{svg}");
    assert_eq!(svg.matches("<rect ").count(), 6);
    assert_eq!(svg.matches("<polyline ").count(), 5);
}

#[test]
fn each_flag_changes_the_form() {
    getopt::tests::names_are_unique(FLAGS);
    for (flag, want) in [("--dot", Form::Dot), ("--svg", Form::Svg), ("--text", Form::Text)] {
        let asked = getopt::read(FLAGS, &[flag.to_owned()], Operands::Anywhere, Form::default());
        assert!(matches!(asked, Ok(Asked::Work(form, _)) if form == want));
    }
}
