//! Finds the key somebody probably meant.

use crate::config::key::KEYS;

/// How many edits may lie between a typing error and what was meant.
const EDITS_MAX: usize = 3;

/// The known key nearest to `path`; the same name in another section counts as near.
pub(crate) fn nearest_key(path: &str) -> Option<String> {
    let name = path.rsplit('.').next().unwrap_or(path);
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Some(key.path());
    }
    let candidates = KEYS.iter().map(|key| {
        let full = key.path();
        let edits = if path.contains('.') {
            edits_between(path, &full)
        } else {
            edits_between(path, key.name)
        };
        (edits, full)
    });
    let (edits, nearest) = candidates.min_by_key(|(edits, _)| *edits)?;
    (edits <= EDITS_MAX).then_some(nearest)
}

/// Levenshtein distance. Both texts are short: longer ones are cut.
fn edits_between(a: &str, b: &str) -> usize {
    const CUT: usize = 64;
    let b: Vec<char> = b.chars().take(CUT).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(CUT).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            *cell = (diagonal + usize::from(x != *y))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_single_edits() {
        assert_eq!(edits_between("", "abc"), 3);
        assert_eq!(edits_between("abc", ""), 3);
        assert_eq!(edits_between("kitten", "sitting"), 3);
        assert_eq!(edits_between("tick_ms", "tick_mss"), 1);
    }

    #[test]
    fn typing_errors_and_wrong_sections_find_their_key() {
        assert_eq!(
            nearest_key("raft.tick_mss").as_deref(),
            Some("raft.tick_ms")
        );
        assert_eq!(nearest_key("raf.tick_ms").as_deref(), Some("raft.tick_ms"));
        assert_eq!(nearest_key("data_dir").as_deref(), Some("node.data_dir"));
        assert_eq!(
            nearest_key("broker.cluster").as_deref(),
            Some("node.cluster")
        );
        assert_eq!(nearest_key("something.else.entirely"), None);
    }
}
