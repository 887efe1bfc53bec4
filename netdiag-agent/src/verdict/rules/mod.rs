//! One failure cause per file, and the list of them all.

use crate::verdict::Cause;

/// The page `netdiag explain CAUSE` prints, and the rule that finds the cause.
pub trait Rule: Sync {
    fn cause(&self) -> Cause;
    fn page(&self) -> Page;
}

/// Fixed headings of a cause's documentation.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub what_happened: &'static str,
    pub how_we_know: &'static str,
    pub what_else: &'static str,
    pub what_to_do: &'static str,
}

/// All rules, in the order they are tried.
pub const RULES: &[&dyn Rule] = &[];
