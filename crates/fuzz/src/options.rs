//! Text that says what to open or to make: sizes, `key=value` lists, `json:` names, options of the schema's types.

use api::{Value, keyval};
use block::Opt;
use tools::{creation::OptionList, image, object};

/// Reads the text in every way there is. Laws: a `key=value` list with its commas doubled is one value again; JSON that was
/// read is written the same when it is read again, but for zero with a sign, which has none when it is read; a size is the same
/// again as a plain number.
pub fn text(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    if let Ok(size) = api::parse_size(text) {
        assert_eq!(api::parse_size(&size.to_string()), Ok(size));
    }
    tools::size::whole(text);

    if !text.is_empty() {
        assert_eq!(keyval::split(&keyval::escape(text)), [text]);
    }
    keyval::pairs(text, None).ok();
    keyval::pairs(text, Some("driver")).ok();
    OptionList::default().add(text).ok();
    image::from_list(text).ok();
    object::accept(text).ok();

    if let Ok(value) = api::json::parse(text).map(without_signed_zeroes) {
        // A whole number may have been read from a fraction, so it is what is written that must stay the same.
        for write in [api::json::to_line, api::json::to_pretty] {
            let written = write(&value);
            assert_eq!(api::json::parse(&written).map(|again| write(&again)).as_ref(), Ok(&written));
        }
        if let Ok(option) = Opt::try_from(value) {
            let value = api::Value::from(option);
            assert_eq!(Opt::try_from(value.clone()).map(api::Value::from).ok(), Some(value));
        }
    }
    let graph = image::graph();
    for name in [text, &format!("json:{text}")] {
        graph.image_options(name, None).ok();
        graph.protocol_options(name).ok();
    }
    typed(text);
}

/// The value with `0.0` for each `-0.0`.
fn without_signed_zeroes(value: Value) -> Value {
    match value {
        Value::Float(n) => Value::Float(n + 0.0),
        Value::List(elements) => Value::List(elements.into_iter().map(without_signed_zeroes).collect()),
        Value::Dict(dict) => {
            Value::Dict(dict.into_iter().map(|(name, value)| (name, without_signed_zeroes(value))).collect())
        }
        other => other,
    }
}

/// The options of the daemon's command line.
fn typed(text: &str) {
    api::keyval::parse(text, None).ok();
    api::keyval::decode::<api::BlockdevOptions>(text, Some("driver")).ok();
    api::keyval::decode::<api::BlockExportOptions>(text, Some("type")).ok();
    api::keyval::decode::<api::ObjectOptions>(text, Some("qom-type")).ok();
    api::keyval::decode::<api::NbdServerOptions>(text, None).ok();
    api::keyval::decode::<api::MonitorOptions>(text, Some("chardev")).ok();
}

/// Texts of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "1.5G",
        "0xffffffffffffffff",
        "18446744073709551615.9E",
        "driver=qcow2,file.driver=file,file.filename=/a,,b.qcow2,cache.direct=on",
        "qcow2,node-name=n,file=f,lazy-refcounts=on,nobacking",
        "nbd,id=e,node-name=n,writable=on,bitmaps.0=b",
        "addr.type=inet,addr.host=::1,addr.port=10809,max-connections=3",
        "secret,id=s,data=eA==,format=base64",
        "[-1e-400, -0, -0.5]",
        r#"{"driver": "qcow2", "file": {"driver": "file", "filename": "a\u0000b\ud83d\ude00"}, "n": [1, -2, 3.5e3, null]}"#,
        "a.0=x,a.1=y,a.1.b=z",
        "cluster_size=64k,preallocation=full,backing_file=x,,y",
        "nbd://[::1]:10809/disk?socket=x",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
