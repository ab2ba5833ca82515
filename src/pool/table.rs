//! Values under small numbers that are used again once free: as fast as an array.
//!
//! Owns: which numbers are free. Does not own: whether a number that somebody kept is still meant.

/// A table of values by number.
#[derive(Debug)]
pub(super) struct Table<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Gives the value a number.
    pub(super) fn insert(&mut self, value: T) -> usize {
        if let Some(number) = self.free.pop()
            && let Some(place) = self.places.get_mut(number)
        {
            *place = Some(value);
            return number;
        }
        self.places.push(Some(value));
        self.places.len() - 1
    }

    /// Takes the value out; its number is free.
    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        let value = self.places.get_mut(number)?.take()?;
        self.free.push(number);
        Some(value)
    }

    pub(super) fn get(&self, number: usize) -> Option<&T> {
        self.places.get(number)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.places.get_mut(number)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// Every number there is or was.
    pub(super) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_only_once() {
        let mut table = Table::default();
        let (a, b) = (table.insert("a"), table.insert("b"));
        assert_eq!(table.get(a), Some(&"a"));
        assert_eq!((table.remove(a), table.remove(a)), (Some("a"), None));
        let c = table.insert("c");
        assert_eq!((c, table.get(b), table.get(7)), (a, Some(&"b"), None));
        assert_eq!(table.iter().count(), 2);
    }
}
