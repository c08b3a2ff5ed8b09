//! Flow control: nobody sends more of a stream than the other side has said that it takes.

use coracle_init::{Malformed, WINDOW_BYTES};

/// What of a stream we may still send.
#[derive(Debug)]
pub(crate) struct Credit(u32);

impl Credit {
    pub(crate) fn new() -> Self {
        Self(WINDOW_BYTES)
    }

    pub(crate) fn left(&self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// We were granted more. Past what fits, it is as good as no limit.
    pub(crate) fn add(&mut self, bytes: u32) {
        self.0 = self.0.saturating_add(bytes);
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

/// What of a stream the other side may still send.
#[derive(Debug)]
pub(crate) struct Window {
    left: u32,
    /// Taken, and not granted again yet.
    taken: u32,
}

/// So much at least is granted at once: a frame for every few bytes would be a waste.
const GRANT_BYTES_MIN: u32 = WINDOW_BYTES / 2;

impl Window {
    pub(crate) fn new() -> Self {
        Self { left: WINDOW_BYTES, taken: 0 }
    }

    /// Some of it has come.
    ///
    /// # Errors
    /// More than was granted.
    pub(crate) fn receive(&mut self, bytes: usize) -> Result<(), Malformed> {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.ok_or(Malformed("there is more of a stream than was granted"))?;
        Ok(())
    }

    /// Some of what has come needs no room any more. Returns what to grant, if it is time to.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<u32> {
        // Never more than has come, which is never more than the window.
        self.taken = self.taken.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.taken < GRANT_BYTES_MIN {
            return None;
        }
        self.left = self.left.saturating_add(self.taken);
        Some(std::mem::take(&mut self.taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = WINDOW_BYTES as usize;

    #[test]
    fn no_more_comes_than_was_granted() {
        let mut window = Window::new();
        window.receive(WINDOW).unwrap();
        assert!(window.receive(1).is_err());
        assert_eq!(window.take(WINDOW / 2 - 1), None);
        assert!(window.receive(1).is_err());
        assert_eq!(window.take(1), Some(WINDOW_BYTES / 2));
        window.receive(WINDOW / 2).unwrap();
        assert!(window.receive(1).is_err());
        assert!(Window::new().receive(usize::MAX).is_err());
    }

    #[test]
    fn all_that_is_taken_is_granted_again_in_the_end() {
        let (mut window, mut granted) = (Window::new(), 0);
        for _ in 0..1000 {
            window.receive(999).unwrap();
            granted += window.take(999).unwrap_or_default();
        }
        assert!(999 * 1000 - granted < WINDOW_BYTES / 2, "{granted}");
    }

    #[test]
    fn credit_is_what_was_granted_less_what_was_spent() {
        let mut credit = Credit::new();
        credit.spend(WINDOW - 1);
        assert_eq!(credit.left(), 1);
        credit.add(10);
        assert_eq!(credit.left(), 11);
        credit.add(u32::MAX);
        credit.spend(usize::MAX);
        assert_eq!(credit.left(), 0);
    }
}
