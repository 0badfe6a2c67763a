//! What goes through a loop's transports.

use super::Counter;

/// What goes through a loop's transports, which count it themselves.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Calls that have received something.
    receives: Counter,
    received_bytes: Counter,
    /// Calls that have sent something.
    sends: Counter,
    sent_bytes: Counter,
    /// The same by other threads, in the loop's place.
    sends_elsewhere: Counter,
    sent_bytes_elsewhere: Counter,
}

impl Traffic {
    /// A call has received so many bytes.
    #[inline]
    pub fn received(&self, bytes: usize) {
        self.receives.add(1);
        self.received_bytes.add_len(bytes);
    }

    /// A call has sent so many bytes.
    #[inline]
    pub fn sent(&self, bytes: usize) {
        self.sends.add(1);
        self.sent_bytes.add_len(bytes);
    }

    /// The same in a thread that is not the loop's.
    pub fn sent_elsewhere(&self, bytes: usize) {
        self.sends_elsewhere.add_shared(1);
        self.sent_bytes_elsewhere.add_shared(bytes as u64);
    }

    pub(super) fn by_now(&self) -> TrafficMetrics {
        TrafficMetrics {
            accepted: self.accepted.get(),
            receives: self.receives.get(),
            received_bytes: self.received_bytes.get(),
            sends: self.sends.get() + self.sends_elsewhere.get(),
            sent_bytes: self.sent_bytes.get() + self.sent_bytes_elsewhere.get(),
        }
    }
}

/// What has gone through a loop's transports, if it has any that count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficMetrics {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Calls to the kernel that have received something.
    pub receives: u64,
    /// What they have received.
    pub received_bytes: u64,
    /// Calls to the kernel that have sent something.
    pub sends: u64,
    /// What they have sent.
    pub sent_bytes: u64,
}
