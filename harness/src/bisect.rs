//! Finding where along an ordered list something changes.

/// Where a list changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// Both ends are the same: there is nothing to look for, or it changes and changes back.
    SameAtBothEnds(T),
    /// The first place that is not like the one before it.
    At {
        /// Its place in the list.
        place: usize,
        /// What the place before it is.
        before: T,
        /// What it is.
        after: T,
    },
}

/// Looks for a change between the ends of a list of `length`, halving the part that is left.
///
/// What comes out differs from the place before it, whatever the rest of the list is; of several
/// changes it is one of them. `None`: the list is empty, or `look` could not say.
pub fn bisect<T: PartialEq + Clone>(
    length: usize,
    mut look: impl FnMut(usize) -> Option<T>,
) -> Option<Found<T>> {
    let mut low = 0;
    let mut high = length.checked_sub(1)?;
    let mut before = look(low)?;
    let mut after = if high == low {
        before.clone()
    } else {
        look(high)?
    };
    if before == after {
        return Some(Found::SameAtBothEnds(before));
    }
    let first = before.clone();
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        let found = look(middle)?;
        if found == first {
            (low, before) = (middle, found);
        } else {
            (high, after) = (middle, found);
        }
    }
    Some(Found::At {
        place: high,
        before,
        after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};

    /// Check that the place of the only change is found, wherever it is, in few looks.
    #[test]
    fn bisect_finds_the_only_change() {
        for length in 2..20_usize {
            for change in 1..length {
                let mut looks = 0_u32;
                let found = bisect(length, |place| {
                    looks += 1;
                    Some(place >= change)
                });
                let wanted = Found::At {
                    place: change,
                    before: false,
                    after: true,
                };
                assert_eq!(found, Some(wanted));
                assert!(looks <= 3 + length.ilog2(), "{looks} looks for {length}");
            }
        }
    }

    /// Check that nothing is found where nothing changes, and nothing said where nobody can look.
    #[test]
    fn bisect_without_a_change_or_an_answer_finds_none() {
        assert_eq!(bisect(0, |_| Some(1)), None);
        assert_eq!(bisect(1, |_| Some(1)), Some(Found::SameAtBothEnds(1)));
        assert_eq!(bisect(9, |_| Some(1)), Some(Found::SameAtBothEnds(1)));
        assert_eq!(bisect(9, |place| (place != 4).then_some(place > 4)), None);
    }

    proptest! {
        /// Check that in any list what comes out differs from the place before it.
        #[test]
        fn bisect_of_any_list_ends_at_a_change(list in proptest::collection::vec(0..4_u8, 1..40)) {
            match bisect(list.len(), |place| list.get(place).copied()) {
                Some(Found::At { place, before, after }) => {
                    prop_assert!(before != after);
                    prop_assert!(list[place] == after && list[place - 1] == before);
                }
                found => prop_assert!(found == Some(Found::SameAtBothEnds(list[0]))),
            }
        }
    }
}
