//! Known-wrong variants of the protocol, for the model test, which must find each of them. Only tests have them.

#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A publisher looks for its session in the newest record only.
    FenceInNewestOnly,
    /// A collector deletes without saying so first.
    NoFence,
}

/// Is this the flaw that the test has put in? Always false elsewhere.
#[macro_export]
#[doc(hidden)]
macro_rules! flawed {
    ($place:expr, $flaw:ident) => {{
        #[cfg(test)]
        let flawed = $place.flaw == Some($crate::flaw::Flaw::$flaw);
        #[cfg(not(test))]
        let flawed = {
            let _ = &$place;
            false
        };
        flawed
    }};
}
