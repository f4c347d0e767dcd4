//! The acknowledged saves that a check may insist on.

/// What had been acknowledged to the user when the crash happened; the check may insist on it.
///
/// ```
/// use durafile::crash_testing::{CrashTest, ack};
///
/// CrashTest::new(|dir| {
///     durafile::write(dir.join("first"), "1")?;
///     ack("first");
///     durafile::write(dir.join("second"), "2")?;
///     Ok(())
/// })
/// .run(|dir, acked| {
///     assert!(dir.join("first").exists() || !acked.contains("first"));
///     assert!(dir.join("second").exists() || !acked.saved());
///     Ok(())
/// })?;
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Acked {
    pub(crate) labels: Vec<String>,
    pub(crate) saved: bool,
}

impl Acked {
    /// Whether the save function had returned `Ok`.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)))
    /// .run(|dir, acked| {
    ///     assert!(dir.join("a").exists() || !acked.saved());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn saved(&self) -> bool {
        self.saved
    }

    /// Whether [`ack`](crate::crash_testing::ack()) had been called with this label.
    ///
    /// ```
    /// # use durafile::crash_testing::{CrashTest, ack};
    /// # CrashTest::new(|dir| {
    /// durafile::write(dir.join("a"), "1")?;
    /// ack("a");
    /// # Ok(())
    /// # })
    /// // In the check:
    /// # .run(|dir, acked| {
    /// assert!(dir.join("a").exists() || !acked.contains("a"));
    /// # Ok(()) })?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn contains(&self, label: &str) -> bool {
        self.labels.iter().any(|known| known == label)
    }

    /// All labels that [`ack`](crate::crash_testing::ack()) had been called with, in order.
    ///
    /// ```
    /// # use durafile::crash_testing::{CrashTest, ack};
    /// # CrashTest::new(|dir| {
    /// for name in ["a", "b"] {
    ///     durafile::write(dir.join(name), "1")?;
    ///     ack(name);
    /// }
    /// # Ok(())
    /// # })
    /// // In the check:
    /// # .run(|dir, acked| {
    /// for name in acked.labels() {
    ///     assert!(dir.join(name).exists());
    /// }
    /// # Ok(()) })?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn labels(&self) -> &[String] {
        &self.labels
    }
}
