//! Which of the names there are the operator may have meant.

/// No more than these are shown.
const SHOWN: usize = 3;

/// The nearest of `names`, best first; empty when none comes near.
pub fn nearest(typed: &str, names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut ranked: Vec<(usize, String)> = names
        .into_iter()
        .filter_map(|name| Some((rank(typed, &name)?, name)))
        .collect();
    ranked.sort();
    ranked.dedup();
    ranked.truncate(SHOWN);
    ranked.into_iter().map(|(_, name)| name).collect()
}

/// Smaller is nearer: a slip of the fingers before a name that only begins the same, and that before one that contains it.
fn rank(typed: &str, name: &str) -> Option<usize> {
    if typed.is_empty() {
        return None;
    }
    let slips = distance(typed, name);
    // Two letters that changed places are two slips.
    if slips <= 1 + typed.chars().count().div_ceil(4) && slips < typed.chars().count() {
        return Some(slips);
    }
    let longer = name.len().saturating_sub(typed.len());
    if name.starts_with(typed) || (!name.is_empty() && typed.starts_with(name)) {
        return Some(100 + longer);
    }
    // The random end of a pod's name is what nobody remembers.
    let stem = |name: &str| name.rsplit_once('-').map(|(stem, _)| stem.to_owned());
    if stem(typed).is_some() && stem(typed) == stem(name) {
        return Some(200);
    }
    (typed.len() > 2 && name.contains(typed)).then_some(300 + longer)
}

/// Letters to insert, remove, change, or swap with their neighbour (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let changed = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(typed: &str, names: &[&str]) -> Vec<String> {
        nearest(typed, names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn distances_are_letters() {
        for (one, other, letters) in [
            ("", "", 0),
            ("web", "", 3),
            ("web", "wbe", 1),
            ("web", "ebw", 2),
            ("web", "webs", 1),
            ("a", "b", 1),
        ] {
            assert_eq!(distance(one, other), letters, "{one} {other}");
            assert_eq!(distance(other, one), letters, "{other} {one}");
        }
    }

    #[test]
    fn what_was_meant_comes_first() {
        let names = [
            "web-7f9c4-x2x9k",
            "web-7f9c4-pl0qa",
            "wbe",
            "db-0",
            "cobweb",
        ];
        assert_eq!(
            near("web", &names),
            ["wbe", "web-7f9c4-pl0qa", "web-7f9c4-x2x9k"]
        );
        assert_eq!(
            near("web-7f9c4-aaaaa", &names),
            ["web-7f9c4-pl0qa", "web-7f9c4-x2x9k"]
        );
        assert_eq!(near("dp-0", &names), ["db-0"]);
        assert_eq!(near("zebra", &names), [""; 0]);
        assert_eq!(near("", &names), [""; 0]);
    }
}
