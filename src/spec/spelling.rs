//! The word that was probably meant: keys of profiles, names of checks, parameters of the kernel.

/// The member of `known` that `text` is a likely misspelling of.
pub(crate) fn closest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let text = text.to_lowercase().replace('_', "-");
    let distances = known.iter().map(|&word| (distance(&text, &word.replace('_', "-")), word));
    distances.min().filter(|&(distance, word)| distance <= word.len().div_ceil(3)).map(|(_, word)| word)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let cell = |rows: &[Vec<usize>], i: usize, j: usize| rows.get(i).and_then(|row| row.get(j)).copied();
    for (i, x) in a.iter().enumerate() {
        rows.push(vec![i + 1]);
        for (j, y) in b.iter().enumerate() {
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            let steps = [
                cell(&rows, i, j + 1).map(|cost| cost + 1),
                cell(&rows, i + 1, j).map(|cost| cost + 1),
                cell(&rows, i, j).map(|cost| cost + usize::from(x != y)),
                swapped.then(|| cell(&rows, i - 1, j - 1)).flatten().map(|cost| cost + 1),
            ];
            if let (Some(cost), Some(row)) = (steps.into_iter().flatten().min(), rows.last_mut()) {
                row.push(cost);
            }
        }
    }
    cell(&rows, a.len(), b.len()).unwrap_or(usize::MAX)
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
