//! Create, against QEMU's own programs and against itself.
use super::*;
use crate::qcow2::header::BACKING_FORMAT;
use block::Link;

const SIZES: [u64; 5] = [0, 512, 1 << 20, 100 << 20, 5 << 30];

const VARIANTS: [&[(&str, &str)]; 12] = [
    &[],
    &[("compat", "0.10")],
    &[("compat", "v3"), ("lazy_refcounts", "on")],
    &[("cluster_size", "512")],
    &[("cluster_size", "2097152")],
    &[("refcount_bits", "1")],
    &[("refcount_bits", "2")],
    &[("refcount_bits", "4")],
    &[("refcount_bits", "8")],
    &[("refcount_bits", "32")],
    &[("refcount_bits", "64"), ("compression_type", "zstd")],
    &[("cluster_size", "4096"), ("refcount_bits", "64")],
];

fn joined(options: &[(&str, &str)]) -> String {
    options.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

#[test]
fn a_new_image_is_laid_out_and_checked_as_the_peer_does_it() {
    let scratch = Scratch::new();
    let (ours, theirs) = (scratch.path("ours"), scratch.path("theirs"));
    for options in VARIANTS {
        for size in SIZES {
            create(&ours, size, options).unwrap();
            let text = joined(options);
            let mut args = vec!["create", "-q", "-f", "qcow2", theirs.to_str().unwrap()];
            let size = size.to_string();
            args.push(&size);
            if !text.is_empty() {
                args.extend(["-o", &text]);
            }
            let Some((0, _)) = peer("qemu-img", &args) else { return };
            let (a, b) = (check(&ours), check(&theirs));
            assert_eq!(a.0, 0, "{options:?} {size}: {:?}", a.1);
            // QEMU lets the refcount table grow where one cluster does not do; we know its size beforehand.
            if header(&theirs).unwrap().refcount_table_offset == header(&ours).unwrap().refcount_table_offset
            {
                assert_eq!(a, b, "{options:?} {size}");
                assert_eq!(ours.metadata().unwrap().len(), theirs.metadata().unwrap().len());
            }
        }
    }
}

fn check(path: &Path) -> (i32, [u64; 3]) {
    let (code, json) = peer("qemu-img", &["check", "--output=json", path.to_str().unwrap()]).unwrap();
    let members = ["image-end-offset", "total-clusters", "allocated-clusters"];
    (code, members.map(|name| member(&json, name)))
}

#[test]
fn a_default_header_is_the_peers_byte_for_byte() {
    let scratch = Scratch::new();
    let (ours, theirs) = (scratch.path("ours"), scratch.path("theirs"));
    create(&ours, 64 << 20, &[]).unwrap();
    let args = ["create", "-q", "-f", "qcow2", theirs.to_str().unwrap(), "64M"];
    let Some((0, _)) = peer("qemu-img", &args) else { return };
    assert!(std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap());
}

#[test]
fn preallocated_images_pass_the_peers_check_and_read_as_zeroes() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for mode in ["metadata", "falloc", "full"] {
        for options in [
            &[("cluster_size", "65536")][..],
            &[("cluster_size", "512"), ("refcount_bits", "64")],
            &[("cluster_size", "16384"), ("extended_l2", "on")],
        ] {
            let options = [options, &[("preallocation", mode)]].concat();
            create(&path, 5 << 20, &options).unwrap();
            let name = path.to_str().unwrap();
            let Some((code, text)) = peer("qemu-img", &["check", "--output=json", name]) else { return };
            assert_eq!((code, member(&text, "leaks")), (0, 0), "{options:?} {text}");
            assert_eq!(member(&text, "allocated-clusters"), member(&text, "total-clusters"));
            let zero = peer("qemu-io", &["-r", "-f", "qcow2", "-c", "read -P 0 0 5M", name]).unwrap();
            assert_eq!(zero.0, 0, "{zero:?}");
        }
    }
}

/// Options, size, words of the error.
type Case = (&'static [(&'static str, &'static str)], u64, &'static str);

