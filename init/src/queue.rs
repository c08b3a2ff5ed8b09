//! Bytes that wait, in order.

/// A queue of bytes whose front is one slice. Its owner bounds it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// How much of it is done with.
    start: usize,
}

/// Memory that an empty queue may keep.
const SPARE_BYTES_MAX: usize = 64 << 10;

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn front(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Drops bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.bytes.len().min(self.start.saturating_add(count));
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(SPARE_BYTES_MAX);
            self.start = 0;
        }
    }

    /// To add at the end.
    pub(crate) fn back(&mut self) -> &mut Vec<u8> {
        // Moved only when there is more done with than not: each byte once, on average.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut queue = Queue::default();
        let mut out: Vec<u8> = Vec::new();
        for round in 0_u8..100 {
            queue.back().extend([round; 7]);
            out.extend(&queue.front()[..5]);
            queue.consume(5);
        }
        out.extend(queue.front());

        assert_eq!(out, (0_u8..100).flat_map(|round| [round; 7]).collect::<Vec<_>>());
        assert_eq!(queue.len(), 200);
        queue.consume(usize::MAX);
        assert!(queue.is_empty());
    }
}
