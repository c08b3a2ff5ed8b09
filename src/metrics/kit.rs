//! What the structs here are made of.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Names of labels and their values. Both are literals: what a client says cannot become one.
pub(super) type Labels<const N: usize> = [(&'static str, &'static str); N];

pub(super) type Counters<const N: usize> = Family<Labels<N>, Counter>;
pub(super) type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
pub(super) type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// From a program that starts at once to an image that has to be fetched first, in seconds.
const BRIEF: [f64; 14] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// From a command to a working day, in seconds.
const LASTING: [f64; 10] = [0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0];

pub(super) fn brief() -> Histogram {
    Histogram::new(BRIEF)
}

pub(super) fn lasting() -> Histogram {
    Histogram::new(LASTING)
}

pub(super) fn briefs<const N: usize>() -> Histograms<N> {
    Family::new_with_constructor(brief)
}

pub(super) fn lastings<const N: usize>() -> Histograms<N> {
    Family::new_with_constructor(lasting)
}

/// One for each value, at zero: what has not happened yet can be told from what is not counted.
pub(super) fn counters(label: &'static str, values: &[&'static str]) -> Counters<1> {
    let counters = Counters::default();
    for value in values {
        drop(counters.get_or_create(&[(label, value)]));
    }
    counters
}

/// The same for each pair of values.
pub(super) fn counters_of_two(
    (label, values): (&'static str, &[&'static str]),
    (other, others): (&'static str, &[&'static str]),
) -> Counters<2> {
    let counters = Counters::default();
    for value in values {
        for second in others {
            drop(counters.get_or_create(&[(label, value), (other, second)]));
        }
    }
    counters
}

/// One for each value, with nothing in it.
pub(super) fn with_values(
    histograms: Histograms<1>,
    label: &'static str,
    values: &[&'static str],
) -> Histograms<1> {
    for value in values {
        drop(histograms.get_or_create(&[(label, value)]));
    }
    histograms
}
