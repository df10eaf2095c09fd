//! The word that was probably meant: keys of profiles, names of checks, parameters of the kernel.

/// The member of `known` that `text` is a likely misspelling of.
pub(crate) fn closest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let text = text.to_lowercase().replace('_', "-");
    let distances = known.iter().map(|&word| (distance(&text, &word.replace('_', "-")), word));
    distances.min().filter(|&(distance, word)| distance <= word.len().div_ceil(3)).map(|(_, word)| word)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment). Of `a`
/// only the start counts: what is longer than any word is far from all of them.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    strsim::osa_distance(a.char_indices().nth(LONGEST).map_or(a, |(end, _)| a.split_at(end).0), b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        for (a, b, expected) in
            [("", "abc", 3), ("memroy", "memory", 1), ("kernal", "kernel", 1), ("cpu", "cpus", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_likely_misspellings_are_suggested() {
        assert_eq!(closest("memroy", &["cpus", "memory"]), Some("memory"));
        assert_eq!(closest("virtio_block", &["virtio-block", "virtio-net"]), Some("virtio-block"));
        assert_eq!(closest("colour", &["cpus", "memory"]), None);
        assert_eq!(closest(&"x".repeat(60_000), &["cpus"]), None);
    }
}
