//! The median and the spread of a few figures.
//!
//! `bench` and `scaling` show them. For five figures the median and the two extremes are enough.

/// The median of some figures, with the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of figures of which there is at least one, in any order.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        };
        Some(Spread { median, min, max })
    }

    /// The ratios of figures to others of the same round. A round without either is skipped.
    pub(crate) fn of_ratios(figures: &[f64], others: &[f64]) -> Option<Self> {
        Self::of(
            figures
                .iter()
                .zip(others)
                .filter(|(_, other)| **other > 0.0)
                .map(|(one, other)| one / other),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        // The machine was half as fast in the second round, for both.
        let spread = Spread::of_ratios(&[50.0, 25.0, 60.0], &[100.0, 50.0, 100.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (0.5, 0.5, 0.6));
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[1.0], &[]), None);
    }
}
