//! What a check may insist on.

/// What had been acknowledged when the crash came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Acked {
    pub(super) labels: Vec<String>,
    pub(super) saved: bool,
}

impl Acked {
    /// Whether the save function had returned `Ok`.
    pub fn saved(&self) -> bool {
        self.saved
    }

    /// Whether [`ack`](super::ack()) had been called with this label.
    pub fn contains(&self, label: &str) -> bool {
        self.labels.iter().any(|known| known == label)
    }

    /// All labels that [`ack`](super::ack()) had been called with, in order.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }
}
