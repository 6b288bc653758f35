//! Making a volume.
//!
//! The header comes last: until key material is durable, the file is no volume. What it held before is gone first.
use crate::encryption::{self, NewVolume, Place};
use api::{LUKSCreateOptions, PreallocMode};
use block::{
    BlockError, Create, CreateOption, CreateRequest, ErrorKind, MeasureRequest, Measured, Node, OptionKind,
    Request, Result,
};
use crypto::luks1::Payload;
use rt::BufMut;
use std::sync::Arc;

/// Bytes at the start that tell what a file is.
const HEAD: u64 = 4096;

pub(super) const OPTIONS: &[CreateOption] = &[
    CreateOption::SIZE,
    CreateOption::new("key-secret", OptionKind::Str, "Secret with the passphrase of the first key slot"),
    CreateOption::new("cipher-alg", OptionKind::Str, "Cipher, such as aes-256"),
    CreateOption::new("cipher-mode", OptionKind::Str, "Mode of the cipher: xts, cbc, ctr or ecb"),
    CreateOption::new("ivgen-alg", OptionKind::Str, "Initialisation vectors: plain64, plain or essiv"),
    CreateOption::new("ivgen-hash-alg", OptionKind::Str, "Hash of essiv"),
    CreateOption::new("hash-alg", OptionKind::Str, "Hash of key derivation"),
    CreateOption::new("iter-time", OptionKind::Number, "Milliseconds that trying a passphrase takes"),
    CreateOption::new("detached-header", OptionKind::Bool, "Make only the header, for data in another file")
        .without_size(),
    CreateOption::new("preallocation", OptionKind::Str, "Space reserved from the start: off, falloc or full"),
];

pub(super) const CREATE: Create<LUKSCreateOptions> = Create {
    adapt: None,
    judge: |size, options| Plan::new(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: Some(|request| Box::pin(measure(request))),
};

/// How the file gets its length: a volume has no tables.
pub(super) fn of_file(preallocation: PreallocMode) -> PreallocMode {
    match preallocation {
        PreallocMode::Metadata => PreallocMode::Off,
        other => other,
    }
}

/// What is to be made, of options that have been judged.
struct Plan {
    volume: NewVolume,
    payload: Payload,
    /// Bytes of the file.
    file: u64,
    preallocation: PreallocMode,
}

impl Plan {
    fn new(size: u64, options: &LUKSCreateOptions) -> Result<Self> {
        let volume = NewVolume::new(&encryption::of_file(options))?;
        let detached = options.detached_header.unwrap_or(false);
        let payload = if detached { Payload::Detached } else { Payload::Packed };
        let size = if detached { Some(0) } else { size.checked_next_multiple_of(512) };
        let file = size.and_then(|size| size.checked_add(volume.header_len()));
        let too_large = || BlockError::new(ErrorKind::Limit, "the image size is too large");
        let file = file.filter(|file| i64::try_from(*file).is_ok()).ok_or_else(too_large)?;
        let preallocation = of_file(options.preallocation.unwrap_or(PreallocMode::Off));
        Ok(Self { volume, payload, file, preallocation })
    }
}

async fn create(request: CreateRequest<'_, LUKSCreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, places } = request;
    let plan = Plan::new(size, &options)?;
    let passphrase =
        encryption::passphrase_of(places.objects(), "key-secret", options.key_secret.as_deref())?;
    // What takes seconds, and may be refused, comes before the file is touched.
    let (_, change) = plan.volume.make(passphrase, plan.payload).await?;
    empty(&file, &plan).await?;
    Place { file, offset: 0, len: plan.file }.carry_out(&change.steps).await
}

/// Takes the old content away, and gives the file its length.
async fn empty(file: &Arc<Node>, plan: &Plan) -> Result<()> {
    let (room, need) = (file.length(), plan.file);
    if !file.facts().grows_with_zeroes {
        // A device has a size of its own, and keeps its content: no old header may be found in it.
        if room < need {
            let text = format!("the volume needs {need} bytes, '{}' has {room}", file.filename());
            return Err(BlockError::new(ErrorKind::NoSpace, text));
        }
        file.write(0, BufMut::zeroed(HEAD as usize).freeze(), Request::DRIVER).await?;
        return file.flush().await;
    }
    file.driver().resize(0, PreallocMode::Off).await?;
    file.driver().resize(need, plan.preallocation).await
}

async fn measure(request: MeasureRequest<'_, LUKSCreateOptions>) -> Result<Measured> {
    let plan = Plan::new(request.size, &request.options)?;
    Ok(Measured { required: plan.file, full: plan.file, bitmaps: None })
}
