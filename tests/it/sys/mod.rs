//! What the door to the operating system takes upon itself: interrupted calls, and errnos of systems
//! that lack something.

mod doing_without;
mod interrupted;
mod not_here;