#[test]
fn options_that_make_no_image_are_refused_in_the_words_scripts_know() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    const LUKS: (&str, &str) = ("encrypt.format", "luks");
    const DATA: (&str, &str) = ("data_file", "data");
    let cases: [Case; 16] = [
        (&[("cluster_size", "1234")], 1, "Cluster size must be a power of two between 512 and 2048k"),
        (&[("cluster_size", "4194304")], 1, "Cluster size must be a power of two"),
        (&[("refcount_bits", "7")], 1, "Refcount width must be a power of two and may not exceed 64 bits"),
        (&[("refcount_bits", "8"), ("compat", "0.10")], 1, "compatibility level 1.1 and above"),
        (&[("compat", "0.42")], 1, "'version' does not accept value '0.42'"),
        (&[("compression_type", "lz4")], 1, "'compression-type' does not accept value 'lz4'"),
        (&[("preallocation", "some")], 1, "'preallocation' does not accept value 'some'"),
        (&[("backing_fmt", "raw")], 1, "Backing format cannot be used without backing file"),
        (&[("extended_l2", "on"), ("compat", "0.10")], 1, "Extended L2 entries are only supported with"),
        (&[("extended_l2", "on"), ("cluster_size", "8192")], 1, "at least 16384 bytes"),
        (&[("encrypt.format", "luks")], 1, "Parameter 'encrypt.key-secret' is required"),
        (&[("encrypt.key-secret", "s")], 1, "needs 'encrypt.format'"),
        (&[LUKS, DATA, ("data_file_raw", "on")], 1, "data-file-raw and encryption"),
        (
            &[LUKS, DATA, ("preallocation", "metadata"), ("keep_data_file", "on")],
            1,
            "keep-data-file and encryption",
        ),
        (&[("nonsense", "1")], 1, "nonsense"),
        (&[("cluster_size", "512")], 129 << 30, "try using a larger cluster size"),
    ];
    for (options, size, words) in cases {
        let error = create(&path, size, options).unwrap_err().to_string();
        assert!(error.contains(words), "{options:?}: {error}");
        assert_eq!(path.metadata().map_or(0, |file| file.len()), 0, "nothing is left of it");
    }
}

#[test]
fn a_backing_link_is_changed_and_all_else_in_the_header_kept_also_in_the_peers_images() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let name = path.to_str().unwrap();
    let long = "x".repeat(900);
    let links = [("b", Some("raw")), (&long, Some("qcow2")), ("c", None), (&long[1..], Some("raw"))];
    let args = ["create", "-q", "-u", "-f", "qcow2", "-b", "first", "-F", "qcow2", name, "1M"];
    for ours in [true, false] {
        if ours {
            create(&path, 1 << 20, &[("backing_file", "first"), ("backing_fmt", "qcow2")]).unwrap();
        } else if peer("qemu-img", &args).is_none() {
            return;
        }
        for (filename, format) in links {
            let before = header(&path).unwrap();
            relink(&path, Some(filename), format);
            let now = header(&path).unwrap();
            assert_eq!(
                (now.backing_name.as_deref(), now.backing_format().as_deref()),
                (Some(filename), format)
            );
            let others = |header: &Header| {
                let others = header.extensions.iter().filter(|e| e.kind != BACKING_FORMAT);
                others.map(|e| (e.kind, e.data.clone())).collect::<Vec<_>>()
            };
            assert_eq!(others(&now), others(&before));
            if let Some((code, text)) = peer("qemu-img", &["info", name]) {
                assert!(code == 0 && text.contains(&format!("backing file: {filename}")), "{text}");
            }
        }
        relink(&path, None, None);
        let now = header(&path).unwrap();
        assert_eq!((now.backing_name.as_deref(), now.backing_format(), now.backing_offset), (None, None, 0));
    }
}

fn relink(path: &Path, filename: Option<&str>, format: Option<&str>) {
    let link = Link { filename: filename.map(str::to_owned), format: format.map(str::to_owned) };
    rt::block_on_control(async {
        let opened = Opened::new(path).await;
        let mut header = Header::read(&opened.file).await.unwrap();
        header.set_backing_link(&opened.file, &link).await.unwrap();
        opened.close().await;
    });
}

#[test]
fn a_backing_name_is_stored_and_read_as_bytes() {
    let scratch = Scratch::new();
    let path = scratch.path("bytes.qcow2");
    let name = codec::filename::text(b"base\xff.raw");
    create(&path, 1 << 20, &[("backing_file", &name), ("backing_fmt", "raw")]).unwrap();
    let stored = std::fs::read(&path).unwrap();
    assert!(stored.windows(9).any(|bytes| bytes == b"base\xff.raw"));
    assert_eq!(header(&path).unwrap().backing_name, Some(name));
}

#[test]
fn a_backing_name_that_no_header_may_have_is_refused_with_its_length() {
    let scratch = Scratch::new();
    let path = scratch.path("a");
    create(&path, 1 << 20, &[("backing_file", &"b".repeat(1023))]).unwrap();
    let e = create(&path, 1 << 20, &[("backing_file", &"b".repeat(1024))]).unwrap_err();
    assert_eq!(e.kind(), block::ErrorKind::Limit);
    assert!(e.message().contains("may have 1023 bytes, this one has 1024"), "{e}");
}
