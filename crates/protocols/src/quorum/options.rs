//! What a quorum is told, and what of it fits together.
use api::{Encode, QuorumOptions};
use block::{BlockError, Opt, Options, Result};

/// Most children: each has a buffer of its own for every read.
const MOST: usize = 256;

/// Judges the options of a quorum with so many children: how many must agree.
pub fn check(options: &QuorumOptions, children: usize) -> Result<usize> {
    let wrong = |text: String| Err(BlockError::invalid(text));
    if children == 0 {
        return wrong("Number of provided children must be 1 or more".to_owned());
    }
    check_count(children)?;
    let threshold = usize::try_from(options.vote_threshold).unwrap_or(0);
    if threshold == 0 {
        return wrong("Parameter 'vote-threshold' expects a value >= 1".to_owned());
    }
    if threshold > children {
        return wrong(format!(
            "the vote threshold, {threshold}, is larger than the number of children, {children}"
        ));
    }
    let (verifies, rewrites) =
        (options.blkverify.unwrap_or(false), options.rewrite_corrupted.unwrap_or(false));
    if verifies && (children, threshold) != (2, 2) {
        return wrong("'blkverify' needs two children and a vote threshold of 2".to_owned());
    }
    if verifies && rewrites {
        return wrong("'blkverify' and 'rewrite-corrupted' exclude each other".to_owned());
    }
    Ok(threshold)
}

/// Refuses more children than there may be.
pub fn check_count(children: usize) -> Result<()> {
    match children <= MOST {
        true => Ok(()),
        false => Err(BlockError::invalid(format!("a quorum has at most {MOST} children, not {children}"))),
    }
}

/// The options that were given.
pub fn describe(given: &QuorumOptions) -> Options {
    match Opt::try_from(given.encode()) {
        Ok(Opt::Dict(given)) => given,
        _ => Options::new(),
    }
}
