//! Children before parents, and what refers to each other together.
//!
//! Owns: the arithmetic on numbers of tables. Does not own: what tables are.

use std::collections::BTreeSet;

/// Tables, by their numbers, that are erased in one statement: one of them alone, or a cycle.
pub type Group = Vec<usize>;

/// Groups of `count` tables such that whoever refers to another comes before it, or with it. An edge is (child, parent).
#[must_use]
pub fn order(count: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<Group> {
    let reach: Vec<BTreeSet<usize>> = (0..count).map(|from| reached(from, edges)).collect();
    let reaches = |from: usize, to: usize| reach.get(from).is_some_and(|set| set.contains(&to));
    let mut left: BTreeSet<usize> = (0..count).collect();
    let mut groups = Vec::new();
    while let Some(&first) = left.first() {
        // Whoever nobody outside of its own cycle refers to any more; there is always one.
        let is_free = |one: &usize| left.iter().all(|other| !reaches(*other, *one) || reaches(*one, *other));
        let next = left.iter().copied().find(is_free).unwrap_or(first);
        let group: Group = left
            .iter()
            .copied()
            .filter(|other| *other == next || (reaches(*other, next) && reaches(next, *other)))
            .collect();
        left.retain(|one| !group.contains(one));
        groups.push(group);
    }
    groups
}

/// What is referred to from here, over any number of steps.
fn reached(from: usize, edges: &BTreeSet<(usize, usize)>) -> BTreeSet<usize> {
    let (mut known, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(one) = next.pop() {
        for (_, parent) in edges.range((one, 0)..=(one, usize::MAX)) {
            if known.insert(*parent) {
                next.push(*parent);
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_come_before_parents_and_cycles_together() {
        // 0 customers, 1 orders → 0, 2 items → 1, 3 ↔ 4, 3 → 0, 5 → 5
        let edges = BTreeSet::from([(1, 0), (2, 1), (3, 4), (4, 3), (3, 0), (5, 5)]);
        let groups = order(6, &edges);
        let place = |table: usize| groups.iter().position(|group| group.contains(&table)).unwrap();
        assert!(place(2) < place(1) && place(1) < place(0) && place(3) < place(0));
        assert_eq!((place(3), groups.len()), (place(4), 5));
        assert_eq!(groups.iter().flatten().copied().collect::<BTreeSet<_>>(), (0..6).collect());
    }

    #[test]
    fn no_order_is_lost_for_any_small_graph() {
        // Every graph of three tables.
        let pairs: Vec<(usize, usize)> = (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).collect();
        for bits in 0..512_u32 {
            let edges: BTreeSet<_> =
                pairs.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, it)| *it).collect();
            let groups = order(3, &edges);
            assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 3, "{edges:?}");
            let place = |table: usize| groups.iter().position(|group| group.contains(&table)).unwrap();
            assert!(edges.iter().all(|(child, parent)| place(*child) <= place(*parent)), "{edges:?}: {groups:?}");
        }
    }
}
