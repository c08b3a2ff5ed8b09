//! An in-memory engine with scripted faults: the double for what a real engine cannot be made to show.
