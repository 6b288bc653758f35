//! Counting: which children say the same, and which error most of them have.
use block::{BlockError, ErrorKind, Result};
use rt::BufMut;

/// The children that have answered, by their places, those together that say the same.
pub fn groups(buffers: &[BufMut], results: &[Result<()>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&BufMut, Vec<usize>)> = Vec::new();
    for (place, (buffer, result)) in buffers.iter().zip(results).enumerate() {
        if result.is_err() {
            continue;
        }
        match groups.iter_mut().find(|(said, _)| said[..] == buffer[..]) {
            Some((_, places)) => places.push(place),
            None => groups.push((buffer, vec![place])),
        }
    }
    groups.into_iter().map(|(_, places)| places).collect()
}

/// The error that most have, the first one of as many.
pub fn error(errors: impl Iterator<Item = BlockError>) -> BlockError {
    let errors: Vec<_> = errors.collect();
    let votes = |error: &BlockError| errors.iter().filter(|other| other.errno() == error.errno()).count();
    let most = errors.iter().rev().max_by_key(|error| votes(error)).cloned();
    most.unwrap_or_else(|| BlockError::new(ErrorKind::Closed, "the quorum has no children"))
}

/// Where the first two children differ.
pub fn difference(buffers: &[BufMut], offset: u64) -> BlockError {
    let at = match buffers {
        [one, other, ..] => one.iter().zip(&other[..]).position(|(one, other)| one != other).unwrap_or(0),
        _ => 0,
    };
    let text = format!("quorum: the two children differ from byte {} on", offset + at as u64);
    BlockError::new(ErrorKind::Io, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_say_the_same_are_together_and_those_that_failed_say_nothing() {
        let said = |byte: u8| BufMut::from_slice(&[byte; 8]);
        let failed = || Err(BlockError::new(ErrorKind::Io, "gone"));
        let buffers = [said(1), said(2), said(1), said(1)];
        assert_eq!(groups(&buffers, &[Ok(()), Ok(()), failed(), Ok(())]), [vec![0, 3], vec![1]]);
        assert!(groups(&buffers[..1], &[failed()]).is_empty());
    }

    #[test]
    fn the_error_of_most_counts() {
        let of = |kind| BlockError::new(kind, "");
        let told = error([of(ErrorKind::NoSpace), of(ErrorKind::Io), of(ErrorKind::Io)].into_iter());
        assert_eq!(told.kind(), ErrorKind::Io);
        let told = error([of(ErrorKind::NoSpace), of(ErrorKind::Io)].into_iter());
        assert_eq!(told.kind(), ErrorKind::NoSpace);
    }
}
